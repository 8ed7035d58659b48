package adminhttp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/adminhttp"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const (
	issuer = "https://login.example.com"
	apiURL = "https://api.example.com"
	base   = "/api/v1"
)

var operator = manage.Operator("test")

// house is the management API and the exchange over a real database, but for the
// socket. Every answer is held against the API's description, and no secret may
// be in the log.
type house struct {
	testing.TB
	*manage.Manager
	echo      *echo.Echo
	issuer    *grant.Issuer
	exchanges *audit.Writer
	contract  *contract
	log       logBook
	draining  atomic.Bool

	mu      sync.Mutex
	now     time.Time
	secrets []string

	ws    workspace.Workspace
	owner principal // of ws, and an organization admin
}

// principal is somebody with a credential.
type principal struct {
	user   workspace.UserID
	key    keys.ID
	secret string
}

func newHouse(tb testing.TB, db *schema.DB) *house {
	tb.Helper()
	h := &house{TB: tb, echo: echo.New(), contract: newContract(tb), now: time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)}
	tb.Cleanup(h.checkLog)
	key := bytes.Repeat([]byte{7}, 32)
	format := must(keys.NewFormat("tb", nil, key))
	peppers := must(keys.ParsePeppers("1:" + base64.StdEncoding.EncodeToString(key)))
	sealer := must(signing.ParseSealer(base64.StdEncoding.EncodeToString(key)))
	rules := &policy.Policy{
		Catalogue: must(policy.NewCatalogue(map[string][]string{"collectors": {"read", "create", "update", "delete"}, "pipelines": {"read", "update"}}, nil)),
		Audiences: must(policy.NewAudiences(issuer, apiURL, []policy.Audience{{Name: apiURL}})), TokenTTL: 10 * time.Minute,
	}
	timing := change.Timing{Lease: time.Hour, Renewal: 5 * time.Millisecond}
	h.Manager = &manage.Manager{
		Database: db, Format: format, Peppers: peppers, Sealer: sealer, Policy: rules, Announce: true,
		Timing: timing, Signing: signing.DefaultTiming, Now: h.clock,
	}
	h.check(h.EnsureSigningKeys(tb.Context(), operator))
	log := slog.New(slog.NewJSONHandler(&h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	follower := &change.Follower{Database: db, Timing: timing, Log: log}
	directory := must(keys.NewDirectory(db.Reader(), follower.May, 1000))
	rulebook, limits := policy.NewRulebook(db.Reader(), follower.May, log), quota.NewBook(db.Reader(), follower.May, log)
	ring := &signing.Ring{Reader: db.Reader(), Sealer: sealer, Timing: signing.DefaultTiming}
	h.check(ring.Load(tb.Context()))
	follower.OnChange = []func(context.Context, change.Batch) error{directory.Forget, rulebook.Follow, limits.Follow}
	h.check(follower.Start(tb.Context()))
	running, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { follower.Run(running) })
	tb.Cleanup(func() { stop(); group.Wait() })

	h.exchanges = audit.NewWriter(db, audit.WriterOptions{Log: log, Owners: keys.Owners})
	plenty := quota.Rate{Burst: 1 << 30, Interval: time.Nanosecond}
	authenticator := &grant.Authenticator{
		Format: format, Peppers: peppers, Directory: directory, Usage: keys.NewUsageWriter(db.Writer(), time.Hour, log),
		Failures: quota.NewFailures(plenty, plenty), Uses: db.Writer(), Exchanges: h.exchanges, Rules: rulebook,
		Quota: quota.NewLimiter(quota.Options{Limits: limits.Limits, Source: quota.NewMemory(h.clock), Now: h.clock, Log: log}), Now: h.clock,
	}
	h.issuer = grant.NewIssuer(issuer, authenticator, rules, ring)
	verifier := must(bearer.New(bearer.Config{Issuer: issuer, Audience: issuer, Now: h.clock, Keys: bearer.KeySetFunc(func(_ context.Context, kid string) (bearer.Key, error) {
		algorithm, public, ok := ring.Find(kid)
		if !ok {
			return bearer.Key{}, bearer.ErrUnknownKey
		}
		return bearer.Key{ID: kid, Algorithm: algorithm, Public: public}, nil
	})}))
	handler := &adminhttp.Handler{Issuer: issuer, Manager: h.Manager, Grant: authenticator, Verifier: verifier, Log: log, Note: func(echo.Context, ...slog.Attr) {}, Draining: h.draining.Load}
	h.echo.IPExtractor = echo.ExtractIPDirect()
	h.echo.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Response().Header().Set("Request-Id", "req_test")
			return next(c)
		}
	})
	h.check(handler.Mount(h.echo))

	h.ws = must(h.CreateWorkspace(tb.Context(), operator, "Acme", ""))
	h.owner = h.person("owner", workspace.Owner, true)
	return h
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// person makes a member of the workspace with a personal key.
func (h *house) person(name string, role workspace.Role, organizationAdmin bool) principal {
	h.Helper()
	return h.personIn(h.ws.ID, name, role, organizationAdmin, nil)
}

func (h *house) personIn(ws workspace.ID, name string, role workspace.Role, organizationAdmin bool, scopes *oauth.Scope) principal {
	h.Helper()
	user := must(h.CreateUser(h.Context(), operator, name+"@example.com", organizationAdmin))
	h.check(h.AddMember(h.Context(), operator, ws, user.ID, role))
	issued := must(h.CreateKey(h.Context(), operator, ws, manage.NewKey{UserID: user.ID, Name: name, Scopes: scopes}))
	h.hide(issued.Secret.Reveal())
	return principal{user.ID, issued.ID, issued.Secret.Reveal()}
}

// account makes a service account with a key.
func (h *house) account(name string, n manage.NewServiceAccount) principal {
	h.Helper()
	n.Name = name
	sa := must(h.CreateServiceAccount(h.Context(), operator, h.ws.ID, n))
	issued := must(h.CreateKey(h.Context(), operator, h.ws.ID, manage.NewKey{ServiceAccountID: sa.ID, Name: name}))
	h.hide(issued.Secret.Reveal())
	return principal{key: issued.ID, secret: issued.Secret.Reveal()}
}

// reply is an answer of the API.
type reply struct {
	testing.TB
	status int
	header http.Header
	body   []byte
	object map[string]any
}

// call sends a request with a credential and checks the answer against the API's
// description.
func (h *house) call(credential, method, path string, body any, edits ...func(*http.Request)) reply {
	h.Helper()
	var text []byte
	switch b := body.(type) {
	case nil:
	case string:
		text = []byte(b)
	default:
		text = must(json.Marshal(b))
	}
	request := httptest.NewRequest(method, base+path, bytes.NewReader(text))
	request.RemoteAddr = "192.0.2.1:1234"
	if credential != "" {
		request.Header.Set("Authorization", "Bearer "+credential)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, edit := range edits {
		edit(request)
	}
	recorder := httptest.NewRecorder()
	h.echo.ServeHTTP(recorder, request)
	answer := reply{TB: h.TB, status: recorder.Code, header: recorder.Header(), body: must(io.ReadAll(recorder.Body))}
	_ = json.Unmarshal(answer.body, &answer.object)
	h.contract.check(h.TB, request, text, answer.status, answer.header, answer.body)
	if secret, ok := answer.object["client_secret"].(string); ok {
		h.hide(secret)
	}
	return answer
}

// want sends a request and insists on the status.
func (h *house) want(status int, credential, method, path string, body any, edits ...func(*http.Request)) reply {
	h.Helper()
	answer := h.call(credential, method, path, body, edits...)
	if answer.status != status {
		h.Fatalf("%s %s answers %d, want %d: %s", method, path, answer.status, status, answer.body)
	}
	return answer
}

// text is a member of the answer's object.
func (r reply) text(name string) string {
	r.Helper()
	text, ok := r.object[name].(string)
	if !ok {
		r.Fatalf("the answer has no text %q: %s", name, r.body)
	}
	return text
}

// data is the list in the answer.
func (r reply) data() (found []map[string]any) {
	r.Helper()
	list, ok := r.object["data"].([]any)
	if !ok {
		r.Fatalf("the answer is no list: %s", r.body)
	}
	for _, item := range list {
		found = append(found, item.(map[string]any))
	}
	return found
}

func (r reply) code() string {
	code, _ := r.object["code"].(string)
	return code
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// in is a path in the house's workspace.
func (h *house) in(path string) string { return "/workspaces/" + h.ws.Slug + path }

// exchange gets a token.
func (h *house) exchange(secret string, audience ...string) (*grant.Token, error) {
	return h.issuer.Issue(h.Context(), grant.Request{
		Credentials: grant.Credentials{Secret: secret}, Origin: grant.Origin{Address: netip.MustParseAddr("192.0.2.9"), Agent: "ci/1"},
		Request: policy.Request{Audience: audience},
	})
}

func (h *house) token(secret string, audience ...string) string {
	h.Helper()
	token, err := h.exchange(secret, audience...)
	h.check(err)
	return token.AccessToken
}

// refused exchanges a key that is not good and returns why.
func (h *house) refused(secret string) string {
	h.Helper()
	_, err := h.exchange(secret)
	if err == nil {
		h.Error("a key that is not good is exchanged")
		return ""
	}
	return err.Error()
}

func (h *house) hide(secret string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.secrets = append(h.secrets, secret)
}

func (h *house) checkLog() {
	text := h.log.String()
	for _, secret := range h.secrets {
		if strings.Contains(text, secret) {
			h.Error("the log holds a secret")
		}
	}
}

func (h *house) check(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *house) exec(query string, args ...any) {
	h.Helper()
	_, err := h.Database.Writer().ExecContext(h.Context(), query, args...)
	h.check(err)
}

// must is for what cannot fail unless the test itself is wrong.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("%+v", err))
	}
	return v
}

type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
