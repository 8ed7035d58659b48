package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

func newTokenCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "token",
		Short: "Get a token for an API key, look into one, or revoke one",
		Long: `Token exchanges an API key for a token, and explains and revokes tokens. It needs no more than
the URL of a Tokenbooth and a key: see tokenbooth help environment.`,
		Example: `$ export TOKENBOOTH_URL=https://login.example.com TOKENBOOTH_CLIENT_SECRET_FILE=secret
$ curl -H "Authorization: Bearer $(tokenbooth token get)" https://api.example.com/collectors
$ tokenbooth token get | tokenbooth token inspect`,
	}
	command.AddCommand(newTokenGetCommand(env), newTokenInspectCommand(env), newTokenRevokeCommand(env))
	return command
}

func newTokenGetCommand(env *environment) *cobra.Command {
	var o clientOptions
	var f tokenFormat
	command := &cobra.Command{
		Use:   "get [-o FORMAT] [--scope SCOPE …] [--audience AUDIENCE …]",
		Short: "Exchange an API key for a token",
		Long: `Get prints the token and a line end on standard output, and nothing else; if it
fails, it prints nothing there. The key comes from the environment (see tokenbooth
help environment), never from a flag.

A token is kept on the disk and given out again while it is good for more than 30
seconds; not when CI is set. What may pass is tried up to five times, and never
earlier than the server asks for.

Formats:

    raw              the token
    json             an object with the token, when it expires, its scope
    env              export TOKENBOOTH_TOKEN='…', for eval (--shell, --var)
    header           Authorization: Bearer …, for curl -H @-
    exec-credential  for kubectl: the exec plugin of a kubeconfig
    git              a git credential helper: called with get, store or erase
    github           masks the token in the job's log, and sets the output token (--var)
    gitlab           like env; refuses when the job's log would show the token

It ends with 3 when trying again may help, and with 4 when the Tokenbooth refuses:
see tokenbooth help exit-codes.`,
		Example: `$ TOKEN=$(tokenbooth token get --scope collectors:read)
$ tokenbooth token get -o header | curl -H @- https://api.example.com/collectors
$ git config credential.https://git.example.com.helper '!tokenbooth token get -o git'`,
		Args: f.check,
		RunE: func(c *cobra.Command, args []string) error {
			return getToken(c, env, o, f, args)
		},
	}
	addLoginFlags(command, &o)
	f.addFlags(command)
	return command
}

func getToken(c *cobra.Command, env *environment, o clientOptions, f tokenFormat, args []string) error {
	if f.name == "git" && args[0] != "get" && args[0] != "erase" {
		return nil // git offers to store what we gave it, and may learn other words
	}
	if o.showCurl {
		return showCurl(c, env, o)
	}
	if err := f.ready(c, env); err != nil {
		return err
	}
	l, cache, err := newTokenRequest(c, env, o)
	if err != nil {
		return err
	}
	if f.name == "git" && args[0] == "erase" {
		cache.forget(l)
		return nil
	}
	t, err := l.token(c.Context(), cache)
	if err != nil {
		return err
	}
	env.warn(expiryWarning(l.key.id, t.KeyExpiresAt, l.now()))
	text, err := f.write(env, t, l.now())
	if err != nil {
		return err
	}
	_, err = io.WriteString(env.stdout, text)
	return err
}

// newTokenRequest puts together what the flags and the environment say.
func newTokenRequest(c *cobra.Command, env *environment, o clientOptions) (*tokenRequest, tokenCache, error) {
	l, err := newRequestWithoutKey(c, env, o)
	if err != nil {
		return nil, tokenCache{}, err
	}
	cache, err := newTokenCache(env, o.cache)
	if err != nil {
		return nil, cache, usagef(c, "%w", err)
	}
	if l.key, err = o.credentials(c, env); err != nil {
		return nil, cache, err
	}
	l.http, err = newHTTPClient(env)
	return l, cache, err
}

// newRequestWithoutKey is one without credentials.
func newRequestWithoutKey(c *cobra.Command, env *environment, o clientOptions) (*tokenRequest, error) {
	l := &tokenRequest{audiences: slices.Compact(slices.Sorted(slices.Values(o.audiences))), timeout: o.timeout, now: time.Now, sleep: sleep}
	if o.secretFlag != "" {
		return nil, usagef(c, "a secret on the command line is visible to every user of the machine: set %s or %s, or use --client-secret-stdin", secretVariable, secretFileVariable)
	}
	var err error
	if l.url, err = o.issuerURL(c, env); err != nil {
		return nil, err
	}
	if l.scope, err = o.scope(c); err != nil {
		return nil, err
	}
	if o.timeout <= 0 {
		return nil, usagef(c, "--timeout: give a duration such as 30s")
	}
	return l, nil
}

// token is a kept one, or a new one.
func (l *tokenRequest) token(ctx context.Context, cache tokenCache) (accessToken, error) {
	if t, ok := cache.find(l); ok {
		return t, nil
	}
	t, err := l.run(ctx)
	if err == nil {
		cache.keep(l, t)
	}
	return t, err
}

func showCurl(c *cobra.Command, env *environment, o clientOptions) error {
	l, err := newRequestWithoutKey(c, env, o)
	if err != nil {
		return err
	}
	l.key.id = cmp.Or(o.id, env.getenv(clientIDVariable), "YOUR_KEY_ID")
	if k, err := o.credentials(c, env); err == nil {
		l.key.id = k.id // which the secret may have named; it is not needed for this
	}
	_, err = io.WriteString(env.stdout, l.curl(env.getenv(caVariable)))
	return err
}

// soon is how long before the end of a key people are told.
const soon = 14 * 24 * time.Hour

// expiryWarning warns of a key that expires soon.
func expiryWarning(id, expires string, now time.Time) []string {
	at, err := time.Parse(time.RFC3339, expires)
	if err != nil || at.Sub(now) > soon {
		return nil
	}
	return []string{fmt.Sprintf("the API key %s expires %s, at %s: rotate it, or create another one", id, inTime(at.Sub(now)), at.UTC().Format(time.RFC3339))}
}

// inTime says how far away a moment is: "in 6 days", "3 m ago".
func inTime(d time.Duration) string {
	text := ""
	switch a := d.Abs(); {
	case a >= 48*time.Hour:
		text = fmt.Sprintf("%d days", int(a.Hours()/24))
	case a >= 2*time.Hour:
		text = fmt.Sprintf("%d h", int(a.Hours()))
	case a >= 2*time.Minute:
		text = fmt.Sprintf("%d m", int(a.Minutes()))
	default:
		text = fmt.Sprintf("%d s", int(a.Seconds()))
	}
	if d < 0 {
		return text + " ago"
	}
	return "in " + text
}
