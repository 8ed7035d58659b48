package adminhttp_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const (
	get, post, put, patch, remove = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
)

// on runs a test of the whole API on both databases.
func on(t *testing.T, f func(*house)) {
	t.Helper()
	schematest.Each(t, func(t *testing.T, db *schema.DB) { f(newHouse(t, db)) })
}

type object = map[string]any

// A key from its creation to its end.
func TestLifeOfAKey(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		sa := h.want(201, me, post, h.in("/service-accounts"), object{"name": "gitlab-ci", "description": "deploys <b>", "role": "editor"})
		path := h.in("/service-accounts/gitlab-ci")
		if got := sa.header.Get("Location"); got != issuer+base+"/workspaces/"+string(h.ws.ID)+"/service-accounts/"+sa.text("id") {
			t := h.TB
			t.Errorf("Location %q", got)
		}
		for days, expires := range map[int]any{7: "", 30: "", 90: "", 365: "", 0: nil} {
			body := object{"name": "ci-main", "expires_at": expires}
			if days > 0 {
				body["expires_at"] = h.clock().Add(time.Duration(days) * 24 * time.Hour).Format(time.RFC3339)
			}
			key := h.want(201, me, post, path+"/keys", body)
			if key.object["expires_at"] != body["expires_at"] {
				h.Errorf("%d days: expires_at is %v, want %v", days, key.object["expires_at"], body["expires_at"])
			}
			h.token(key.text("client_secret"))
		}
		usual := h.want(201, me, post, path+"/keys", object{"name": "usual"})
		if want := h.clock().Add(90 * 24 * time.Hour).Format(time.RFC3339); usual.object["expires_at"] != want {
			h.Errorf("without expires_at it is %v, want %s", usual.object["expires_at"], want)
		}
		key := h.want(201, me, post, path+"/keys", object{"name": "ci-main", "scopes": []string{"collectors:read"}, "expires_at": nil})
		id, old := key.text("client_id"), key.text("client_secret")
		if !strings.HasPrefix(old, key.object["secrets"].([]any)[0].(object)["start"].(string)) {
			h.Error("a secret does not begin with its start")
		}
		path = h.in("/keys/" + id)
		if shown := h.want(200, me, get, path, nil); shown.object["client_secret"] != nil || strings.Contains(string(shown.body), old) {
			h.Error("a secret is shown again")
		}
		h.token(old)
		rotated := h.want(200, me, post, path+"/rotate", nil)
		next := rotated.text("client_secret")
		if got := h.refused(old); !strings.Contains(got, "secret_replaced") {
			h.Errorf("the old secret: %s", got)
		}
		h.token(next)
		graceful := h.want(200, me, post, path+"/rotate", object{"grace_period_seconds": 3600}).text("client_secret")
		h.token(next)
		h.token(graceful)
		var older string
		for _, s := range h.want(200, me, get, path, nil).object["secrets"].([]any) {
			if s := s.(object); s["expires_at"] != nil && s["expires_at"] != h.clock().Format(time.RFC3339) {
				older = s["id"].(string)
			}
		}
		h.want(204, me, remove, path+"/secrets/"+older, nil)
		h.refused(next)
		h.token(graceful)
		revoked := h.want(200, me, post, path+"/revoke", object{"reason": "leaked"})
		if revoked.text("status") != "revoked" || revoked.text("revoked_reason") != "leaked" || revoked.object["revoked_at"] == nil {
			h.Errorf("revoked: %s", revoked.body)
		}
		if got := h.refused(graceful); !strings.Contains(got, "revoked") {
			h.Errorf("after revoking: %s", got)
		}
		if got := h.want(409, me, post, path+"/rotate", nil); got.code() != "key_not_live" {
			h.Errorf("rotating a revoked key: %s", got.body)
		}
		h.want(200, me, post, path+"/revoke", nil) // again: nothing changes
		h.want(204, me, remove, path, nil)
		h.want(404, me, get, path, nil)
		if got := h.refused(graceful); !strings.Contains(got, "revoked") {
			h.Errorf("after deleting: %s", got)
		}
	})
}

// The short way makes the service account along with the key.
func TestShortWay(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		key := h.want(201, me, post, h.in("/keys"), object{"name": "Deploy bot", "scopes": []string{"collectors:read"}})
		sa := h.want(200, me, get, h.in("/service-accounts/deploy-bot"), nil)
		if key.text("service_account_id") != sa.text("id") || sa.object["scopes"].([]any)[0] != "collectors:read" {
			h.Errorf("key %s of account %s", key.body, sa.body)
		}
		if token := must(h.exchange(key.text("client_secret"))); token.Scope.String() != "collectors:read" {
			h.Errorf("its token carries %s", token.Scope)
		}
		h.want(409, me, post, h.in("/keys"), object{"name": "deploy-bot"})
		h.want(201, me, post, h.in("/keys"), object{"name": "another", "service_account": "deploy-bot"})
		plain := h.want(201, me, post, h.in("/keys"), object{"name": "plain"})
		if token := must(h.exchange(plain.text("client_secret"))); token.Scope.String() != "collectors:read pipelines:read" {
			h.Errorf("without scopes its token carries %s", token.Scope)
		}
	})
}

// Whatever closes a level, the next exchange is refused; opening it again does not
// revive what was revoked.
func TestEveryLevelCloses(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		admin := func(path string) { h.want(200, me, post, "/workspaces/"+path, nil) }
		other := h.want(201, me, post, "/workspaces", object{"name": "Other", "slug": "other"}).text("id")
		mine := h.want(201, me, post, "/users/me/keys", object{"workspace": "other", "name": "mine"}).text("client_secret")
		create := func(name string) (id, secret string) {
			key := h.want(201, mine, post, "/workspaces/other/keys", object{"name": name, "role": "admin", "expires_at": nil})
			return key.text("client_id"), key.text("client_secret")
		}
		token := func(secret string) string { return h.token(secret, issuer) }
		_, first := create("first")
		revokedID, revoked := create("revoked")
		h.want(200, mine, post, "/workspaces/other/keys/"+revokedID+"/revoke", nil)
		before := token(mine)
		h.want(200, before, get, "/workspaces/other", nil)

		admin("other/suspend")
		if got := h.refused(first); !strings.Contains(got, "suspended") {
			h.Errorf("suspended: %s", got)
		}
		h.refused(mine)
		h.want(401, before, get, "/workspaces/other", nil)
		admin("other/resume")
		h.token(first)
		h.want(401, before, get, "/workspaces/other", nil) // the token from before
		if got := h.refused(revoked); !strings.Contains(got, "revoked") {
			h.Errorf("resumed: %s", got)
		}

		h.want(200, mine, patch, "/workspaces/other/service-accounts/first", object{"enabled": false})
		if got := h.refused(first); !strings.Contains(got, "Service account is disabled") {
			h.Errorf("disabled: %s", got)
		}
		h.want(200, mine, patch, "/workspaces/other/service-accounts/first", object{"enabled": true})
		h.token(first)
		h.want(204, mine, remove, "/workspaces/other/service-accounts/first", nil)
		if got := h.refused(first); !strings.Contains(got, "revoked") {
			h.Errorf("deleted: %s", got)
		}
		h.want(404, mine, get, "/workspaces/other/service-accounts/first", nil)
		create("first") // the name is free, the old keys stay dead
		h.refused(first)

		_, last := create("last")
		h.want(204, me, remove, "/workspaces/"+other, nil)
		if got := h.refused(last); !strings.Contains(got, "revoked") {
			h.Errorf("workspace deleted: %s", got)
		}
		h.refused(mine)
		h.want(404, me, get, "/workspaces/other", nil)
		h.want(409, me, post, "/workspaces", object{"name": "Other", "slug": "other"}) // nobody gets its slug

		// Whoever suspends the workspace of their own key is told that it is suspended.
		if got := h.want(200, me, post, h.in("/suspend"), nil); got.object["suspended"] != true {
			h.Errorf("one's own: %s", got.body)
		}
		h.want(401, me, get, h.in(""), nil)
	})
}

// A member who leaves takes their keys with them; one who is demoted keeps what
// the new role holds.
func TestMembersComeAndGo(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		ada := h.person("ada", workspace.Manager, false)
		path := h.in("/members/" + string(ada.user))
		before := h.token(ada.secret, issuer)
		h.want(200, before, get, h.in("/keys"), nil)
		h.want(200, me, patch, path, object{"role": "viewer"})
		h.want(401, before, get, h.in("/keys"), nil)
		h.want(403, ada.secret, post, h.in("/keys"), object{"name": "x"})
		h.want(204, me, remove, path, nil)
		if got := h.refused(ada.secret); !strings.Contains(got, "revoked") {
			h.Errorf("a key of somebody who left: %s", got)
		}
		again := h.want(201, me, post, h.in("/members"), object{"email": "Ada@Example.com", "role": "viewer"})
		if again.text("user_id") != string(ada.user) {
			h.Errorf("the address is another user: %s", again.body)
		}
		h.refused(ada.secret)
		invited := h.want(201, me, post, h.in("/members"), object{"email": "bob@example.com", "role": "viewer"})
		h.want(200, me, get, "/users/"+invited.text("user_id"), nil)
		owner := h.in("/members/" + string(h.owner.user))
		if got := h.want(409, me, remove, owner, nil); got.code() != "last_owner" {
			h.Errorf("the last owner: %s", got.body)
		}
		if got := h.want(409, me, patch, owner, object{"role": "viewer"}); got.code() != "last_owner" {
			h.Errorf("the last owner: %s", got.body)
		}
		h.want(409, me, post, h.in("/members"), object{"user_id": string(ada.user), "role": "viewer"})
	})
}

func TestUsers(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		user := h.want(201, me, post, "/users", object{"email": "eve@example.com", "name": "Eve", "organization_admin": true})
		path := "/users/" + user.text("id")
		h.want(409, me, post, "/users", object{"email": "EVE@example.com"})
		h.want(201, me, post, h.in("/members"), object{"user_id": user.text("id"), "role": "owner"})
		issued := must(h.CreateKey(h.Context(), operator, h.ws.ID, manage.NewKey{UserID: workspace.UserID(user.text("id")), Name: "eve"}))
		eve := issued.Secret.Reveal()
		h.want(200, eve, get, "/users", nil)
		h.want(200, me, patch, path, object{"organization_admin": false})
		h.want(403, eve, get, "/users", nil)
		h.want(200, me, patch, path, object{"enabled": false})
		if got := h.refused(eve); !strings.Contains(got, "disabled") {
			h.Errorf("a disabled user's key: %s", got)
		}
		h.want(200, me, patch, path, object{"enabled": true})
		h.token(eve)
		h.want(204, me, remove, path, nil)
		h.refused(eve)
		h.want(404, me, get, path, nil)
		h.want(201, me, post, "/users", object{"email": "eve@example.com"}) // the address is free
		if got := h.want(409, me, patch, "/users/"+string(h.owner.user), object{"enabled": false}); got.code() != "last_owner" {
			h.Errorf("the last organization admin: %s", got.body)
		}
		profile := h.want(200, me, get, "/users/me", nil)
		if memberships := profile.object["memberships"].([]any); len(memberships) != 1 || memberships[0].(object)["role"] != "owner" {
			h.Errorf("profile: %s", profile.body)
		}
	})
}

// Service accounts manage nothing, and have no profile.
func TestServiceAccountsDoNotManage(t *testing.T) {
	on(t, func(h *house) {
		strong := must(h.CreateServiceAccount(h.Context(), operator, h.ws.ID, manage.NewServiceAccount{Name: "strong", Scopes: policyRights()}))
		issued := must(h.CreateKey(h.Context(), operator, h.ws.ID, manage.NewKey{ServiceAccountID: strong.ID, Name: "strong"}))
		robot := issued.Secret.Reveal()
		h.hide(robot)
		h.want(200, robot, get, h.in("/keys"), nil)
		for _, c := range []struct {
			method, path string
			body         any
		}{
			{post, h.in("/service-accounts"), object{"name": "x", "role": "viewer"}},
			{post, h.in("/keys"), object{"name": "x"}},
			{post, h.in("/service-accounts/strong/keys"), object{"name": "x"}},
			{post, h.in("/keys/" + string(issued.ID) + "/rotate"), nil},
			{post, h.in("/keys/" + string(issued.ID) + "/revoke"), nil},
			{remove, h.in("/service-accounts/strong"), nil},
			{get, "/users/me", nil}, {get, "/users/me/keys?workspace=" + h.ws.Slug, nil},
			{post, "/users/me/keys", object{"name": "x", "workspace": h.ws.Slug}},
		} {
			if got := h.want(403, robot, c.method, c.path, c.body); got.code() != "insufficient_permissions" {
				h.Errorf("%s %s: %s", c.method, c.path, got.body)
			}
		}
	})
}

// Which keys are idle or about to end are questions that have answers, and so is
// what a service account did.
func TestKnowingYourKeys(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		names := func(query string) string {
			var found []string
			for _, k := range h.want(200, me, get, h.in("/keys?"+query), nil).data() {
				found = append(found, k["name"].(string))
			}
			return strings.Join(found, " ")
		}
		create := func(name string, expires any) string {
			return h.want(201, me, post, h.in("/keys"), object{"name": name, "expires_at": expires}).text("client_secret")
		}
		used := create("used", nil)
		create("idle", nil)
		create("ending", h.clock().Add(5*24*time.Hour+40*24*time.Hour))
		h.pass(40 * 24 * time.Hour)
		h.token(used)
		h.issuer.Usage.Flush(h.Context())
		create("fresh", nil)
		for query, want := range map[string]string{
			"unused_for_days=30":                    "ending idle",
			"expiring_within_days=6":                "ending",
			"status=expiring":                       "ending",
			"status=revoked":                        "",
			"q=US":                                  "used",
			"service_account=used":                  "used",
			"service_account=nobody":                "",
			"user_id=" + string(h.owner.user):       "owner",
			"created_by=" + string(h.owner.user):    "fresh ending idle used",
			"status=active&q=e&unused_for_days=100": "",
		} {
			got := names(query)
			if query == "unused_for_days=30" {
				got = strings.ReplaceAll(got, " owner", "") // it is used directly, which is noted later
			}
			if got != want {
				h.Errorf("%s: %q, want %q", query, got, want)
			}
		}
		list := h.want(200, me, get, h.in("/keys?q=used"), nil).data()
		if list[0]["last_used_at"] != h.clock().Format(time.RFC3339) {
			h.Errorf("last_used_at is %v", list[0]["last_used_at"])
		}
		id := h.want(200, me, get, h.in("/keys?q=used"), nil).data()[0]["client_id"].(string)
		for _, wrong := range []string{flip(used), used[:60], "nonsense", h.Format.NewSecret(keys.ID(id), keys.ServiceKey).Reveal()} {
			_, err := h.issuer.Issue(h.Context(), grant.Request{
				Credentials: grant.Credentials{ID: id, Secret: wrong}, Origin: grant.Origin{Address: netip.MustParseAddr("192.0.2.9")},
			})
			if err == nil {
				h.Error("a wrong secret is exchanged")
			}
		}
		h.check(h.exchanges.Flush(h.Context()))
		h.pass(time.Second)
		usage := h.want(200, me, get, h.in("/usage"), nil)
		if usage.object["issued"] != 1.0 || usage.object["refused"] != 4.0 {
			h.Errorf("usage: %s", usage.body)
		}
		var actions []string
		for _, e := range h.want(200, me, get, h.in("/audit-events?service_account=used"), nil).data() {
			actions = append(actions, e["action"].(string))
		}
		// The secrets that are not even of the form are one row, the nonsense another.
		if got := strings.Join(actions, " "); got != "token.refuse token.refuse token.refuse token.issue key.create service_account.create" {
			h.Errorf("what the account did: %s", got)
		}
		report, err := audit.Verify(h.Context(), h.Database.Reader(), nil)
		if err != nil || len(report.Findings) > 0 || report.Events == 0 || report.Exchanges == 0 {
			h.Errorf("audit: %+v, %v", report, err)
		}
	})
}

// Filters find what they say, and not the opposite.
func TestFilters(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		for _, name := range []string{"on", "off", "gone"} {
			h.want(201, me, post, h.in("/keys"), object{"name": name})
		}
		h.want(200, me, patch, h.in("/service-accounts/off"), object{"enabled": false})
		h.want(204, me, remove, h.in("/service-accounts/gone"), nil)
		h.want(201, me, post, "/workspaces", object{"name": "Closed"})
		h.want(200, me, post, "/workspaces/closed/suspend", nil)
		ada := h.person("ada", workspace.Viewer, false)
		h.want(200, me, patch, "/users/"+string(ada.user), object{"enabled": false})
		for path, want := range map[string]string{
			h.in("/service-accounts?enabled=true"):        "on",
			h.in("/service-accounts?enabled=false"):       "off",
			h.in("/service-accounts?name=on"):             "on",
			h.in("/service-accounts?q=F"):                 "off",
			"/workspaces?suspended=true":                  "Closed",
			"/workspaces?suspended=false":                 "Acme",
			"/workspaces?q=ac":                            "Acme",
			"/users?enabled=false":                        "ada@example.com",
			"/users?organization_admin=true":              "owner@example.com",
			"/users?enabled=true&organization_admin=true": "owner@example.com",
			h.in("/members?role=owner"):                   "owner@example.com",
			h.in("/members?q=ADA"):                        "ada@example.com",
			h.in("/keys?service_account=gone"):            "gone",
			h.in("/keys?q=%25"):                           "",
			h.in("/audit-events?service_account=gone&action=service_account.delete"): "service_account.delete",
			h.in("/audit-events?action=workspace.*"):                                 "workspace.create",
			"/audit-events?action=user.update":                                       "user.update",
		} {
			var got []string
			for _, item := range h.want(200, me, get, path, nil).data() {
				name := item["name"]
				for _, other := range []string{"email", "action"} {
					if item[other] != nil {
						name = item[other]
					}
				}
				got = append(got, name.(string))
			}
			if strings.Join(got, " ") != want {
				h.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	})
}
