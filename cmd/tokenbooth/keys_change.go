package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// keyFlags is what a key may be made with.
type keyFlags struct {
	name, description        string
	scopes, audiences, cidrs []string
	ttl, expires             string
	perMinute, maxUses       string
}

func (k *keyFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringArrayVar(&k.scopes, "scope", nil, "a `SCOPE` that it holds, such as collectors:read; repeatable (default all of its owner's)")
	flags.StringArrayVar(&k.audiences, "audience", nil, "an `AUDIENCE` that it gets tokens for, the usual one first; repeatable")
	flags.StringArrayVar(&k.cidrs, "cidr", nil, "a `CIDR` that it may be used from, such as 203.0.113.0/24; repeatable (default anywhere)")
	flags.StringVar(&k.ttl, "token-ttl", "", "how long its tokens are good, a `DURATION` such as 10m")
	flags.StringVar(&k.perMinute, "exchanges-per-minute", "", "how often a minute it may be used, a `NUMBER` within the workspace's quota, or none for no limit of its own")
	flags.StringVar(&k.maxUses, "max-uses", "", "how often it may be used at all, a `NUMBER`, or none for any number")
	flags.StringVar(&k.expires, "expires", "", "when it ends: a `TIME` such as 7d, 30d, 90d, 1y, never or 2027-01-31T00:00:00Z (default what policy says)")
	flags.StringVar(&k.description, "description", "", "a `TEXT` for people")
}

// tokenTTL is how long tokens are good, in seconds; nil for the default.
func (k *keyFlags) tokenTTL(c *cobra.Command) (*int64, error) {
	if k.ttl == "" || k.ttl == "default" {
		return nil, nil
	}
	d, err := parseSpan(k.ttl)
	if err != nil {
		return nil, usagef(c, "--token-ttl: %q is not a duration such as 10m", k.ttl)
	}
	seconds := int64(d / time.Second)
	return &seconds, nil
}

// limit reads a number; nil for none.
func limit(c *cobra.Command, flag, text string) (*int64, error) {
	if text == "" || text == "none" {
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return nil, usagef(c, "--%s: %q is not a number from 1 on, or none", flag, text)
	}
	return &n, nil
}

// limits are the numbers that bound the key; nil for none.
func (k *keyFlags) limits(c *cobra.Command) (perMinute, maxUses *int64, err error) {
	if perMinute, err = limit(c, "exchanges-per-minute", k.perMinute); err != nil {
		return nil, nil, err
	}
	maxUses, err = limit(c, "max-uses", k.maxUses)
	return perMinute, maxUses, err
}

// expiry is when the key ends; nil if the flag was not given.
func (k *keyFlags) expiry(c *cobra.Command, now time.Time) (*admin.Expiry, error) {
	if k.expires == "" {
		return nil, nil
	}
	e, err := parseExpiry(k.expires, now)
	if err != nil {
		return nil, usagef(c, "--expires: %w", err)
	}
	return e, nil
}

// parseExpiry reads never, how long from now, or an instant.
func parseExpiry(text string, now time.Time) (*admin.Expiry, error) {
	if text == "never" {
		return admin.Never(), nil
	}
	if d, err := parseSpan(text); err == nil {
		return admin.At(now.Add(d).UTC().Truncate(time.Second)), nil
	}
	at, err := parseInstant(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not like 7d, 30d, 90d, 1y, never or 2027-01-31T00:00:00Z", text)
	case !at.After(now):
		return nil, fmt.Errorf("%s is past", text)
	}
	return admin.At(at.UTC()), nil
}

func newKeyCreateCommand(env *environment) *cobra.Command {
	var o apiOptions
	var k keyFlags
	var serviceAccount, role string
	var personal bool
	command := &cobra.Command{
		Use:   "create NAME [--service-account SA | --role ROLE | --personal] [--scope SCOPE …] [--expires TIME] [-o FORMAT]",
		Short: "Make an API key, and show its secret once",
		Long: `Create makes an API key and shows its secret, once. The key belongs to a service
account; without --service-account one of the key's name is made, with the role or the
scopes. A personal key (--personal) is your own and may do what you may.

-o env prints a line for a shell to evaluate, -o json what the API answers.`,
		Example: `$ tokenbooth keys create ci-main --service-account gitlab-ci --expires 90d
$ tokenbooth keys create terraform --role editor --expires 1y --cidr 203.0.113.0/24
$ tokenbooth keys create laptop --personal --expires 30d
$ tokenbooth keys create one-off --role viewer --expires 1d --max-uses 1
$ eval "$(tokenbooth keys create try --role viewer --expires 1d -o env)"`,
		Args: argumentNames("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := k.newKey(c, args[0])
			if err != nil {
				return err
			}
			n.ServiceAccount, n.Role = serviceAccount, role
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				if personal {
					n.Workspace = ws
					return r.issued(r.api.CreatePersonalKey(c.Context(), n))
				}
				return r.issued(r.api.CreateKey(c.Context(), ws, n))
			})
		},
	}
	o.addFlags(command, formatEnv)
	k.add(command)
	command.Flags().StringVar(&serviceAccount, "service-account", "", "the service account `SA` that it belongs to, by ID or name")
	command.Flags().StringVar(&role, "role", "", "the `ROLE` of the service account that is made")
	command.Flags().BoolVar(&personal, "personal", false, "a personal key of yours")
	command.MarkFlagsMutuallyExclusive("service-account", "role", "personal")
	return command
}

func (k *keyFlags) newKey(c *cobra.Command, name string) (admin.NewKey, error) {
	n := admin.NewKey{Name: name, Description: k.description, Scopes: splitScopes(k.scopes), Audiences: k.audiences, AllowedCIDRs: k.cidrs}
	var err error
	if n.TokenTTL, err = k.tokenTTL(c); err != nil {
		return n, err
	}
	if n.PerMinute, n.MaxUses, err = k.limits(c); err != nil {
		return n, err
	}
	n.ExpiresAt, err = k.expiry(c, time.Now())
	return n, err
}

func newKeyUpdateCommand(env *environment) *cobra.Command {
	var o apiOptions
	var k keyFlags
	command := &cobra.Command{
		Use:   "update ID [--name NAME] [--scope SCOPE …] [--audience AUDIENCE …] [--cidr CIDR …] [--token-ttl DURATION] [--exchanges-per-minute NUMBER] [--max-uses NUMBER] [--expires TIME]",
		Short: "Change an API key",
		Long: `Update changes an API key. A list that is given takes the place of the one that it has;
an empty one ends it: --scope '' gives the key all scopes of its owner, --cidr '' lets
it be used from anywhere. --token-ttl default goes back to the default, --max-uses none and
--exchanges-per-minute none lift those limits. If the key holds less afterwards, its
tokens stop being good at once.`,
		Example: `$ tokenbooth keys update tbk_… --expires 90d
$ tokenbooth keys update tbk_… --scope collectors:read --cidr ''`,
		Args: keyArgument,
		RunE: func(c *cobra.Command, args []string) error {
			change, err := k.change(c)
			if err != nil {
				return err
			}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return one(r, keyColumns)(r.api.UpdateKey(c.Context(), ws, args[0], change))
			})
		},
	}
	o.addFlags(command)
	k.add(command)
	command.Flags().StringVar(&k.name, "name", "", "the new `NAME`")
	return command
}

func (k *keyFlags) change(c *cobra.Command) (change admin.KeyChange, err error) {
	if err := wantChange(c, "name", "description", "scope", "audience", "cidr", "token-ttl", "exchanges-per-minute", "max-uses", "expires"); err != nil {
		return change, err
	}
	audiences, cidrs := withoutEmpty(k.audiences), withoutEmpty(k.cidrs)
	change = admin.KeyChange{
		Name: given(c, "name", &k.name), Description: given(c, "description", &k.description),
		Audiences: given(c, "audience", &audiences), AllowedCIDRs: given(c, "cidr", &cidrs),
	}
	if c.Flags().Changed("scope") {
		change.Scopes = &admin.Nullable[[]string]{}
		if scopes := splitScopes(k.scopes); len(scopes) > 0 {
			change.Scopes.Value = &scopes
		}
	}
	if c.Flags().Changed("token-ttl") {
		change.TokenTTL = &admin.Nullable[int64]{}
		if change.TokenTTL.Value, err = k.tokenTTL(c); err != nil {
			return change, err
		}
	}
	perMinute, maxUses, err := k.limits(c)
	if err != nil {
		return change, err
	}
	if c.Flags().Changed("exchanges-per-minute") {
		change.PerMinute = &admin.Nullable[int64]{Value: perMinute}
	}
	if c.Flags().Changed("max-uses") {
		change.MaxUses = &admin.Nullable[int64]{Value: maxUses}
	}
	change.ExpiresAt, err = k.expiry(c, time.Now())
	return change, err
}

func newKeyRotateCommand(env *environment) *cobra.Command {
	var o apiOptions
	var rotation admin.Rotation
	var grace string
	command := &cobra.Command{
		Use:   "rotate ID [--grace DURATION] [--revoke-tokens] [-o FORMAT]",
		Short: "Give an API key a new secret, and show it once",
		Long: `Rotate gives an API key a new secret, which it shows once. The ID stays. The old secret
ends at once, or after the grace period, in which both work. Tokens that were got with
the old one stay good unless they are revoked.`,
		Example: `$ tokenbooth keys rotate tbk_… --grace 24h
$ tokenbooth keys rotate tbk_… --revoke-tokens   # it has leaked`,
		Args: keyArgument,
		RunE: func(c *cobra.Command, args []string) error {
			if grace != "" && grace != "0" && grace != "0s" {
				d, err := parseSpan(grace)
				if err != nil {
					return usagef(c, "--grace: %q is not a duration such as 24h", grace)
				}
				rotation.GracePeriod = int64(d / time.Second)
			}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return r.issued(r.api.RotateKey(c.Context(), ws, args[0], rotation))
			})
		},
	}
	o.addFlags(command, formatEnv)
	command.Flags().StringVar(&grace, "grace", "", "let the old secret work for this `DURATION` yet, at most 7d")
	command.Flags().BoolVar(&rotation.RevokeTokens, "revoke-tokens", false, "refuse the tokens that the key has got so far")
	return command
}

var issuedColumns = []column[admin.IssuedKey]{
	{name: "client_id", text: func(k admin.IssuedKey) string { return k.ClientID }},
	{name: "client_secret", text: func(k admin.IssuedKey) string { return textOr(k.ClientSecret, "") }},
	{name: "name", text: func(k admin.IssuedKey) string { return k.Name }},
	{name: "scopes", text: func(k admin.IssuedKey) string { return keyScopes(k.Key) }},
	{name: "expires_at", at: func(k admin.IssuedKey) *time.Time { return k.ExpiresAt }},
}

// issued prints a key with its new secret.
func (r *apiRun) issued(k admin.IssuedKey, err error) error {
	if err != nil {
		return err
	}
	if k.ClientSecret == nil {
		return exitWith(exitNotFound, errors.New("the key "+safe(k.ClientID)+" was made, but its secret is not to be had any more"), "give it another one: tokenbooth keys rotate "+safe(k.ClientID))
	}
	if r.o.format.name == formatEnv {
		_, err = io.WriteString(r.env.stdout, fmt.Sprintf("export %s=%s %s=%s\n", clientIDVariable, shellQuote(k.ClientID), secretVariable, shellQuote(*k.ClientSecret)))
	} else {
		err = printOne(r.env, r.o.format, k, issuedColumns)
	}
	if err != nil {
		return err
	}
	if r.o.format.name == formatTable {
		fmt.Fprintln(r.env.stderr, "store it now: it is not shown again")
	}
	return nil
}
