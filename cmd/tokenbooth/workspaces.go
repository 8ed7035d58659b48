package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var workspaceColumns = []column[admin.Workspace]{
	{name: "slug", text: func(w admin.Workspace) string { return w.Slug }},
	{name: "name", text: func(w admin.Workspace) string { return w.Name }},
	{name: "id", text: func(w admin.Workspace) string { return w.ID }},
	{name: "suspended", text: func(w admin.Workspace) string { return yesNo(w.Suspended) }},
	{name: "suspended_at", at: func(w admin.Workspace) *time.Time { return w.SuspendedAt }, detail: true},
	{name: "created_at", at: func(w admin.Workspace) *time.Time { return &w.CreatedAt }},
	{name: "updated_at", at: func(w admin.Workspace) *time.Time { return &w.UpdatedAt }, detail: true},
}

func newWorkspacesCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "workspaces",
		Short: "Manage workspaces",
		Long: `Workspaces shows and changes the workspaces that you may see. A workspace is named
by its ID or its slug.`,
		Example: `$ tokenbooth workspaces list
$ tokenbooth workspaces create Payments
$ tokenbooth workspaces suspend payments`,
	}
	command.AddCommand(
		newWorkspacesListCommand(env),
		newWorkspaceShowCommand(env),
		newWorkspaceCreateCommand(env),
		newWorkspaceUpdateCommand(env),
		newWorkspaceSwitchCommand(env, "suspend", "Close a workspace", `Suspend closes a workspace: no key of it gets a token, and no token of it is good.
resume opens it again.`, (*admin.Client).SuspendWorkspace),
		newWorkspaceSwitchCommand(env, "resume", "Open a workspace again", "Resume opens a workspace that was suspended.", (*admin.Client).ResumeWorkspace),
		newWorkspaceDeleteCommand(env),
	)
	return command
}

func newWorkspacesListCommand(env *environment) *cobra.Command {
	var o apiOptions
	var l listFlags
	command := &cobra.Command{
		Use:     "list [--q TEXT] [--suspended] [-o FORMAT]",
		Short:   "Show workspaces",
		Long:    "List shows the workspaces that you may see: yours, or as organization admin all.",
		Example: "$ tokenbooth workspaces list -o json | jq -r '.[].slug'",
		RunE: func(c *cobra.Command, _ []string) error {
			query, err := l.query(c)
			if err != nil {
				return err
			}
			return o.run(c, env, func(r *apiRun) error {
				return printPages(r, r.api.Workspaces(c.Context(), query), l, workspaceColumns)
			})
		},
	}
	o.addFlags(command)
	l.add(command, 0)
	l.text(command, "q", "q", "only those whose name or slug contains `TEXT`")
	l.yes(command, "suspended", "suspended", "only suspended ones; =false for the others")
	return command
}

func newWorkspaceShowCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:     "show [WORKSPACE] [-o FORMAT]",
		Short:   "Show a workspace",
		Long:    "Show shows a workspace, or the one that commands are about.",
		Example: "$ tokenbooth workspaces show payments",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.workspace = args[0]
			}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return one(r, workspaceColumns)(r.api.Workspace(c.Context(), ws))
			})
		},
	}
	o.addFlags(command)
	return command
}

func newWorkspaceCreateCommand(env *environment) *cobra.Command {
	var o apiOptions
	var slug string
	command := &cobra.Command{
		Use:   "create NAME [--slug SLUG]",
		Short: "Make a workspace",
		Long: `Create makes a workspace, whose first owner you are. Its slug appears in tokens and
never changes; it is made of the name unless you give one.`,
		Example: "$ tokenbooth workspaces create 'Payments EU' --slug payments-eu",
		Args:    argumentNames("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c, env, func(r *apiRun) error {
				return one(r, workspaceColumns)(r.api.CreateWorkspace(c.Context(), admin.NewWorkspace{Name: args[0], Slug: slug}))
			})
		},
	}
	o.addFlags(command)
	command.Flags().StringVar(&slug, "slug", "", "the `SLUG`: lower-case letters, digits and hyphens")
	return command
}

func newWorkspaceUpdateCommand(env *environment) *cobra.Command {
	var o apiOptions
	var name string
	command := &cobra.Command{
		Use:     "update WORKSPACE --name NAME",
		Short:   "Change a workspace",
		Long:    "Update changes the name of a workspace. Its slug stays.",
		Example: "$ tokenbooth workspaces update payments --name 'Payments EU'",
		Args:    argumentNames("WORKSPACE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := wantChange(c, "name"); err != nil {
				return err
			}
			return o.run(c, env, func(r *apiRun) error {
				return one(r, workspaceColumns)(r.api.UpdateWorkspace(c.Context(), args[0], admin.WorkspaceChange{Name: &name}))
			})
		},
	}
	o.addFlags(command)
	command.Flags().StringVar(&name, "name", "", "the new `NAME`")
	return command
}

func newWorkspaceSwitchCommand(env *environment, verb, short, long string, act func(*admin.Client, context.Context, string) (admin.Workspace, error)) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:     verb + " WORKSPACE",
		Short:   short,
		Long:    long,
		Example: "$ tokenbooth workspaces " + verb + " payments",
		Args:    argumentNames("WORKSPACE"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c, env, func(r *apiRun) error {
				return one(r, workspaceColumns)(act(r.api, c.Context(), args[0]))
			})
		},
	}
	o.addFlags(command)
	return command
}

func newWorkspaceDeleteCommand(env *environment) *cobra.Command {
	var o apiOptions
	var yes bool
	command := &cobra.Command{
		Use:   "delete WORKSPACE --yes",
		Short: "End a workspace for good",
		Long: `Delete ends a workspace with all its keys and service accounts for good. Its slug is
never given out again. suspend can be undone.`,
		Example: "$ tokenbooth workspaces delete payments --yes",
		Args:    argumentNames("WORKSPACE"),
		RunE: func(c *cobra.Command, args []string) error {
			if !yes {
				return exitWith(exitUsage, fmt.Errorf("this ends the workspace %s and all its keys for good", safe(args[0])), "add --yes if that is what you want; `tokenbooth workspaces suspend` can be undone")
			}
			return o.quietly(c, env, func(r *apiRun) error { return r.api.DeleteWorkspace(c.Context(), args[0]) })
		},
	}
	o.addQuietFlags(command)
	command.Flags().BoolVar(&yes, "yes", false, "it is meant")
	return command
}
