package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var quotas = documents[admin.Quota, admin.QuotaImpact]{
	noun: "quota",
	members: []member{
		{"exchanges_per_minute", readNumber},
		{"burst", readNumber},
		{"exchanges_per_day", readNumber},
		{"exchanges_per_month", readNumber},
		{"max_keys", readNumber},
		{"max_service_accounts", readNumber},
		{"mode", readMode},
	},
	columns: []column[admin.Quota]{
		{name: "exchanges_per_minute", text: func(q admin.Quota) string { return orEmpty(q.PerMinute) }},
		{name: "burst", text: func(q admin.Quota) string { return orEmpty(q.Burst) }},
		{name: "exchanges_per_day", text: func(q admin.Quota) string { return orEmpty(q.PerDay) }},
		{name: "exchanges_per_month", text: func(q admin.Quota) string { return orEmpty(q.PerMonth) }},
		{name: "max_keys", text: func(q admin.Quota) string { return orEmpty(q.MaxKeys) }},
		{name: "max_service_accounts", text: func(q admin.Quota) string { return orEmpty(q.MaxServiceAccounts) }},
		{name: "mode", text: func(q admin.Quota) string { return textOr(q.Mode, "enforce") }},
		{name: "exchanges_today", text: func(q admin.Quota) string { return count(q.Usage.Today) }},
		{name: "exchanges_this_month", text: func(q admin.Quota) string { return count(q.Usage.ThisMonth) }},
		{name: "live_keys", text: func(q admin.Quota) string { return count(q.Usage.LiveKeys) }},
		{name: "service_accounts", text: func(q admin.Quota) string { return count(q.Usage.ServiceAccounts) }},
		{name: "version", text: func(q admin.Quota) string { return count(q.Version) }},
		{name: "updated_at", at: func(q admin.Quota) *time.Time { return q.UpdatedAt }},
		{name: "updated_by", text: func(q admin.Quota) string { return q.UpdatedBy }},
	},
	findings: func(i admin.QuotaImpact) (found []string) {
		for _, f := range i.Findings {
			found = append(found, f.Detail)
		}
		return found
	},
	harms: func(i admin.QuotaImpact) string {
		if len(i.Findings) == 0 {
			return ""
		}
		return "the workspace is over such a quota already"
	},
	print: printQuotaImpact,
}

var exceededColumns = []column[admin.QuotaFinding]{
	{name: "rule", text: func(f admin.QuotaFinding) string { return f.Rule }},
	{name: "detail", text: func(f admin.QuotaFinding) string { return f.Detail }},
}

func printQuotaImpact(r *apiRun, i admin.QuotaImpact) error {
	switch r.o.format.name {
	case formatJSON:
		return printSafeJSON(r.env.stdout, i)
	case formatTable:
		u := i.Usage
		fmt.Fprintf(r.env.stdout, "%d live keys, %d service accounts, %d exchanges today, %d this month\n", u.LiveKeys, u.ServiceAccounts, u.Today, u.ThisMonth)
		for _, f := range i.Findings {
			fmt.Fprintln(r.env.stdout, safe(f.Detail))
		}
		return nil
	}
	return printList(r.env, r.o.format, i.Findings, exceededColumns)
}

func newQuotaCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "quota",
		Short: "Show or set how many keys and exchanges a workspace has",
		Long: `Quota shows and sets how many keys, service accounts and exchanges a workspace may
have. Nothing that exists is ended by it.`,
		Example: `$ tokenbooth quota show
$ tokenbooth quota set exchanges_per_minute=600 burst=100 max_keys=50 -w payments`,
	}
	command.AddCommand(newQuotaShowCommand(env), newQuotaSetCommand(env), newQuotaPreviewCommand(env))
	return command
}

func newQuotaShowCommand(env *environment) *cobra.Command {
	var o documentOptions
	command := &cobra.Command{
		Use:     "show [-w WORKSPACE] [-o FORMAT]",
		Short:   "Show the quota of a workspace",
		Long:    "Show shows the quota of a workspace, and how much of it is taken.",
		Example: "$ tokenbooth quota show -w payments",
		RunE:    func(c *cobra.Command, _ []string) error { return quotas.show(c, env, &o) },
	}
	o.addFlags(command)
	return command
}

func newQuotaSetCommand(env *environment) *cobra.Command {
	var o documentOptions
	command := &cobra.Command{
		Use:   "set [-w WORKSPACE] {NAME=VALUE … | --file FILE} [--yes] [-o FORMAT]",
		Short: "Change the quota of a workspace",
		Long: `Set changes the members of a quota that are named; null is no limit. With --file it puts
a whole document in place of what there is: what the file leaves out is no limit, and
if it has a version, as show prints it, that has to be the newest. If the workspace is
over such a quota already, it tells so and changes nothing without --yes.

Members: ` + quotas.names() + `.`,
		Example: `$ tokenbooth quota set exchanges_per_minute=600 burst=100
$ tokenbooth quota set max_keys=50 exchanges_per_day=null mode=soft`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: quotas.complete,
		RunE:              func(c *cobra.Command, args []string) error { return quotas.set(c, env, &o, args) },
	}
	o.addFlags(command)
	o.addFile(command)
	command.Flags().BoolVar(&o.yes, "yes", false, "it is meant, though the workspace is over such a quota already")
	return command
}

func newQuotaPreviewCommand(env *environment) *cobra.Command {
	var o documentOptions
	command := &cobra.Command{
		Use:   "preview [-w WORKSPACE] {NAME=VALUE … | --file FILE} [-o FORMAT]",
		Short: "Show what of a quota is exceeded already",
		Long: `Preview shows what a workspace has, and which limits it is over already if its quota
was changed like this. It changes nothing.

Members: ` + quotas.names() + `.`,
		Example:           "$ tokenbooth quota preview max_keys=10",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: quotas.complete,
		RunE:              func(c *cobra.Command, args []string) error { return quotas.preview(c, env, &o, args) },
	}
	o.addFlags(command)
	o.addFile(command)
	return command
}
