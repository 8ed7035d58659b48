package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// tokenRequest exchanges a key for a token.
type tokenRequest struct {
	url       string // of the issuer
	key       credentials
	scope     oauth.Scope
	audiences []string
	http      *http.Client
	timeout   time.Duration // for all tries
	now       func() time.Time
	sleep     func(context.Context, time.Duration) error
}

// accessToken is what an exchange gave. It is kept on the disk in this form.
type accessToken struct {
	AccessToken  string      `json:"access_token"`
	TokenType    string      `json:"token_type"`
	ExpiresAt    time.Time   `json:"expires_at"`
	Scope        oauth.Scope `json:"scope"`
	KeyExpiresAt string      `json:"key_expires_at,omitempty"` // RFC 3339
}

const (
	maxTries  = 5
	maxAnswer = 64 << 10 // bytes
)

// retryableError is a failure that may pass.
type retryableError struct {
	error
	after time.Duration // what the server asked for
}

func (e *retryableError) Unwrap() error { return e.error }

// run exchanges the key.
func (l *tokenRequest) run(ctx context.Context) (t accessToken, err error) {
	err = l.persist(ctx, func(ctx context.Context) error {
		t, err = l.once(ctx)
		return err
	})
	return t, err
}

// persist asks until there is an answer, the tries are used up or the time is.
func (l *tokenRequest) persist(ctx context.Context, ask func(context.Context) error) error {
	deadline := l.now().Add(l.timeout)
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	for try := 1; ; try++ {
		err := ask(ctx)
		var failure *retryableError
		if err == nil || !errors.As(err, &failure) {
			return err
		}
		// Never earlier than the server asked for, and not all clients at once.
		wait := max(failure.after, 250*time.Millisecond<<try)
		wait += rand.N(wait/4 + 1) //nolint:gosec // jitter, not a secret
		switch {
		case try == maxTries:
			return exitWith(exitRetry, err, fmt.Sprintf("it was tried %d times; try again later", try))
		case ctx.Err() != nil || l.now().Add(wait).After(deadline):
			return exitWith(exitRetry, err, fmt.Sprintf("try again in %s", wait.Round(time.Second)))
		}
		if err := l.sleep(ctx, wait); err != nil {
			return exitWith(exitRetry, failure, "it was interrupted")
		}
	}
}

func (l *tokenRequest) endpoint() string { return l.url + endpoint.LoginPath }

func (l *tokenRequest) form() url.Values {
	form := url.Values{"grant_type": {oauth.GrantClientCredentials}, "client_id": {l.key.id}, "client_secret": {l.key.secret}}
	if len(l.scope) > 0 {
		form.Set("scope", l.scope.String())
	}
	form["audience"] = l.audiences
	return form
}

// once sends one request for a token.
func (l *tokenRequest) once(ctx context.Context) (accessToken, error) {
	asked, form := l.now(), l.form()
	r, err := l.post(ctx, l.endpoint(), form)
	if err != nil {
		return accessToken{}, err
	}
	if r.status != http.StatusOK {
		return accessToken{}, l.refusal(r, form)
	}
	return l.parse(r.body, asked)
}

// serverAnswer is an answer, read.
type serverAnswer struct {
	address string // that was asked
	status  int
	header  http.Header
	body    []byte
}

// post sends a form.
func (l *tokenRequest) post(ctx context.Context, address string, form url.Values) (serverAnswer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return serverAnswer{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "tokenbooth/"+readBuild().Version)
	response, err := l.http.Do(request)
	if err != nil {
		if errors.Is(err, errRedirect) {
			return serverAnswer{}, err
		}
		return serverAnswer{}, &retryableError{error: fmt.Errorf("cannot reach the Tokenbooth: %w", err)}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return serverAnswer{}, &retryableError{error: fmt.Errorf("%s: the answer breaks off: %w", address, err)}
	}
	return serverAnswer{address, response.StatusCode, response.Header, body}, nil
}

// bearerToken is the form of a token (RFC 6750 §2.1). Nothing else gets into a
// header, a shell or a file.
var bearerToken = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

func (l *tokenRequest) parse(body []byte, asked time.Time) (accessToken, error) {
	var answer oauth.TokenResponse
	err := json.Unmarshal(body, &answer)
	if err != nil || !bearerToken.MatchString(answer.AccessToken) || !strings.EqualFold(answer.TokenType, "Bearer") || answer.ExpiresIn <= 0 {
		return accessToken{}, fmt.Errorf("%s answers, but not with a token: is it the URL of a Tokenbooth?", l.endpoint())
	}
	expires := asked.Add(time.Duration(answer.ExpiresIn) * time.Second)
	return accessToken{answer.AccessToken, "Bearer", expires.UTC().Truncate(time.Second), answer.Scope, answer.KeyExpiresAt}, nil
}

// refusal makes an error of an answer: where, for which key, what was said, under
// which request ID, and what to do. What the server says may come from anybody, so
// it is reduced to printable characters, and never holds a secret or token of the
// form.
func (l *tokenRequest) refusal(r serverAnswer, form url.Values) error {
	var said struct {
		Error       oauth.Code `json:"error"`
		Description string     `json:"error_description"`
	}
	_ = json.Unmarshal(r.body, &said) // else there is only the status
	text := fmt.Sprintf("%s refuses key %s: %d %s", r.address, l.key.id, r.status, strings.TrimSpace(string(said.Error)+" "+said.Description))
	if id := r.header.Get("Request-Id"); id != "" {
		text += " (request ID " + id + ")"
	}
	for _, hidden := range slices.Concat(form["client_secret"], form["token"]) {
		text = strings.ReplaceAll(text, hidden, "[redacted]")
	}
	err := errors.New(oauth.Printable(text))
	switch {
	case r.status == http.StatusTooManyRequests || r.status >= http.StatusInternalServerError:
		return &retryableError{err, retryAfter(r.header.Get("Retry-After"), l.now())}
	case r.status == http.StatusNotFound || r.status == http.StatusMethodNotAllowed:
		return exitWith(exitFailure, err, "is "+l.url+" the issuer of a Tokenbooth?")
	}
	return exitWith(exitRefused, err, cmp.Or(refusalHints[said.Error],
		"check the key in the console: is it revoked or expired, and are ID and secret copied whole?"))
}

// refusalHints are what to do about refusals that are not about the key.
var refusalHints = map[oauth.Code]string{
	oauth.InvalidScope:         "ask for less, or for a key that holds it",
	oauth.InvalidTarget:        "ask for less, or for a key that holds it",
	oauth.InvalidGrant:         "use the key that the token was issued to, or one of its workspace that holds tokens:revoke",
	oauth.UnsupportedTokenType: "tokenbooth keys revoke ends a key, and its tokens with it",
}

// retryAfter reads seconds or a date (RFC 9110 §10.2.3); 0 when there is neither.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// curl is the same request for a shell. The secret stays in its variable, and out
// of the command line of curl. The CA file may be empty; curl trusts it alone.
func (l *tokenRequest) curl(ca string) string {
	format, arguments := "grant_type=client_credentials&client_id=%s&client_secret=%s", []string{shellQuote(l.key.id), `"$` + secretVariable + `"`}
	add := func(name, value string) {
		format += "&" + name + "=%s"
		arguments = append(arguments, shellQuote(url.QueryEscape(value)))
	}
	if len(l.scope) > 0 {
		add("scope", l.scope.String())
	}
	for _, audience := range l.audiences {
		add("audience", audience)
	}
	trust := ""
	if ca != "" {
		trust = " --cacert " + shellQuote(ca)
	}
	return fmt.Sprintf("printf '%s' %s |\n  curl -sS --fail-with-body --retry 5 --max-time 15%s --data @- %s\n",
		format, strings.Join(arguments, " "), trust, shellQuote(l.endpoint()))
}

// shellQuote quotes for POSIX shells (2.2.2 of the Shell Command Language).
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
