package console_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// serviceAccount makes one.
func (s *site) serviceAccount(n manage.NewServiceAccount) workspace.ServiceAccount {
	s.t.Helper()
	a, err := s.manager.CreateServiceAccount(s.t.Context(), s.operator, s.ws.ID, n)
	fatal(s.t, err)
	return a
}

// named reads a service account; the zero value is none.
func (s *site) named(name string) workspace.ServiceAccount {
	s.t.Helper()
	a, _ := s.manager.ServiceAccount(s.t.Context(), s.operator, s.ws.ID, name)
	return a
}

func (s *site) accounts(parts ...string) string {
	return strings.Join(append([]string{"/w", s.ws.Slug, "service-accounts"}, parts...), "/")
}

func TestServiceAccounts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.as(s.owner)
	ada.get(s.accounts()).want(t, http.StatusOK, "No service account yet", "Create the first service account").without(t, "<table", "Search by")

	s.serviceAccount(manage.NewServiceAccount{Name: "terraform", Description: hostile, Scopes: oauth.NewScope("collectors:read", "pipelines:read")})
	key := s.key(s.ws, "gitlab-ci", manage.NewKey{})
	fatal(t, s.manager.DisableServiceAccount(t.Context(), s.operator, s.ws.ID, key.ServiceAccountID))
	ada.get(s.accounts()).want(t, http.StatusOK, "terraform", "2 permissions", "gitlab-ci", "Role viewer", "Disabled", "Create service account",
		html.EscapeString(hostile), `class="end">1</td>`, `class="end">0</td>`).without(t, "<script>alert")
	ada.get(s.accounts()+"?q=terra").want(t, http.StatusOK, ">terraform</a>").without(t, ">gitlab-ci</a>")
	ada.get(s.accounts()+"?state=disabled").want(t, http.StatusOK, ">gitlab-ci</a>").without(t, ">terraform</a>")
	ada.get(s.accounts()+"?state=active").want(t, http.StatusOK, ">terraform</a>").without(t, ">gitlab-ci</a>")
	ada.get(s.accounts()+"?q="+url.QueryEscape(hostile+"x")).want(t, http.StatusOK, "Nothing matches", html.EscapeString(hostile+"x")).without(t, "<script>alert")
}

func TestServiceAccountPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "gitlab-ci", manage.NewKey{})
	a := s.named("gitlab-ci")
	for _, name := range []string{"gitlab-ci", string(a.ID)} {
		s.as(s.owner).get(s.accounts(name)).want(t, http.StatusOK, "Create key for it", "keys/new?service_account=gitlab-ci", string(key.ID), string(a.ID),
			"collectors:read", "Role <strong>viewer", "Operator", "audit?service_account=gitlab-ci", "Disable…<span class=\"visually-hidden\"> gitlab-ci<")
	}
	s.serviceAccount(manage.NewServiceAccount{Name: "idle", Role: "viewer"})
	s.as(s.owner).get(s.accounts("idle")).want(t, http.StatusOK, "no key yet", "Create its first key")
	s.as(s.owner).get(s.accounts("none")).want(t, http.StatusNotFound)
}

func TestCreateServiceAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.as(s.owner)
	shown := ada.get(s.accounts("new")).want(t, http.StatusOK, "viewer</strong>", "collectors:delete", "By a role", "One by one")
	once := shown.found(t, onceIn)

	form := url.Values{"once": {once}, "name": {"gitlab-ci"}, "description": {" Deploys.\r\nDaily. "}, "holds": {"role"}, "role": {"editor"}}
	to := ada.post(s.accounts("new"), form).location(t)
	if to != s.accounts("gitlab-ci")+"?notice=service-account-created" {
		t.Errorf("sent to %s", to)
	}
	ada.get(to).want(t, http.StatusOK, "The service account is created")
	if a := s.named("gitlab-ci"); a.Role != "editor" || a.Scopes != "" || a.Description != "Deploys.\nDaily." {
		t.Errorf("made %+v", a)
	}
	if again := ada.post(s.accounts("new"), form).location(t); again != to {
		t.Errorf("sent again, it leads to %s", again)
	}

	ada.post(s.accounts("new"), url.Values{
		"name": {"terraform"}, "holds": {"scopes"}, "role": {"admin"}, "level.collectors": {"read"}, "level.pipelines": {"custom"}, "scope": {"pipelines:create"},
	}).location(t)
	if a := s.named("terraform"); a.Role != "" || a.Scopes != "collectors:read pipelines:create" {
		t.Errorf("made %+v", a)
	}
}

// A form with mistakes comes back as it was, with the reasons, and nothing is made.
func TestServiceAccountMistakes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serviceAccount(manage.NewServiceAccount{Name: "taken", Role: "viewer"})
	good := func() url.Values {
		return url.Values{"name": {"fine"}, "description": {"kept text"}, "holds": {"role"}, "role": {"viewer"}}
	}
	for name, c := range map[string]struct {
		field, value, text string
		status             int
	}{
		"no name":         {"name", "", "lower-case letters", http.StatusUnprocessableEntity},
		"markup":          {"name", hostile, html.EscapeString(hostile), http.StatusUnprocessableEntity},
		"capitals":        {"name", "GitLab", "lower-case letters", http.StatusUnprocessableEntity},
		"taken":           {"name", "taken", "exists already", http.StatusConflict},
		"long":            {"description", strings.Repeat("x", 1001), "at most 1000 characters", http.StatusUnprocessableEntity},
		"no role":         {"role", "", "Choose a role", http.StatusUnprocessableEntity},
		"unknown role":    {"role", "boss", "Choose a role", http.StatusUnprocessableEntity},
		"no permission":   {"holds", "scopes", "at least one permission", http.StatusUnprocessableEntity},
		"used otherwise:": {"once", "number", "was sent before", http.StatusConflict},
	} {
		form := good()
		form.Set(c.field, c.value)
		if c.field == "once" {
			s.as(s.owner).post(s.accounts("new"), url.Values{"once": {"number"}, "name": {"first"}, "holds": {"role"}, "role": {"viewer"}}).location(t)
		}
		a := s.as(s.owner).post(s.accounts("new"), form).want(t, c.status, c.text, `id="problem"`).without(t, "<script>alert")
		if c.field != "description" {
			a.want(t, c.status, "kept text")
		}
		if s.named("fine").ID != "" {
			t.Fatalf("%s: it was made", name)
		}
	}
}

func TestEditServiceAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serviceAccount(manage.NewServiceAccount{Name: "ci", Description: hostile, Scopes: oauth.NewScope("collectors:read")})
	ada := s.as(s.owner)
	shown := ada.get(s.accounts("ci", "edit")).want(t, http.StatusOK, `value="ci"`, html.EscapeString(hostile),
		`name="level.collectors" value="read" checked`, `value="scopes" checked`).without(t, "<script>alert")
	version := shown.found(t, versionIn)

	form := url.Values{"version": {version}, "name": {"cd"}, "holds": {"role"}, "role": {"viewer"}, "level.collectors": {"read"}}
	to := ada.post(s.accounts("ci", "edit"), form).location(t)
	if to != s.accounts("cd")+"?notice=service-account-changed" {
		t.Errorf("sent to %s", to)
	}
	if a := s.named("cd"); a.Role != "viewer" || a.Scopes != "" || a.Description != "" {
		t.Errorf("it is %+v", a)
	}
	form.Set("role", "editor")
	ada.post(s.accounts("cd", "edit"), form).want(t, http.StatusConflict, "Somebody else changed it meanwhile", `value="cd"`)
	if a := s.named("cd"); a.Role != "viewer" {
		t.Errorf("it is %+v", a)
	}
}

func TestStopServiceAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	ada := s.as(s.owner)
	disabled := func(want bool) {
		t.Helper()
		if got := !s.named("ci").DisabledAt.IsZero(); got != want {
			t.Errorf("disabled is %v, want %v", got, want)
		}
	}
	ada.get(s.accounts("ci", "disable")).want(t, http.StatusOK, "1 live key", "stop within seconds", "Disable ci")
	ada.get(s.accounts("ci", "enable")).want(t, http.StatusOK)
	ada.get(s.accounts("ci", "delete")).want(t, http.StatusOK, "revoked for good")
	disabled(false)

	to := ada.post(s.accounts("ci", "disable"), url.Values{}).location(t)
	disabled(true)
	ada.get(to).want(t, http.StatusOK, "its keys and tokens have stopped", "Enable ci…").without(t, "Create key for it")
	ada.post(s.accounts("ci", "enable"), url.Values{}).location(t)
	disabled(false)

	ada.post(s.accounts("ci", "delete"), url.Values{"confirm": {"cd"}}).want(t, http.StatusUnprocessableEntity, "Type “ci” exactly")
	if to := ada.post(s.accounts("ci", "delete"), url.Values{"confirm": {"ci"}}).location(t); to != s.accounts()+"?notice=service-account-deleted" {
		t.Errorf("sent to %s", to)
	}
	found, err := s.manager.Key(t.Context(), s.operator, s.ws.ID, key.ID)
	if fatal(t, err); s.named("ci").ID != "" || found.Status(s.now()) != keys.StatusRevoked {
		t.Errorf("the key is %s", found.Status(s.now()))
	}
}

// Who may not change service accounts is not offered it, and refused.
func TestServiceAccountsOfViewers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.key(s.ws, "ci", manage.NewKey{})
	viewer, outsider := s.user("viewer@example.com", false), s.user("outsider@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	v := s.as(viewer)
	v.get(s.accounts()).want(t, http.StatusOK, ">ci</a>").without(t, "Create service account")
	v.get(s.accounts("ci")).want(t, http.StatusOK).without(t, "Create key", ">Edit<", "Disable", "Delete")
	for _, path := range []string{s.accounts("new"), s.accounts("ci", "edit"), s.accounts("ci", "disable"), s.accounts("ci", "enable"), s.accounts("ci", "delete")} {
		v.get(path).want(t, http.StatusForbidden)
		v.post(path, url.Values{"name": {"x"}, "holds": {"role"}, "role": {"viewer"}, "confirm": {"ci"}}).want(t, http.StatusForbidden)
		s.as(outsider).get(path).want(t, http.StatusNotFound)
		s.as(outsider).post(path, url.Values{}).want(t, http.StatusNotFound)
	}
	if a := s.named("ci"); a.ID == "" || !a.DisabledAt.IsZero() || s.named("x").ID != "" {
		t.Errorf("it was changed: %+v", a)
	}
}
