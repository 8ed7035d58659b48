package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var verifierColumns = []column[admin.Verifier]{
	{name: "name", text: func(v admin.Verifier) string { return v.Name }},
	{name: "behind", text: verifierBehind},
	{name: "sequence", text: func(v admin.Verifier) string { return count(v.Sequence) }},
	{name: "epoch", text: func(v admin.Verifier) string { return count(v.Epoch) }},
	{name: "reported_at", at: func(v admin.Verifier) *time.Time { return &v.ReportedAt }},
	{name: "silent", text: func(v admin.Verifier) string { return yesNo(v.Silent) }},
	{name: "client_id", text: func(v admin.Verifier) string { return v.ClientID }},
	{name: "workspace_id", text: func(v admin.Verifier) string { return v.WorkspaceID }, detail: true},
}

// verifierBehind is how many revocations a verifier lacks.
func verifierBehind(v admin.Verifier) string {
	if v.Behind == nil {
		return "all"
	}
	return count(*v.Behind)
}

func newVerifiersCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "verifiers",
		Short: "Show which services verify tokens",
		Long: `Verifiers shows the services that verify tokens on their own and report how far they
have followed the revocations.`,
		Example: "$ tokenbooth verifiers list",
	}
	command.AddCommand(newVerifiersListCommand(env), newVerifiersRemoveCommand(env))
	return command
}

func newVerifiersRemoveCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:   "remove NAME",
		Short: "Forget a verifier that does not run any more",
		Long: `Remove forgets a verifier of the key's own workspace, so that nobody waits for it.
One that runs is back with its next report.`,
		Example: "$ tokenbooth verifiers remove billing-api-7",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c, env, func(r *apiRun) error { return r.api.RemoveVerifier(c.Context(), args[0]) })
		},
	}
	o.addFlags(command)
	return command
}

func newVerifiersListCommand(env *environment) *cobra.Command {
	var o apiOptions
	var l listFlags
	var all bool
	command := &cobra.Command{
		Use:   "list [-w WORKSPACE | --all] [-o FORMAT]",
		Short: "Show how far verifiers have followed the revocations",
		Long: `List shows the verifiers of a workspace, how many revocations each lacks and when it
reported last; one that is silent has not for two minutes. After 30 days without a
report it is forgotten. Organization admins see those of all workspaces with --all.`,
		Example: `$ tokenbooth verifiers list
$ tokenbooth verifiers list --all -o csv`,
		RunE: func(c *cobra.Command, _ []string) error {
			query, err := l.query(c)
			if err != nil {
				return err
			}
			switch named := o.workspaceNamed(env); {
			case all && o.workspace != "":
				return usagef(c, "of --workspace and --all give one")
			case all:
				query.Set("workspace", "*")
			case named != "":
				query.Set("workspace", named)
			}
			return o.run(c, env, func(r *apiRun) error {
				return printPages(r, r.api.Verifiers(c.Context(), query), l, verifierColumns)
			})
		},
	}
	o.addFlags(command)
	l.add(command, 0)
	command.Flags().BoolVar(&all, "all", false, "those of all workspaces")
	return command
}
