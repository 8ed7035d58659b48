package main

import (
	"cmp"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var keyColumns = []column[admin.Key]{
	{name: "client_id", text: func(k admin.Key) string { return k.ClientID }},
	{name: "name", text: func(k admin.Key) string { return k.Name }},
	{name: "status", text: func(k admin.Key) string { return k.Status }},
	{name: "blocked", text: func(k admin.Key) string { return words(k.Blocked) }},
	{name: "owner", text: func(k admin.Key) string { return cmp.Or(k.ServiceAccountID, k.UserID) }},
	{name: "scopes", text: keyScopes},
	{name: "audiences", text: func(k admin.Key) string { return words(k.Audiences) }, detail: true},
	{name: "allowed_cidrs", text: func(k admin.Key) string { return words(k.AllowedCIDRs) }, detail: true},
	{name: "token_ttl_seconds", text: func(k admin.Key) string { return orEmpty(k.TokenTTL) }, detail: true},
	{name: "exchanges_per_minute", text: func(k admin.Key) string { return orEmpty(k.PerMinute) }, detail: true},
	{name: "max_uses", text: func(k admin.Key) string { return orEmpty(k.MaxUses) }, detail: true},
	{name: "uses", text: keyUses, detail: true},
	{name: "description", text: func(k admin.Key) string { return k.Description }, detail: true},
	{name: "expires_at", at: func(k admin.Key) *time.Time { return k.ExpiresAt }},
	{name: "last_used_at", at: func(k admin.Key) *time.Time { return k.LastUsedAt }},
	{name: "last_failed_at", at: func(k admin.Key) *time.Time { return k.LastFailedAt }, detail: true},
	{name: "created_at", at: func(k admin.Key) *time.Time { return &k.CreatedAt }, detail: true},
	{name: "created_by", text: func(k admin.Key) string { return k.CreatedBy }, detail: true},
	{name: "updated_at", at: func(k admin.Key) *time.Time { return &k.UpdatedAt }, detail: true},
	{name: "revoked_at", at: func(k admin.Key) *time.Time { return k.RevokedAt }, detail: true},
	{name: "revoked_reason", text: func(k admin.Key) string { return k.RevokedReason }, detail: true},
	{name: "workspace_id", text: func(k admin.Key) string { return k.WorkspaceID }, detail: true},
	{name: "secrets", text: keySecrets, detail: true},
}

// keyScopes says what a key holds.
func keyScopes(k admin.Key) string {
	if k.Scopes == nil {
		return "all of its owner's"
	}
	return words(k.Scopes)
}

// keyUses is how often a key was used, if that is counted.
func keyUses(k admin.Key) string {
	if k.MaxUses == nil {
		return ""
	}
	return count(k.Uses)
}

// keySecrets names the secrets of a key that are good, and until when the older ones
// are.
func keySecrets(k admin.Key) string {
	var list []string
	for _, s := range k.Secrets {
		switch {
		case s.ExpiresAt == nil:
			list = append(list, s.ID)
		case s.ExpiresAt.After(time.Now()):
			list = append(list, s.ID+" until "+s.ExpiresAt.UTC().Format(time.RFC3339))
		}
	}
	return joinComma(list)
}

func newKeysCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "keys",
		Short: "Manage API keys",
		Long: `Keys shows and changes the API keys of a workspace. A key is named by its ID (tbk_…),
which never changes; its secret is shown once, when it is made or rotated.`,
		Example: `$ tokenbooth keys create ci-main --service-account gitlab-ci --expires 90d
$ tokenbooth keys list --expiring-within 14
$ tokenbooth keys rotate tbk_… --grace 24h`,
	}
	command.AddCommand(
		newKeysListCommand(env),
		newKeyShowCommand(env),
		newKeyCreateCommand(env),
		newKeyUpdateCommand(env),
		newKeyRotateCommand(env),
		newKeyRevokeCommand(env),
		newKeyDeleteCommand(env),
		newKeyEndSecretCommand(env),
	)
	return command
}

func newKeysListCommand(env *environment) *cobra.Command {
	var o apiOptions
	var l listFlags
	var personal bool
	command := &cobra.Command{
		Use:   "list [--status STATUS] [--service-account SA] [--personal] [-o FORMAT]",
		Short: "Show the API keys of a workspace",
		Long: `List shows the API keys of a workspace and when they were used last; with --personal,
your own.`,
		Example: `$ tokenbooth keys list --service-account gitlab-ci
$ tokenbooth keys list --expiring-within 14 -o json | jq -r '.[].client_id'
$ tokenbooth keys list --unused-for 90 -o csv >unused.csv`,
		RunE: func(c *cobra.Command, _ []string) error {
			query, err := l.query(c)
			if err != nil {
				return err
			}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				list := r.api.Keys(c.Context(), ws, query)
				if personal {
					query.Set("workspace", ws)
					list = r.api.PersonalKeys(c.Context(), query)
				}
				return printPages(r, list, l, keyColumns)
			})
		},
	}
	o.addFlags(command)
	l.add(command, 0)
	l.text(command, "status", "status", "only those with that `STATUS`: active, expiring, expired, revoked")
	l.text(command, "service-account", "service_account", "only those of the service account `SA`, by ID or name")
	l.text(command, "user", "user_id", "only those of the user with that `ID`")
	l.text(command, "q", "q", "only those whose name contains `TEXT`")
	l.days(command, "expiring-within", "expiring_within_days", "only those that expire within that many `DAYS`")
	l.days(command, "unused-for", "unused_for_days", "only those that nobody has used for that many `DAYS`")
	command.Flags().BoolVar(&personal, "personal", false, "your own personal keys")
	_ = command.RegisterFlagCompletionFunc("status", cobra.FixedCompletions([]string{"active", "expiring", "expired", "revoked"}, cobra.ShellCompDirectiveNoFileComp))
	return command
}

func newKeyShowCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:     "show ID [-o FORMAT]",
		Short:   "Show an API key",
		Long:    "Show shows an API key, without its secrets.",
		Example: "$ tokenbooth keys show tbk_…",
		Args:    keyArgument,
		RunE: func(c *cobra.Command, args []string) error {
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return one(r, keyColumns)(r.api.Key(c.Context(), ws, args[0]))
			})
		},
	}
	o.addFlags(command)
	return command
}

// keyArgument wants the ID of a key.
func keyArgument(c *cobra.Command, args []string) error { return keyArguments("ID")(c, args) }

// keyArguments wants arguments of which none is a secret: one on the command line has
// been seen by every user of the machine.
func keyArguments(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		for _, arg := range args {
			if id := keyID(arg); id != "" {
				return usagef(c, "that is the secret of the key %s, which every user of the machine can see now: rotate it, and name keys by ID", id)
			}
		}
		return argumentNames(names...)(c, args)
	}
}

func newKeyRevokeCommand(env *environment) *cobra.Command {
	var o apiOptions
	var w waiting
	var revocation admin.Revocation
	command := &cobra.Command{
		Use:   "revoke ID [--reason TEXT] [--wait[=DURATION]]",
		Short: "End an API key at once",
		Long: `Revoke ends an API key for good: it gets no more tokens, and those that it has got are
refused. It returns when every server knows. Services that verify tokens on their own
learn of it within seconds, and by "dead by" none of its tokens is good anywhere.

With --wait it shows the key at once and then tells, on standard error, which verifiers
lack the revocation, until none that is known takes its tokens; if the DURATION is over
before, it ends with 3. So it does when for two minutes only verifiers have lacked it
that are silent, and may have ended. The same command goes on waiting.`,
		Example: `$ tokenbooth keys revoke tbk_… --reason 'it was in a log'
$ tokenbooth keys revoke tbk_… --wait=5m`,
		Args: keyArgument,
		RunE: func(c *cobra.Command, args []string) error {
			if err := w.check(c); err != nil {
				return err
			}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				revoked, err := r.api.RevokeKey(c.Context(), ws, args[0], revocation)
				if err := one(r, revokedColumns())(revoked, err); err != nil || revoked.Sequence == nil {
					return err
				}
				return w.follow(c.Context(), r, *revoked.Sequence)
			})
		},
	}
	o.addFlags(command)
	w.add(command)
	command.Flags().StringVar(&revocation.Reason, "reason", "", "why, a `TEXT` for the record")
	return command
}

// revokedColumns are those of a key, and what becomes of its tokens.
func revokedColumns() []column[admin.RevokedKey] {
	var columns []column[admin.RevokedKey]
	for _, c := range keyColumns {
		of := column[admin.RevokedKey]{name: c.name, detail: c.detail}
		if c.text != nil {
			of.text = func(k admin.RevokedKey) string { return c.text(k.Key) }
		}
		if c.at != nil {
			of.at = func(k admin.RevokedKey) *time.Time { return c.at(k.Key) }
		}
		columns = append(columns, of)
	}
	return append(columns,
		column[admin.RevokedKey]{name: "sequence", text: func(k admin.RevokedKey) string { return orEmpty(k.Sequence) }},
		column[admin.RevokedKey]{name: "dead_by", at: func(k admin.RevokedKey) *time.Time { return k.DeadBy }},
		column[admin.RevokedKey]{name: "exchange_effective_by", at: func(k admin.RevokedKey) *time.Time { return k.EffectiveBy }},
	)
}

func newKeyDeleteCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:     "delete ID",
		Short:   "End an API key and take it out of the lists",
		Long:    "Delete revokes an API key and takes it out of the lists. The audit log keeps what it did.",
		Example: "$ tokenbooth keys delete tbk_…",
		Args:    keyArgument,
		RunE: func(c *cobra.Command, args []string) error {
			return o.quietlyIn(c, env, func(r *apiRun, ws string) error { return r.api.DeleteKey(c.Context(), ws, args[0]) })
		},
	}
	o.addQuietFlags(command)
	return command
}

func newKeyEndSecretCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:   "end-secret ID SECRET-ID",
		Short: "End an older secret of an API key before its time",
		Long: `End-secret ends an older secret of a key that was rotated with a grace period, when
every job has the new one. show names the secrets of a key.`,
		Example: `$ tokenbooth keys show tbk_… -o json | jq '.secrets[] | {id, last_used_at, expires_at}'
$ tokenbooth keys end-secret tbk_… SECRET-ID`,
		Args: keyArguments("ID", "SECRET-ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.quietlyIn(c, env, func(r *apiRun, ws string) error { return r.api.EndSecret(c.Context(), ws, args[0], args[1]) })
		},
	}
	o.addQuietFlags(command)
	return command
}
