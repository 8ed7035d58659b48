package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const password = "violet ladder quiet harbour"

// withPassword gives a user a password by an access link.
func (s *site) withPassword(user workspace.User) {
	s.t.Helper()
	link, err := s.manager.AccessLink(s.t.Context(), s.operator, user.ID)
	fatal(s.t, err)
	_, err = s.manager.UseAccessLink(s.t.Context(), manage.Origin{}, link.Token, password)
	fatal(s.t, err)
}

func credentials(email, secret string) url.Values {
	return url.Values{"email": {email}, "password": {secret}}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.withPassword(s.owner)
	v := s.visitor()
	v.get("/sign-in?next=/w/payments/keys").want(t, http.StatusOK, `name="next" value="/w/payments/keys"`)

	for name, form := range map[string]url.Values{
		"wrong": credentials(s.owner.Email, password+"!"), "unknown": credentials("eve@example.com", password), "strange": credentials("<script>\x00\xff", "\xff"),
	} {
		a := v.post("/sign-in", form).want(t, http.StatusUnprocessableEntity, "The address or the password is wrong.").without(t, "<script>\x00")
		if len(a.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s: cookies were set: %v", name, a.header.Values("Set-Cookie"))
		}
	}

	form := credentials(" ADA@example.com ", password)
	form.Set("next", "/w/payments/keys")
	a := v.post("/sign-in", form)
	if to := a.location(t); to != "/w/payments/keys" {
		t.Errorf("sent to %s", to)
	}
	session := cookieOf(t, a, identity.SessionCookie)
	for _, part := range []string{"; Path=/;", "; HttpOnly", "; Secure", "; SameSite=Lax"} {
		if !strings.Contains(session+";", part) {
			t.Errorf("the session's cookie lacks %q: %s", part, session)
		}
	}
	if strings.Contains(session, "Domain") {
		t.Errorf("the session's cookie has a domain: %s", session)
	}
	v.get("/account").want(t, http.StatusOK, "this one", "a password")
	if to := v.get("/sign-in").location(t); to != "/" {
		t.Errorf("somebody who is signed in is sent to %s", to)
	}
	v.post("/sign-out", nil).location(t)
	v.get("/account").location(t)
}

// cookieOf is the line that sets a cookie.
func cookieOf(t *testing.T, a answer, name string) string {
	t.Helper()
	for _, line := range a.header.Values("Set-Cookie") {
		if strings.HasPrefix(line, name+"=") {
			return line
		}
	}
	t.Fatalf("no cookie %s in %v", name, a.header)
	return ""
}

// A session that was there before somebody signed in is not theirs afterwards.
func TestSessionIsRenewedAtSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.withPassword(s.owner)
	attacker := s.user("eve@example.com", false)
	planted := s.as(attacker)
	v := s.visitor()
	v.jar.cookies = append(v.jar.cookies, planted.jar.cookies...)
	v.jar.cookies = append(v.jar.cookies, &http.Cookie{Name: "__Host-tokenbooth-half", Value: "AAAA"}, &http.Cookie{Name: "__Host-tokenbooth-device", Value: "%%%"})
	before := v.jar.cookies[0].Value
	v.post("/sign-in", credentials(s.owner.Email, password)).location(t)
	for _, c := range v.jar.cookies {
		if c.Name == identity.SessionCookie && c.Value == before {
			t.Error("the session kept the value that it came with")
		}
	}
	v.get("/account").want(t, http.StatusOK, s.owner.Email)
	planted.get("/account").location(t) // it has ended
}

// The sign-in page sends nobody to another site, however its address is written.
func TestSignInSendsNobodyElsewhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.withPassword(s.owner)
	for _, next := range []string{
		"https://evil.example/", "//evil.example", `/\evil.example`, `\\evil.example`, "javascript:alert(1)", "/%2F/evil.example", "/x//evil.example", "http:evil.example",
		"/\t/evil.example", "\n//evil.example", "https:///evil.example", "evil", "", "/%5cevil.example", "//user@evil.example/", "/..//evil.example", "/%09/evil.example",
	} {
		form := credentials(s.owner.Email, password)
		form.Set("next", next)
		to := s.visitor().post("/sign-in", form).location(t)
		base, _ := url.Parse(s.url + "/sign-in")
		u, err := base.Parse(to)
		if err != nil || u.Scheme+"://"+u.Host != s.url || strings.Contains(u.Path, "//") || strings.Contains(to, `\`) {
			t.Errorf("next=%q sends to %q", next, to)
		}
		s.later(time.Minute) // the budget of attempts is not what is tested
	}
}

// Attempts are slowed down, also at accounts that do not exist, and those who have
// signed in before in this browser are not kept out by it.
func TestAttemptsAreSlowed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.withPassword(s.owner)
	known := s.visitor()
	known.post("/sign-in", credentials(s.owner.Email, password)).location(t)
	known.post("/sign-out", nil).location(t)

	for _, email := range []string{s.owner.Email, "nobody@example.com"} {
		v, slowed := s.visitor(), answer{}
		for i := range 12 {
			if slowed = v.post("/sign-in", credentials(email, fmt.Sprint("guess number ", i))); slowed.status == http.StatusTooManyRequests {
				break
			}
		}
		slowed.want(t, http.StatusTooManyRequests, "nobody is locked out")
		if slowed.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		v.post("/sign-in", credentials(email, password)).want(t, http.StatusTooManyRequests)
	}
	known.post("/sign-in", credentials(s.owner.Email, password)).location(t)
	s.later(time.Minute)
	s.visitor().post("/sign-in", credentials(s.owner.Email, password)).location(t)
}

// A browser in which somebody has signed in to an account is known for that account
// alone, however alike another one is written.
func TestADeviceIsKnownForItsAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	victim, alike := s.user("kim@example.com", false), s.user("\u212aim@example.com", false) // the Kelvin sign
	s.withPassword(victim)
	s.withPassword(alike)
	v := s.visitor()
	v.post("/sign-in", credentials(alike.Email, password)).location(t)
	v.post("/sign-out", nil).location(t)
	for range 8 { // what a stranger has at an account
		s.visitor().post("/sign-in", credentials(victim.Email, "a guess that is wrong")).want(t, http.StatusUnprocessableEntity)
	}
	v.post("/sign-in", credentials(victim.Email, "a guess that is wrong")).want(t, http.StatusTooManyRequests)
}

// Whatever ends a person's rights ends their sessions with it.
func TestSessionsEndWithRights(t *testing.T) {
	t.Parallel()
	disabled, admin := false, false
	for name, take := range map[string]func(*site, workspace.User) error{
		"disabled": func(s *site, u workspace.User) error {
			_, err := s.manager.UpdateUser(s.t.Context(), s.operator, u.ID, manage.UserChange{Enabled: &disabled})
			return err
		},
		"no organization admin any more": func(s *site, u workspace.User) error {
			_, err := s.manager.UpdateUser(s.t.Context(), s.operator, u.ID, manage.UserChange{OrganizationAdmin: &admin})
			return err
		},
		"deleted": func(s *site, u workspace.User) error { return s.manager.DeleteUser(s.t.Context(), s.operator, u.ID) },
		"removed": func(s *site, u workspace.User) error {
			return s.manager.RemoveMember(s.t.Context(), s.operator, s.ws.ID, u.ID)
		},
		"lesser role": func(s *site, u workspace.User) error {
			_, err := s.manager.SetMemberRole(s.t.Context(), s.operator, s.ws.ID, u.ID, workspace.Viewer)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			user := s.user("bob@example.com", true)
			s.join(s.ws, user, workspace.Manager)
			v, other := s.as(user), s.as(s.owner)
			v.get("/w/payments").want(t, http.StatusOK)
			if err := take(s, user); err != nil {
				t.Fatal(err)
			}
			v.get("/w/payments").location(t)
			v.post("/w/payments/keys/new", url.Values{"name": {"x"}}).location(t)
			other.get("/w/payments").want(t, http.StatusOK)
		})
	}
}

func TestSessionLimits(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	s.later(identity.DefaultIdle - time.Minute)
	v.get("/account").want(t, http.StatusOK)
	s.later(identity.DefaultIdle - time.Minute) // it was used meanwhile
	v.get("/account").want(t, http.StatusOK)
	s.later(identity.DefaultIdle + time.Minute)
	v.get("/account").location(t)

	v = s.as(s.owner)
	for range 12 {
		v.get("/account").want(t, http.StatusOK)
		s.later(identity.DefaultLifetime / 12)
	}
	v.get("/account").location(t)
}

func TestOwnSessions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, second, third := s.as(s.owner), s.as(s.owner), s.as(s.owner)
	stranger := s.as(s.user("bob@example.com", false))
	page := first.get("/account").want(t, http.StatusOK, "End all others")
	_, rest, _ := strings.Cut(page.body, `action="/account/sessions/ses_`)
	id, _, _ := strings.Cut(rest, "/end")
	stranger.post("/account/sessions/ses_"+id+"/end", nil).want(t, http.StatusNotFound)
	first.post("/account/sessions/ses_"+id+"/end", nil).location(t)
	alive := 0
	for _, v := range []*visitor{second, third} {
		if v.get("/account").status == http.StatusOK {
			alive++
		}
	}
	if alive != 1 {
		t.Errorf("%d of the two other sessions go on, want 1", alive)
	}
	first.post("/account/sessions/end-others", nil).location(t)
	for _, v := range []*visitor{second, third} {
		v.get("/account").location(t)
	}
	first.get("/account").want(t, http.StatusOK)
}

func TestSetUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	link, needed, err := s.manager.SetUpLink(t.Context(), s.operator)
	if err != nil || !needed {
		t.Fatalf("needed %t, error %v", needed, err)
	}
	v := s.visitor()
	v.get("/setup?token="+link.Token+"x").want(t, http.StatusNotFound, "tokenbooth setup-link")
	for range 2 { // looking changes nothing
		v.get("/setup?token="+link.Token).want(t, http.StatusOK, link.Token)
	}
	form := url.Values{"token": {link.Token}, "email": {"grace@example.com"}, "name": {`Grace <b>"'&`}, "password": {"short"}}
	v.post("/setup", form).want(t, http.StatusUnprocessableEntity, "12", "grace@example.com", "Grace &lt;b&gt;").without(t, "short\"")
	form.Set("password", password)
	var signedIn sync.WaitGroup
	results := make(chan int, 4)
	for range 4 { // at once
		signedIn.Go(func() { results <- s.visitor().post("/setup", form).status })
	}
	signedIn.Wait()
	close(results)
	won := 0
	for status := range results {
		if status == http.StatusSeeOther {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of 4 set it up, want 1", won)
	}
	v.get("/setup?token="+link.Token).want(t, http.StatusNotFound)
	v.post("/sign-in", credentials("grace@example.com", password)).location(t)
	v.get("/account").want(t, http.StatusOK, "Organization admin")
	if _, needed, err := s.manager.SetUpLink(t.Context(), s.operator); needed || err != nil {
		t.Errorf("another set-up is needed: %t, error %v", needed, err)
	}
}

func TestInvitation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	invite := func(email string) string {
		link, err := s.manager.CreateInvitation(t.Context(), manage.User(s.owner.ID), s.ws.ID, email, workspace.Manager)
		fatal(t, err)
		return link.Token
	}
	token := invite("bob@example.com")
	v := s.visitor()
	v.get("/invitation?token="+token).want(t, http.StatusOK, "Payments", "bob@example.com")
	v.post("/invitation", url.Values{"token": {token}, "email": {s.owner.Email}, "password": {password}}).location(t)
	v.get("/w/payments").want(t, http.StatusOK)
	v.get("/account").want(t, http.StatusOK, "bob@example.com", "manager").without(t, s.owner.Email)
	v.get("/invitation?token="+token).want(t, http.StatusNotFound, "does not work any more")

	// It never opens an account that exists: not the one with its address either.
	carol := s.user("carol@example.com", false)
	token = invite(carol.Email)
	s.visitor().post("/invitation", url.Values{"token": {token}, "password": {password}}).want(t, http.StatusConflict)
	w := s.as(carol)
	w.get("/invitation?token="+token).want(t, http.StatusOK, "Join Payments")
	w.post("/invitation/accept", url.Values{"token": {token}}).location(t)
	w.get("/w/payments").want(t, http.StatusOK)

	other, err := s.manager.AccessLink(t.Context(), s.operator, carol.ID)
	fatal(t, err)
	s.visitor().get("/invitation?token="+other.Token).want(t, http.StatusNotFound) // of another kind
}

func TestAccessLink(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	before := s.as(s.owner)
	link, err := s.manager.AccessLink(t.Context(), s.operator, s.owner.ID)
	fatal(t, err)
	v := s.visitor()
	v.get("/access?token="+link.Token).want(t, http.StatusOK, s.owner.Email)
	v.post("/access", url.Values{"token": {link.Token}, "password": {"ada@example.com"}}).want(t, http.StatusUnprocessableEntity)
	v.post("/access", url.Values{"token": {link.Token}, "password": {password}}).location(t)
	v.get("/account").want(t, http.StatusOK)
	before.get("/account").location(t)
	s.visitor().post("/access", url.Values{"token": {link.Token}, "password": {password}}).want(t, http.StatusNotFound)
}

func TestOwnPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.withPassword(s.owner)
	v, other := s.as(s.owner), s.as(s.owner)
	const fresh = "four words nobody says"
	v.post("/account/password", url.Values{"current": {"wrong"}, "password": {fresh}}).want(t, http.StatusUnprocessableEntity, "not your present password")
	v.post("/account/password", url.Values{"current": {password}, "password": {"short"}}).want(t, http.StatusUnprocessableEntity, "12")
	v.post("/account/password", url.Values{"current": {password}, "password": {fresh}}).location(t)
	v.get("/account").want(t, http.StatusOK)
	other.get("/account").location(t)
	s.visitor().post("/sign-in", credentials(s.owner.Email, fresh)).location(t)
}

func TestLook(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	v.get("/account").want(t, http.StatusOK).without(t, "data-theme", `data-shortcuts="off"`)
	v.post("/account/look", url.Values{"theme": {"dark"}}).location(t)
	v.get("/account").want(t, http.StatusOK, `data-theme="dark"`, `data-shortcuts="off"`)
	v.post("/account/look", url.Values{"theme": {`"><script>`}, "shortcuts": {"on"}}).location(t)
	v.get("/account").want(t, http.StatusOK).without(t, "data-theme", `data-shortcuts="off"`)
}

// Forms from other sites do nothing, whatever they say about themselves.
func TestOtherSitesDoNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	for name, header := range map[string]http.Header{
		"cross-site": {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}}, "same site, other host": {"Sec-Fetch-Site": {"same-site"}},
		"no fetch metadata": {"Origin": {"https://evil.example"}}, "null": {"Origin": {"null"}}, "other port": {"Origin": {"https://127.0.0.1:1"}},
	} {
		a := v.send(http.MethodPost, "/account/look", url.Values{"theme": {"dark"}}, header).want(t, http.StatusForbidden, "another site")
		if len(a.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s: it set %v", name, a.header.Values("Set-Cookie"))
		}
		v.send(http.MethodPost, "/sign-out", url.Values{}, header).want(t, http.StatusForbidden)
	}
	v.get("/account").want(t, http.StatusOK)
	v.send(http.MethodPost, "/account/look", url.Values{"theme": {"dark"}}, http.Header{"Origin": {s.url}}).location(t)
}
