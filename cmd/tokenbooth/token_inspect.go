package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// inspection is what there is to say about a token.
type inspection struct {
	Valid    bool           `json:"valid"`
	Reason   string         `json:"reason,omitempty"` // why it is not
	Audience string         `json:"checked_audience,omitempty"`
	Header   map[string]any `json:"header"`
	Claims   map[string]any `json:"claims"`

	err error
}

func newTokenInspectCommand(env *environment) *cobra.Command {
	var o clientOptions
	var audience, jwks, output string
	command := &cobra.Command{
		Use:   "inspect [-] [--url URL] [--jwks FILE] [--audience AUDIENCE] [-o json]",
		Short: "Verify a token and explain it",
		Long: `Inspect reads a token from TOKENBOOTH_TOKEN if that is set, else, or when - is given,
from standard input, verifies it with the issuer's keys and shows what is in it. It
says in a sentence why a token is not valid, and shows what such a token claims all
the same.

The issuer is the one that you name, never one that a token names. Its keys are
fetched, or read from a file that tokenbooth jwks has written. Without --audience
the token's own is taken for the one that is meant.

It ends with 0 for a valid token, with 4 for another one, and with 3 when the keys
cannot be fetched.`,
		Example: `$ tokenbooth token get | tokenbooth token inspect
$ tokenbooth token inspect --jwks jwks.json --audience https://api.example.com <token`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && (len(args) > 1 || args[0] != "-") {
				return usagef(c, "a token on the command line is visible to every user of the machine: give it on standard input, or in %s", tokenVariable)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usagef(c, "-o: %q is none of text, json", output)
			}
			issuer, err := o.issuerURL(c, env)
			if err != nil {
				return err
			}
			keys, err := inspectionKeys(env, issuer, jwks)
			if err != nil {
				return err
			}
			text, err := readToken(env, len(args) > 0)
			if err != nil {
				return err
			}
			i, err := inspect(c.Context(), text, bearer.Config{Issuer: issuer, Audience: audience, Keys: keys})
			if err != nil {
				return err
			}
			if output == "json" {
				err = i.json(env.stdout)
			} else {
				_, err = io.WriteString(env.stdout, i.text(time.Now()))
			}
			return errors.Join(err, i.verdict())
		},
	}
	addURLFlag(command, &o)
	command.Flags().StringVar(&audience, "audience", "", "the `AUDIENCE` that the token has to be for")
	command.Flags().StringVar(&jwks, "jwks", "", "read the keys from a `FILE`, and fetch nothing")
	command.Flags().StringVarP(&output, "output", "o", "text", "the `FORMAT`: text, json")
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return command
}

func inspectionKeys(env *environment, issuer, file string) (bearer.KeySet, error) {
	if file == "" {
		client, err := newHTTPClient(env)
		if err != nil {
			return nil, err
		}
		return bearer.NewRemote(bearer.RemoteConfig{Issuer: issuer, Client: client})
	}
	document, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	keys, err := bearer.ParseKeys(document)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return keys, nil
}

// readToken takes the token of the environment, or what standard input holds,
// be it a header line.
func readToken(env *environment, stdin bool) (string, error) {
	text := env.getenv(tokenVariable)
	if text == "" || stdin {
		read, err := io.ReadAll(io.LimitReader(env.stdin, maxAnswer))
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		text = string(read)
	}
	if text = plainToken(text); text == "" {
		return "", exitWith(exitUsage, errors.New("there is no token on standard input, nor in "+tokenVariable), "tokenbooth token get | tokenbooth token inspect")
	}
	return text, nil
}

// plainToken is the token of a text, be that a header line.
func plainToken(text string) string {
	text = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), "Authorization:"))
	if scheme, rest, ok := strings.Cut(text, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest)
	}
	return text
}

// inspect verifies a token and reads it, whatever comes of that.
func inspect(ctx context.Context, text string, c bearer.Config) (*inspection, error) {
	i := &inspection{}
	parts := strings.Split(text[:min(len(text), bearer.MaxTokenLength)], ".")
	i.Header = readPart(parts[0])
	if len(parts) > 1 {
		i.Claims = readPart(parts[1])
	}
	if typ, _ := i.Header["typ"].(string); strings.EqualFold(typ, oauth.PlainTokenType) {
		c.Type = oauth.PlainTokenType // an audience may be registered so
	}
	if c.Audience == "" {
		c.Audience = firstAudience(i.Claims)
	}
	i.Audience = c.Audience
	if c.Audience == "" {
		c.Audience = "none" // to get the better error, about what the token lacks
	}
	verifier, err := bearer.New(c)
	if err != nil {
		return nil, err
	}
	_, i.err = verifier.Verify(ctx, text)
	i.Valid = i.err == nil
	if i.err != nil {
		i.Reason = strings.TrimPrefix(i.err.Error(), bearer.ErrInvalid.Error()+": ")
	}
	return i, nil
}

// readPart decodes a part of a token for show; nil if it is none.
func readPart(part string) map[string]any {
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var members map[string]any
	if decoder.Decode(&members) != nil {
		return nil
	}
	return members
}

func firstAudience(claims map[string]any) string {
	switch aud := claims["aud"].(type) {
	case string:
		return aud
	case []any:
		if len(aud) > 0 {
			first, _ := aud[0].(string)
			return first
		}
	}
	return ""
}

// verdict is the end of the command.
func (i *inspection) verdict() error {
	switch {
	case i.Valid:
		return nil
	case errors.Is(i.err, bearer.ErrInvalid):
		return exitWith(exitRefused, errors.New("the token is not valid: "+i.Reason), "")
	}
	return exitWith(exitRetry, i.err, "without the keys nobody knows whether it is valid")
}

// json is for programs, and for people who look at it: in strings, what is not
// printable is escaped as JSON allows.
func (i *inspection) json(w io.Writer) error {
	text, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, escapeJSON(string(text)+"\n"))
	return err
}

// escapeJSON escapes in a text of JSON what could drive a terminal. The JSON says the
// same.
func escapeJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || unicode.IsGraphic(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// text is for people. What comes from the token cannot drive a terminal.
func (i *inspection) text(now time.Time) string {
	var b strings.Builder
	switch {
	case i.Valid:
		fmt.Fprintf(&b, "valid, for the audience %s\n", safe(i.Audience))
	case errors.Is(i.err, bearer.ErrInvalid):
		fmt.Fprintf(&b, "NOT VALID: %s\nwhat it claims:\n", safe(i.Reason))
	default:
		fmt.Fprint(&b, "NOT VERIFIED: the keys are not available\nwhat it claims:\n")
	}
	for _, line := range []struct{ label, name string }{
		{"issuer", "iss"}, {"audience", "aud"}, {"subject", "sub"}, {"key", "client_id"}, {"workspace", "workspace"}, {"", "workspace_id"},
		{"scope", "scope"}, {"issued", "iat"}, {"not before", "nbf"}, {"expires", "exp"}, {"token ID", "jti"},
	} {
		if value, ok := i.Claims[line.name]; ok {
			fmt.Fprintf(&b, "  %-11s %s\n", line.label, show(line.name, value, now))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(i.Claims)) {
		if !oauth.IsClaim(name) || strings.HasSuffix(name, "_gen") || name == "cnf" || name == "act" {
			fmt.Fprintf(&b, "  %-11s %s\n", safe(name), show("", i.Claims[name], now))
		}
	}
	fmt.Fprintf(&b, "  %-11s %s with key %s, typ %s\n", "signed", safe(fmt.Sprint(i.Header["alg"])), safe(fmt.Sprint(i.Header["kid"])), safe(fmt.Sprint(i.Header["typ"])))
	return b.String()
}

// show writes a claim; times as such.
func show(name string, value any, now time.Time) string {
	number, isNumber := value.(json.Number)
	if name == "iat" || name == "exp" || name == "nbf" {
		if seconds, err := number.Int64(); isNumber && err == nil && seconds > 0 && seconds < 1<<40 {
			at := time.Unix(seconds, 0).UTC()
			return fmt.Sprintf("%s (%s)", at.Format(time.RFC3339), inTime(at.Sub(now)))
		}
	}
	if text, ok := value.(string); ok {
		return safe(text)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "?"
	}
	return safe(string(text))
}

// safe escapes what is not printable, and cuts what is very long.
func safe(text string) string {
	const longest = 1000
	if len(text) > longest {
		text = text[:longest] + "…"
	}
	quoted := strconv.QuoteToGraphic(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
