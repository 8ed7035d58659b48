package adminhttp_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/adminhttp"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const keysPersonal = keys.PersonalKey

// routes are the operations of the API's description, as "METHOD /path".
func routes(t testing.TB) (found [][2]string) {
	t.Helper()
	scanner := bufio.NewScanner(bytes.NewReader(adminhttp.OpenAPI()))
	path := ""
	for scanner.Scan() {
		line := scanner.Text()
		switch trimmed := strings.TrimSpace(line); {
		case strings.HasPrefix(line, "  /"):
			path = strings.TrimSuffix(trimmed, ":")
		case strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "     ") && path != "":
			method := strings.ToUpper(strings.TrimSuffix(trimmed, ":"))
			if slices.Contains([]string{get, post, put, patch, remove}, method) {
				found = append(found, [2]string{method, path})
			}
		case line != "" && !strings.HasPrefix(line, " "):
			path = ""
		}
	}
	if len(found) < 50 {
		t.Fatalf("the description has %d operations", len(found))
	}
	return found
}

// bodies are acceptable bodies of the operations that take one.
func bodies(method, path string) any {
	switch {
	case method == patch && strings.HasSuffix(path, "/{user}"):
		if strings.Contains(path, "/members/") {
			return object{"role": "viewer"}
		}
		return object{"name": "x"}
	case method == patch:
		return object{"name": "x"}
	case strings.HasSuffix(path, "/policy"), strings.HasSuffix(path, "/policy/preview"):
		return object{"max_lifetime_days": 90}
	case method == post && strings.HasPrefix(path, "/verifiers/"):
		return object{"epoch": 1, "sequence": 0}
	case strings.HasSuffix(path, "/quota"), strings.HasSuffix(path, "/quota/preview"):
		return object{"max_keys": 100}
	case method != post:
		return nil
	case strings.HasSuffix(path, "/members"):
		return object{"email": "new@example.com", "role": "viewer"}
	case strings.HasSuffix(path, "/service-accounts"):
		return object{"name": "new", "role": "viewer"}
	case strings.HasSuffix(path, "/users/me/keys"):
		return object{"name": "new", "workspace": "{ws}"}
	case strings.HasSuffix(path, "/keys"):
		return object{"name": "new"}
	}
	return nil
}

// What is in another workspace answers exactly as what does not exist, on every
// route that names something of a workspace, whatever the caller may do at home.
func TestForeignIsAsIfNotThere(t *testing.T) {
	on(t, func(h *house) {
		other := must(h.CreateWorkspace(h.Context(), operator, "Other", ""))
		stranger := h.personIn(other.ID, "stranger", workspace.Owner, false, nil)
		sa := must(h.CreateServiceAccount(h.Context(), operator, other.ID, manage.NewServiceAccount{Name: "theirs", Role: "editor"}))
		key := must(h.CreateKey(h.Context(), operator, other.ID, manage.NewKey{ServiceAccountID: sa.ID, Name: "theirs"}))
		must(h.RotateKey(h.Context(), operator, other.ID, key.ID, manage.Rotation{Grace: 3600e9}))
		secret := must(keys.Find(h.Context(), h.Database.Reader(), other.ID, key.ID, workspace.At(h.clock()))).Secrets[1].ID
		foreign := map[string]string{"{ws}": string(other.ID), "{sa}": string(sa.ID), "{client_id}": string(key.ID), "{secret}": secret, "{user}": string(stranger.user)}
		nowhere := map[string]string{"{ws}": string(workspace.NewID()), "{sa}": string(workspace.NewServiceAccountID()), "{client_id}": string(h.Format.NewID()), "{secret}": "sec_" + workspace.Unique(), "{user}": string(workspace.NewUserID())}
		callers := map[string]string{
			"an owner":             h.person("other-owner", workspace.Owner, false).secret,
			"a viewer":             h.person("viewer", workspace.Viewer, false).secret,
			"an account":           h.account("robot", manage.NewServiceAccount{Scopes: policyRights()}).secret,
			"an account of little": h.account("small", manage.NewServiceAccount{Role: "viewer"}).secret,
		}
		checked := 0
		for _, r := range routes(h) {
			method, path := r[0], strings.TrimPrefix(r[1], base)
			if path == r[1] || !strings.Contains(path, "{") {
				continue
			}
			// The foreign workspace as a whole, by ID and by slug, and what is in it under ours.
			variants := []map[string]string{{}, {"{ws}": other.Slug}, {"{ws}": h.ws.Slug}}
			for who, credential := range callers {
				for _, variant := range variants {
					ours := variant["{ws}"] == h.ws.Slug
					if ours && strings.Count(path, "{") == 1 && strings.Contains(path, "{ws}") {
						continue // ours itself
					}
					there, none := path, path
					for name := range foreign {
						theirs, nothing := foreign[name], nowhere[name]
						if v, ok := variant[name]; ok {
							if theirs = v; ours {
								nothing = v
							} else {
								nothing = "nowhere"
							}
						}
						there, none = strings.ReplaceAll(there, name, theirs), strings.ReplaceAll(none, name, nothing)
					}
					for _, body := range []any{bodies(method, path), "{"} {
						if method == get || method == remove {
							body = nil
						}
						a, b := h.call(credential, method, there, body), h.call(credential, method, none, body)
						if a.status != b.status || string(a.body) != string(b.body) || fmt.Sprint(a.header) != fmt.Sprint(b.header) {
							h.Errorf("%s: %s %s answers %d %s, and one that does not exist %d %s", who, method, there, a.status, a.body, b.status, b.body)
						}
						if a.status < 400 {
							h.Errorf("%s: %s %s answers %d", who, method, there, a.status)
						}
						checked++
					}
				}
			}
		}
		if checked < 200 {
			h.Errorf("only %d requests were compared", checked)
		}
		h.Logf("%d requests were compared", checked)
		for _, path := range []string{"/users/me/keys?workspace=" + other.Slug, "/users/me/keys?workspace=nowhere"} {
			h.want(404, callers["an owner"], get, path, nil)
		}
		for _, ws := range []string{other.Slug, "nowhere"} {
			h.want(404, callers["an owner"], post, "/users/me/keys", object{"name": "x", "workspace": ws})
		}
	})
}

// No sequence of calls by a principal, repetitions included, yields a token with a
// scope that the principal never held.
func TestNobodyGainsWhatTheyNeverHeld(t *testing.T) { on(t, nobodyGainsWhatTheyNeverHeld) }

func nobodyGainsWhatTheyNeverHeld(h *house) {
	t := h.TB
	n := 0
	known := must(policy.NewCatalogue(map[string][]string{"collectors": {"read", "create", "update", "delete"}, "pipelines": {"read", "update"}}, nil)).Known()
	rapid.Check(t, func(rt *rapid.T) {
		n++
		ws := must(h.CreateWorkspace(h.Context(), operator, fmt.Sprint("W", n), ""))
		root := h.personIn(ws.ID, fmt.Sprint("root", n), workspace.Owner, false, nil)
		role := rapid.SampledFrom([]workspace.Role{workspace.Owner, workspace.Manager, workspace.Viewer}).Draw(rt, "role")
		var limit *oauth.Scope
		if rapid.Bool().Draw(rt, "limited") {
			some := oauth.NewScope(rapid.SliceOfDistinct(rapid.SampledFrom(known), func(s string) string { return s }).Draw(rt, "limit")...)
			some = some.Union(oauth.NewScope("api-keys:create", "api-keys:update", "service-accounts:create", "service-accounts:update", "members:create", "members:update"))
			limit = &some
		}
		me := h.personIn(ws.ID, fmt.Sprint("me", n), role, false, limit)
		strong := must(h.CreateServiceAccount(h.Context(), operator, ws.ID, manage.NewServiceAccount{Name: "strong", Scopes: known.Minus(oauth.NewScope("organization:read", "organization:update"))}))
		strongKey := must(h.CreateKey(h.Context(), operator, ws.ID, manage.NewKey{ServiceAccountID: strong.ID, Name: "strong"}))
		p := player{h: h, rt: rt, ws: "/workspaces/" + ws.Slug, slug: ws.Slug, users: []string{string(me.user), string(root.user)},
			secrets: []string{me.secret}, accounts: []string{"strong"}, keys: []string{string(strongKey.ID), string(root.key), string(me.key)}}
		held := must(h.exchange(me.secret, issuer)).Scope.Union(must(h.exchange(me.secret)).Scope)
		for range rapid.IntRange(1, 12).Draw(rt, "calls") {
			p.play(known)
		}
		for _, secret := range p.secrets {
			for _, audience := range []string{issuer, apiURL} {
				token, err := h.exchange(secret, audience)
				if err != nil {
					continue
				}
				if more := token.Scope.Minus(held); len(more) > 0 {
					rt.Fatalf("a %s with %v obtained %s", role, limit, more)
				}
			}
		}
	})
}

// player makes calls with the credentials that it has, and keeps every secret that
// it is given.
type player struct {
	h                              *house
	rt                             *rapid.T
	ws, slug                       string
	users, secrets, accounts, keys []string
}

func (p *player) pick(what string, from []string) string {
	return rapid.SampledFrom(from).Draw(p.rt, what)
}

func (p *player) scopes(known oauth.Scope) []string {
	return rapid.SliceOfN(rapid.SampledFrom(known), 0, 4).Draw(p.rt, "scopes")
}

func (p *player) play(known oauth.Scope) {
	credential := p.pick("credential", p.secrets)
	if rapid.Bool().Draw(p.rt, "as a token") {
		if token, err := p.h.exchange(credential, issuer); err == nil {
			credential = token.AccessToken
		}
	}
	name := fmt.Sprint("n", rapid.IntRange(0, 3).Draw(p.rt, "name"))
	role := p.pick("role", []string{"viewer", "editor", "admin"})
	var method, path string
	var body object
	switch rapid.IntRange(0, 9).Draw(p.rt, "call") {
	case 0:
		method, path, body = post, p.ws+"/service-accounts", object{"name": name, "role": role}
	case 1:
		method, path, body = post, p.ws+"/service-accounts", object{"name": name, "scopes": p.scopes(known)}
	case 2:
		method, path, body = patch, p.ws+"/service-accounts/"+p.pick("account", p.accounts), object{"scopes": p.scopes(known)}
	case 3:
		method, path, body = patch, p.ws+"/service-accounts/"+p.pick("account", p.accounts), object{"role": role}
	case 4:
		method, path, body = post, p.ws+"/service-accounts/"+p.pick("account", p.accounts)+"/keys", object{"name": name, "scopes": p.scopes(known)}
	case 5:
		method, path, body = post, p.ws+"/keys", object{"name": name, "role": role, "service_account": p.pick("account", append(p.accounts, ""))}
		if body["service_account"] == "" {
			delete(body, "service_account")
		} else {
			delete(body, "role")
		}
	case 6:
		method, path, body = patch, p.ws+"/keys/"+p.pick("key", p.keys), object{"scopes": nil}
		if rapid.Bool().Draw(p.rt, "some") {
			body["scopes"] = p.scopes(known)
		}
	case 7:
		method, path, body = post, p.ws+"/keys/"+p.pick("key", p.keys)+"/rotate", object{"grace_period_seconds": 3600}
	case 8:
		method, path, body = post, "/users/me/keys", object{"name": name, "workspace": p.slug}
	case 9:
		method, path = patch, p.ws+"/members/"+p.pick("user", p.users)
		body = object{"role": p.pick("member role", []string{"owner", "manager", "viewer"})}
	}
	var got reply
	for range rapid.IntRange(1, 2).Draw(p.rt, "times") {
		got = p.h.call(credential, method, path, body, once(p.pick("idempotency key", []string{"a", "b", "c"})))
	}
	if got.status >= 500 {
		p.rt.Fatalf("%s %s: %d %s", method, path, got.status, got.body)
	}
	if secret, ok := got.object["client_secret"].(string); ok {
		p.secrets, p.keys = append(p.secrets, secret), append(p.keys, got.text("client_id"))
	}
	if got.status == 201 && strings.HasSuffix(path, "/service-accounts") {
		p.accounts = append(p.accounts, got.text("name"))
	}
}

// Each thing that a credential of little may not do, beside what it may.
func TestRightsOneByOne(t *testing.T) { on(t, rightsOneByOne) }

func rightsOneByOne(h *house) {
	t := h.TB
	me := h.owner.secret
	n := 0
	limited := func(admin bool, scopes ...string) string {
		n++
		s := oauth.NewScope(scopes...)
		return h.personIn(h.ws.ID, fmt.Sprint("limited", n), workspace.Owner, admin, &s).secret
	}
	manager := h.person("manager", workspace.Manager, false)
	strong := must(h.CreateServiceAccount(t.Context(), operator, h.ws.ID, manage.NewServiceAccount{Name: "strong", Scopes: oauth.NewScope("members:create")}))
	strongKey := must(h.CreateKey(t.Context(), operator, h.ws.ID, manage.NewKey{
		ServiceAccountID: strong.ID, Name: "strong", ExpiresAt: h.clock().Add(100 * time.Hour), AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	}))
	key, account := h.in("/keys/"+string(strongKey.ID)), h.in("/service-accounts/strong")
	h.want(201, me, post, h.in("/service-accounts"), object{"name": "weak", "role": "viewer"})
	in := func(d time.Duration) string { return h.clock().Add(d).Format(time.RFC3339) }
	narrow, err := h.issuer.Issue(t.Context(), grant.Request{
		Credentials: grant.Credentials{Secret: me}, Origin: grant.Origin{Address: netip.MustParseAddr("192.0.2.9")},
		Request: policy.Request{Audience: []string{issuer}, Scope: oauth.NewScope("api-keys:read")},
	})
	h.check(err)
	elsewhere := must(h.CreateKey(t.Context(), operator, h.ws.ID, manage.NewKey{UserID: h.owner.user, Name: "api only", Audiences: []string{apiURL}})).Secret.Reveal()
	viewer := h.person("viewer", workspace.Viewer, false)
	disabledAdmin := must(h.CreateUser(t.Context(), operator, "disabled@example.com", true))
	no := false
	must(h.UpdateUser(t.Context(), operator, disabledAdmin.ID, manage.UserChange{Enabled: &no}))
	orgUpdate := limited(true, "organization:update")
	seesMembers := limited(false, "members:create", "members:update", "members:read")
	creates := limited(false, "api-keys:create", "collectors:read")

	for _, c := range []struct {
		what       string
		status     int
		credential string
		method     string
		path       string
		body       any
	}{
		{"a narrow token reads", 200, narrow.AccessToken, get, h.in("/keys"), nil},
		{"and does nothing else", 403, narrow.AccessToken, post, h.in("/keys"), object{"name": "x"}},
		{"nor reads the log", 403, narrow.AccessToken, get, h.in("/audit-events"), nil},
		{"the installation's log is for admins", 403, manager.secret, get, "/audit-events", nil},
		{"who may not read keys sees no usage", 403, creates, get, h.in("/usage"), nil},
		{"nor sees others' things", 403, narrow.AccessToken, get, h.in("/members"), nil},
		{"a key for another service manages nothing", 403, elsewhere, get, h.in("/keys"), nil},

		{"a manager widens an account beyond themselves", 403, manager.secret, patch, account, object{"scopes": []string{"members:create", "members:delete"}}},
		{"or gives another what they do not hold", 403, manager.secret, patch, h.in("/service-accounts/weak"), object{"scopes": []string{"members:create"}}},
		{"a manager disables a stronger one", 200, manager.secret, patch, account, object{"enabled": false}},
		{"and may not enable it again", 403, manager.secret, patch, account, object{"enabled": true}},
		{"an owner may", 200, me, patch, account, object{"enabled": true}},

		{"a manager narrows a stronger key's networks", 200, manager.secret, patch, key, object{"allowed_cidrs": []string{"10.1.0.0/16"}}},
		{"and may not widen them", 403, manager.secret, patch, key, object{"allowed_cidrs": []string{"10.0.0.0/8"}}},
		{"nor lift them", 403, manager.secret, patch, key, object{"allowed_cidrs": []string{}}},
		{"a manager shortens a stronger key's life", 200, manager.secret, patch, key, object{"expires_at": in(50 * time.Hour)}},
		{"and may not prolong it", 403, manager.secret, patch, key, object{"expires_at": in(51 * time.Hour)}},
		{"nor make it eternal", 403, manager.secret, patch, key, object{"expires_at": nil}},
		{"an owner may", 200, me, patch, key, object{"expires_at": nil, "allowed_cidrs": []string{}}},
		{"an owner narrows another's personal key", 200, me, patch, h.in("/keys/" + string(manager.key)), object{"expires_at": in(50 * time.Hour)}},
		{"and may not widen it", 403, me, patch, h.in("/keys/" + string(manager.key)), object{"expires_at": in(51 * time.Hour)}},
		{"its person may", 200, manager.secret, patch, h.in("/keys/" + string(manager.key)), object{"expires_at": in(51 * time.Hour)}},

		{"a member's role is a grant", 403, seesMembers, post, h.in("/members"), object{"email": "x@example.com", "role": "viewer"}},
		{"when it is changed too", 403, seesMembers, patch, h.in("/members/" + string(viewer.user)), object{"role": "manager"}},

		{"half an admin makes users", 201, orgUpdate, post, "/users", object{"email": "plain@example.com"}},
		{"and renames admins", 200, orgUpdate, patch, "/users/" + string(disabledAdmin.ID), object{"name": "New"}},
		{"and makes no admins", 403, orgUpdate, post, "/users", object{"email": "admin@example.com", "organization_admin": true}},
		{"nor enables them", 403, orgUpdate, patch, "/users/" + string(disabledAdmin.ID), object{"enabled": true}},

		{"a key that cannot create keys makes none for its person", 403, limited(false, "collectors:read"), post, "/users/me/keys",
			object{"name": "x", "workspace": h.ws.Slug, "scopes": []string{"collectors:read"}}},
		{"nor lists them", 403, limited(false, "collectors:read"), get, "/users/me/keys?workspace=" + h.ws.Slug, nil},
		{"a viewer's key does not rotate itself", 403, viewer.secret, post, h.in("/keys/" + string(viewer.key) + "/rotate"), nil},
		{"who creates keys makes no accounts", 403, creates, post, h.in("/keys"), object{"name": "x", "scopes": []string{"collectors:read"}}},
		{"but keys of those that are there", 201, creates, post, h.in("/keys"), object{"name": "x", "service_account": "weak", "scopes": []string{"collectors:read"}}},

		{"a key that is deleted", 204, me, remove, key, nil},
		{"is not revoked again", 404, me, post, key + "/revoke", nil},
		{"nor rotated", 404, me, post, key + "/rotate", nil},
	} {
		if got := h.call(c.credential, c.method, c.path, c.body); got.status != c.status {
			t.Errorf("%s: %s %s answers %d, want %d: %s", c.what, c.method, c.path, got.status, c.status, got.body)
		}
	}
	own := h.want(200, manager.secret, get, "/users/me/keys?workspace="+h.ws.Slug, nil).data()
	if len(own) != 1 || own[0]["client_id"] != string(manager.key) {
		t.Errorf("a manager's own keys: %v", own)
	}
}

// The last active admin stays, whoever else is an owner; a disabled owner is nobody
// in charge.
func TestLastInCharge(t *testing.T) { on(t, lastInCharge) }

func lastInCharge(h *house) {
	t := h.TB
	bob := h.person("bob", workspace.Owner, false)
	if got := h.want(409, h.owner.secret, remove, "/users/"+string(h.owner.user), nil); got.code() != "last_owner" {
		t.Errorf("the last admin: %s", got.body)
	}
	h.want(200, h.owner.secret, patch, "/users/"+string(bob.user), object{"enabled": false})
	h.want(409, h.owner.secret, remove, h.in("/members/"+string(h.owner.user)), nil)
	h.want(200, h.owner.secret, patch, "/users/"+string(bob.user), object{"enabled": true})
	h.want(204, h.owner.secret, remove, h.in("/members/"+string(h.owner.user)), nil)
}
