package adminhttp_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// refusal is how the wire refuses to exchange a key.
func (h *house) refusal(secret string) *oauth.Error {
	h.Helper()
	_, err := h.exchange(secret)
	if err == nil {
		h.Fatal("a key that is not good is exchanged")
	}
	return grant.WireError(err)
}

// list is a list of texts in an answer.
func (r reply) list(name string) (found []string) {
	r.Helper()
	items, ok := r.object[name].([]any)
	if !ok {
		r.Fatalf("the answer has no list %q: %s", name, r.body)
	}
	for _, item := range items {
		found = append(found, item.(string))
	}
	return found
}

// inner is a member of an object in the answer.
func (r reply) inner(object, name string) any { return r.object[object].(map[string]any)[name] }

// Who may read and write which policy and quota. What loosens is for organization
// admins.
func TestWhoRules(t *testing.T) { on(t, whoRules) }

func whoRules(h *house) {
	t := h.TB
	other := must(h.CreateWorkspace(t.Context(), operator, "Other", ""))
	little := oauth.NewScope("collectors:read")
	callers := map[string]string{
		"admin":    h.owner.secret,
		"owner":    h.person("second", workspace.Owner, false).secret,
		"manager":  h.person("manager", workspace.Manager, false).secret,
		"viewer":   h.person("viewer", workspace.Viewer, false).secret,
		"narrowed": h.personIn(h.ws.ID, "narrowed", workspace.Owner, true, &little).secret,
		"reader":   h.account("reader", manage.NewServiceAccount{Scopes: oauth.NewScope("policy:read", "quota:read")}).secret,
		"writer":   h.account("writer", manage.NewServiceAccount{Scopes: oauth.NewScope("policy:update", "quota:update")}).secret,
		"robot":    h.account("robot", manage.NewServiceAccount{Role: "admin"}).secret,
		"stranger": h.personIn(other.ID, "stranger", workspace.Owner, false, nil).secret,
	}
	ours, theirs := h.in("/policy"), "/workspaces/other/policy"
	quotas, elsewhere := h.in("/quota"), "/workspaces/other/quota"
	tighter, none := object{"disable_idle_after_days": 3000}, object{}
	h.want(200, callers["admin"], put, ours, tighter)
	few, fewer := object{"max_keys": 1000}, object{"max_keys": 900}
	h.want(200, callers["admin"], put, quotas, few)
	for _, c := range []struct {
		method, path string
		body         any
		may          string // 200
		outside      string // 404
	}{
		{get, ours, nil, "admin owner manager viewer reader", "stranger"},
		{get, quotas, nil, "admin owner manager viewer reader", "stranger"},
		{get, theirs, nil, "admin stranger", "owner manager viewer narrowed reader writer robot"},
		{get, elsewhere, nil, "admin stranger", "owner manager viewer narrowed reader writer robot"},
		{get, "/policy", nil, "admin", ""},
		{post, "/policy/preview", none, "admin", ""},
		{put, "/policy", none, "admin", ""},
		{post, ours + "/preview", tighter, "admin owner manager writer", "stranger"},
		{post, quotas + "/preview", fewer, "admin owner manager writer", "stranger"},
		{post, ours + "/preview", none, "admin", "stranger"},
		{post, quotas + "/preview", object{"max_keys": 1001}, "admin", "stranger"},
		{post, quotas + "/preview", object{"max_keys": 1000, "mode": "soft"}, "admin", "stranger"},
		{put, quotas, few, "admin owner manager writer", "stranger"},
		{put, ours, tighter, "admin owner manager writer", "stranger"},
		{put, theirs, object{"allowed_scopes": []string{"*:read"}}, "admin stranger", "owner manager viewer narrowed reader writer robot"},
		{put, elsewhere, few, "admin stranger", "owner manager viewer narrowed reader writer robot"},
		{put, theirs, none, "admin", "owner manager viewer narrowed reader writer robot"},
	} {
		for _, who := range slices.Backward(slices.Sorted(maps.Keys(callers))) { // the admin last, for it changes what is loose
			credential, status := callers[who], 403
			switch {
			case slices.Contains(strings.Fields(c.may), who):
				status = 200
			case slices.Contains(strings.Fields(c.outside), who):
				status = 404
			}
			if got := h.call(credential, c.method, c.path, c.body); got.status != status {
				t.Errorf("%s: %s %s %v answers %d, want %d: %s", who, c.method, c.path, c.body, got.status, status, got.body)
			}
		}
	}
	for path, body := range map[string]any{ours: none, quotas: object{"max_keys": nil}} {
		for _, who := range []string{"owner", "manager"} {
			if got := h.want(403, callers[who], put, path, body); !strings.Contains(got.text("detail"), "a workspace can only narrow what it has") {
				t.Errorf("%s of %s: %s", path, who, got.body)
			}
		}
	}
	if got := h.want(200, callers["admin"], get, ours, nil); got.object["disable_idle_after_days"] != 3000.0 {
		t.Errorf("the policy is %s", got.body)
	}
	// A workspace has no more than the organization, whoever writes it.
	me := h.owner.secret
	h.check(h.ruled("", policy.Rules{MaxLifetimeDays: new(int64(2000))}))
	for member, value := range map[string]any{"max_lifetime_days": 2001, "default_lifetime_days": 2001, "service_accounts_manage_keys": true, "allow_never_expiring": true} {
		got := h.want(422, me, put, ours, object{member: value})
		if !strings.Contains(got.text("detail"), "the organization") || pointers(got)[0] != "/"+member {
			t.Errorf("%s: %s", member, got.body)
		}
	}
}

// pointers name what an answer finds wrong.
func pointers(r reply) (found []string) {
	for _, e := range r.object["errors"].([]any) {
		found = append(found, e.(object)["pointer"].(string))
	}
	return found
}

// ruled sets rules as the operator.
func (h *house) ruled(in workspace.ID, rules policy.Rules) error {
	_, _, err := h.SetKeyPolicy(h.Context(), operator, in, rules)
	return err
}

// What a policy would do is told beforehand, and saving it changes no key: what
// breaks it is refused until it fits.
func TestAPolicyBlocksAndChangesNothing(t *testing.T) { on(t, blocksAndChangesNothing) }

func blocksAndChangesNothing(h *house) {
	t := h.TB
	me := h.owner.secret
	day := 24 * time.Hour
	create := func(name string, expires any) reply {
		return h.want(201, me, post, h.in("/keys"), object{"name": name, "role": "admin", "expires_at": expires})
	}
	year, month := create("year", h.clock().Add(365*day)), create("month", h.clock().Add(30*day))
	never := create("never", nil)
	tokens := map[string]string{}
	for _, k := range []reply{year, month, never} {
		tokens[k.text("name")] = h.token(k.text("client_secret"), issuer)
		h.want(403, tokens[k.text("name")], get, h.in("/keys"), nil) // it is good
	}
	rules := object{"max_lifetime_days": 90}
	events := len(h.want(200, me, get, h.in("/audit-events"), nil).data())
	preview := h.want(200, me, post, h.in("/policy/preview"), rules)
	// The one of the owner of the house never expires either, but they are an organization admin.
	if preview.object["keys"] != 4.0 || preview.object["keys_blocked"] != 2.0 || preview.object["keys_narrowed"] != 0.0 || preview.object["keys_freed"] != 0.0 {
		t.Errorf("preview: %s", preview.body)
	}
	finding := preview.object["findings"].([]any)[0].(object)
	if finding["rule"] != "max_lifetime_days" || finding["keys"] != 2.0 || finding["detail"] != "2 keys live longer than 90 days and would be refused." {
		t.Errorf("finding: %v", finding)
	}
	touched := preview.object["touched"].([]any)
	if len(touched) != 2 || preview.inner("effective", "max_lifetime_days") != 90.0 || preview.inner("effective", "allow_never_expiring") != false {
		t.Errorf("preview: %s", preview.body)
	}
	if got := h.want(200, me, get, h.in("/policy"), nil); got.object["version"] != 0.0 || got.object["max_lifetime_days"] != nil {
		t.Errorf("a preview has saved something: %s", got.body)
	}
	if n := len(h.want(200, me, get, h.in("/audit-events"), nil).data()); n != events {
		t.Error("a preview is recorded as a change")
	}
	h.token(year.text("client_secret"))
	h.want(403, tokens["year"], get, h.in("/keys"), nil)

	h.want(200, me, put, h.in("/policy"), rules)
	path := h.in("/keys/" + year.text("client_id"))
	shown := h.want(200, me, get, path, nil)
	if shown.object["expires_at"] != year.object["expires_at"] || shown.text("status") != "active" || !slices.Equal(shown.list("blocked"), []string{"max_lifetime_days"}) {
		t.Errorf("a key that lives too long: %s", shown.body)
	}
	for name, k := range map[string]reply{"lives longer than policy allows, 365 days instead of at most 90 days": year, "never expires": never} {
		e := h.refusal(k.text("client_secret"))
		if e.Status != 401 || e.Topic != oauth.TopicBlockedByPolicy || !strings.Contains(e.Description, name) || !strings.Contains(e.Description, "set its expires_at") {
			t.Errorf("it is refused with %d %s: %s", e.Status, e.Topic, e.Description)
		}
		if got := h.want(401, k.text("client_secret"), get, h.in("/keys"), nil); got.code() != "blocked_by_policy" {
			t.Errorf("used directly: %s", got.body)
		}
	}
	h.want(401, tokens["year"], get, h.in("/keys"), nil)
	h.want(401, tokens["never"], get, h.in("/keys"), nil)
	h.want(403, tokens["month"], get, h.in("/keys"), nil)
	h.token(month.text("client_secret"))
	for _, k := range h.want(200, me, get, h.in("/keys?q=month"), nil).data() {
		if len(k["blocked"].([]any)) > 0 {
			t.Errorf("a key that fits: %v", k)
		}
	}
	if got := h.want(422, me, patch, path, object{"expires_at": h.clock().Add(91 * day)}); got.code() != "policy_violated" {
		t.Errorf("still too long: %s", got.body)
	}
	if got := h.want(422, me, post, h.in("/keys"), object{"name": "new", "expires_at": nil}); got.code() != "policy_violated" {
		t.Errorf("a new one that never expires: %s", got.body)
	}
	if got := h.want(200, me, patch, path, object{"expires_at": h.clock().Add(90 * day)}); len(got.list("blocked")) > 0 {
		t.Errorf("after it was shortened: %s", got.body)
	}
	h.token(year.text("client_secret"))
	h.want(401, tokens["year"], get, h.in("/keys"), nil) // the token from before
	freed := h.want(200, me, post, h.in("/policy/preview"), object{})
	if freed.object["keys_freed"] != 1.0 {
		t.Errorf("taken back: %s", freed.body)
	}
	h.want(200, me, put, h.in("/policy"), object{})
	h.token(never.text("client_secret"))
}

// Each rule refuses what breaks it, and what mends it makes the key good again.
func TestEachRule(t *testing.T) { on(t, eachRule) }

func eachRule(h *house) {
	t := h.TB
	me := h.owner.secret
	for _, c := range []struct{ rule, rules, mend, says string }{
		{"max_lifetime_days", `{"max_lifetime_days":90}`, fmt.Sprintf(`{"expires_at":%q}`, h.clock().Add(90*24*time.Hour).Format(time.RFC3339)), "set its expires_at to"},
		{"allow_never_expiring", `{"allow_never_expiring":false}`, `{"expires_at":"2035-01-01T00:00:00Z"}`, "never expires, which policy does not allow"},
		{"require_allowed_cidrs", `{"require_allowed_cidrs":true}`, `{"allowed_cidrs":["::ffff:192.0.2.0/120"]}`, "policy wants keys tied to networks"},
	} {
		key := h.want(201, me, post, h.in("/keys"), object{"name": strings.ReplaceAll(c.rule, "_", "-"), "expires_at": nil})
		secret, path := key.text("client_secret"), h.in("/keys/"+key.text("client_id"))
		h.token(secret)
		h.want(200, me, put, h.in("/policy"), c.rules)
		if e := h.refusal(secret); e.Status != 401 || e.Topic != oauth.TopicBlockedByPolicy || !strings.Contains(e.Description, c.says) {
			t.Errorf("%s: %d %s %s", c.rule, e.Status, e.Topic, e.Description)
		}
		if got := h.want(200, me, get, path, nil).list("blocked"); !slices.Equal(got, []string{c.rule}) {
			t.Errorf("%s: blocked is %v", c.rule, got)
		}
		h.want(200, me, patch, path, object{"description": "may be changed otherwise"})
		h.want(200, me, patch, path, c.mend)
		h.token(secret)
		h.want(200, me, put, h.in("/policy"), object{})
	}

	ada := h.person("ada", workspace.Owner, false).secret
	h.want(200, me, put, "/policy", object{"api_keys_enabled": false})
	if e := h.refusal(ada); e.Topic != oauth.TopicBlockedByPolicy || !strings.Contains(e.Description, "API keys are disabled by policy") {
		t.Errorf("disabled: %s %s", e.Topic, e.Description)
	}
	h.want(401, ada, get, h.in("/policy"), nil)
	if got := h.want(422, me, post, h.in("/keys"), object{"name": "new"}); got.code() != "policy_violated" {
		t.Errorf("disabled, a new one: %s", got.body)
	}
	h.want(200, me, put, "/policy", object{"max_grace_period_seconds": 3600}) // else nobody could take it back
	h.token(ada)

	key := h.want(201, me, post, h.in("/keys"), object{"name": "rotated"})
	rotate := h.in("/keys/" + key.text("client_id") + "/rotate")
	if got := h.want(422, me, post, rotate, object{"grace_period_seconds": 3601}); got.code() != "policy_violated" {
		t.Errorf("more grace than policy allows: %s", got.body)
	}
	h.want(200, me, post, rotate, object{"grace_period_seconds": 3600})
}

// A key that nobody uses is refused, until it gets a new secret.
func TestIdleKeys(t *testing.T) { on(t, idleKeys) }

func idleKeys(h *house) {
	t := h.TB
	me := h.owner.secret
	used := h.want(201, me, post, h.in("/keys"), object{"name": "used"})
	idle := h.want(201, me, post, h.in("/keys"), object{"name": "idle"})
	h.want(200, me, put, h.in("/policy"), object{"disable_idle_after_days": 30})
	h.pass(20 * 24 * time.Hour)
	h.token(used.text("client_secret"))
	h.token(me)
	h.issuer.Usage.Flush(t.Context())
	h.pass(11 * 24 * time.Hour)
	h.token(used.text("client_secret"))
	e := h.refusal(idle.text("client_secret"))
	if e.Status != 401 || e.Topic != oauth.TopicKeyIdle || !strings.Contains(e.Description, "was not used for 31 days") {
		t.Errorf("idle: %d %s %s", e.Status, e.Topic, e.Description)
	}
	path := h.in("/keys/" + idle.text("client_id"))
	if got := h.want(200, me, get, path, nil).list("blocked"); !slices.Equal(got, []string{"disable_idle_after_days"}) {
		t.Errorf("blocked is %v", got)
	}
	if got := h.want(200, me, get, h.in("/keys?q=used"), nil).data()[0]["blocked"]; len(got.([]any)) > 0 {
		t.Errorf("one that is used is blocked by %v", got)
	}
	rotated := h.want(200, me, post, path+"/rotate", nil)
	h.token(rotated.text("client_secret"))
	if got := rotated.list("blocked"); len(got) > 0 {
		t.Errorf("rotated, blocked is %v", got)
	}
}

// What a workspace may not hold is in no new token, and tokens that carry it are
// denied.
func TestAllowedScopes(t *testing.T) { on(t, allowedScopes) }

func allowedScopes(h *house) {
	t := h.TB
	me := h.owner.secret
	both := h.account("both", manage.NewServiceAccount{Scopes: oauth.NewScope("collectors:read", "pipelines:read", "api-keys:read")})
	neither := h.account("neither", manage.NewServiceAccount{Scopes: oauth.NewScope("pipelines:read", "api-keys:read")})
	before, untouched := h.token(both.secret, issuer), h.token(neither.secret, issuer)
	h.want(200, before, get, h.in("/keys"), nil)
	preview := h.want(200, me, post, h.in("/policy/preview"), object{"allowed_scopes": []string{"pipelines:*"}})
	touched := preview.object["touched"].([]any)
	i := slices.IndexFunc(touched, func(k any) bool { return k.(object)["client_id"] == string(both.key) })
	if i < 0 || fmt.Sprint(touched[i].(object)["loses"]) != "[collectors:read]" || preview.object["keys_blocked"] != 0.0 {
		t.Errorf("preview: %s", preview.body)
	}
	after := h.want(200, me, put, h.in("/policy"), object{"allowed_scopes": []string{"pipelines:*"}})
	if got := fmt.Sprint(after.inner("effective", "allowed_scopes")); got != "[pipelines:read pipelines:update]" {
		t.Errorf("it may hold %s", got)
	}
	h.want(401, before, get, h.in("/keys"), nil)
	h.want(200, untouched, get, h.in("/keys"), nil)
	if got := must(h.exchange(both.secret, issuer)).Scope.String(); got != "api-keys:read pipelines:read" {
		t.Errorf("a new token for the issuer carries %s", got)
	}
	if got := must(h.exchange(both.secret)).Scope.String(); got != "pipelines:read" {
		t.Errorf("a new token carries %s", got)
	}
	for path, body := range map[string]object{
		"/keys":             {"name": "new", "scopes": []string{"collectors:read"}},
		"/service-accounts": {"name": "new", "scopes": []string{"collectors:read"}},
	} {
		if got := h.want(422, me, post, h.in(path), body); got.code() != "policy_violated" || !strings.Contains(got.text("detail"), "collectors:read") {
			t.Errorf("%s: %s", path, got.body)
		}
	}
}

// Service accounts manage keys where policy says so, and grant what they hold.
func TestServiceAccountsThatManageKeys(t *testing.T) { on(t, serviceAccountsThatManageKeys) }

func serviceAccountsThatManageKeys(h *house) {
	robot := h.account("robot", manage.NewServiceAccount{Scopes: policyRights().Union(oauth.NewScope("collectors:read"))}).secret
	create := func(status int, scope string) {
		h.Helper()
		h.want(status, robot, post, h.in("/keys"), object{"name": "new", "scopes": []string{scope}})
	}
	create(403, "collectors:read")
	h.want(200, h.owner.secret, put, "/policy", object{"service_accounts_manage_keys": true})
	create(201, "collectors:read")
	create(403, "collectors:update")
	h.want(200, h.owner.secret, put, h.in("/policy"), object{"service_accounts_manage_keys": false})
	create(403, "collectors:read")
}
