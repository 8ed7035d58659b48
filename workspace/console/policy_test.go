package console_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// hidden are the hidden fields of the form on a page that posts to a path.
func (a answer) hidden(t *testing.T, path string) url.Values {
	t.Helper()
	_, rest, found := strings.Cut(a.body, `action="`+path+`">`)
	if !found {
		t.Fatalf("no form posts to %s:\n%s", path, a.body)
	}
	form, _, _ := strings.Cut(rest, "</form>")
	fields := url.Values{}
	for _, m := range regexp.MustCompile(`type="hidden" name="([^"]*)" value="([^"]*)"`).FindAllStringSubmatch(form, -1) {
		fields.Set(m[1], html.UnescapeString(m[2]))
	}
	return fields
}

// everyRule is the form with each field filled in.
func everyRule() url.Values {
	return url.Values{
		"api_keys_enabled": {"yes"}, "max_lifetime_days": {"180"}, "default_lifetime_days": {"30"}, "allow_never_expiring": {"no"},
		"max_grace_period_seconds": {"36"}, "grace_unit": {"hours"}, "require_allowed_cidrs": {"yes"}, "disable_idle_after_days": {"45"},
		"scopes_bounded": {"yes"}, "allowed_scopes": {"collectors:*\r\n*:read\r\n"}, "service_accounts_manage_keys": {"yes"},
	}
}

// keyPolicy reads what is stored.
func (s *site) keyPolicy(in workspace.ID) manage.KeyPolicy {
	s.t.Helper()
	found, err := s.manager.KeyPolicy(s.t.Context(), s.operator, in)
	fatal(s.t, err)
	return found
}

func (s *site) setRules(in workspace.ID, r policy.Rules) {
	s.t.Helper()
	_, _, err := s.manager.SetKeyPolicy(s.t.Context(), s.operator, in, r)
	fatal(s.t, err)
}

func of[T any](v T) *T { return &v }

func sameRules(t *testing.T, got, want policy.Rules) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Each field of the form arrives as its rule, by way of the preview alone, and is
// shown again as it was set.
func TestEveryRuleOfThePolicy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, path := s.as(s.owner), "/organization/policy"
	ada.get(path).want(t, http.StatusOK, "Nobody has set anything here yet", "all of the catalogue", "at most 7 days")
	before := s.eventCount()
	preview := ada.post(path+"/preview", everyRule()).want(t, http.StatusOK, "Nothing has changed yet", "at most 180 days, and no key without an end", "36 hours", "collectors:*, *:read", "45 days without use")
	ada.post(path, everyRule()).want(t, http.StatusOK, "Nothing has changed yet") // without a version it is a preview
	if s.eventCount() != before || s.keyPolicy("").Version != 0 {
		t.Fatal("the preview has changed something")
	}
	if to := ada.post(path, preview.hidden(t, path)).location(t); to != path+"?notice=policy-changed" {
		t.Errorf("sent to %s", to)
	}
	got := s.keyPolicy("")
	want := policy.Rules{
		Enabled: of(true), MaxLifetimeDays: of[int64](180), DefaultLifetimeDays: of[int64](30), AllowNever: of(false), MaxGraceSeconds: of[int64](36 * 3600),
		RequireNetworks: of(true), IdleDays: of[int64](45), AllowedScopes: &[]string{"collectors:*", "*:read"}, ServiceAccounts: of(true),
	}
	sameRules(t, got.Value, want)
	a := ada.get(path).want(t, http.StatusOK, `value="180"`, `value="36"`, "<option selected>hours</option>", "collectors:*\n*:read</textarea>",
		`name="require_allowed_cidrs" value="yes" checked`, "ada@example.com", "In force</span>")
	ada.post(path+"/preview", fieldsOf(a.body)).want(t, http.StatusOK, "there is nothing to apply").without(t, ">Apply")

	cleared := ada.post(path+"/preview", url.Values{"grace_unit": {"hours"}}).want(t, http.StatusOK)
	ada.post(path, cleared.hidden(t, path)).location(t)
	sameRules(t, s.keyPolicy("").Value, policy.Rules{})
}

// fieldsOf reads the form of the policy as a browser would send it unchanged.
func fieldsOf(body string) url.Values {
	fields := url.Values{}
	for _, m := range regexp.MustCompile(`type="radio" id="[^"]*" name="([^"]*)" value="([^"]*)" checked`).FindAllStringSubmatch(body, -1) {
		fields.Set(m[1], m[2])
	}
	for _, m := range regexp.MustCompile(`name="([^"]*)" inputmode="numeric" value="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		fields.Set(m[1], m[2])
	}
	fields.Set("grace_unit", regexp.MustCompile(`<option selected>(\w+)`).FindStringSubmatch(body)[1])
	fields.Set("allowed_scopes", html.UnescapeString(regexp.MustCompile(`(?s)<textarea[^>]*>(.*?)</textarea>`).FindStringSubmatch(body)[1]))
	return fields
}

// The preview says how many keys are touched and which, and changes none of them.
func TestPolicyPreview(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	short := s.key(s.ws, "short", manage.NewKey{ExpiresAt: s.now().Add(20 * 24 * time.Hour)})
	forever, err := s.manager.CreateKey(t.Context(), s.operator, s.ws.ID, manage.NewKey{ServiceAccountID: short.ServiceAccountID, Name: hostile})
	fatal(t, err)
	ada, path := s.as(s.owner), "/organization/policy"
	form := url.Values{"max_lifetime_days": {"30"}, "scopes_bounded": {"yes"}, "allowed_scopes": {"pipelines:*"}, "grace_unit": {"hours"}}
	a := ada.post(path+"/preview", form).want(t, http.StatusOK, "1 key lives longer than 30 days and would be refused.", "2 keys would lose scopes.", html.EscapeString(hostile), string(forever.ID),
		"refused: it lives too long", "loses collectors:read", "Apply, and refuse 1 key", "No key's expiry is changed", s.ws.Slug).without(t, "<script>alert")
	ada.post(path, a.hidden(t, path)).location(t)
	k, err := s.manager.Key(t.Context(), s.operator, s.ws.ID, forever.ID)
	fatal(t, err)
	if !k.ExpiresAt.IsZero() || len(k.Blocked) != 1 || k.Blocked[0] != "max_lifetime_days" {
		t.Errorf("the key: expires %s, blocked by %v", k.ExpiresAt, k.Blocked)
	}
	ada.post(path+"/preview", url.Values{"grace_unit": {"hours"}}).want(t, http.StatusOK, "1 key is refused now and would work.")
}

// From the preview one comes back to the form with all that was typed.
func TestPolicyFormIsKept(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, path := s.as(s.owner), "/organization/policy/preview"
	preview := ada.post(path, everyRule()).want(t, http.StatusOK)
	back := preview.hidden(t, path)
	back.Set("change", "yes")
	ada.post(path, back).want(t, http.StatusOK, `value="180"`, `value="36"`, `name="api_keys_enabled" value="yes" checked`, "collectors:*")
	ada.get(path).location(t)

	for field, c := range map[string]struct{ value, text string }{
		"max_lifetime_days":        {"0", "Longest lifetime: use a whole number from 1 to 3650 days"},
		"default_lifetime_days":    {hostile, "Default lifetime: use a whole number"},
		"max_grace_period_seconds": {"169", "use a whole number from 0 to 168 hours"},
		"disable_idle_after_days":  {"1.5", "Refuse unused keys after: use a whole number"},
		"allowed_scopes":           {hostile, "“Scopes that may be held” has"},
	} {
		form := everyRule()
		form.Set(field, c.value)
		ada.post(path, form).want(t, http.StatusUnprocessableEntity, html.EscapeString(c.text), html.EscapeString(c.value), `href="#`+field+`"`, `aria-invalid="true"`).without(t, "<script>alert")
	}
	form := everyRule()
	form.Set("default_lifetime_days", "200")
	ada.post(path, form).want(t, http.StatusUnprocessableEntity, "more than “Longest lifetime” 180", `value="200"`)
}

// Rules that somebody else has set since the preview are not overwritten.
func TestPolicyChangedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, path := s.as(s.owner), "/organization/policy"
	form := url.Values{"max_lifetime_days": {"77"}, "grace_unit": {"hours"}}
	seen := ada.post(path+"/preview", form).want(t, http.StatusOK).hidden(t, path)
	s.setRules("", policy.Rules{MaxLifetimeDays: of[int64](55)})
	ada.post(path, seen).want(t, http.StatusConflict, "Somebody else changed it meanwhile", `value="77"`)
	if got := *s.keyPolicy("").Value.MaxLifetimeDays; got != 55 {
		t.Errorf("the longest lifetime is %d", got)
	}
	ada.post(path, ada.post(path+"/preview", form).hidden(t, path)).location(t)
	ada.get(path).want(t, http.StatusOK, `<span class="faint">55 days</span> → 77 days`, "the operator test")
}

// A workspace sees what the organization says, and can narrow it and no more.
func TestPolicyOfAWorkspace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.setRules("", policy.Rules{MaxLifetimeDays: of[int64](180), Enabled: of(true), ServiceAccounts: of(false)})
	manager, viewer, path := s.as(s.member("mia@example.com", "", workspace.Manager)), s.as(s.member("vic@example.com", "", workspace.Viewer)), "/w/payments/policy"
	manager.get(path).want(t, http.StatusOK, "As the organization says", "at most 180 days", "Preview the change")
	viewer.get(path).want(t, http.StatusOK, "at most 180 days", "Only owners and managers").without(t, "<form class=\"form\"", "Preview the change")

	wide := url.Values{"max_lifetime_days": {"365"}, "grace_unit": {"hours"}}
	manager.post(path+"/preview", wide).want(t, http.StatusUnprocessableEntity, "“Longest lifetime” is 365, and the organization allows at most 180", `value="365"`, `href="#max_lifetime_days"`)
	manager.post(path+"/preview", url.Values{"service_accounts_manage_keys": {"yes"}, "grace_unit": {"hours"}}).
		want(t, http.StatusUnprocessableEntity, "“Service accounts that manage keys” allows what the organization does not", "say nothing here to follow the organization")
	narrow := url.Values{"max_lifetime_days": {"90"}, "grace_unit": {"hours"}}
	seen := manager.post(path+"/preview", narrow).want(t, http.StatusOK, "at most 90 days").hidden(t, path)
	viewer.post(path+"/preview", narrow).want(t, http.StatusForbidden, "needs policy:update")
	viewer.post(path, seen).want(t, http.StatusForbidden, "needs policy:update")
	if s.keyPolicy(s.ws.ID).Version != 0 {
		t.Fatal("a viewer has changed the policy")
	}
	manager.post(path, seen).location(t)
	manager.post(path+"/preview", url.Values{"grace_unit": {"hours"}}).want(t, http.StatusForbidden, "workspace can only narrow what it has")
	if got := s.keyPolicy(s.ws.ID).Effective.MaxLifetime; got != 90*24*time.Hour {
		t.Errorf("the longest lifetime is %s", got)
	}
	s.as(s.user("out@example.com", false)).get(path).want(t, http.StatusNotFound)
	admin := s.as(s.user("eve@example.com", true)) // who is no member may widen
	admin.post(path, admin.post(path+"/preview", url.Values{"grace_unit": {"hours"}}).want(t, http.StatusOK).hidden(t, path)).location(t)
	sameRules(t, s.keyPolicy(s.ws.ID).Value, policy.Rules{})
}
