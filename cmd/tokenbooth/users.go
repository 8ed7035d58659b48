package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var userColumns = []column[admin.User]{
	{name: "email", text: func(u admin.User) string { return u.Email }},
	{name: "name", text: func(u admin.User) string { return u.Name }},
	{name: "id", text: func(u admin.User) string { return u.ID }},
	{name: "organization_admin", text: func(u admin.User) string { return yesNo(u.OrganizationAdmin) }},
	{name: "enabled", text: func(u admin.User) string { return yesNo(u.Enabled) }},
	{name: "created_at", at: func(u admin.User) *time.Time { return &u.CreatedAt }},
	{name: "updated_at", at: func(u admin.User) *time.Time { return &u.UpdatedAt }, detail: true},
}

var membershipColumns = []column[admin.Membership]{
	{name: "workspace", text: func(m admin.Membership) string { return m.Workspace }},
	{name: "name", text: func(m admin.Membership) string { return m.Name }},
	{name: "role", text: func(m admin.Membership) string { return m.Role }},
	{name: "workspace_id", text: func(m admin.Membership) string { return m.WorkspaceID }},
}

func newUsersCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "users",
		Short: "Manage people",
		Long: `Users shows and changes the people of this installation, which takes an organization
admin; me shows yourself. A user is named by ID or e-mail address.`,
		Example: `$ tokenbooth users me
$ tokenbooth users create ada@example.com --name 'Ada Lovelace'
$ tokenbooth users update ada@example.com --enabled=false`,
	}
	command.AddCommand(newUsersListCommand(env), newUserShowCommand(env), newUserCreateCommand(env), newUserUpdateCommand(env), newUserDeleteCommand(env), newUsersMeCommand(env))
	return command
}

func newUsersListCommand(env *environment) *cobra.Command {
	var o apiOptions
	var l listFlags
	command := &cobra.Command{
		Use:     "list [--q TEXT] [--enabled] [--organization-admin] [-o FORMAT]",
		Short:   "Show people",
		Long:    "List shows the people of this installation.",
		Example: "$ tokenbooth users list --organization-admin",
		RunE: func(c *cobra.Command, _ []string) error {
			query, err := l.query(c)
			if err != nil {
				return err
			}
			return o.run(c, env, func(r *apiRun) error { return printPages(r, r.api.Users(c.Context(), query), l, userColumns) })
		},
	}
	o.addFlags(command)
	l.add(command, 0)
	l.text(command, "q", "q", "only those whose name or address contains `TEXT`")
	l.yes(command, "enabled", "enabled", "only enabled ones; =false for the others")
	l.yes(command, "organization-admin", "organization_admin", "only organization admins; =false for the others")
	return command
}

func newUserShowCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:     "show USER [-o FORMAT]",
		Short:   "Show a person",
		Long:    "Show shows a user, who is named by ID or e-mail address.",
		Example: "$ tokenbooth users show ada@example.com",
		Args:    argumentNames("USER"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c, env, func(r *apiRun) error {
				user, err := r.userID(c.Context(), args[0])
				if err != nil {
					return err
				}
				return one(r, userColumns)(r.api.User(c.Context(), user))
			})
		},
	}
	o.addFlags(command)
	return command
}

func newUserCreateCommand(env *environment) *cobra.Command {
	var o apiOptions
	var n admin.NewUser
	command := &cobra.Command{
		Use:     "create EMAIL [--name NAME] [--organization-admin]",
		Short:   "Make a user",
		Long:    "Create makes a user. members add puts one into a workspace.",
		Example: "$ tokenbooth users create ada@example.com --name 'Ada Lovelace'",
		Args:    argumentNames("EMAIL"),
		RunE: func(c *cobra.Command, args []string) error {
			n.Email = args[0]
			return o.run(c, env, func(r *apiRun) error { return one(r, userColumns)(r.api.CreateUser(c.Context(), n)) })
		},
	}
	o.addFlags(command)
	command.Flags().StringVar(&n.Name, "name", "", "the `NAME`")
	command.Flags().BoolVar(&n.OrganizationAdmin, "organization-admin", false, "may manage the whole installation")
	return command
}

func newUserUpdateCommand(env *environment) *cobra.Command {
	var o apiOptions
	var name string
	var enabled, organizationAdmin bool
	command := &cobra.Command{
		Use:   "update USER [--name NAME] [--enabled=BOOL] [--organization-admin=BOOL]",
		Short: "Change a user",
		Long: `Update changes a user, who is named by ID or e-mail address. A user who is not enabled
cannot sign in, and no personal key of theirs works.`,
		Example: "$ tokenbooth users update ada@example.com --enabled=false",
		Args:    argumentNames("USER"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := wantChange(c, "name", "enabled", "organization-admin"); err != nil {
				return err
			}
			change := admin.UserChange{Name: given(c, "name", &name), Enabled: given(c, "enabled", &enabled), OrganizationAdmin: given(c, "organization-admin", &organizationAdmin)}
			return o.run(c, env, func(r *apiRun) error {
				user, err := r.userID(c.Context(), args[0])
				if err != nil {
					return err
				}
				return one(r, userColumns)(r.api.UpdateUser(c.Context(), user, change))
			})
		},
	}
	o.addFlags(command)
	command.Flags().StringVar(&name, "name", "", "the new `NAME`")
	command.Flags().BoolVar(&enabled, "enabled", true, "may sign in")
	command.Flags().BoolVar(&organizationAdmin, "organization-admin", false, "may manage the whole installation")
	return command
}

func newUserDeleteCommand(env *environment) *cobra.Command {
	var o apiOptions
	var yes bool
	command := &cobra.Command{
		Use:     "delete USER --yes",
		Short:   "End a user for good",
		Long:    "Delete ends a user with their personal keys and memberships for good.",
		Example: "$ tokenbooth users delete ada@example.com --yes",
		Args:    argumentNames("USER"),
		RunE: func(c *cobra.Command, args []string) error {
			if !yes {
				return exitWith(exitUsage, fmt.Errorf("this ends the user %s and their personal keys for good", safe(args[0])), "add --yes if that is what you want; `tokenbooth users update --enabled=false` can be undone")
			}
			return o.quietly(c, env, func(r *apiRun) error {
				user, err := r.userID(c.Context(), args[0])
				if err != nil {
					return err
				}
				return r.api.DeleteUser(c.Context(), user)
			})
		},
	}
	o.addQuietFlags(command)
	command.Flags().BoolVar(&yes, "yes", false, "it is meant")
	return command
}

func newUsersMeCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:     "me [-o FORMAT]",
		Short:   "Show yourself",
		Long:    "Me shows the person whose personal key it is, and the workspaces that they are in.",
		Example: "$ tokenbooth users me -o json | jq -r '.memberships[].role'",
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c, env, func(r *apiRun) error {
				me, err := r.api.Me(c.Context())
				if err != nil {
					return err
				}
				return printMe(env, o.format, me)
			})
		},
	}
	o.addFlags(command)
	return command
}

// printMe prints a person and, for people, a table of the workspaces below.
func printMe(env *environment, f outputFormat, me admin.Profile) error {
	switch f.name {
	case formatJSON:
		return printSafeJSON(env.stdout, me)
	case formatCSV:
		return printList(env, f, me.Memberships, membershipColumns)
	case formatLines:
		return printList(env, f, []admin.Profile{me}, nil)
	}
	if err := printOne(env, f, me.User, userColumns); err != nil || len(me.Memberships) == 0 {
		return err
	}
	fmt.Fprintln(env.stdout)
	return printTable(env.stdout, me.Memberships, membershipColumns)
}
