package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// The environment of the commands that use a Tokenbooth, as opposed to those that
// run one.
const (
	urlVariable        = "TOKENBOOTH_URL"
	clientIDVariable   = "TOKENBOOTH_CLIENT_ID"
	secretVariable     = "TOKENBOOTH_CLIENT_SECRET"      //nolint:gosec // the name of a variable
	secretFileVariable = "TOKENBOOTH_CLIENT_SECRET_FILE" //nolint:gosec // the name of a variable
	tokenVariable      = "TOKENBOOTH_TOKEN"              //nolint:gosec // the name of a variable
	caVariable         = "TOKENBOOTH_CA_CERT"
)

// requestTimeout bounds one request.
const requestTimeout = 15 * time.Second

// clientOptions is what the flags of such a command said.
type clientOptions struct {
	url, id     string
	profile     string
	secretStdin bool
	scopes      []string
	audiences   []string
	cache       string
	timeout     time.Duration
	showCurl    bool
	secretFlag  string // a mistake
}

func addURLFlag(c *cobra.Command, o *clientOptions) {
	c.Flags().StringVar(&o.url, "url", "", "the `URL` of the Tokenbooth, its issuer (or "+urlVariable+")")
	c.Flags().StringVar(&o.profile, "profile", "", "use the profile `NAME` that tokenbooth login has made (or "+profileVariable+")")
}

func addLoginFlags(c *cobra.Command, o *clientOptions) {
	addKeyFlags(c, o)
	flags := c.Flags()
	flags.StringArrayVar(&o.scopes, "scope", nil, "narrow the token to a `SCOPE`, such as collectors:read; repeatable")
	flags.StringArrayVar(&o.audiences, "audience", nil, "the `AUDIENCE` that the token is for; repeatable")
	flags.StringVar(&o.cache, "cache", "auto", "where to keep the token until it expires: `disk|none`; auto is none when CI is set")
	flags.BoolVar(&o.showCurl, "show-curl", false, "print the request as a curl command instead, without the secret")
	_ = c.RegisterFlagCompletionFunc("cache", cobra.FixedCompletions([]string{"auto", "disk", "none"}, cobra.ShellCompDirectiveNoFileComp))
}

// addKeyFlags adds what says where the Tokenbooth is, and which key is used.
func addKeyFlags(c *cobra.Command, o *clientOptions) {
	addURLFlag(c, o)
	flags := c.Flags()
	flags.StringVar(&o.id, "client-id", "", "the key `ID` (or "+clientIDVariable+"; the secret names it too)")
	flags.BoolVar(&o.secretStdin, "client-secret-stdin", false, "read the secret from standard input")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "give up after this `DURATION`, retries included")
	flags.StringVar(&o.secretFlag, "client-secret", "", "") // so that it can be explained
	_ = flags.MarkHidden("client-secret")                   // it exists
}

// issuerURL is where the Tokenbooth is. Its mistakes are those of the command
// line.
func (o *clientOptions) issuerURL(c *cobra.Command, env *environment) (string, error) {
	text, err := o.namedURL(env)
	if err != nil {
		return "", err
	}
	if text = strings.TrimRight(text, "/"); text == "" {
		return "", usagef(c, "where is the Tokenbooth? set %s, give --url, or log in with tokenbooth login", urlVariable)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Scheme != "https" && u.Scheme != "http"):
		return "", usagef(c, "the URL of the Tokenbooth is not like https://login.example.com")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "", usagef(c, "%s would send secrets in the clear: use https (http is for this machine only)", text)
	}
	return text, nil
}

// namedURL is what the flags say, else the environment, else the profile. A profile
// that a flag names is before the environment.
func (o *clientOptions) namedURL(env *environment) (string, error) {
	if o.url != "" {
		return o.url, nil
	}
	if text := env.getenv(urlVariable); text != "" && o.profile == "" {
		return text, nil
	}
	p, err := o.chosenProfile(env)
	return p.URL, err
}

// credentials are a key's ID and secret.
type credentials struct{ id, secret string }

// ownID is the form of a secret, which names its key.
var ownID = regexp.MustCompile(`^([a-z][a-z0-9_]*?)[sp]_([0-9a-hjkmnp-tv-z]{26})_[0-9A-Za-z]{49}$`)

func (o *clientOptions) credentials(c *cobra.Command, env *environment) (credentials, error) {
	if o.maybeProfile(env) {
		p, ok, err := o.profileKey(c, env)
		if err != nil || ok {
			return credentials{p.ClientID, p.Secret}, err
		}
	}
	secret, err := o.secret(c, env)
	if err != nil {
		return credentials{}, err
	}
	k := credentials{id: cmp.Or(o.id, env.getenv(clientIDVariable)), secret: secret}
	if k.id == "" {
		k.id = keyID(secret)
	}
	if k.id == "" {
		return credentials{}, usagef(c, "the key ID is missing: set %s, or give --client-id", clientIDVariable)
	}
	return k, nil
}

// maybeProfile tells whether the key may be that of a profile: nothing that goes
// before it has one.
func (o *clientOptions) maybeProfile(env *environment) bool {
	named := env.getenv(secretVariable) != "" || env.getenv(secretFileVariable) != ""
	return !o.secretStdin && (o.profile != "" || !named)
}

// secret reads the secret from the one place where it is.
func (o *clientOptions) secret(c *cobra.Command, env *environment) (string, error) {
	text, file := env.getenv(secretVariable), env.getenv(secretFileVariable)
	switch {
	case o.secretStdin:
		read, err := io.ReadAll(io.LimitReader(env.stdin, 64<<10))
		if err != nil {
			return "", fmt.Errorf("read the secret from standard input: %w", err)
		}
		text = string(read)
	case text != "" && file != "":
		return "", usagef(c, "both %s and %s are set: unset one", secretVariable, secretFileVariable)
	case file != "":
		read, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("%s: %w", secretFileVariable, err)
		}
		text = string(read)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", usagef(c, "the secret is missing: set %s or %s, or give --client-secret-stdin", secretVariable, secretFileVariable)
	}
	return text, nil
}

// scope is what the token is narrowed to.
func (o *clientOptions) scope(c *cobra.Command) (oauth.Scope, error) {
	scope, err := oauth.ParseScope(strings.Join(strings.Fields(strings.Join(o.scopes, " ")), " "))
	if err != nil {
		return nil, usagef(c, "--scope: %w", err)
	}
	return scope, nil
}

// newHTTPClient makes a client that follows no redirect, so that a secret goes
// nowhere but where it was meant to, and trusts the operator's own CA as well.
func newHTTPClient(env *environment) (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if path := env.getenv(caVariable); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", caVariable, err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: %s holds no certificate in PEM", caVariable, path)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{
		Transport: transport, Timeout: requestTimeout,
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			return fmt.Errorf("%w to %s, which is not followed: is the URL the issuer's own?", errRedirect, r.URL.Redacted())
		},
	}, nil
}

var errRedirect = errors.New("it redirects")

// newEnvironmentTopic is what `tokenbooth help environment` prints.
func newEnvironmentTopic() *cobra.Command {
	return &cobra.Command{Use: "environment", Short: "Which variables commands read", Long: `Commands that use a Tokenbooth (token, exec, jwks, keys, workspaces, …) read

    ` + urlVariable + `                 where it is: its issuer, such as https://login.example.com
    ` + clientIDVariable + `           the key ID; may be left out, since the secret names it
    ` + secretVariable + `       the secret, or
    ` + secretFileVariable + `  the file that holds it
    ` + tokenVariable + `               the token to inspect; commands that manage send it instead
                                   of the secret
    ` + workspaceVariable + `           the workspace that commands are about: its ID or slug
    ` + profileVariable + `             the profile to use (see tokenbooth profile)
    ` + profilesVariable + `          the file of profiles; otherwise tokenbooth/profiles.yaml in
    XDG_CONFIG_HOME                that directory, or in ~/.config
    ` + caVariable + `             a PEM file with the CA of the Tokenbooth, beside those of the system
    HTTPS_PROXY, NO_PROXY          as usual
    CI                             when it is set, no token is kept on the disk
    XDG_CACHE_HOME                 where tokens are kept otherwise

Flags, --profile among them, go before the environment, and the environment before the
current profile. The secret of a profile goes to the URL of that profile only.

Commands that run one take every setting from a variable as well: see
tokenbooth config --help.`}
}
