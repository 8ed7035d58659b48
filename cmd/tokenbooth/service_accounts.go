package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var serviceAccountColumns = []column[admin.ServiceAccount]{
	{name: "name", text: func(s admin.ServiceAccount) string { return s.Name }},
	{name: "id", text: func(s admin.ServiceAccount) string { return s.ID }},
	{name: "role", text: func(s admin.ServiceAccount) string { return textOr(s.Role, "") }},
	{name: "scopes", text: func(s admin.ServiceAccount) string { return words(s.Scopes) }},
	{name: "enabled", text: func(s admin.ServiceAccount) string { return yesNo(s.Enabled) }},
	{name: "description", text: func(s admin.ServiceAccount) string { return s.Description }, detail: true},
	{name: "created_at", at: func(s admin.ServiceAccount) *time.Time { return &s.CreatedAt }},
	{name: "created_by", text: func(s admin.ServiceAccount) string { return s.CreatedBy }, detail: true},
	{name: "updated_at", at: func(s admin.ServiceAccount) *time.Time { return &s.UpdatedAt }, detail: true},
}

func newServiceAccountsCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "service-accounts",
		Short: "Manage the identities of jobs and programs",
		Long: `Service-accounts shows and changes the non-human identities of a workspace, which own
API keys. A service account is named by its ID or its name, and holds a role or scopes;
a key of it holds no more.`,
		Example: `$ tokenbooth service-accounts create gitlab-ci --scope collectors:read
$ tokenbooth keys create ci-main --service-account gitlab-ci --expires 90d
$ tokenbooth service-accounts disable gitlab-ci`,
	}
	command.AddCommand(
		newServiceAccountsListCommand(env),
		newServiceAccountShowCommand(env),
		newServiceAccountCreateCommand(env),
		newServiceAccountUpdateCommand(env),
		newServiceAccountSwitchCommand(env, "enable", true, "Let a service account work again", "Enable lets the keys of a service account work again."),
		newServiceAccountSwitchCommand(env, "disable", false, "Stop a service account", `Disable stops a service account: no key of it gets a token, and no token of it is good.
enable undoes it.`),
		newServiceAccountDeleteCommand(env),
	)
	return command
}

func newServiceAccountsListCommand(env *environment) *cobra.Command {
	var o apiOptions
	var l listFlags
	command := &cobra.Command{
		Use:     "list [--q TEXT] [--name NAME] [--enabled] [-o FORMAT]",
		Short:   "Show the service accounts of a workspace",
		Long:    "List shows the service accounts of a workspace.",
		Example: "$ tokenbooth service-accounts list --enabled=false",
		RunE: func(c *cobra.Command, _ []string) error {
			query, err := l.query(c)
			if err != nil {
				return err
			}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return printPages(r, r.api.ServiceAccounts(c.Context(), ws, query), l, serviceAccountColumns)
			})
		},
	}
	o.addFlags(command)
	l.add(command, 0)
	l.text(command, "q", "q", "only those whose name contains `TEXT`")
	l.text(command, "name", "name", "only the one with that `NAME`")
	l.yes(command, "enabled", "enabled", "only enabled ones; =false for the others")
	return command
}

func newServiceAccountShowCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:     "show SERVICE-ACCOUNT [-o FORMAT]",
		Short:   "Show a service account",
		Long:    "Show shows a service account, which is named by its ID or its name.",
		Example: "$ tokenbooth service-accounts show gitlab-ci",
		Args:    argumentNames("SERVICE-ACCOUNT"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return one(r, serviceAccountColumns)(r.api.ServiceAccount(c.Context(), ws, args[0]))
			})
		},
	}
	o.addFlags(command)
	return command
}

func newServiceAccountCreateCommand(env *environment) *cobra.Command {
	var o apiOptions
	var n admin.NewServiceAccount
	command := &cobra.Command{
		Use:   "create NAME [--role ROLE | --scope SCOPE …] [--description TEXT]",
		Short: "Make a service account",
		Long: `Create makes a service account, with a role or with scopes of its own. You can grant
only what you hold. Give it the least that its job needs.`,
		Example: `$ tokenbooth service-accounts create gitlab-ci --scope collectors:read
$ tokenbooth service-accounts create terraform --role editor --description 'Infrastructure as code'`,
		Args: argumentNames("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			n.Name, n.Scopes = args[0], splitScopes(n.Scopes)
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return one(r, serviceAccountColumns)(r.api.CreateServiceAccount(c.Context(), ws, n))
			})
		},
	}
	o.addFlags(command)
	command.Flags().StringVar(&n.Role, "role", "", "the `ROLE`, such as viewer, editor or admin")
	command.Flags().StringArrayVar(&n.Scopes, "scope", nil, "a `SCOPE` instead, such as collectors:read; repeatable")
	command.Flags().StringVar(&n.Description, "description", "", "a `TEXT` for people")
	command.MarkFlagsMutuallyExclusive("role", "scope")
	return command
}

func newServiceAccountUpdateCommand(env *environment) *cobra.Command {
	var o apiOptions
	var name, role, description string
	var scopes []string
	command := &cobra.Command{
		Use:   "update SERVICE-ACCOUNT [--name NAME] [--role ROLE | --scope SCOPE …] [--description TEXT]",
		Short: "Change a service account",
		Long: `Update changes a service account. The scopes that are given take the place of those
that it has. If it holds less afterwards, its tokens stop being good at once.`,
		Example: "$ tokenbooth service-accounts update gitlab-ci --scope collectors:read --scope pipelines:read",
		Args:    argumentNames("SERVICE-ACCOUNT"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := wantChange(c, "name", "role", "scope", "description"); err != nil {
				return err
			}
			scopes = splitScopes(scopes)
			change := admin.ServiceAccountChange{Name: given(c, "name", &name), Role: given(c, "role", &role), Scopes: given(c, "scope", &scopes), Description: given(c, "description", &description)}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return one(r, serviceAccountColumns)(r.api.UpdateServiceAccount(c.Context(), ws, args[0], change))
			})
		},
	}
	o.addFlags(command)
	command.Flags().StringVar(&name, "name", "", "the new `NAME`")
	command.Flags().StringVar(&role, "role", "", "the new `ROLE`")
	command.Flags().StringArrayVar(&scopes, "scope", nil, "a `SCOPE` instead; repeatable")
	command.Flags().StringVar(&description, "description", "", "a `TEXT` for people")
	command.MarkFlagsMutuallyExclusive("role", "scope")
	return command
}

func newServiceAccountSwitchCommand(env *environment, verb string, enabled bool, short, long string) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:     verb + " SERVICE-ACCOUNT",
		Short:   short,
		Long:    long,
		Example: "$ tokenbooth service-accounts " + verb + " gitlab-ci",
		Args:    argumentNames("SERVICE-ACCOUNT"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return one(r, serviceAccountColumns)(r.api.UpdateServiceAccount(c.Context(), ws, args[0], admin.ServiceAccountChange{Enabled: &enabled}))
			})
		},
	}
	o.addFlags(command)
	return command
}

func newServiceAccountDeleteCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:     "delete SERVICE-ACCOUNT",
		Short:   "End a service account",
		Long:    "Delete ends a service account for good and revokes its keys. disable can be undone.",
		Example: "$ tokenbooth service-accounts delete gitlab-ci",
		Args:    argumentNames("SERVICE-ACCOUNT"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.quietlyIn(c, env, func(r *apiRun, ws string) error {
				return r.api.DeleteServiceAccount(c.Context(), ws, args[0])
			})
		},
	}
	o.addQuietFlags(command)
	return command
}
