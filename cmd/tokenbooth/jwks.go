package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
)

// metadataPath is where an issuer describes itself, below its URL (OpenID Connect
// Discovery 1.0 §4).
const metadataPath = "/.well-known/openid-configuration"

func newJWKSCommand(env *environment) *cobra.Command {
	var o clientOptions
	var out string
	var asPEM bool
	command := &cobra.Command{
		Use:   "jwks [--out FILE] [--pem]",
		Short: "Fetch the keys that tokens are verified with",
		Long: `JWKS fetches the published keys, from where the issuer's metadata says they are, for
verifiers that take them from a file. The file is replaced whole, only by a set that
has keys, and only when it changes; run this more often than keys are published before
they sign (a day).`,
		Example: `$ tokenbooth jwks --out /etc/postgrest/jwks.json
$ echo '17 * * * *  tokenbooth jwks --url https://login.example.com --out /etc/postgrest/jwks.json' | crontab -
$ tokenbooth jwks --pem`,
		RunE: func(c *cobra.Command, _ []string) error {
			issuer, err := o.issuerURL(c, env)
			if err != nil {
				return err
			}
			client, err := newHTTPClient(env)
			if err != nil {
				return err
			}
			set, err := fetchKeys(c.Context(), client, issuer)
			if err != nil {
				return err
			}
			text, err := encodeKeys(set, asPEM)
			if err != nil {
				return err
			}
			return writeKeys(env, out, text)
		},
	}
	addURLFlag(command, &o)
	command.Flags().StringVar(&out, "out", "", "write to a `FILE` instead of standard output")
	command.Flags().BoolVar(&asPEM, "pem", false, "write PEM, each key under a line with its kid")
	return command
}

// fetchKeys fetches the keys of an issuer by way of its metadata, which has to be that
// of the issuer that was asked (RFC 8414 §3.3).
func fetchKeys(ctx context.Context, client *http.Client, issuer string) (jwk.Set, error) {
	text, err := fetch(ctx, client, issuer+metadataPath)
	if err != nil {
		return jwk.Set{}, err
	}
	var metadata oauth.Metadata
	if err := json.Unmarshal(text, &metadata); err != nil || metadata.Issuer == "" {
		return jwk.Set{}, fmt.Errorf("%s: its metadata is not that of an issuer: is it the URL of a Tokenbooth?", issuer)
	}
	uri, err := url.Parse(metadata.JWKSURI)
	switch {
	case metadata.Issuer != issuer:
		return jwk.Set{}, exitWith(exitFailure, fmt.Errorf("%s: its metadata is that of another issuer, %s", issuer, safe(metadata.Issuer)), "give the URL of the issuer")
	case err != nil || (uri.Scheme != "https" && (uri.Scheme != "http" || !isLoopback(uri.Hostname()))):
		return jwk.Set{}, fmt.Errorf("%s: its metadata names no https address for its keys", issuer)
	}
	if text, err = fetch(ctx, client, metadata.JWKSURI); err != nil {
		return jwk.Set{}, err
	}
	set, err := jwk.ParseSet(text)
	if err != nil {
		return jwk.Set{}, fmt.Errorf("%s: %w", metadata.JWKSURI, err)
	}
	return set, nil
}

// fetch reads a public document. Its errors tell what may pass.
func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if errors.Is(err, errRedirect) {
		return nil, err
	}
	if err != nil {
		return nil, exitWith(exitRetry, fmt.Errorf("cannot reach the Tokenbooth: %w", err), "")
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	switch {
	case err != nil || response.StatusCode >= http.StatusInternalServerError || response.StatusCode == http.StatusTooManyRequests:
		return nil, exitWith(exitRetry, errors.Join(fmt.Errorf("%s: it answers %d", url, response.StatusCode), err), "try again later")
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: it answers %d: is it the URL of a Tokenbooth?", url, response.StatusCode)
	}
	return body, nil
}

func encodeKeys(set jwk.Set, asPEM bool) ([]byte, error) {
	if !asPEM {
		text, err := json.MarshalIndent(set, "", "  ")
		return append(text, '\n'), err
	}
	var b bytes.Buffer
	for _, k := range set.Keys {
		public, err := k.Public()
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.ID, err)
		}
		fmt.Fprintf(&b, "# kid %s, alg %s\n%s", safe(k.ID), k.Algorithm, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	return b.Bytes(), nil
}

// writeKeys writes to the file, if it says something else, or to standard output.
func writeKeys(env *environment, path string, text []byte) error {
	if path == "" {
		_, err := env.stdout.Write(text)
		return err
	}
	if present, err := os.ReadFile(path); err == nil && bytes.Equal(present, text) {
		return nil
	}
	return writeWhole(filepath.Clean(path), text, 0o644)
}
