package console_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const hostile = `<script>alert(1)</script>"'&`

var (
	onceIn   = regexp.MustCompile(`name="once" value="([^"]+)"`)
	secretIn = regexp.MustCompile(`tb[sp]_[0-9a-z]{26}_[0-9A-Za-z]{49}`)
	summary  = regexp.MustCompile(`<p id="summary"[^>]*>([^<]*)</p>`)
)

// found is what an expression finds first in a page.
func (a answer) found(t *testing.T, expression *regexp.Regexp) string {
	t.Helper()
	match := expression.FindStringSubmatch(a.body)
	if match == nil {
		t.Fatalf("the page lacks %s:\n%s", expression, a.body)
	}
	return html.UnescapeString(match[len(match)-1])
}

// keyForm is a filled-in form of a page that was just shown.
func keyForm(t *testing.T, shown answer, more url.Values) url.Values {
	t.Helper()
	form := url.Values{
		"once": {shown.found(t, onceIn)}, "name": {"gitlab-ci-deploy"}, "expires_in": {"90"},
		"level.collectors": {"read"}, "level.pipelines": {"custom"}, "scope": {"pipelines:create", "pipelines:read"},
	}
	for field, values := range more {
		form[field] = values
	}
	return form
}

func (s *site) keysNew() string { return "/w/" + s.ws.Slug + "/keys/new" }

// allKeys are the keys of the workspace.
func (s *site) allKeys(f keys.Filter) []keys.Listed {
	s.t.Helper()
	found, err := s.manager.Keys(s.t.Context(), s.operator, s.ws.ID, f, workspace.Page{Limit: 100})
	fatal(s.t, err)
	return found
}

// rules sets the policy of the organization.
func (s *site) rules(rules policy.Rules) {
	s.t.Helper()
	_, _, err := s.manager.SetKeyPolicy(s.t.Context(), s.operator, "", rules)
	if err != nil && !strings.Contains(err.Error(), manage.ErrPending.Error()) {
		s.t.Fatal(err)
	}
}

func TestAKeyIsMadeAndShownOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	shown := v.get(s.keysNew()).want(t, http.StatusOK, "Create API key", "can do nothing yet")
	form := keyForm(t, shown, url.Values{
		"description": {"deploys\r\nall"}, "cidr": {"192.0.2.0/24\r\n2001:db8::1"}, "token_ttl": {"120"}, "max_uses": {"5"}, "audience": {"https://api.example.com"},
	})
	made := v.post(s.keysNew(), form).want(t, http.StatusOK, "Save the secret of gitlab-ci-deploy now", "It is shown this once", "TOKENBOOTH_CLIENT_SECRET")
	if made.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control: %s", made.header.Get("Cache-Control"))
	}
	secret := made.found(t, secretIn)
	all := s.allKeys(keys.Filter{})
	if len(all) != 1 {
		t.Fatalf("%d keys", len(all))
	}
	k := all[0]
	if k.Name != "gitlab-ci-deploy" || k.Description != "deploys\nall" || k.TokenTTL != 2*time.Minute || k.MaxUses != 5 || len(k.AllowedCIDRs) != 2 || len(k.Audiences) != 1 {
		t.Errorf("made %+v", k)
	}
	if k.Scopes == nil || k.Scopes.String() != "collectors:read pipelines:create pipelines:read" {
		t.Errorf("scopes %v", k.Scopes)
	}
	if life := k.ExpiresAt.Sub(k.CreatedAt.Time); life < 90*24*time.Hour-time.Minute || life > 90*24*time.Hour {
		t.Errorf("lives %s", life)
	}
	if !strings.Contains(secret, strings.TrimPrefix(string(k.ID), "tbk_")) {
		t.Errorf("the secret is not of %s", k.ID)
	}
	// Again: a refresh makes no second key and shows no secret, nor does any other page.
	v.post(s.keysNew(), form).want(t, http.StatusOK, "This key exists", "cannot be shown again", string(k.ID)+"/rotate").without(t, secret)
	if n := len(s.allKeys(keys.Filter{})); n != 1 {
		t.Errorf("%d keys after sending the form again", n)
	}
	v.get(s.keysNew()).without(t, secret)
}

func TestTwoPostsOfOneFormMakeOneKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	form := keyForm(t, v.get(s.keysNew()), nil)
	answers := make([]answer, 4)
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() { answers[i] = v.post(s.keysNew(), form) })
	}
	group.Wait()
	secrets := 0
	for _, a := range answers {
		a.want(t, http.StatusOK)
		if secretIn.MatchString(a.body) {
			secrets++
		}
	}
	if n := len(s.allKeys(keys.Filter{})); n != 1 || secrets != 1 {
		t.Errorf("%d keys, %d secrets shown", n, secrets)
	}
}

func TestAFormThatWasSentIsNotSentForAnotherKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	form := keyForm(t, v.get(s.keysNew()), nil)
	v.post(s.keysNew(), form).want(t, http.StatusOK)
	form.Set("name", "another")
	again := v.post(s.keysNew(), form).want(t, http.StatusConflict, "This form was sent before", `value="another"`)
	if number := again.found(t, onceIn); number == form.Get("once") {
		t.Error("the form has its old number")
	}
	v.post(s.keysNew(), keyForm(t, again, url.Values{"name": {"another"}})).want(t, http.StatusOK, "Save the secret of another")
	if n := len(s.allKeys(keys.Filter{})); n != 2 {
		t.Errorf("%d keys", n)
	}
}

func TestMistakesInAKeyAreToldBesideWhatWasTyped(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	for name, c := range map[string]struct {
		field, value, says string
	}{
		"no name":             {"name", " ", "use 1 to 200 characters"},
		"no letter":           {"name", "***", "needs a letter"},
		"long description":    {"description", strings.Repeat("x", 1001), "at most 1000 characters"},
		"foreign network":     {"cidr", "intranet", "“intranet” is no network"},
		"mapped network":      {"cidr", "::ffff:0:0/90", "use 0.0.0.0/0 for IPv4"},
		"token lifetime":      {"token_ttl", "5", "use 60 to 3600"},
		"uses":                {"max_uses", "many", "use 1 to 1000000000"},
		"audience":            {"audience", "https://other.example.com", "There is no audience"},
		"days":                {"expires_in", "9999", "1 to 3650 days"},
		"no date":             {"expires_in", "custom", "Choose a date from today on"},
		"boxes beside levels": {"level.pipelines", "read", "choose Custom to use them"},
		"all of a new one":    {"permissions", "held", "A new service account may do nothing yet"},
		"unknown account":     {"service_account", "sa_none", ""},
	} {
		form := keyForm(t, v.get(s.keysNew()), url.Values{c.field: {c.value}})
		a := v.post(s.keysNew(), form)
		if name == "unknown account" {
			a.want(t, http.StatusNotFound)
			continue
		}
		a.want(t, http.StatusUnprocessableEntity, c.says)
		if !strings.Contains(a.body, `id="problem"`) || (c.field != "name" && !strings.Contains(a.body, `value="gitlab-ci-deploy"`)) {
			t.Errorf("%s: the page lacks the summary or what was typed:\n%s", name, a.body)
		}
	}
	none := v.post(s.keysNew(), url.Values{"name": {"x"}, "expires_in": {"7"}})
	none.want(t, http.StatusUnprocessableEntity, "Choose at least one permission", `<option value="7" selected>`)
	if n := len(s.allKeys(keys.Filter{})); n != 0 {
		t.Errorf("%d keys were made", n)
	}
}

func TestADateEndsAtTheEndOfItsDay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	date := s.now().UTC().AddDate(0, 0, 20)
	v.post(s.keysNew(), keyForm(t, v.get(s.keysNew()), url.Values{"expires_in": {"custom"}, "expires_on": {date.Format(time.DateOnly)}})).want(t, http.StatusOK)
	want := date.Format(time.DateOnly) + "T23:59:59Z"
	if got := s.allKeys(keys.Filter{})[0].ExpiresAt.UTC().Format(time.RFC3339); got != want {
		t.Errorf("ends %s, want %s", got, want)
	}
}

func TestAKeyOfAServiceAccountThatIsThere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	first := s.key(s.ws, "runner", manage.NewKey{})
	shown := v.get(s.keysNew()+"?service_account=runner").want(t, http.StatusOK, `<option value="`+string(first.ServiceAccountID)+`" selected>`)
	v.post(s.keysNew(), keyForm(t, shown, url.Values{"service_account": {string(first.ServiceAccountID)}, "permissions": {"held"}})).want(t, http.StatusOK, "Save the secret")
	found := s.allKeys(keys.Filter{Owner: string(first.ServiceAccountID)})
	if len(found) != 2 || found[0].Scopes != nil {
		t.Errorf("%d keys, scopes %v", len(found), found[0].Scopes)
	}
	v.post(s.keysNew(), keyForm(t, v.get(s.keysNew()), url.Values{"name": {"runner"}})).
		want(t, http.StatusUnprocessableEntity, "There is a service account “runner” already", "There is a live key of this name already")
}

func TestAnAddressFillsTheFormIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	query := url.Values{
		"name": {hostile}, "description": {hostile}, "expires_in": {"45"}, "scope": {"collectors:read", "pipelines:create", "nothing:read"},
		"cidr": {"192.0.2.0/24"}, "audience": {"https://api.example.com"}, "service_account": {hostile},
	}
	a := v.get(s.keysNew()+"?"+query.Encode()).want(t, http.StatusOK,
		`name="level.collectors" value="read" checked`, `name="level.pipelines" id="level-pipelines" value="custom" checked`,
		`value="pipelines:create" checked`, `<option value="45" selected>`, "192.0.2.0/24</textarea>", `value="https://api.example.com" checked`,
		"nothing:read", "There is no service account").without(t, "<script>alert")
	if got := a.found(t, summary); !strings.HasPrefix(got, hostile+" can read collectors, and create pipelines in workspace Payments, only from 192.0.2.0/24 until ") || !strings.HasSuffix(got, " (45 days).") {
		t.Errorf("summary: %s", got)
	}
	if n := len(s.allKeys(keys.Filter{})); n != 0 {
		t.Errorf("GET made %d keys", n)
	}
}

func TestTemplatesAndCopies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	for template, want := range map[string]string{
		"read":   "x can read collectors and pipelines in workspace Payments",
		"deploy": "x can create, read and update collectors and pipelines in workspace Payments",
		"full":   "x can create, delete, read and update collectors and pipelines in workspace Payments",
		"none":   "x can do nothing yet",
	} {
		if got := v.get(s.keysNew()+"?name=x&template="+template).found(t, summary); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", template, got)
		}
	}
	scopes := oauth.NewScope("collectors:delete")
	k := s.key(s.ws, "old", manage.NewKey{Description: hostile, Scopes: &scopes, TokenTTL: 90 * time.Second, PerMinute: 7}, "collectors:delete")
	v.get(s.keysNew()+"?from="+string(k.ID)).want(t, http.StatusOK, `value="old"`, `value="collectors:delete" checked`, `value="90"`, `value="7"`,
		`value="`+string(k.ServiceAccountID)+`" selected`).without(t, "<script>alert")
	v.get(s.keysNew()+"?from=tbk_none").want(t, http.StatusOK, "There is no key “tbk_none” here")
}

func TestPolicyIsToldBeforehand(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	most, usual, yes, scopes := int64(60), int64(20), true, []string{"collectors:*", "pipelines:read"}
	s.rules(policy.Rules{MaxLifetimeDays: &most, DefaultLifetimeDays: &usual, RequireNetworks: &yes, AllowedScopes: &scopes})
	shown := v.get(s.keysNew()).want(t, http.StatusOK, "Policy allows at most 60 days", `<option value="20" selected>`, `<option value="90" disabled>`,
		`<option value="never" disabled>`, "Policy wants every key tied to networks", `value="pipelines:delete" disabled`, "policy does not allow this here")
	for _, c := range []struct {
		more url.Values
		says string
	}{
		{url.Values{"expires_in": {"90"}}, "Policy allows at most 60 days"},
		{url.Values{"expires_in": {"never"}}, "Policy allows at most 60 days"},
		{url.Values{"expires_in": {"30"}}, "say from where it is used"},
		{url.Values{"expires_in": {"30"}, "cidr": {"192.0.2.1"}}, "Policy does not let this workspace hold pipelines:create"},
	} {
		v.post(s.keysNew(), keyForm(t, shown, c.more)).want(t, http.StatusUnprocessableEntity, c.says)
	}
	no := false
	s.rules(policy.Rules{Enabled: &no})
	off := v.get(s.keysNew()).want(t, http.StatusOK, "API keys are switched off by policy", `<button class="button primary" type="submit" disabled>`)
	v.post(s.keysNew(), keyForm(t, off, nil)).want(t, http.StatusUnprocessableEntity, "API keys are disabled by policy")
}

func TestWhoMayMakeKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	viewer, outsider := s.user("vera@example.com", false), s.user("otto@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	form := keyForm(t, s.as(s.owner).get(s.keysNew()), nil)
	for _, path := range []string{s.keysNew(), s.keysNew() + "/summary"} {
		s.as(viewer).post(path, form).want(t, http.StatusForbidden)
		s.as(outsider).post(path, form).want(t, http.StatusNotFound)
	}
	s.as(viewer).get(s.keysNew()).want(t, http.StatusForbidden)
	s.as(outsider).get(s.keysNew()).want(t, http.StatusNotFound)
	manager := s.user("mia@example.com", false)
	s.join(s.ws, manager, workspace.Manager)
	v := s.as(manager)
	v.get(s.keysNew()).want(t, http.StatusOK, "Management rights", `value="members:read"`, `value="members:update" disabled`)
	v.post(s.keysNew(), keyForm(t, v.get(s.keysNew()), url.Values{"level.members": {"write"}})).want(t, http.StatusForbidden, "You may not do this", `value="gitlab-ci-deploy"`)
	if n := len(s.allKeys(keys.Filter{})); n != 0 {
		t.Errorf("%d keys were made", n)
	}
}

func TestTheSentenceFollowsTheForm(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	s.key(s.ws, "runner", manage.NewKey{})
	form := keyForm(t, v.get(s.keysNew()), url.Values{"name": {"Runner"}, "expires_in": {"never"}})
	v.post(s.keysNew()+"/summary", form).want(t, http.StatusOK, "Runner can read collectors, and create and read pipelines in workspace Payments, for ever.", "There is a live key of this name already")
	form.Set("name", "other")
	v.post(s.keysNew()+"/summary", form).want(t, http.StatusOK, `"twin":""`)
}
