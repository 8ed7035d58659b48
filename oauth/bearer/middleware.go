package bearer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
)

type claimsKey struct{}

// FromContext returns the claims of the token with which a handler behind Require
// was called. The claims are shared: do not change them.
func FromContext(ctx context.Context) (*oauth.Claims, bool) {
	claims, ok := ctx.Value(claimsKey{}).(*oauth.Claims)
	return claims, ok
}

// Require returns net/http middleware that admits requests with a good token that
// holds all of the scopes. Others get the answers of RFC 6750 §3:
//
//   - without a bearer token in the Authorization header: 401, a challenge without
//     an error code; tokens in the query, in a form or in a cookie do not count;
//   - with a token that is not good: 401, invalid_token;
//   - with a good token that lacks a scope: 403, insufficient_scope, and the scopes
//     that are needed;
//   - with more than one credential: 400, invalid_request;
//   - when keys or revocations are not available: 503 with Retry-After, since
//     nothing is wrong with the token.
//
// Require panics if a scope is not one word (RFC 6749 §3.3): that is a mistake in
// the program.
func (v *Verifier) Require(scopes ...string) func(http.Handler) http.Handler {
	return v.middleware("Require", scopes, v.Verify)
}

// RequireFresh is Require for routes that must not be used with a token that was
// revoked: also when it cannot be known whether it was since Config.Revocations are
// not fresh, the answer is 503 with Retry-After.
//
// Like Require it panics on a mistake in the program, which a Verifier without
// Revocations is too.
func (v *Verifier) RequireFresh(scopes ...string) func(http.Handler) http.Handler {
	if v.config.Revocations == nil {
		panic("bearer: RequireFresh: set Config.Revocations, such as a Feed: without, no token is ever known not to be revoked")
	}
	return v.middleware("RequireFresh", scopes, v.VerifyFresh)
}

// checker is Verify or VerifyFresh.
type checker func(ctx context.Context, token string) (*oauth.Claims, error)

func (v *Verifier) middleware(name string, scopes []string, check checker) func(http.Handler) http.Handler {
	needed, err := oauth.ParseScope(strings.Join(scopes, " "))
	if err != nil || len(needed) != len(scopes) {
		panic(fmt.Sprintf("bearer: %s(%q): want scopes such as charts:read, each once", name, scopes))
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			claims, refusal := admit(r, needed, check)
			if refusal != nil {
				v.refuse(w, r, refusal)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), claimsKey{}, claims)))
		})
	}
}

func admit(r *http.Request, needed oauth.Scope, check checker) (*oauth.Claims, *oauth.Error) {
	token, refusal := presented(r)
	if refusal != nil {
		return nil, refusal
	}
	claims, err := check(r.Context(), token)
	switch {
	case errors.Is(err, ErrInvalid):
		return nil, oauth.Errorf(oauth.InvalidToken, "The token is not valid: %s.", reason(err))
	case err != nil:
		return nil, unavailable(err)
	}
	if missing := needed.Minus(claims.Scope); len(missing) > 0 {
		e := oauth.Errorf(oauth.InsufficientScope, "The token lacks %s: ask for a token with that scope, or for a key that holds it.", missing)
		e.Scope = needed
		return nil, e
	}
	return claims, nil
}

// unavailable says that it cannot be known now whether a token is good.
func unavailable(err error) *oauth.Error {
	what := "Tokens cannot be checked now"
	if errors.Is(err, ErrStale) {
		what = "It cannot be known now whether tokens were revoked, which this needs"
	}
	e := oauth.Errorf(oauth.TemporarilyUnavailable, "%s; nothing is wrong with yours. Try again shortly.", what)
	e.Status, e.RetryAfter = http.StatusServiceUnavailable, time.Second+rand.N(4*time.Second) //nolint:gosec // jitter, not a secret
	return e
}

// presented reads the token from the one place where it counts (RFC 6750 §2.1).
func presented(r *http.Request) (string, *oauth.Error) {
	headers := r.Header.Values("Authorization")
	scheme, token, _ := strings.Cut(strings.Join(headers, ""), " ")
	switch {
	case len(headers) > 1:
		return "", oauth.Errorf(oauth.InvalidRequest, "There is more than one Authorization header: send one.")
	case !strings.EqualFold(scheme, "Bearer"):
		return "", &oauth.Error{Status: http.StatusUnauthorized, Description: "Send an access token as Authorization: Bearer."}
	case inForm(r):
		return "", oauth.Errorf(oauth.InvalidRequest, "There is a token in the Authorization header and another one in the body: send one, in the header.")
	}
	return strings.TrimSpace(token), nil
}

// maxPeek bounds how much of a form is searched for a second token, in bytes.
const maxPeek = 64 << 10

// inForm reports whether a form in the body holds a token as well, which RFC 6750
// §2 forbids. The handler reads the body as if it had not been looked at.
func inForm(r *http.Request) bool {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "application/x-www-form-urlencoded" || r.Body == nil || r.Body == http.NoBody {
		return false
	}
	head, err := io.ReadAll(io.LimitReader(r.Body, maxPeek))
	body := []io.Reader{bytes.NewReader(head), r.Body}
	if err != nil {
		body[1] = failed{err}
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(body...), r.Body}
	for pair := range strings.SplitSeq(string(head), "&") {
		name, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err == nil && name == "access_token" {
			return true
		}
	}
	return false
}

// failed is the rest of a body that could not be read.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

func (v *Verifier) refuse(w http.ResponseWriter, r *http.Request, e *oauth.Error) {
	e.SetHeaders(w.Header(), v.config.Realm)
	if v.config.Refuse != nil {
		v.config.Refuse(w, r, e)
		return
	}
	body, err := json.Marshal(e.Problem(""))
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	w.Header().Set("Content-Type", oauth.ProblemType)
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) // the client is gone if this fails
}
