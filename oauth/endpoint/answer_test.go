package endpoint_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// answer is what came back, read.
type answer struct {
	status int
	header http.Header
	body   string
}

// send serves one request. What holds for every answer is checked here.
func (b *booth) send(r *http.Request) answer {
	b.Helper()
	recorder := httptest.NewRecorder()
	b.ServeHTTP(recorder, r)
	a := answer{status: recorder.Code, header: recorder.Header(), body: recorder.Body.String()}
	b.checkAnswer(a)
	b.checkExplained(a)
	if r.URL.Path == endpoint.LoginPath {
		b.checkTokenAnswer(r, a)
	}
	return a
}

// checkAnswer: no redirect, no cookie, no secret, and the header fields that
// RFC 9110 wants with a status (§15.5.2, §15.5.6).
func (b *booth) checkAnswer(a answer) {
	b.Helper()
	if a.status >= 300 && a.status < 400 && a.status != http.StatusNotModified {
		b.Errorf("status %d redirects", a.status)
	}
	if a.status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") == "" {
		b.Error("401 without WWW-Authenticate")
	}
	if a.status == http.StatusMethodNotAllowed && a.header.Get("Allow") == "" {
		b.Error("405 without Allow")
	}
	if a.header.Get("Set-Cookie") != "" {
		b.Error("the answer sets a cookie")
	}
	var header strings.Builder
	_ = a.header.Write(&header) // a Builder takes everything
	for _, secret := range b.secrets {
		if strings.Contains(a.body, secret) || strings.Contains(header.String(), secret) {
			b.Errorf("the answer holds a secret: status %d", a.status)
		}
	}
}

// printable is what RFC 6749 §5.2 allows in error and error_description.
var printable = regexp.MustCompile(`^[\x20-\x21\x23-\x5B\x5D-\x7E]+$`)

// checkTokenAnswer holds for every answer of the token endpoint (RFC 6749 §5.1,
// §5.2): JSON, never stored, errors in the allowed characters.
func (b *booth) checkTokenAnswer(r *http.Request, a answer) {
	b.Helper()
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		b.Errorf("Cache-Control is %q on status %d", got, a.status)
	}
	if r.Method == http.MethodHead || a.status == http.StatusNoContent {
		return
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		b.Errorf("Content-Type is %q on status %d", got, a.status)
	}
	members := a.object(b)
	if a.status == http.StatusOK {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.tokens = append(b.tokens, members["access_token"].(string))
		return
	}
	for _, name := range []string{"error", "error_description"} {
		if text, _ := members[name].(string); !printable.MatchString(text) {
			b.Errorf("%s is %q on status %d", name, text, a.status)
		}
	}
}

// object is the body as one JSON object.
func (a answer) object(tb interface {
	Helper()
	Fatalf(string, ...any)
}) map[string]any {
	tb.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(a.body), &members); err != nil {
		tb.Fatalf("status %d with the body %q: %v", a.status, a.body, err)
	}
	return members
}

func (a answer) code() string {
	var e struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal([]byte(a.body), &e) // not JSON: no code
	return e.Error
}

// want checks status and error code ("" on success).
func (a answer) want(b *booth, status int, code string) answer {
	b.Helper()
	if a.status != status || a.code() != code {
		b.Errorf("status %d %q, want %d %q: %s", a.status, a.code(), status, code, a.body)
	}
	return a
}

// form is a complete request for a key's token, with changes: name, value, …; a
// value of "-" removes the parameter.
func form(id, secret string, changes ...string) url.Values {
	values := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "-" {
			values.Del(changes[i])
			continue
		}
		values.Set(changes[i], changes[i+1])
	}
	return values
}

func formOf(k manage.Issued, changes ...string) url.Values {
	return form(string(k.ID), k.Secret.Reveal(), changes...)
}

// post sends a body to the token endpoint.
func (b *booth) post(contentType, body string, edits ...func(*http.Request)) answer {
	b.Helper()
	r := httptest.NewRequest(http.MethodPost, endpoint.LoginPath, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	for _, edit := range edits {
		edit(r)
	}
	return b.send(r)
}

const formType = "application/x-www-form-urlencoded"

// login sends a form to the token endpoint.
func (b *booth) login(values url.Values, edits ...func(*http.Request)) answer {
	b.Helper()
	return b.post(formType, values.Encode(), edits...)
}

// token logs in and returns the access token.
func (b *booth) token(k manage.Issued, changes ...string) string {
	b.Helper()
	a := b.login(formOf(k, changes...)).want(b, http.StatusOK, "")
	token, _ := a.object(b)["access_token"].(string)
	return token
}

// get reads a public address.
func (b *booth) get(path string, edits ...func(*http.Request)) answer {
	b.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for _, edit := range edits {
		edit(r)
	}
	return b.send(r)
}

// basic is client_secret_basic: both halves form-encoded (RFC 6749 §2.3.1).
func basic(id, secret string) func(*http.Request) {
	text := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
	return setHeader("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(text)))
}
