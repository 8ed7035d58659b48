package console_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func personPath(user workspace.User, more string) string {
	return "/organization/people/" + string(user.ID) + more
}

// version is what a page of a person carries.
func (s *site) version(user workspace.User) url.Values {
	s.t.Helper()
	now, err := s.manager.User(s.t.Context(), s.operator, user.ID)
	fatal(s.t, err)
	return url.Values{"version": {manage.Version(now.UpdatedAt)}}
}

func (s *site) readUser(user workspace.User) workspace.User {
	s.t.Helper()
	now, err := s.manager.User(s.t.Context(), s.operator, user.ID)
	fatal(s.t, err)
	return now
}

func TestPeople(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bob := s.member("bob@example.com", hostile, workspace.Viewer)
	for _, name := range []string{"Alpha", "Beta", "Gamma"} {
		s.workspace(name, bob, workspace.Manager)
	}
	no := false
	_, err := s.manager.UpdateUser(t.Context(), s.operator, bob.ID, manage.UserChange{Enabled: &no})
	fatal(t, err)
	ada := s.as(s.owner)
	ada.get("/organization/people").want(t, http.StatusOK, html.EscapeString(hostile), "bob@example.com", "Disabled", "Organization admin</span>", "No way yet", "and 1 more").
		without(t, "<script>alert", ">Payments</a> <span class=\"pill off\">viewer")
	ada.get("/organization/people?q=ADA").want(t, http.StatusOK, "ada@example.com").without(t, "bob@example.com")
	ada.get("/organization/people?show=admins").want(t, http.StatusOK, "ada@example.com").without(t, "bob@example.com")
	ada.get("/organization/people?show=disabled").want(t, http.StatusOK, "bob@example.com").without(t, ">ada@example.com</a></th>")
	ada.get("/organization/people?q=nobody").want(t, http.StatusOK, "Nobody matches").without(t, "<table")
}

// A new person comes with a link that is shown once.
func TestNewPerson(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, path := s.as(s.owner), "/organization/people/new"
	ada.get(path).want(t, http.StatusOK, "Create person")
	ada.post(path, url.Values{"email": {"nonsense"}, "name": {hostile}, "admin": {"yes"}}).
		want(t, http.StatusUnprocessableEntity, "name@example.com", `value="nonsense"`, `value="`+html.EscapeString(hostile)+`"`, `value="yes" checked`)
	ada.post(path, url.Values{"email": {"ada@example.com"}, "name": {"Again"}}).want(t, http.StatusConflict, "exists already", `value="Again"`)

	form := url.Values{"email": {"Grace@example.com"}, "name": {hostile}, "admin": {"yes"}}
	a := ada.post(path, form).want(t, http.StatusOK, "grace@example.com", s.url+"/access?token=").without(t, "<script>alert")
	token := regexp.MustCompile(`/access\?token=([\w-]{43})"`).FindStringSubmatch(a.body)[1]
	if user, err := s.manager.OpenAccessLink(t.Context(), token); err != nil || user.Email != "grace@example.com" || !user.OrganizationAdmin || user.Name != hostile {
		t.Errorf("the link is of %+v, %v", user, err)
	}
	ada.post(path, form).want(t, http.StatusConflict, "exists already").without(t, "/access?token=")
}

// An access link ends the one before, and a form that is sent again shows none.
func TestMakeAccessLink(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, bob := s.as(s.owner), s.user("bob@example.com", false)
	path := personPath(bob, "/access-link")
	before := s.eventCount()
	page := ada.get(path).want(t, http.StatusOK, "their passkeys are removed", "signed out everywhere")
	if s.eventCount() != before {
		t.Error("asking has made something")
	}
	once := regexp.MustCompile(`name="once" value="(\w+)"`).FindStringSubmatch(page.body)[1]
	link := regexp.MustCompile(`/access\?token=([\w-]{43})"`)
	first := link.FindStringSubmatch(ada.post(path, url.Values{"once": {once}}).want(t, http.StatusOK, "works once").body)[1]
	ada.post(path, url.Values{"once": {once}}).want(t, http.StatusOK, "cannot be shown again").without(t, "token=")
	if _, err := s.manager.OpenAccessLink(t.Context(), first); err != nil {
		t.Errorf("sending the form again has ended the link: %v", err)
	}
	second := link.FindStringSubmatch(ada.post(path, url.Values{}).want(t, http.StatusOK).body)[1]
	if _, err := s.manager.OpenAccessLink(t.Context(), first); err == nil || first == second {
		t.Error("the first link goes on beside the second")
	}
	ada.post(personPath(bob, "/state"), s.version(bob)).location(t)
	ada.get(personPath(bob, "")).want(t, http.StatusOK).without(t, "access-link")
	ada.post(path, url.Values{}).want(t, http.StatusConflict, "enable them first").without(t, "token=")
}

func TestPerson(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bob := s.member("bob@example.com", hostile, workspace.Owner)
	other := s.workspace("Elsewhere", bob, workspace.Owner)
	for _, ws := range []workspace.Workspace{s.ws, other} {
		_, err := s.manager.CreatePersonalKey(t.Context(), manage.User(bob.ID), ws.ID, manage.NewKey{Name: hostile + ws.Slug, DefaultExpiry: true})
		fatal(t, err)
	}
	a := s.as(s.owner).get(personPath(bob, "")).want(t, http.StatusOK, html.EscapeString(hostile), "bob@example.com", string(bob.ID), "Elsewhere", "Payments",
		"No way yet", html.EscapeString(hostile+"elsewhere")).without(t, "<script>alert")
	// Keys of workspaces that the reader is not in are listed, and lead nowhere.
	if !strings.Contains(a.body, `href="/w/payments/keys/tbk_`) || strings.Contains(a.body, `href="/w/elsewhere/keys/`) {
		t.Error("the keys lead where they should not")
	}
	s.as(s.owner).get("/organization/people/usr_nobody").want(t, http.StatusNotFound)
}

// Disabling is asked first, and then ends sessions and keys; enabling undoes it.
func TestDisablePerson(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bob := s.member("bob@example.com", hostile, workspace.Manager)
	ada, there, path := s.as(s.owner), s.as(bob), personPath(bob, "/state")
	there.get("/w/payments").want(t, http.StatusOK)
	ada.get(path).want(t, http.StatusOK, "signed out everywhere at once", "personal keys stop working", "denied within seconds").without(t, "<script>alert")
	there.get("/w/payments").want(t, http.StatusOK)
	ada.post(path, url.Values{}).want(t, http.StatusConflict, "Somebody else changed it meanwhile") // from no page of ours
	if to := ada.post(path, s.version(bob)).location(t); to != personPath(bob, "?notice=person-disabled") {
		t.Errorf("sent to %s", to)
	}
	there.get("/w/payments").location(t)
	ada.get(personPath(bob, "?notice=person-disabled")).want(t, http.StatusOK, "Disabled", "Enable…", "signed out")
	ada.get(path).want(t, http.StatusOK, "They can sign in again")
	ada.post(path, s.version(bob)).location(t)
	if !s.readUser(bob).DisabledAt.IsZero() {
		t.Error("still disabled")
	}
}

// What somebody was asked about one version is not done to another.
func TestPersonChangedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bob := s.user("bob@example.com", false)
	ada, seen := s.as(s.owner), s.version(bob)
	ada.post(personPath(bob, "/admin"), seen).location(t)
	a := ada.post(personPath(bob, "/admin"), seen).want(t, http.StatusConflict, "Somebody else changed it meanwhile")
	if !s.readUser(bob).OrganizationAdmin {
		t.Error("the second click has undone the first")
	}
	if !strings.Contains(a.body, s.version(bob).Get("version")) {
		t.Error("the page does not carry the version that it shows")
	}
}

func TestLastAdminIsProtected(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.as(s.owner)
	for _, action := range []string{"/admin", "/state", "/delete"} {
		form := s.version(s.owner)
		form.Set("confirm", s.owner.Email)
		ada.post(personPath(s.owner, action), form).want(t, http.StatusConflict, "last active organization admin")
	}
	if now := s.readUser(s.owner); !now.OrganizationAdmin || !now.DisabledAt.IsZero() {
		t.Errorf("left: %+v", now)
	}
	ada.get(personPath(s.owner, "")).want(t, http.StatusOK, ">You</span>")
}

// Deleting wants the address typed, and ends the personal keys.
func TestDeletePerson(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bob := s.member("bob@example.com", hostile, workspace.Manager)
	key, err := s.manager.CreatePersonalKey(t.Context(), manage.User(bob.ID), s.ws.ID, manage.NewKey{Name: "mine"})
	fatal(t, err)
	ada, path, form := s.as(s.owner), personPath(bob, "/delete"), s.version(bob)
	ada.get(path).want(t, http.StatusOK, "Type “bob@example.com” to confirm", "revoked for good")
	ada.post(path, form).want(t, http.StatusUnprocessableEntity, "Type “bob@example.com” exactly", `aria-invalid="true"`)
	s.readUser(bob)
	form.Set("confirm", "bob@example.com")
	if to := ada.post(path, form).location(t); to != "/organization/people?notice=person-deleted" {
		t.Errorf("sent to %s", to)
	}
	ada.get(personPath(bob, "")).want(t, http.StatusNotFound)
	record, err := keys.Read(t.Context(), s.db.Reader(), key.ID)
	if err != nil || record.RevokedAt.IsZero() {
		t.Errorf("the personal key: %v, %v", record, err)
	}
}
