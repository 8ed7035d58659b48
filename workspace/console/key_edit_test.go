package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

var versionIn = regexp.MustCompile(`name="version" value="([^"]+)"`)

// editForm is the form of a key that may read collectors, as it is first shown.
func editForm(t *testing.T, shown answer, more url.Values) url.Values {
	t.Helper()
	form := url.Values{
		"version": {shown.found(t, versionIn)}, "name": {"ci"}, "expires_in": {"keep"}, "permissions": {"chosen"},
		"level.collectors": {"read"}, "level.pipelines": {"none"},
	}
	for field, values := range more {
		form[field] = values
	}
	return form
}

func (s *site) readingKey() manage.Issued {
	s.t.Helper()
	scopes := oauth.NewScope("collectors:read")
	return s.key(s.ws, "ci", manage.NewKey{Scopes: &scopes, ExpiresAt: s.now().Add(30 * day)}, "collectors:read", "collectors:create", "pipelines:read")
}

func TestAKeyIsChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.readingKey()
	v, path := s.as(s.owner), s.keyPath(key.ID, "edit")
	shown := v.get(path).want(t, http.StatusOK, `value="keep" selected`, `name="level.collectors" value="read" checked`)
	if to := v.post(path, editForm(t, shown, nil)).location(t); to != s.keyPath(key.ID)+"?notice=key-unchanged" {
		t.Errorf("without a change: sent to %s", to)
	}
	form := editForm(t, shown, url.Values{
		"name": {" cd "}, "description": {"a\r\nb"}, "level.pipelines": {"read"}, "cidr": {"192.0.2.0/24\n198.51.100.7"}, "audience": {"https://api.example.com"},
		"token_ttl": {"120"}, "exchanges_per_minute": {"60"}, "max_uses": {"9"}, "expires_in": {"60"},
	})
	to := v.post(path, form).location(t)
	v.get(to).want(t, http.StatusOK, "Tokens that it had are denied") // it is tied to networks
	k := s.look(key.ID)
	if k.Name != "cd" || k.Description != "a\nb" || k.Scopes.String() != "collectors:read pipelines:read" || len(k.AllowedCIDRs) != 2 || k.AllowedCIDRs[1].String() != "198.51.100.7/32" ||
		len(k.Audiences) != 1 || k.TokenTTL != 2*time.Minute || k.PerMinute != 60 || k.MaxUses != 9 {
		t.Errorf("%+v", k)
	}
	if left := k.ExpiresAt.Sub(s.now()); left < 59*day || left > 60*day {
		t.Errorf("it ends in %s", left)
	}
	shown = v.get(path).want(t, http.StatusOK, "192.0.2.0/24\n198.51.100.7/32", `value="120"`, `value="9"`, "a\nb")
	to = v.post(path, editForm(t, shown, url.Values{
		"name": {"cd"}, "description": {"a\nb"}, "level.pipelines": {"read"}, "expires_in": {"never"},
	})).location(t)
	v.get(to).want(t, http.StatusOK, "The key is changed.").without(t, "denied within")
	if k := s.look(key.ID); !k.ExpiresAt.IsZero() || len(k.AllowedCIDRs) != 0 || k.MaxUses != 0 || k.TokenTTL != 0 || k.PerMinute != 0 || len(k.Audiences) != 0 {
		t.Errorf("%+v", k)
	}
	v.post(path, editForm(t, v.get(path), url.Values{"name": {"cd"}, "description": {"a\nb"}, "permissions": {"held"}})).location(t)
	if k := s.look(key.ID); k.Scopes != nil {
		t.Errorf("it has scopes of its own: %v", k.Scopes)
	}
}

// What somebody else changed meanwhile is told and not overwritten unawares; what was
// typed is kept, and may be sent again.
func TestTwoPeopleChangeAKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.readingKey()
	v, path := s.as(s.owner), s.keyPath(key.ID, "edit")
	form := editForm(t, v.get(path), url.Values{"name": {"mine"}})
	theirs := "theirs"
	_, err := s.manager.UpdateKey(t.Context(), s.operator, s.ws.ID, key.ID, manage.KeyChange{Name: &theirs})
	fatal(t, err)
	shown := v.post(path, form).want(t, http.StatusConflict, "Somebody else changed it meanwhile", `value="mine"`, "in the key now: theirs")
	if k := s.look(key.ID); k.Name != theirs {
		t.Errorf("it is called %s", k.Name)
	}
	form.Set("version", shown.found(t, versionIn))
	v.post(path, form).location(t)
	if k := s.look(key.ID); k.Name != "mine" {
		t.Errorf("it is called %s", k.Name)
	}
}

func TestMistakesInAChangeOfAKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.readingKey()
	v, path := s.as(s.owner), s.keyPath(key.ID, "edit")
	for name, c := range map[string]struct {
		more url.Values
		want []string
	}{
		"no name":        {url.Values{"name": {""}, "description": {hostile}}, []string{`href="#name"`, hostileText}},
		"no permission":  {url.Values{"level.collectors": {"none"}}, []string{"Choose at least one permission"}},
		"a bad network":  {url.Values{"cidr": {hostile}, "name": {"typed"}}, []string{hostileText, "is no network", `value="typed"`}},
		"a bad number":   {url.Values{"max_uses": {"-1"}}, []string{`href="#max_uses"`, `value="-1"`}},
		"a past date":    {url.Values{"expires_in": {"custom"}, "expires_on": {"2020-01-01"}}, []string{`href="#expires_on"`, `value="2020-01-01"`}},
		"no such expiry": {url.Values{"expires_in": {"soon"}}, []string{`href="#expires_in"`}},
		"unknown place":  {url.Values{"audience": {"https://nowhere.example"}}, []string{"There is no audience"}},
	} {
		v.post(path, editForm(t, v.get(path), c.more)).want(t, http.StatusUnprocessableEntity, c.want...).without(t, hostile)
		if k := s.look(key.ID); k.UpdatedAt != key.UpdatedAt {
			t.Errorf("%s: the key was changed", name)
		}
	}
	days := int64(90)
	s.rules(policy.Rules{MaxLifetimeDays: &days})
	v.get(path).want(t, http.StatusOK, `value="180" disabled`, `value="never" disabled`)
	v.post(path, editForm(t, v.get(path), url.Values{"expires_in": {"180"}})).want(t, http.StatusUnprocessableEntity, "Policy allows at most 90 days from the newest secret")
	v.post(path, editForm(t, v.get(path), url.Values{"expires_in": {"never"}})).want(t, http.StatusUnprocessableEntity, "Policy allows at most 90 days")
}

func TestWhoMayChangeAKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.readingKey()
	viewer := s.user("vera@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	path := s.keyPath(key.ID, "edit")
	form := editForm(t, s.as(s.owner).get(path), url.Values{"name": {"changed"}})
	s.as(viewer).post(path, form).want(t, http.StatusForbidden, "api-keys:update", `value="changed"`)
	s.as(s.user("otto@example.com", false)).post(path, form).want(t, http.StatusNotFound)
	if k := s.look(key.ID); k.Name != "ci" {
		t.Errorf("it is called %s", k.Name)
	}
	fatal(t, s.manager.RevokeKey(t.Context(), s.operator, s.ws.ID, key.ID, ""))
	form.Set("version", manage.Version(s.look(key.ID).UpdatedAt))
	s.as(s.owner).post(path, form).want(t, http.StatusConflict, "create a new one")
}
