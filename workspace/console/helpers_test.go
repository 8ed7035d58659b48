package console_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/console"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// site is a console on a database of its own, with an organization admin who owns a
// workspace.
type site struct {
	t        *testing.T
	url      string
	db       *schema.DB
	manager  *manage.Manager
	handler  *console.Handler
	owner    workspace.User
	ws       workspace.Workspace
	operator manage.Caller
	clock    atomic.Int64 // how far the console's clock is ahead
}

func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteOn(t, schematest.SQLite(t))
}

func newSiteOn(t *testing.T, db *schema.DB) *site {
	t.Helper()
	s := &site{t: t, db: db, operator: manage.Operator("test")}
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect()
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Response().Header().Set("Request-Id", "req_test")
			return next(c)
		}
	})
	server := httptest.NewTLSServer(e)
	t.Cleanup(server.Close)
	s.url = server.URL
	s.manager = newManager(t, db, s.url, s.now)
	s.handler = &console.Handler{
		Issuer: s.url, Manager: s.manager, Log: slog.New(slog.DiscardHandler), Note: func(echo.Context, ...slog.Attr) {},
		Sessions: identity.NewSessions(db.Reader(), db.Writer(), identity.SessionOptions{Now: s.now}),
	}
	if err := s.handler.Mount(e); err != nil {
		t.Fatal(err)
	}
	s.owner = s.user("ada@example.com", true)
	s.ws = s.workspace("Payments", s.owner, workspace.Owner)
	return s
}

func (s *site) now() time.Time { return time.Now().Add(time.Duration(s.clock.Load())) }

// later moves the console's clock.
func (s *site) later(d time.Duration) { s.clock.Add(int64(d)) }

func newManager(t *testing.T, db *schema.DB, issuer string, now func() time.Time) *manage.Manager {
	t.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	text := base64.StdEncoding.EncodeToString(secret)
	format, err := keys.NewFormat("tb", nil, secret)
	fatal(t, err)
	peppers, err := keys.ParsePeppers("1:" + text)
	fatal(t, err)
	sealer, err := signing.ParseSealer(text)
	fatal(t, err)
	actions := []string{"read", "create", "update", "delete"}
	catalogue, err := policy.NewCatalogue(map[string][]string{"collectors": actions, "pipelines": actions},
		map[string][]string{"viewer": {"*:read"}, "editor": {"*:read", "*:create", "*:update"}, "admin": {"*:*"}})
	fatal(t, err)
	audiences, err := policy.NewAudiences(issuer, "https://api.example.com", []policy.Audience{{Name: "https://api.example.com"}})
	fatal(t, err)
	return &manage.Manager{
		Database: db, Format: format, Peppers: peppers, Sealer: sealer, Timing: change.DefaultTiming, Signing: signing.DefaultTiming, Now: now,
		Policy: &policy.Policy{Catalogue: catalogue, Audiences: audiences, TokenTTL: 10 * time.Minute},
	}
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) user(email string, admin bool) workspace.User {
	s.t.Helper()
	user, err := s.manager.CreateUser(s.t.Context(), s.operator, email, admin)
	fatal(s.t, err)
	return user
}

// workspace makes a workspace with one member.
func (s *site) workspace(name string, member workspace.User, role workspace.Role) workspace.Workspace {
	s.t.Helper()
	ws, err := s.manager.CreateWorkspace(s.t.Context(), s.operator, name, "")
	fatal(s.t, err)
	s.join(ws, member, role)
	return ws
}

func (s *site) join(ws workspace.Workspace, member workspace.User, role workspace.Role) {
	s.t.Helper()
	fatal(s.t, s.manager.AddMember(s.t.Context(), s.operator, ws.ID, member.ID, role))
}

// key makes a service account with a key, both of one name.
func (s *site) key(ws workspace.Workspace, name string, n manage.NewKey, scopes ...string) manage.Issued {
	s.t.Helper()
	n.Name = name
	account := manage.NewServiceAccount{Name: name, Role: "viewer"}
	if len(scopes) > 0 {
		account = manage.NewServiceAccount{Name: name, Scopes: oauth.NewScope(scopes...)}
	}
	issued, err := s.manager.CreateAccountWithKey(s.t.Context(), s.operator, ws.ID, account, n)
	fatal(s.t, err)
	return issued
}

// visitor is a browser without script, as far as a test needs one: it keeps cookies
// and sends what browsers send.
type visitor struct {
	s      *site
	client *http.Client
	jar    *jar
}

// answer is a page that a visitor got.
type answer struct {
	status int
	header http.Header
	body   string
}

// visitor opens a browser in which nobody is signed in.
func (s *site) visitor() *visitor {
	j := &jar{}
	return &visitor{s: s, jar: j, client: &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Jar: j, //nolint:gosec // of the test's own server
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// as opens a browser in which a user is signed in.
func (s *site) as(user workspace.User) *visitor {
	s.t.Helper()
	v := s.visitor()
	request := httptest.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url, nil)
	ctx, _, _, err := s.handler.Sessions.Load(request)
	fatal(s.t, err)
	_, err = s.handler.Sessions.Start(ctx, identity.Session{UserID: user.ID, Method: identity.ByLink, Address: "127.0.0.1", Agent: "test"})
	fatal(s.t, err)
	recorder := httptest.NewRecorder()
	fatal(s.t, s.handler.Sessions.Save(ctx, recorder))
	v.jar.SetCookies(nil, recorder.Result().Cookies())
	return v
}

// jar keeps cookies by name, for there is one site.
type jar struct{ cookies []*http.Cookie }

func (j *jar) SetCookies(_ *url.URL, set []*http.Cookie) {
	for _, c := range set {
		kept := []*http.Cookie{}
		for _, old := range j.cookies {
			if old.Name != c.Name {
				kept = append(kept, old)
			}
		}
		if c.MaxAge >= 0 {
			kept = append(kept, c)
		}
		j.cookies = kept
	}
}

func (j *jar) Cookies(*url.URL) []*http.Cookie { return j.cookies }

func (v *visitor) get(path string) answer { return v.send(http.MethodGet, path, nil, nil) }

func (v *visitor) post(path string, form url.Values) answer {
	return v.send(http.MethodPost, path, form, http.Header{"Origin": {v.s.url}, "Sec-Fetch-Site": {"same-origin"}})
}

func (v *visitor) send(method, path string, form url.Values, header http.Header) answer {
	v.s.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, v.s.url+path, strings.NewReader(form.Encode()))
	fatal(v.s.t, err)
	request.Header.Set("Accept", "text/html")
	request.Header.Set("User-Agent", "visitor/1")
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := v.client.Do(request)
	fatal(v.s.t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	fatal(v.s.t, err)
	return answer{response.StatusCode, response.Header, string(body)}
}

// want checks a page: its status and what it has to contain.
func (a answer) want(t *testing.T, status int, parts ...string) answer {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d: %s", a.status, status, a.body)
	}
	for _, part := range parts {
		if !strings.Contains(a.body, part) {
			t.Errorf("the page lacks %q:\n%s", part, a.body)
		}
	}
	return a
}

// without checks that a page does not contain something.
func (a answer) without(t *testing.T, parts ...string) answer {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(a.body, part) {
			t.Errorf("the page has %q:\n%s", part, a.body)
		}
	}
	return a
}

// location is where the browser is sent.
func (a answer) location(t *testing.T) string {
	t.Helper()
	if a.status != http.StatusSeeOther {
		t.Fatalf("status %d, want 303: %s", a.status, a.body)
	}
	return a.header.Get("Location")
}
