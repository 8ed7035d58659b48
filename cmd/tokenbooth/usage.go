package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var usageColumns = []column[admin.UsageRow]{
	{name: "start", text: func(u admin.UsageRow) string { return u.Start.UTC().Format(time.RFC3339) }},
	{name: "client_id", text: func(u admin.UsageRow) string { return u.ClientID }},
	{name: "outcome", text: func(u admin.UsageRow) string { return u.Outcome }},
	{name: "count", text: func(u admin.UsageRow) string { return count(u.Count) }},
}

func newUsageCommand(env *environment) *cobra.Command {
	var o apiOptions
	var l listFlags
	command := &cobra.Command{
		Use:   "usage [--client-id ID] [--since TIME] [--until TIME] [--bucket hour|day] [-o FORMAT]",
		Short: "Count how the keys of a workspace were used",
		Long:  `Usage counts the exchanges of a workspace's keys by hour or day, key and outcome.`,
		Example: `$ tokenbooth usage --since 7d --bucket day
$ tokenbooth usage --client-id tbk_… -o json | jq .refused`,
		RunE: func(c *cobra.Command, _ []string) error {
			query, err := l.query(c)
			if err != nil {
				return err
			}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				usage, err := r.api.Usage(c.Context(), ws, query)
				if err != nil {
					return err
				}
				return printUsage(env, o.format, usage)
			})
		},
	}
	o.addFlags(command)
	l.text(command, "client-id", "client_id", "only those of the key with that `ID`")
	l.text(command, "bucket", "bucket", "count by `BUCKET`: hour or day")
	l.moment(command, "since", "only from this `TIME` on: 24h (ago), 7d, or 2027-01-31T00:00:00Z")
	l.moment(command, "until", "only before this `TIME`")
	_ = command.RegisterFlagCompletionFunc("bucket", cobra.FixedCompletions([]string{"hour", "day"}, cobra.ShellCompDirectiveNoFileComp))
	return command
}

func printUsage(env *environment, f outputFormat, u admin.Usage) error {
	switch f.name {
	case formatJSON:
		return printSafeJSON(env.stdout, u)
	case formatTable:
		fmt.Fprintf(env.stdout, "%d issued, %d refused, from %s to %s\n", u.Issued, u.Refused, u.Since.UTC().Format(time.RFC3339), u.Until.UTC().Format(time.RFC3339))
		if len(u.Data) == 0 {
			return nil
		}
		fmt.Fprintln(env.stdout)
	}
	return printList(env, f, u.Data, usageColumns)
}
