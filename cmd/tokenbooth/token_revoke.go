package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// revokedToken is what became of a token that was revoked.
type revokedToken struct {
	Sequence    int64      `json:"sequence"`                        // in the feed of revocations; 0: there was nothing to revoke
	DeadBy      *time.Time `json:"dead_by"`                         // after that it is good nowhere
	EffectiveBy *time.Time `json:"exchange_effective_by,omitempty"` // some server may take it until then; nil: none does
}

var revokedTokenColumns = []column[revokedToken]{
	{name: "sequence", text: func(r revokedToken) string {
		if r.Sequence == 0 {
			return ""
		}
		return strconv.FormatInt(r.Sequence, 10)
	}},
	{name: "dead_by", at: func(r revokedToken) *time.Time { return r.DeadBy }},
}

// revokeOptions say which token, and how to tell what became of it.
type revokeOptions struct {
	clientOptions
	file   string
	cached bool
	format outputFormat
}

func newTokenRevokeCommand(env *environment) *cobra.Command {
	var o revokeOptions
	command := &cobra.Command{
		Use:   "revoke [-] [--file FILE | --cached] [-o json]",
		Short: "Revoke a token before it expires",
		Long: `Revoke reads a token from standard input, or from a file, and revokes it. --cached
takes the token that tokenbooth token get keeps on the disk for this key and for
--scope and --audience, if they are given.

The key comes from the environment (see tokenbooth help environment). It is the one
that the token was issued to, or one of the same workspace that holds tokens:revoke.
The key goes on to work: tokenbooth keys revoke ends a key, with all of its tokens.

It prints the number of the revocation, by which verifiers are followed, and the time
after which the token is good nowhere, not even for a verifier that hears of nothing.
What is no token of this Tokenbooth, or has expired, needs no revocation.

It ends with 0 when the token is revoked or needs no revocation, with 3 when it may
still be good and trying again may help, and with 4 when the Tokenbooth refuses.`,
		Example: `$ tokenbooth token revoke <leaked-token
$ tokenbooth token revoke --cached --scope collectors:read
$ tokenbooth token revoke --file token -o json | jq .sequence`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1 && args[0] != "-") {
				return usagef(c, "a token on the command line is visible to every user of the machine: give it on standard input, or use --file")
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c, env) },
	}
	addKeyFlags(command, &o.clientOptions)
	flags := command.Flags()
	flags.StringVar(&o.file, "file", "", "read the token from a `FILE`")
	flags.BoolVar(&o.cached, "cached", false, "revoke the token that is kept on the disk")
	flags.StringArrayVar(&o.scopes, "scope", nil, "with --cached, the `SCOPE` that it was narrowed to; repeatable")
	flags.StringArrayVar(&o.audiences, "audience", nil, "with --cached, the `AUDIENCE` that it is for; repeatable")
	o.format.add(command, "text", []string{"text", formatJSON})
	return command
}

func (o *revokeOptions) run(c *cobra.Command, env *environment) error {
	if err := o.check(c); err != nil {
		return err
	}
	o.cache = "disk"
	l, cache, err := newTokenRequest(c, env, o.clientOptions)
	if err != nil {
		return err
	}
	token, err := o.token(c, env, l, cache)
	if err != nil {
		return err
	}
	r, err := l.revoke(c.Context(), token)
	if err != nil {
		return err
	}
	if kept, ok := cache.find(l); ok && kept.AccessToken == token {
		cache.forget(l)
	}
	if r.EffectiveBy != nil {
		env.warn([]string{"it is revoked, but some server may take it until " + r.EffectiveBy.UTC().Format(time.RFC3339)})
	}
	if r.Sequence == 0 {
		fmt.Fprintln(env.stderr, "there was nothing to revoke: it is no token of this Tokenbooth that is good"+unlessCut(token))
	}
	return printOne(env, o.format, r, revokedTokenColumns)
}

func (o *revokeOptions) check(c *cobra.Command) error {
	switch {
	case o.cached && (o.file != "" || c.Flags().NArg() > 0), o.file != "" && c.Flags().NArg() > 0:
		return usagef(c, "which token? give it on standard input, or use one of --file and --cached")
	case o.secretStdin && o.file == "" && !o.cached:
		return usagef(c, "the secret and the token cannot both come from standard input: use --file for the token, or %s for the secret", secretFileVariable)
	case !o.cached && len(o.scopes)+len(o.audiences) > 0:
		return usagef(c, "--scope and --audience say which token of --cached is meant")
	}
	return o.format.check(c)
}

// token reads the token that is to be revoked.
func (o *revokeOptions) token(c *cobra.Command, env *environment, l *tokenRequest, cache tokenCache) (string, error) {
	if o.cached {
		t, ok := cache.find(l)
		if !ok {
			return "", exitWith(exitNotFound, fmt.Errorf("no token of the key %s is kept", l.key.id), "one is kept for each key, --scope and --audience; give the same as to tokenbooth token get")
		}
		return t.AccessToken, nil
	}
	in := env.stdin
	if o.file != "" {
		file, err := os.Open(o.file)
		if err != nil {
			return "", err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := plainToken(string(text))
	if !bearerToken.MatchString(token) {
		return "", usagef(c, "there is no token on standard input or in the file, or more than that")
	}
	return token, nil
}

// revoke revokes a token. Doing it twice does no harm.
func (l *tokenRequest) revoke(ctx context.Context, token string) (r revokedToken, err error) {
	form := url.Values{"client_id": {l.key.id}, "client_secret": {l.key.secret}, "token": {token}, "token_type_hint": {"access_token"}}
	err = l.persist(ctx, func(ctx context.Context) error {
		answer, err := l.post(ctx, l.url+endpoint.RevokePath, form)
		if err != nil {
			return err
		}
		if answer.status != http.StatusOK && answer.status != http.StatusAccepted {
			return l.refusal(answer, form)
		}
		if json.Unmarshal(answer.body, &r) != nil {
			return errors.New(answer.address + " answers, but not as a Tokenbooth does: is it the URL of one?")
		}
		return nil
	})
	return r, err
}

// unlessCut is what to consider about a token that calls itself good.
func unlessCut(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	claims, err := oauth.ParseClaims(text)
	if err == nil && time.Now().Unix() < claims.Expiry {
		return "; but it says that it is good until " + time.Unix(claims.Expiry, 0).UTC().Format(time.RFC3339) +
			": unless it was revoked before with its key, check that it was copied whole"
	}
	return ""
}
