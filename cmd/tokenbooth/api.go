package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// workspaceVariable names the workspace that commands are about.
const workspaceVariable = "TOKENBOOTH_WORKSPACE"

// apiOptions is what the flags of a command that uses the management API said.
type apiOptions struct {
	clientOptions
	workspace string
	format    outputFormat
}

// addConnectionFlags adds what every such command has.
func (o *apiOptions) addConnectionFlags(c *cobra.Command) {
	addURLFlag(c, &o.clientOptions)
	flags := c.Flags()
	flags.StringVarP(&o.workspace, "workspace", "w", "", "the `WORKSPACE`, by ID or slug (or "+workspaceVariable+"; default the key's own)")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "give up on a request after this `DURATION`, retries included")
	flags.StringVar(&o.secretFlag, "client-secret", "", "") // so that it can be explained
	_ = flags.MarkHidden("client-secret")                   // it exists
}

// addFlags adds those of a command that prints what the API answers.
func (o *apiOptions) addFlags(c *cobra.Command, more ...string) {
	o.addConnectionFlags(c)
	o.format.addFlag(c, more...)
	o.addShowCurl(c)
}

// addQuietFlags adds those of a command to which the API answers nothing.
func (o *apiOptions) addQuietFlags(c *cobra.Command) {
	o.addConnectionFlags(c)
	o.addShowCurl(c)
}

func (o *apiOptions) addShowCurl(c *cobra.Command) {
	c.Flags().BoolVar(&o.showCurl, "show-curl", false, "print the request as a curl command instead, without the secret")
}

// apiTarget is where the API is and what is sent as credential.
type apiTarget struct {
	url, credential string
	variable        string // where a shell finds the credential
	workspace       string // of the profile, if its key is used
}

// apiRun is one run of a command that uses the management API.
type apiRun struct {
	env    *environment
	o      *apiOptions
	target apiTarget
	api    *admin.Client
}

// errShown stops a request that was printed instead of being sent.
var errShown = errors.New("the request was printed")

// run connects and does f, whose errors become those of the command line.
func (o *apiOptions) run(c *cobra.Command, env *environment, f func(*apiRun) error) error {
	if err := o.format.check(c); err != nil {
		return err
	}
	target, err := o.target(c, env)
	if err != nil {
		return err
	}
	r, err := o.connect(c, env, target)
	if err != nil {
		return err
	}
	return r.failure(f(r))
}

// runIn is run for a command about a workspace.
func (o *apiOptions) runIn(c *cobra.Command, env *environment, f func(r *apiRun, ws string) error) error {
	return o.run(c, env, func(r *apiRun) error {
		ws, err := r.workspaceOf(c.Context())
		if err != nil {
			return err
		}
		return f(r, ws)
	})
}

// quietly runs what answers nothing.
func (o *apiOptions) quietly(c *cobra.Command, env *environment, f func(*apiRun) error) error {
	return o.run(c, env, func(r *apiRun) error {
		if err := f(r); err != nil {
			return err
		}
		fmt.Fprintln(env.stderr, "done")
		return nil
	})
}

// quietlyIn is quietly for a command about a workspace.
func (o *apiOptions) quietlyIn(c *cobra.Command, env *environment, f func(r *apiRun, ws string) error) error {
	return o.quietly(c, env, func(r *apiRun) error {
		ws, err := r.workspaceOf(c.Context())
		if err != nil {
			return err
		}
		return f(r, ws)
	})
}

// one prints what was asked for, if it was got.
func one[T any](r *apiRun, columns []column[T]) func(T, error) error {
	return func(item T, err error) error {
		if err != nil {
			return err
		}
		return printOne(r.env, r.o.format, item, columns)
	}
}

// target puts together where the API is, and the credential for it: that of a
// profile which a flag names, else a token or a secret of the environment, else that
// of the current profile.
func (o *apiOptions) target(c *cobra.Command, env *environment) (apiTarget, error) {
	t := apiTarget{variable: secretVariable}
	var err error
	if t.url, err = o.issuerURL(c, env); err != nil {
		return t, err
	}
	if token := env.getenv(tokenVariable); token != "" && o.profile == "" {
		t.credential, t.variable = token, tokenVariable
		return t, nil
	}
	if o.maybeProfile(env) {
		p, ok, err := o.profileKey(c, env)
		if err != nil || ok {
			t.credential, t.workspace = p.Secret, p.Workspace
			return t, err
		}
	}
	t.credential, err = o.secret(c, env)
	if err != nil && o.showCurl {
		t.credential, err = "none", nil // it is not needed for this
	}
	return t, err
}

func (o *apiOptions) connect(c *cobra.Command, env *environment, target apiTarget) (*apiRun, error) {
	switch {
	case o.secretFlag != "":
		return nil, usagef(c, "a secret on the command line is visible to every user of the machine: set %s or %s, or use tokenbooth login", secretVariable, secretFileVariable)
	case o.timeout <= 0:
		return nil, usagef(c, "--timeout: give a duration such as 30s")
	case !bearerToken.MatchString(target.credential):
		return nil, usagef(c, "the credential in %s is neither a secret nor a token: is it copied whole?", target.variable)
	}
	client, err := newHTTPClient(env)
	if err != nil {
		return nil, err
	}
	client.Timeout, client.Transport = o.timeout, &retrying{next: client.Transport, sleep: sleep, now: time.Now}
	r := &apiRun{env: env, o: o, target: target}
	config := admin.Config{URL: target.url, Credential: target.credential, HTTP: client, UserAgent: "tokenbooth/" + readBuild().Version}
	if o.showCurl {
		config.Sent = r.show
	}
	r.api, err = admin.New(config)
	return r, err
}

// show prints a request as curl, and stops it.
func (r *apiRun) show(request *http.Request, body []byte) error {
	if _, err := io.WriteString(r.env.stdout, r.curl(request, body)); err != nil {
		return err
	}
	return errShown
}

// curl is the request for a shell. The credential stays in its variable, and out of
// the command line of curl.
func (r *apiRun) curl(request *http.Request, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "printf 'Authorization: Bearer %%s' \"$%s\" |\n  curl -sS --fail-with-body -H @-", r.target.variable)
	if ca := r.env.getenv(caVariable); ca != "" {
		b.WriteString(" --cacert " + shellQuote(ca))
	}
	if request.Method != http.MethodGet {
		b.WriteString(" -X " + request.Method)
	}
	for _, name := range []string{"Content-Type", "Idempotency-Key", "If-Match"} {
		if value := request.Header.Get(name); value != "" {
			b.WriteString(" -H " + shellQuote(name+": "+value))
		}
	}
	if len(body) > 0 {
		b.WriteString(" --data " + shellQuote(strings.TrimSpace(escapeJSON(string(body)))))
	}
	fmt.Fprintf(&b, " %s\n", shellQuote(request.URL.String()))
	return b.String()
}

// workspaceNamed is the workspace that a flag names, or the environment.
func (o *apiOptions) workspaceNamed(env *environment) string {
	return cmp.Or(o.workspace, env.getenv(workspaceVariable))
}

// workspaceOf is the workspace that the command is about: a named one, else that of the
// profile, else the key's own.
func (r *apiRun) workspaceOf(ctx context.Context) (string, error) {
	if ws := cmp.Or(r.o.workspaceNamed(r.env), r.target.workspace); ws != "" {
		return ws, nil
	}
	if r.o.showCurl {
		return "YOUR_WORKSPACE", nil
	}
	who, err := r.api.Whoami(ctx)
	return who.Workspace, err
}

// failure makes an error of the API one of the command line. What a server says may
// come from anybody, so it is reduced to printable characters, and never holds the
// credential.
func (r *apiRun) failure(err error) error {
	var refusal *admin.Error
	var exit *exitError
	switch {
	case err == nil, errors.Is(err, errShown):
		return nil
	case errors.As(err, &exit):
		return err
	case errors.As(err, &refusal):
		return r.refusal(refusal)
	case errors.Is(err, errRedirect):
		return exitWith(exitFailure, r.plain(err), "give the URL of the issuer itself")
	case errors.Is(err, admin.ErrUnreachable):
		return exitWith(exitRetry, r.plain(err), r.silence(err))
	}
	return r.plain(err)
}

// silence is what to do when nobody answered.
func (r *apiRun) silence(err error) string {
	text := "is " + r.target.url + " the issuer of a Tokenbooth, and does it run?"
	var sent *url.Error
	if errors.As(err, &sent) && sent.Op == "Get" {
		return text
	}
	return text + " A change may have been made all the same: look before you repeat it"
}

// plain is an error that cannot drive a terminal, without the credential.
func (r *apiRun) plain(err error) error {
	return errors.New(safe(strings.ReplaceAll(err.Error(), r.target.credential, "[redacted]")))
}

// refusal tells what was asked, with which key, what was said, under which request ID,
// and what to do. A detail that says the same again is left out.
func (r *apiRun) refusal(e *admin.Error) error {
	text := fmt.Sprintf("%s %s", e.Method, e.URL)
	if id := keyID(r.target.credential); id != "" {
		text += ", with the key " + id
	}
	text += fmt.Sprintf(": %d %s", e.Status, strings.TrimSuffix(e.Detail, "."))
	if e.RequestID != "" {
		text += " (request ID " + e.RequestID + ")"
	}
	for _, field := range e.Errors {
		if field.Detail != e.Detail {
			text += fmt.Sprintf("; %s: %s", cmp.Or(field.Pointer, "the request"), strings.TrimSuffix(field.Detail, "."))
		}
	}
	code := refusalExit(e)
	return exitWith(code, r.plain(errors.New(text)), r.fix(e, code))
}

// fix is what to do about a refusal, and where that is explained.
func (r *apiRun) fix(e *admin.Error, code int) string {
	help, known := e.Code.Help()
	switch {
	case known:
		text := help.Fix
		if after := retryAfter(e.RetryAfter, time.Now()); code == exitRetry && after > 0 {
			text = fmt.Sprintf("try again in %s. %s", after, text)
		}
		return text + " See " + e.Code.URI(r.target.url)
	case code == exitRetry:
		return "try again later"
	}
	return "is " + r.target.url + " the issuer of a Tokenbooth, and does this version of it have that?"
}

// refusalExit is the exit code for an answer. One that says nothing of a Tokenbooth's
// is no word about what was named.
func refusalExit(e *admin.Error) int {
	ours := e.Code != oauth.Topic("")
	switch status := e.Status; {
	case status == http.StatusTooManyRequests || status >= http.StatusInternalServerError:
		return exitRetry
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return exitRefused
	case ours && (status == http.StatusNotFound || status == http.StatusConflict || status == http.StatusPreconditionFailed):
		return exitNotFound
	case ours && (status == http.StatusBadRequest || status == http.StatusUnprocessableEntity):
		return exitUsage
	}
	return exitFailure
}

// keyID is the ID of the key that a secret names; empty for anything else.
func keyID(secret string) string {
	parts := ownID.FindStringSubmatch(secret)
	if parts == nil {
		return ""
	}
	return parts[1] + "k_" + parts[2]
}
