package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var policies = documents[admin.Policy, admin.PolicyImpact]{
	noun: "policy",
	members: []member{
		{"api_keys_enabled", readFlag},
		{"max_lifetime_days", readNumber},
		{"default_lifetime_days", readNumber},
		{"allow_never_expiring", readFlag},
		{"max_grace_period_seconds", readNumber},
		{"require_allowed_cidrs", readFlag},
		{"disable_idle_after_days", readNumber},
		{"allowed_scopes", readList},
		{"service_accounts_manage_keys", readFlag},
	},
	columns: []column[admin.Policy]{
		{name: "api_keys_enabled", text: func(p admin.Policy) string { return orEmpty(p.Enabled) }},
		{name: "max_lifetime_days", text: func(p admin.Policy) string { return orEmpty(p.MaxLifetimeDays) }},
		{name: "default_lifetime_days", text: func(p admin.Policy) string { return orEmpty(p.DefaultLifetimeDays) }},
		{name: "allow_never_expiring", text: func(p admin.Policy) string { return orEmpty(p.AllowNever) }},
		{name: "max_grace_period_seconds", text: func(p admin.Policy) string { return orEmpty(p.MaxGraceSeconds) }},
		{name: "require_allowed_cidrs", text: func(p admin.Policy) string { return orEmpty(p.RequireNetworks) }},
		{name: "disable_idle_after_days", text: func(p admin.Policy) string { return orEmpty(p.IdleDays) }},
		{name: "allowed_scopes", text: allowedScopes},
		{name: "service_accounts_manage_keys", text: func(p admin.Policy) string { return orEmpty(p.ServiceAccounts) }},
		{name: "effective_api_keys_enabled", text: func(p admin.Policy) string { return fmt.Sprint(p.Effective.Enabled) }},
		{name: "effective_max_lifetime_days", text: func(p admin.Policy) string { return orEmpty(p.Effective.MaxLifetimeDays) }},
		{name: "effective_default_lifetime_days", text: func(p admin.Policy) string { return count(p.Effective.DefaultLifetimeDays) }},
		{name: "effective_allow_never_expiring", text: func(p admin.Policy) string { return fmt.Sprint(p.Effective.AllowNever) }},
		{name: "effective_max_grace_period_seconds", text: func(p admin.Policy) string { return count(p.Effective.MaxGraceSeconds) }},
		{name: "effective_require_allowed_cidrs", text: func(p admin.Policy) string { return fmt.Sprint(p.Effective.RequireNetworks) }},
		{name: "effective_disable_idle_after_days", text: func(p admin.Policy) string { return orEmpty(p.Effective.IdleDays) }},
		{name: "effective_allowed_scopes", text: func(p admin.Policy) string { return cmp.Or(words(p.Effective.AllowedScopes), "none") }},
		{name: "effective_service_accounts_manage_keys", text: func(p admin.Policy) string { return fmt.Sprint(p.Effective.ServiceAccounts) }},
		{name: "version", text: func(p admin.Policy) string { return count(p.Version) }},
		{name: "updated_at", at: func(p admin.Policy) *time.Time { return p.UpdatedAt }},
		{name: "updated_by", text: func(p admin.Policy) string { return p.UpdatedBy }},
	},
	findings: func(i admin.PolicyImpact) (found []string) {
		for _, f := range i.Findings {
			found = append(found, f.Detail)
		}
		return found
	},
	harms: func(i admin.PolicyImpact) string {
		if i.Blocked == 0 && i.Narrowed == 0 {
			return ""
		}
		return fmt.Sprintf("%d keys would be refused that work now, and %d would lose scopes", i.Blocked, i.Narrowed)
	},
	print: printPolicyImpact,
}

// orEmpty is a value; empty if there is none.
func orEmpty[T any](value *T) string {
	if value == nil {
		return ""
	}
	return fmt.Sprint(*value)
}

func allowedScopes(p admin.Policy) string {
	if p.AllowedScopes == nil {
		return ""
	}
	return cmp.Or(words(*p.AllowedScopes), "none")
}

var touchedColumns = []column[admin.TouchedKey]{
	{name: "client_id", text: func(k admin.TouchedKey) string { return k.ClientID }},
	{name: "name", text: func(k admin.TouchedKey) string { return k.Name }},
	{name: "workspace", text: func(k admin.TouchedKey) string { return k.Workspace }},
	{name: "workspace_id", text: func(k admin.TouchedKey) string { return k.WorkspaceID }, detail: true},
	{name: "owner_id", text: func(k admin.TouchedKey) string { return k.OwnerID }},
	{name: "expires_at", at: func(k admin.TouchedKey) *time.Time { return k.ExpiresAt }},
	{name: "breaks", text: func(k admin.TouchedKey) string { return words(k.Breaks) }},
	{name: "loses", text: func(k admin.TouchedKey) string { return words(k.Loses) }},
}

// printPolicyImpact prints a preview; for a table with the sums, and otherwise the
// keys that it names.
func printPolicyImpact(r *apiRun, i admin.PolicyImpact) error {
	switch r.o.format.name {
	case formatJSON:
		return printSafeJSON(r.env.stdout, i)
	case formatTable:
		fmt.Fprintf(r.env.stdout, "%d live keys: %d would be refused that work now, %d would lose scopes, %d would work that are refused now\n", i.Keys, i.Blocked, i.Narrowed, i.Freed)
		for _, f := range i.Findings {
			fmt.Fprintln(r.env.stdout, safe(f.Detail))
		}
		if len(i.Touched) == 0 {
			return nil
		}
		fmt.Fprintln(r.env.stdout)
	}
	if n := int64(len(i.Touched)); n < max(i.Blocked, i.Narrowed) {
		fmt.Fprintf(r.env.stderr, "there are more: the first %d are shown\n", n)
	}
	return printList(r.env, r.o.format, i.Touched, touchedColumns)
}

func newPolicyCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "policy",
		Short: "Show or set what API keys may be and do",
		Long: `Policy shows and sets what API keys may be and do: how long they live, from where they
are used, what they hold. The organization's policy is for every workspace, and a
workspace's own narrows it. No key is changed by it: one that breaks a rule is refused
until it fits.`,
		Example: `$ tokenbooth policy show
$ tokenbooth policy preview --organization max_lifetime_days=90
$ tokenbooth policy set --organization max_lifetime_days=90 --yes`,
	}
	command.AddCommand(newPolicyShowCommand(env), newPolicySetCommand(env), newPolicyPreviewCommand(env))
	return command
}

func newPolicyShowCommand(env *environment) *cobra.Command {
	var o documentOptions
	command := &cobra.Command{
		Use:   "show [--organization | -w WORKSPACE] [-o FORMAT]",
		Short: "Show a policy",
		Long: `Show shows what a workspace says of its API keys, or with --organization what the
organization says, and what that comes to there ("effective").`,
		Example: `$ tokenbooth policy show
$ tokenbooth policy show --organization -o json >policy.json`,
		RunE: func(c *cobra.Command, _ []string) error { return policies.show(c, env, &o) },
	}
	o.addFlags(command)
	o.addOrganization(command)
	return command
}

func newPolicySetCommand(env *environment) *cobra.Command {
	var o documentOptions
	command := &cobra.Command{
		Use:   "set [--organization | -w WORKSPACE] {NAME=VALUE … | --file FILE} [--yes] [-o FORMAT]",
		Short: "Change a policy",
		Long: `Set changes the members of a policy that are named; null takes one back, and lists have
commas. With --file it puts a whole document in place of what there is: what the file
leaves out says nothing, and if it has a version, as show prints it, that has to be the
newest. It tells first what the change does. If keys would be refused or lose scopes,
it changes nothing without --yes.

Members: ` + policies.names() + `.`,
		Example: `$ tokenbooth policy set max_lifetime_days=90 allow_never_expiring=false
$ tokenbooth policy set 'allowed_scopes=collectors:*,charts:read' max_lifetime_days=null --yes
$ tokenbooth policy set --organization --file policy.json`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: policies.complete,
		RunE:              func(c *cobra.Command, args []string) error { return policies.set(c, env, &o, args) },
	}
	o.addFlags(command)
	o.addOrganization(command)
	o.addFile(command)
	command.Flags().BoolVar(&o.yes, "yes", false, "it is meant, though keys are refused or lose scopes")
	return command
}

func newPolicyPreviewCommand(env *environment) *cobra.Command {
	var o documentOptions
	command := &cobra.Command{
		Use:   "preview [--organization | -w WORKSPACE] {NAME=VALUE … | --file FILE} [-o FORMAT]",
		Short: "Show what a change of a policy would do",
		Long: `Preview shows which keys would be refused, lose scopes or work again if a policy was
changed like this, the first hundred by name. It changes nothing.

Members: ` + policies.names() + `.`,
		Example: `$ tokenbooth policy preview --organization max_lifetime_days=90
$ tokenbooth policy preview require_allowed_cidrs=true -o json | jq -r '.touched[].client_id'`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: policies.complete,
		RunE:              func(c *cobra.Command, args []string) error { return policies.preview(c, env, &o, args) },
	}
	o.addFlags(command)
	o.addOrganization(command)
	o.addFile(command)
	return command
}
