package console_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// current reads the workspace as it is; the zero value: it is deleted.
func (s *site) current() workspace.Workspace {
	s.t.Helper()
	ws, _ := s.manager.Workspace(s.t.Context(), s.operator, string(s.ws.ID))
	return ws
}

func TestRenameWorkspace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, path := s.as(s.owner), "/w/"+s.ws.Slug+"/settings"
	version := ada.get(path).want(t, http.StatusOK, `value="Payments"`, string(s.ws.ID), "so it never changes").found(t, versionIn)

	form := url.Values{"version": {version}, "name": {" " + hostile + " "}}
	if to := ada.post(path, form).location(t); to != path+"?notice=workspace-renamed" {
		t.Errorf("sent to %s", to)
	}
	ada.get(path).want(t, http.StatusOK, html.EscapeString(hostile)).without(t, "<script>alert")
	if ws := s.current(); ws.Name != hostile || ws.Slug != s.ws.Slug {
		t.Errorf("it is %+v", ws)
	}

	form.Set("name", "Late")
	ada.post(path, form).want(t, http.StatusConflict, "Somebody else changed it meanwhile", `value="Late"`)
	for _, name := range []string{"", strings.Repeat("x", 201), "a\x07b"} {
		ada.post(path, url.Values{"name": {name}}).want(t, http.StatusUnprocessableEntity, `href="#name"`)
	}
	if ws := s.current(); ws.Name != hostile {
		t.Errorf("it is %+v", ws)
	}
}

func TestSuspendAndDeleteWorkspace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.key(s.ws, "one", manage.NewKey{})
	ada, path := s.as(s.owner), "/w/"+s.ws.Slug+"/settings"
	for page, text := range map[string]string{"/suspend": "nothing is revoked", "/resume": "exchanged for tokens again", "/delete": "nobody gets its slug"} {
		ada.get(path+page).want(t, http.StatusOK, text, "1 live key and 1 member")
	}
	sure := url.Values{"confirm": {s.ws.Slug}}
	for _, page := range []string{"/suspend", "/delete"} {
		ada.post(path+page, url.Values{"confirm": {"other"}}).want(t, http.StatusUnprocessableEntity, "exactly")
	}
	if ws := s.current(); ws.ID == "" || !ws.SuspendedAt.IsZero() {
		t.Fatalf("it is %+v", ws)
	}
	ada.get(ada.post(path+"/suspend", sure).location(t)).want(t, http.StatusOK, "The workspace is suspended", "Resume…", ">Suspended</span>")
	if s.current().SuspendedAt.IsZero() {
		t.Error("it is open")
	}
	ada.get(ada.post(path+"/resume", url.Values{}).location(t)).want(t, http.StatusOK, "open again", "Suspend…")
	if !s.current().SuspendedAt.IsZero() {
		t.Error("it is suspended")
	}
	if to := ada.post(path+"/delete", sure).location(t); to != "/organization/workspaces?notice=workspace-deleted" {
		t.Errorf("sent to %s", to)
	}
	if s.current().ID != "" {
		t.Error("it is there")
	}
	ada.get(path).want(t, http.StatusNotFound)
}

func TestSettingsOfOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	viewer, outsider := s.member("viewer@example.com", "", workspace.Viewer), s.user("outsider@example.com", false)
	owner, admin := s.member("owner@example.com", "", workspace.Owner), s.user("admin@example.com", true)
	path := "/w/" + s.ws.Slug + "/settings"
	s.as(viewer).get(path).want(t, http.StatusOK, "Payments", "Organization admins can suspend").without(t, "<button class=\"button primary\"", "Suspend…", "Delete…")
	s.as(viewer).post(path, url.Values{"name": {"Mine"}}).want(t, http.StatusForbidden)
	s.as(owner).get(path).want(t, http.StatusOK, "Rename workspace").without(t, "Suspend…", "Delete…")
	for _, page := range []string{"/suspend", "/resume", "/delete"} {
		s.as(owner).get(path+page).want(t, http.StatusForbidden)
		s.as(owner).post(path+page, url.Values{"confirm": {s.ws.Slug}}).want(t, http.StatusForbidden)
		s.as(outsider).post(path+page, url.Values{"confirm": {s.ws.Slug}}).want(t, http.StatusNotFound)
	}
	s.as(outsider).post(path, url.Values{"name": {"Mine"}}).want(t, http.StatusNotFound)
	if ws := s.current(); ws.Name != "Payments" || !ws.SuspendedAt.IsZero() {
		t.Errorf("it is %+v", ws)
	}
	shown := s.as(admin).get(path).want(t, http.StatusOK, "Rename workspace", "Suspend…", "Delete…")
	s.as(admin).post(path, url.Values{"name": {"Theirs"}, "version": {shown.found(t, versionIn)}}).location(t)
}
