package console_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// The pages of the organization are for its admins. Their addresses tell others
// nothing, whatever the method.
func TestOrganizationPagesAreForAdmins(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	fatal(t, s.manager.EnsureSigningKeys(t.Context(), s.operator))
	ada, owner, admin := s.as(s.owner), s.user("bob@example.com", false), s.user("eve@example.com", true)
	s.join(s.ws, owner, workspace.Owner)
	person := "/organization/people/" + string(admin.ID)
	key := s.signingKeys()[0]
	paths := []string{
		"/organization/workspaces", "/organization/workspaces/new", "/organization/people", "/organization/people/new", person,
		person + "/access-link", person + "/admin", person + "/state", person + "/delete", "/organization/policy", "/organization/policy/preview",
		"/organization/signing-keys", "/organization/signing-keys/rotate?purpose=token&alg=ES256", "/organization/signing-keys/replace?purpose=token&alg=ES256",
		"/organization/signing-keys/retire?kid=" + key.ID, "/organization/verifiers", "/organization/verifiers/forget?workspace=" + s.ws.Slug + "&name=x",
	}
	before := s.eventCount()
	bob := s.as(owner)
	form := url.Values{"name": {"Mine"}, "email": {"new@example.com"}, "version": {manage.Version(admin.UpdatedAt)}, "confirm": {"distrust"}}
	for _, path := range paths {
		if a := ada.get(path); a.status != http.StatusOK && a.status != http.StatusSeeOther {
			t.Errorf("GET %s as an admin: status %d", path, a.status)
		}
		if path != "/organization/policy/preview" {
			bob.get(path).want(t, http.StatusForbidden).without(t, "eve@example.com", key.ID)
		}
		if a := bob.post(path, form); a.status != http.StatusForbidden && a.status != http.StatusMethodNotAllowed {
			t.Errorf("POST %s as an owner of a workspace: status %d", path, a.status)
		}
		s.visitor().get(path).location(t)
	}
	if after := s.eventCount(); after != before {
		t.Errorf("%d audit events, were %d: something was changed", after, before)
	}
}

// eventCount counts what was ever changed.
func (s *site) eventCount() (n int) {
	s.t.Helper()
	fatal(s.t, s.db.Reader().QueryRowxContext(s.t.Context(), `SELECT count(*) FROM audit_events`).Scan(&n))
	return n
}

func TestWorkspaces(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bad := s.workspace(hostile, s.user("bob@example.com", false), workspace.Owner)
	s.key(s.ws, "ci", manage.NewKey{})
	revoked := s.key(s.ws, "old", manage.NewKey{})
	fatal(t, s.manager.RevokeKey(t.Context(), s.operator, s.ws.ID, revoked.ID, ""))
	fatal(t, s.manager.SuspendWorkspace(t.Context(), s.operator, bad.ID))
	ada := s.as(s.owner)
	a := ada.get("/organization/workspaces").want(t, http.StatusOK, html.EscapeString(hostile), "Suspended", "Payments").without(t, "<script>alert")
	row := regexp.MustCompile(`(?s)Payments</a>.*?</tr>`).FindString(a.body)
	if !strings.Contains(row, `data-label="Members">1<`) || !strings.Contains(row, `data-label="Live keys">1<`) {
		t.Errorf("the row does not say 1 member and 1 live key: %s", row)
	}
	ada.get("/organization/workspaces?q=PAY").want(t, http.StatusOK, ">Payments<").without(t, "script-alert")
	ada.get("/organization/workspaces?state=suspended").want(t, http.StatusOK, "script-alert").without(t, ">Payments<")
	ada.get("/organization/workspaces?state=open").want(t, http.StatusOK, ">Payments<").without(t, "script-alert")
	ada.get("/organization/workspaces?q="+url.QueryEscape(hostile+"x")).want(t, http.StatusOK, "No workspace matches").without(t, "<script>alert", "<table")
}

// A list goes on where its page ends, with its filter, and shows each row once.
func TestWorkspacesInPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 120 {
		_, err := s.manager.CreateWorkspace(t.Context(), s.operator, fmt.Sprintf("Team %03d", i), "")
		fatal(t, err)
	}
	ada, path, seen := s.as(s.owner), "/organization/workspaces?q=team", map[string]int{}
	older := regexp.MustCompile(`href="([^"]*after=[^"]*)">Older`)
	pages := 0
	for path != "" {
		pages++
		a := ada.get(path).want(t, http.StatusOK)
		for _, name := range regexp.MustCompile(`>Team \d+<`).FindAllString(a.body, -1) {
			seen[name]++
		}
		next := older.FindStringSubmatch(a.body)
		if path = ""; next != nil {
			path = html.UnescapeString(next[1])
		}
	}
	if pages != 3 || len(seen) != 120 {
		t.Errorf("%d teams in %d pages, want 120 in 3", len(seen), pages)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s is shown %d times", name, n)
		}
	}
	ada.get("/organization/workspaces?after=forged").want(t, http.StatusUnprocessableEntity, "open the list anew")
	first := html.UnescapeString(older.FindStringSubmatch(ada.get("/organization/workspaces").body)[1])
	_, cursor, _ := strings.Cut(first, "after=")
	ada.get("/organization/people?after="+cursor).want(t, http.StatusUnprocessableEntity, "open the list anew")
}

func TestNewWorkspace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, path := s.as(s.owner), "/organization/workspaces/new"
	ada.get(path).want(t, http.StatusOK, `data-slug-of="name"`)
	if to := ada.post(path, url.Values{"name": {" Data Platform "}, "slug": {""}}).location(t); to != "/w/data-platform?notice=workspace-created" {
		t.Errorf("sent to %s", to)
	}
	made, err := s.manager.Workspace(t.Context(), s.operator, "data-platform")
	fatal(t, err)
	m, err := s.manager.Member(t.Context(), s.operator, made.ID, s.owner.ID)
	if made.Name != "Data Platform" || err != nil || m.Role != workspace.Owner {
		t.Errorf("made %q, its creator is %q, %v", made.Name, m.Role, err)
	}
	for name, c := range map[string]struct {
		form   url.Values
		status int
		text   string
	}{
		"no name":      {url.Values{"name": {" "}, "slug": {"kept"}}, 422, "Give the workspace a name."},
		"a wrong slug": {url.Values{"name": {hostile}, "slug": {"Not Good"}}, 422, "lower-case letters"},
		"a taken slug": {url.Values{"name": {"kept"}, "slug": {"payments"}}, 409, "exists already"},
		"no letters":   {url.Values{"name": {"日本"}, "slug": {""}}, 422, "at least one letter"},
	} {
		before := s.eventCount()
		a := ada.post(path, c.form).want(t, c.status, c.text, `value="`+html.EscapeString(strings.TrimSpace(c.form.Get("name")))+`"`).without(t, "<script>alert")
		if slug := c.form.Get("slug"); slug != "" && !strings.Contains(a.body, `value="`+slug+`"`) {
			t.Errorf("%s: the slug was lost", name)
		}
		if s.eventCount() != before {
			t.Errorf("%s: something was changed", name)
		}
	}
}
