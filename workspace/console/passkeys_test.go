package console_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/console"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// renew mounts the site's console anew, on an address of its own, after change.
func (s *site) renew(change func(*console.Handler)) {
	s.t.Helper()
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect()
	server := httptest.NewTLSServer(e)
	s.t.Cleanup(server.Close)
	s.url = server.URL
	h := &console.Handler{Issuer: s.url, Manager: s.manager, Log: s.handler.Log, Note: s.handler.Note, Sessions: s.handler.Sessions}
	change(h)
	fatal(s.t, h.Mount(e))
	s.handler = h
}

// named is a site that has a name, as passkeys need.
func named(t *testing.T, db *schema.DB) *site {
	t.Helper()
	s := newSiteOn(t, db)
	s.renew(func(h *console.Handler) { h.Issuer = strings.Replace(h.Issuer, "127.0.0.1", "localhost", 1) })
	return s
}

// add makes a passkey for whoever is signed in.
func (v *visitor) add(name string) *authenticator {
	v.s.t.Helper()
	a := newAuthenticator(v.s.t, v.s.handler.Issuer)
	answer := a.create(v.post("/account/passkeys/begin", nil).want(v.s.t, http.StatusOK).body)
	to := v.post("/account/passkeys", url.Values{"name": {name}, "answer": {answer}}).location(v.s.t)
	if to != "/account?notice=passkey-added" {
		v.s.t.Errorf("sent to %s", to)
	}
	return a
}

// enter signs in with a passkey alone.
func (v *visitor) enter(a *authenticator) answer {
	v.s.t.Helper()
	options := v.post("/sign-in/passkey/begin", nil).want(v.s.t, http.StatusOK).body
	return v.post("/sign-in/passkey", url.Values{"answer": {a.get(options)}, "next": {"/w/" + v.s.ws.Slug}})
}

// refused checks that an answer signed nobody in.
func (v *visitor) refused(a answer, reason string) {
	v.s.t.Helper()
	a.want(v.s.t, http.StatusUnprocessableEntity, reason)
	if to := v.get("/w/" + v.s.ws.Slug).location(v.s.t); !strings.HasPrefix(to, "/sign-in") {
		v.s.t.Errorf("somebody is signed in: sent to %s", to)
	}
}

func (s *site) actions() (found []string) {
	s.t.Helper()
	events, err := s.manager.AuditEvents(s.t.Context(), s.operator, "", audit.Filter{}, audit.Position{}, 100)
	fatal(s.t, err)
	for _, e := range events {
		found = append(found, e.Action+" "+e.Detail)
	}
	return found
}

func TestPasskeySignsIn(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := named(t, db)
		a := s.as(s.owner).add("Laptop")
		v := s.visitor()
		if to := v.enter(a).location(t); to != "/w/"+s.ws.Slug {
			t.Errorf("sent to %s", to)
		}
		v.get("/w/"+s.ws.Slug).want(t, http.StatusOK)
		// Elsewhere, and again.
		s.visitor().enter(a).location(t)
		sessions, err := identity.ListSessions(t.Context(), s.db.Reader(), s.owner.ID, s.handler.Sessions.Options())
		fatal(t, err)
		n := 0
		for _, session := range sessions {
			if session.Method == identity.ByPasskey {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d sessions by passkey: %+v", n, sessions)
		}
		passkeys, err := s.manager.Passkeys(t.Context(), manage.User(s.owner.ID))
		fatal(t, err)
		if len(passkeys) != 1 || passkeys[0].Name != "Laptop" || passkeys[0].LastUsedAt.IsZero() {
			t.Errorf("%+v", passkeys)
		}
		log := strings.Join(s.actions(), "\n")
		for _, want := range []string{`passkey.add {"name":"Laptop"}`, `user.sign_in {"method":"passkey"}`} {
			if !strings.Contains(log, want) {
				t.Errorf("the audit log lacks %s:\n%s", want, log)
			}
		}
	})
}

// An answer is good for one challenge of one browser, once and for a while.
func TestPasskeyAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	s := named(t, schematest.SQLite(t))
	a := s.as(s.owner).add("Laptop")
	const refused = "This passkey was not accepted"
	for name, c := range map[string]struct {
		wrong  func(*authenticator)
		reason string
	}{
		"another site":  {func(a *authenticator) { a.origin = "https://evil.example" }, refused},
		"another party": {func(a *authenticator) { a.rpID = "evil.example" }, refused},
		"not verified":  {func(a *authenticator) { a.unverified = true }, refused},
		"another key":   {func(a *authenticator) { a.key = newAuthenticator(t, "").key }, refused},
		"unknown":       {func(a *authenticator) { a.id = []byte("0123456789abcdef") }, refused},
		"another user":  {func(a *authenticator) { a.user = []byte("usr_x") }, refused},
		"a copy":        {func(a *authenticator) { a.count = 0 }, "its counter has gone back"},
	} {
		t.Run(name, func(t *testing.T) {
			device := *a
			c.wrong(&device)
			v := s.visitor()
			v.refused(v.enter(&device), c.reason)
		})
	}
	v := s.visitor()
	options := v.post("/sign-in/passkey/begin", nil).body
	for name, text := range map[string]string{"nothing": "", "no JSON": "{", "no answer": `{"id":"x"}`, "markup": `<script>alert(1)</script>`} {
		v := s.visitor()
		v.post("/sign-in/passkey/begin", nil)
		v.refused(v.post("/sign-in/passkey", url.Values{"answer": {text}}).without(t, "<script>alert"), refused)
		if t.Failed() {
			t.Fatalf("with %s", name)
		}
	}
	other := s.visitor()
	answer := url.Values{"answer": {a.get(options)}}
	other.refused(other.post("/sign-in/passkey", answer), "It took too long")
	other.post("/sign-in/passkey/begin", nil)
	other.refused(other.post("/sign-in/passkey", answer), refused)
	kept := v.jar.cookies
	v.post("/sign-in/passkey", answer).location(t)
	v.jar.cookies = kept // the same browser, set back
	v.refused(v.post("/sign-in/passkey", answer), "was sent before")
	late := s.visitor()
	options = late.post("/sign-in/passkey/begin", nil).body
	s.later(6 * time.Minute)
	late.refused(late.post("/sign-in/passkey", url.Values{"answer": {a.get(options)}}), "It took too long")
	if log := strings.Join(s.actions(), "\n"); !strings.Contains(log, `passkey.refuse {"reason":"counter"}`) {
		t.Errorf("the copy is not recorded:\n%s", log)
	}
}

// Whoever may not sign in does not with a passkey either, nor with one that is gone.
func TestPasskeyOfNobody(t *testing.T) {
	t.Parallel()
	s := named(t, schematest.SQLite(t))
	bob := s.user("bob@example.com", false)
	s.join(s.ws, bob, workspace.Manager)
	v := s.as(bob)
	first, second := v.add("First"), v.add("Second")
	passkeys, err := s.manager.Passkeys(t.Context(), manage.User(bob.ID))
	fatal(t, err)
	remove := "/account/passkeys/" + passkeys[0].ID + "/remove"
	s.as(s.owner).get(remove).want(t, http.StatusNotFound)
	s.as(s.owner).post(remove, nil).want(t, http.StatusNotFound)
	v.get(remove).want(t, http.StatusOK, "Remove passkey “First”")
	if to := v.post(remove, nil).location(t); to != "/account?notice=passkey-removed" {
		t.Errorf("sent to %s", to)
	}
	nobody := s.visitor()
	nobody.refused(nobody.enter(first), "This passkey was not accepted")
	s.visitor().enter(second).location(t)
	v.post("/account/passkeys/"+passkeys[1].ID+"/remove", nil).want(t, http.StatusConflict, "last way to sign in")
	disabled := false
	_, err = s.manager.UpdateUser(t.Context(), s.operator, bob.ID, manage.UserChange{Enabled: &disabled})
	fatal(t, err)
	nobody.refused(nobody.enter(second), "This passkey was not accepted")
}

func TestPasskeysThatAreNotAdded(t *testing.T) {
	t.Parallel()
	s := named(t, schematest.SQLite(t))
	v := s.as(s.owner)
	begin := func() string { return v.post("/account/passkeys/begin", nil).want(t, http.StatusOK).body }
	add := func(name, answer string) answer {
		return v.post("/account/passkeys", url.Values{"name": {name}, "answer": {answer}})
	}
	device := func() *authenticator { return newAuthenticator(t, s.handler.Issuer) }
	name := `<script>alert(1)</script>"'&`
	add(name, device().create(`{}`)).want(t, http.StatusUnprocessableEntity, "It took too long", "&lt;script&gt;alert(1)&lt;/script&gt;").without(t, "<script>alert")
	add("", device().create(begin())).want(t, http.StatusUnprocessableEntity, "use 1 to 200 characters")
	elsewhere := device()
	elsewhere.origin = "https://evil.example"
	add("x", elsewhere.create(begin())).want(t, http.StatusUnprocessableEntity, "was not accepted")
	unverified := device()
	unverified.unverified = true
	add("x", unverified.create(begin())).want(t, http.StatusUnprocessableEntity, "was not accepted")
	known := v.add(name)
	add("again", known.create(begin())).want(t, http.StatusConflict, "known already")
	if options := begin(); !strings.Contains(options, encode(known.id)) || !strings.Contains(options, `"residentKey":"required"`) ||
		!strings.Contains(options, `"userVerification":"required"`) {
		t.Errorf("the browser is told %s", options)
	}
	// Begun by one person, finished by another who took over the browser.
	taken := device()
	answer := taken.create(begin())
	bob := s.as(s.user("bob@example.com", false))
	for _, c := range v.jar.cookies {
		if strings.Contains(c.Name, "passkey-new") {
			bob.jar.SetCookies(nil, []*http.Cookie{c})
		}
	}
	bob.post("/account/passkeys", url.Values{"name": {"x"}, "answer": {answer}}).want(t, http.StatusUnprocessableEntity, "was not accepted")
	for i := range 19 {
		v.add(string(rune('a' + i)))
	}
	v.post("/account/passkeys/begin", nil).want(t, http.StatusConflict, "remove one first")
	for _, path := range []string{"/account/passkeys/begin", "/account/passkeys"} {
		if to := s.visitor().post(path, nil).location(t); to != "/sign-in" {
			t.Errorf("%s: sent to %s", path, to)
		}
		s.visitor().send(http.MethodPost, path, url.Values{}, http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}).want(t, http.StatusForbidden)
	}
}

// passed is a browser in which a user has given their password and has passkeys.
func (s *site) passed(user workspace.UserID, next string) *visitor {
	s.t.Helper()
	value, err := json.Marshal(map[string]any{"until": s.now().Add(5 * time.Minute), "value": map[string]any{"UserID": user, "Account": "ada@example.com", "Next": next}})
	fatal(s.t, err)
	sealed := s.manager.Peppers.AEAD("console", "half").Seal(nil, nil, value, nil)
	v := s.visitor()
	v.jar.SetCookies(nil, []*http.Cookie{{Name: "__Host-tokenbooth-half", Value: encode(sealed)}})
	return v
}

// After a password, a passkey of that person and nobody else's is asked for.
func TestPasskeyAfterAPassword(t *testing.T) {
	t.Parallel()
	s := named(t, schematest.SQLite(t))
	bob := s.user("bob@example.com", false)
	ada, own := s.as(s.owner).add("Laptop"), s.as(bob).add("Phone")
	v := s.visitor()
	if to := v.get("/sign-in/passkey").location(t); to != "/sign-in" {
		t.Errorf("sent to %s", to)
	}
	v.post("/sign-in/passkey/begin?second=1", nil).want(t, http.StatusUnprocessableEntity, "It took too long")

	second := func(v *visitor, a *authenticator) answer {
		options := v.post("/sign-in/passkey/begin?second=1", nil).want(t, http.StatusOK, encode(ada.id)).without(t, encode(own.id)).body
		return v.post("/sign-in/passkey", url.Values{"answer": {a.get(options)}, "second": {"1"}, "next": {"/elsewhere"}})
	}
	here := "/w/" + s.ws.Slug
	v = s.passed(s.owner.ID, here)
	v.get("/sign-in/passkey").want(t, http.StatusOK, "Confirm with a passkey")
	v.get(here).location(t) // not yet
	v.refused(second(v, own), "This passkey was not accepted")
	other := s.visitor()
	options := v.post("/sign-in/passkey/begin?second=1", nil).body
	for _, c := range v.jar.cookies {
		if strings.HasSuffix(c.Name, "-passkey") {
			other.jar.SetCookies(nil, []*http.Cookie{c})
		}
	}
	other.refused(other.post("/sign-in/passkey", url.Values{"answer": {ada.get(options)}}), "It took too long") // without the password
	options = v.post("/sign-in/passkey/begin?second=1", nil).body
	before := v.jar.cookies
	v.jar.SetCookies(nil, s.passed(bob.ID, here).jar.cookies) // somebody else's password meanwhile
	v.refused(v.post("/sign-in/passkey", url.Values{"answer": {ada.get(options)}, "second": {"1"}}), "It took too long")
	v.jar.cookies = before
	if to := second(v, ada).location(t); to != here {
		t.Errorf("sent to %s", to)
	}
	v.get(here).want(t, http.StatusOK)
	if !slices.ContainsFunc(v.jar.cookies, func(c *http.Cookie) bool { return strings.HasSuffix(c.Name, "-device") }) {
		t.Error("the browser is not remembered, so that strangers can slow its owner down")
	}
	if log := strings.Join(s.actions(), "\n"); !strings.Contains(log, `user.sign_in {"method":"password+passkey"}`) {
		t.Errorf("the audit log:\n%s", log)
	}
	v.post("/sign-out", nil)
	if to := v.get("/sign-in/passkey").location(t); to != "/sign-in" {
		t.Errorf("the password is still good: sent to %s", to)
	}
}

// A console without a name says so, and offers nothing that cannot work.
func TestPasskeysNeedAName(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.as(s.owner).post("/account/passkeys/begin", nil).want(t, http.StatusNotFound)
	s.visitor().post("/sign-in/passkey/begin", nil).want(t, http.StatusNotFound)
	if _, err := identity.NewRelyingParty("https://[::1]:8443"); err == nil {
		t.Error("passkeys for an address")
	}
}

// Whoever finds a browser open makes no way in that stays, and takes none away.
func TestSignInIsChangedAfterAFreshProof(t *testing.T) {
	t.Parallel()
	s := named(t, schematest.SQLite(t))
	s.withPassword(s.owner)
	v := s.as(s.owner)
	v.add("laptop")
	passkeys, err := s.manager.Passkeys(t.Context(), manage.User(s.owner.ID))
	fatal(t, err)
	options := v.post("/account/passkeys/begin", nil).want(t, http.StatusOK).body
	s.later(16 * time.Minute)
	v.post("/account/passkeys/begin", nil).want(t, http.StatusForbidden)
	answer := newAuthenticator(t, s.handler.Issuer).create(options)
	v.post("/account/passkeys", url.Values{"name": {"planted"}, "answer": {answer}}).without(t, "notice=passkey-added")
	v.post("/account/passkeys/"+passkeys[0].ID+"/remove", nil).want(t, http.StatusForbidden, "Sign in again first", "/sign-in?again=1")
	v.post("/account/providers/unlink", url.Values{"issuer": {"x"}, "subject": {"y"}}).want(t, http.StatusForbidden, "Sign in again first")
	if now, err := s.manager.Passkeys(t.Context(), manage.User(s.owner.ID)); err != nil || len(now) != 1 {
		t.Errorf("%d passkeys, error %v", len(now), err)
	}
	v.get("/sign-in?again=1&next=/account").want(t, http.StatusOK, `name="password"`)
}

// A password that was right is of no use once it has been changed, also when only
// the passkey was missing still.
func TestHalfASignInEndsWithItsPassword(t *testing.T) {
	t.Parallel()
	s := named(t, schematest.SQLite(t))
	s.withPassword(s.owner)
	owner := s.as(s.owner)
	a := owner.add("laptop")
	finish := func(meanwhile func()) answer {
		v := s.visitor()
		if to := v.post("/sign-in", credentials(s.owner.Email, password)).location(t); to != "/sign-in/passkey" {
			t.Fatalf("sent to %s", to)
		}
		meanwhile()
		options := v.post("/sign-in/passkey/begin?second=1", nil).want(t, http.StatusOK).body
		v.post("/sign-in/passkey", url.Values{"second": {"1"}, "answer": {a.get(options)}}).location(t)
		return v.get("/account")
	}
	finish(func() {}).want(t, http.StatusOK)
	finish(func() {
		s.later(time.Second)
		owner.post("/account/password", url.Values{"current": {password}, "password": {"quite another one, this"}}).location(t)
	}).location(t)
}

// Answers of strangers leave a row behind each, so they are slowed down.
func TestPasskeyAttemptsAreSlowed(t *testing.T) {
	t.Parallel()
	s := named(t, schematest.SQLite(t))
	v, slowed := s.visitor(), answer{}
	for range 70 {
		if slowed = v.post("/sign-in/passkey", url.Values{"answer": {"{}"}}); slowed.status == http.StatusTooManyRequests {
			break
		}
	}
	if slowed.want(t, http.StatusTooManyRequests); slowed.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}
