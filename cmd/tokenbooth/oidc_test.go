package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// openIDProvider is a certified OpenID provider in a process of its own.
type openIDProvider struct {
	t    *testing.T
	url  string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	says output // standard error
}

// startProvider runs the provider on a port, for one console.
func startProvider(t *testing.T, port, console string) *openIDProvider {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("%v: `make deps` installs it", err)
	}
	p := &openIDProvider{t: t, url: "http://127.0.0.1:" + port, cmd: exec.Command(node, "provider.mjs")}
	p.cmd.Dir = "testdata/provider"
	p.cmd.Env = append(os.Environ(), "PORT="+port, "REDIRECT="+console+"/sign-in/oidc/callback")
	p.cmd.Stderr = &p.says
	in, errIn := p.cmd.StdinPipe()
	out, errOut := p.cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, p.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, bufio.NewScanner(out)
	t.Cleanup(p.stop)
	p.answers()
	return p
}

func (p *openIDProvider) answers() {
	p.t.Helper()
	if !p.out.Scan() || p.out.Text() != `{"ok":true}` {
		p.t.Fatalf("the provider says %q and\n%s\n(`make deps` installs what it needs)", p.out.Text(), &p.says)
	}
}

// stop ends the provider; it may have ended.
func (p *openIDProvider) stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

// put sets somebody's groups.
func (p *openIDProvider) put(login string, groups ...string) {
	p.t.Helper()
	if err := json.NewEncoder(p.in).Encode(map[string]any{"login": login, "groups": append([]string{}, groups...)}); err != nil {
		p.t.Fatal(err)
	}
	p.answers()
}

// traveller is a browser without script that goes from one site to another.
type traveller struct {
	t       *testing.T
	cookies map[string]map[string]string // by host and name
	client  *http.Client
}

func newTraveller(t *testing.T) *traveller {
	return &traveller{t: t, cookies: map[string]map[string]string{}, client: &http.Client{
		Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// stop is where a traveller is.
type stop struct {
	url    string
	status int
	to     string // where they are sent
	body   string
}

func (v *traveller) send(method, address string, form url.Values) stop {
	v.t.Helper()
	request, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range v.cookies[request.URL.Host] {
		request.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	response, err := v.client.Do(request)
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, c := range response.Cookies() {
		if v.cookies[request.URL.Host] == nil {
			v.cookies[request.URL.Host] = map[string]string{}
		}
		v.cookies[request.URL.Host][c.Name] = c.Value
	}
	s := stop{url: address, status: response.StatusCode, body: string(body)}
	if to, err := response.Location(); err == nil {
		s.to = to.String()
	}
	return s
}

func (v *traveller) get(address string) stop {
	v.t.Helper()
	return v.send(http.MethodGet, address, nil)
}

// Parts of the provider's forms.
var (
	formAction = regexp.MustCompile(`<form[^>]*action="([^"]+)"`)
	formPrompt = regexp.MustCompile(`name="prompt" value="([a-z]+)"`)
)

// prove begins at the console, says at the provider who they are and that this may be
// told, and returns the address that they are sent back to, without going there.
func (v *traveller) prove(console, begin, login string) string {
	v.t.Helper()
	at := v.get(console + begin)
	for range 20 {
		switch action, prompt := formAction.FindStringSubmatch(at.body), formPrompt.FindStringSubmatch(at.body); {
		case strings.HasPrefix(at.to, console+"/"):
			return at.to
		case at.to != "":
			at = v.get(at.to)
		case action != nil && prompt != nil:
			at = v.send(http.MethodPost, action[1], url.Values{"prompt": {prompt[1]}, "login": {login}, "password": {"x"}})
		default:
			v.t.Fatalf("stuck at %s with %d:\n%s", at.url, at.status, at.body)
		}
	}
	v.t.Fatalf("sent round and round, lastly to %s", at.to)
	return ""
}

// booth is a server whose people sign in with a provider.
type booth struct {
	*replica
	issuer   string
	provider string // port
}

// serveWithProvider serves an installation with the workspace payments. The provider
// does not run yet.
func serveWithProvider(t *testing.T) booth {
	t.Helper()
	listen, port := freeAddress(t), freePort(t)
	_, own, _ := strings.Cut(listen, ":")
	issuer := "http://localhost:" + own
	env := onSQLite(t.TempDir(), "TOKENBOOTH_ISSUER="+issuer, "TOKENBOOTH_LISTEN="+listen,
		"TOKENBOOTH_SIGN_IN_OIDC_ISSUER=http://127.0.0.1:"+port, "TOKENBOOTH_SIGN_IN_OIDC_CLIENT_ID=booth",
		"TOKENBOOTH_SIGN_IN_OIDC_CLIENT_SECRET=correct horse battery", "TOKENBOOTH_SIGN_IN_OIDC_NAME=Example", "TOKENBOOTH_SIGN_IN_OIDC_CLAIM=groups",
		"TOKENBOOTH_SIGN_IN_OIDC_ADMINS=ops",
		"TOKENBOOTH_SIGN_IN_OIDC_WORKSPACES=[{value: team, workspace: payments, role: manager}, {value: guests, workspace: payments, role: viewer}]")
	bootstrapped(t, env, bootstrapArgs("Payments", "ci")...)
	return booth{serveReady(t, env), issuer, port}
}

// A person comes from a real provider: what their groups give, they get, and lose
// again, wherever they are signed in. Nobody else gets in.
func TestSingleSignOn(t *testing.T) {
	t.Parallel()
	b := serveWithProvider(t)
	away := newTraveller(t).get(b.issuer + "/sign-in/oidc")
	if away.status != http.StatusServiceUnavailable || !strings.Contains(away.body, "does not work at the moment") {
		t.Errorf("without the provider: %d\n%s", away.status, away.body)
	}
	if form := newTraveller(t).get(b.issuer + "/sign-in"); form.status != http.StatusOK || !strings.Contains(form.body, `name="password"`) || !strings.Contains(form.body, "Sign in with Example") {
		t.Errorf("without the provider nobody signs in at all: %d\n%s", form.status, form.body)
	}
	p := startProvider(t, b.provider, b.issuer)
	eventually(t, "a provider that is asked again", func() bool { return newTraveller(t).get(b.issuer+"/sign-in/oidc").status == http.StatusSeeOther })
	home := b.issuer + "/w/payments"

	p.put("grace", "team")
	grace := newTraveller(t)
	back := grace.get(grace.prove(b.issuer, "/sign-in/oidc?next=/w/payments", "grace"))
	if back.to != home {
		t.Fatalf("came back to %d, sent to %s\n%s\n%s", back.status, back.to, back.body, &b.log)
	}
	if page := grace.get(home); page.status != http.StatusOK || !strings.Contains(page.body, "grace@idp.example") || !strings.Contains(page.body, "API keys") {
		t.Errorf("%d\n%s", page.status, page.body)
	}

	p.put("grace", "others")
	elsewhere := newTraveller(t)
	if back := elsewhere.get(elsewhere.prove(b.issuer, "/sign-in/oidc", "grace")); back.to != b.issuer+"/" {
		t.Errorf("sent to %s\n%s", back.to, back.body)
	}
	for _, v := range []*traveller{grace, elsewhere} {
		if page := v.get(home); page.status == http.StatusOK {
			t.Errorf("a group that was lost is still good: %s", page.body)
		}
	}

	stranger := newTraveller(t)
	refused := stranger.get(stranger.prove(b.issuer, "/sign-in/oidc", "eve"))
	if refused.status != http.StatusForbidden || !strings.Contains(refused.body, "Nobody has given you access here yet") || stranger.get(home).status != http.StatusSeeOther {
		t.Errorf("a stranger: %d\n%s", refused.status, refused.body)
	}
}

// What comes back in another way than it was sent off signs nobody in, also where the
// provider itself has to notice it.
func TestSingleSignOnIsTamperedWith(t *testing.T) {
	t.Parallel()
	b := serveWithProvider(t)
	p := startProvider(t, b.provider, b.issuer)
	p.put("grace", "team")
	p.put("mallory", "guests")
	eventually(t, "a provider that is asked", func() bool { return newTraveller(t).get(b.issuer+"/sign-in/oidc").status == http.StatusSeeOther })
	query := func(address string) url.Values {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return u.Query()
	}
	nobody := func(what string, v *traveller, status int, text, answer string) {
		t.Helper()
		at := v.get(b.issuer + "/sign-in/oidc/callback?" + answer)
		if at.status != status || !strings.Contains(at.body, text) {
			t.Errorf("%s: %d, sent to %q, want %d and %q:\n%s", what, at.status, at.to, status, text, at.body)
		}
		if page := v.get(b.issuer + "/w/payments"); page.status != http.StatusSeeOther {
			t.Errorf("%s: somebody is signed in: %d", what, page.status)
		}
	}
	const over, refused = "This sign-in is over", "The answer was refused"

	sent := query(newTraveller(t).get(b.issuer + "/sign-in/oidc").to)
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(sent.Get(name)) < 43 {
			t.Errorf("%s is %q", name, sent.Get(name))
		}
	}
	if sent.Get("code_challenge_method") != "S256" {
		t.Errorf("the challenge is %q", sent.Get("code_challenge_method"))
	}

	victim, mallory := newTraveller(t), newTraveller(t)
	foreign := query(mallory.prove(b.issuer, "/sign-in/oidc", "mallory"))
	nobody("the answer to somebody else's attempt", victim, http.StatusBadRequest, over, foreign.Encode())
	own := query(victim.prove(b.issuer, "/sign-in/oidc", "grace"))
	nobody("the answer to somebody else's attempt, in the middle of one's own", victim, http.StatusBadRequest, over, foreign.Encode())
	swapped := url.Values{"state": own["state"], "iss": own["iss"], "code": foreign["code"]}
	nobody("somebody else's code", victim, http.StatusBadRequest, refused, swapped.Encode()) // PKCE: the provider refuses it

	victim = newTraveller(t)
	own = query(victim.prove(b.issuer, "/sign-in/oidc", "grace"))
	own.Set("iss", "https://evil.example")
	nobody("another issuer", victim, http.StatusBadRequest, refused, own.Encode())
	victim = newTraveller(t)
	own = query(victim.prove(b.issuer, "/sign-in/oidc", "grace"))
	own.Del("iss")
	nobody("no issuer, where the provider always names itself", victim, http.StatusBadRequest, refused, own.Encode())

	victim = newTraveller(t)
	own = query(victim.prove(b.issuer, "/sign-in/oidc", "grace"))
	kept := fmt.Sprint(victim.cookies[strings.TrimPrefix(b.issuer, "http://")])
	if strings.Contains(kept, own.Get("state")) {
		t.Errorf("the browser keeps the state unsealed: %s", kept)
	}
	before := map[string]string{}
	for name, value := range victim.cookies[strings.TrimPrefix(b.issuer, "http://")] {
		before[name] = value
	}
	if at := victim.get(b.issuer + "/sign-in/oidc/callback?" + own.Encode()); at.status != http.StatusSeeOther {
		t.Fatalf("%d\n%s", at.status, at.body)
	}
	victim.cookies[strings.TrimPrefix(b.issuer, "http://")] = before
	nobody("the same answer again", victim, http.StatusBadRequest, over, own.Encode())

	p.stop()
	late := newTraveller(t)
	at := late.get(b.issuer + "/sign-in/oidc")
	state := query(at.to).Get("state")
	nobody("a provider that has gone", late, http.StatusServiceUnavailable, "does not work at the moment", url.Values{"state": {state}, "code": {"c"}, "iss": {p.url}}.Encode())
}

// The whole way in a browser, which keeps the console's policy on the way.
func TestSingleSignOnInABrowser(t *testing.T) {
	t.Parallel()
	s := serveWithProvider(t)
	p := startProvider(t, s.provider, s.issuer)
	p.put("grace", "ops")
	eventually(t, "a provider that is asked", func() bool { return newTraveller(t).get(s.issuer+"/sign-in/oidc").status == http.StatusSeeOther })
	b := newTab(t)
	b.open(s.issuer + "/sign-in?next=/w/payments")
	b.press("a[href*='/sign-in/oidc']")
	b.fill("input[name=login]", "grace")
	b.fill("input[name=password]", "x")
	b.press("button[type=submit]")
	b.press("button[type=submit]")
	b.shows("Payments")
	if b.path() != "/w/payments" {
		t.Errorf("at %s", b.path())
	}
	b.clean("favicon", "fonts.googleapis.com") // of the provider's pages
}
