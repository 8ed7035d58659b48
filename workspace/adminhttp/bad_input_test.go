package adminhttp_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func policyRights() oauth.Scope {
	var rights []string
	for _, scope := range policy.Reserved() {
		if !strings.HasPrefix(scope, "organization:") {
			rights = append(rights, scope)
		}
	}
	return oauth.NewScope(rights...)
}

// Names that would surprise whoever sees them are refused; markup is a name like
// any other and comes back as it is.
func TestNames(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		h.want(201, me, post, h.in("/service-accounts"), object{"name": "ci", "role": "viewer"})
		for _, name := range []string{"", " ", "a\r\nb", "a\x00b", "a\u202eb", "a\u2066b", "a\u0085b", "\x1b[31mred", strings.Repeat("x", 201), "\ufeff"} {
			if got := h.want(422, me, post, h.in("/service-accounts/ci/keys"), object{"name": name}); got.code() != "validation_failed" {
				h.Errorf("the key name %q: %s", name, got.body)
			}
		}
		for _, name := range []string{"<script>alert(1)</script>", "=HYPERLINK(\"x\")", "Ключ 🔑", "a&b 'c' \"d\""} {
			key := h.want(201, me, post, h.in("/service-accounts/ci/keys"), object{"name": name})
			if got := h.want(200, me, get, h.in("/keys/"+key.text("client_id")), nil); got.text("name") != name {
				h.Errorf("the name %q came back as %q", name, got.text("name"))
			}
		}
		for _, name := range []string{"", "CI", "-ci", "ci-", "c i", "ci_1", strings.Repeat("x", 64), "ü", "a\nb"} {
			h.want(422, me, post, h.in("/service-accounts"), object{"name": name, "role": "viewer"})
		}
		h.want(422, me, post, h.in("/service-accounts"), object{"name": "y", "role": "viewer", "description": "a\u202eb"})
		for _, email := range []string{"", "x", "a@b@c", "A <a@b.c>", "a\n@b.c", "a@b.c\u202e", strings.Repeat("x", 251) + "@b.c"} {
			h.want(422, me, post, "/users", object{"email": email})
		}
		h.want(422, me, post, h.in("/members"), object{"email": "x@example.com", "role": "king"})
		h.want(422, me, post, h.in("/members"), object{"role": "viewer"})
		h.want(404, me, post, h.in("/members"), object{"user_id": "usr_unknown", "role": "viewer"})
	})
}

// Every mistake in a body is reported, with where it is.
func TestMistakesInBodies(t *testing.T) { on(t, mistakesInBodies) }

func mistakesInBodies(h *house) {
	t := h.TB
	me := h.owner.secret
	got := h.want(422, me, post, h.in("/keys"), `{"name":1,"scopes":"collectors:read","colour":"red","expires_at":"soon","token_ttl_seconds":1.5,"a/b~c":1}`)
	var pointers []string
	for _, e := range got.object["errors"].([]any) {
		pointers = append(pointers, e.(object)["pointer"].(string))
	}
	if want := []string{"/a~1b~0c", "/colour", "/expires_at", "/name", "/scopes", "/token_ttl_seconds"}; !slices.Equal(pointers, want) {
		t.Errorf("mistakes at %q, want %q", pointers, want)
	}
	for body, status := range map[string]int{
		"{":                       400,
		"[]":                      400,
		`"x"`:                     400,
		`{"name":"x"} {}`:         400,
		`{"name":"x","name":"y"}`: 400,
		`{"Name":"x"}`:            422,
		`{"name":"x","scopes":["collectors:fly"]}`:                       422,
		`{"name":"x","scopes":["a b"]}`:                                  422,
		`{"name":"x","role":"king"}`:                                     422,
		`{"name":"x","audiences":["https://nowhere.example.com"]}`:       422,
		`{"name":"x","allowed_cidrs":["10.0.0.0/33"]}`:                   422,
		`{"name":"x","token_ttl_seconds":59}`:                            422,
		`{"name":"x","token_ttl_seconds":9223372036854775807}`:           422,
		`{"name":"x","expires_at":"2020-01-01T00:00:00Z"}`:               422,
		`{"name":"x","expires_at":"2030-01-02"}`:                         422,
		`{"name":"x","expires_at":"9999-12-31T23:59:59-23:59"}`:          422,
		`{"name":"x","token_ttl_seconds":-18446743973}`:                  422,
		`{"name":"x","workspace":"acme"}`:                                422,
		`{"name":"x","service_account":"nobody"}`:                        404,
		`{"name":"` + strings.Repeat("x", 70_000) + `"}`:                 413,
		`{"name":"x","description":"` + strings.Repeat("x", 1001) + `"}`: 422,
	} {
		if got := h.call(me, post, h.in("/keys"), body); got.status != status {
			t.Errorf("%.60s: %d, want %d: %s", body, got.status, status, got.body)
		}
	}
	h.want(400, me, post, h.in("/keys"), nil)
	h.want(415, me, post, h.in("/keys"), `{}`, header("Content-Type", "text/plain"))
	h.want(415, me, post, h.in("/keys"), `{}`, header("Content-Encoding", "gzip"))
	h.want(400, me, remove, h.in("/keys/x"), `{}`)
	// A secret that is put in the wrong place is not given back.
	secret := h.account("ci", manage.NewServiceAccount{Role: "viewer"}).secret
	for _, body := range []any{
		object{"name": secret}, object{"name": "x", "description": "see " + secret + "!"},
		object{"name": "x", "scopes": []string{secret}}, object{"name": "x", "role": secret}, object{"name": "x", "audiences": []string{secret}}, object{secret: 1},
	} {
		if got := h.want(422, me, post, h.in("/keys"), body); strings.Contains(string(got.body), secret[:40]) {
			t.Errorf("the answer quotes a secret: %s", got.body)
		}
	}
}

// A parameter that is not known is refused, and so is one twice or of another
// kind.
func TestParameters(t *testing.T) { on(t, parameters) }

func parameters(h *house) {
	t := h.TB
	for _, query := range []string{
		"colour=red", "limit=0", "limit=201", "limit=x", "limit=1&limit=2", "status=dead", "unused_for_days=0", "unused_for_days=-1",
		"expiring_within_days=1e3", "q=%ff", "q=a%00b", "q=%zz", "limit=%31%00", "service_account=x&user_id=y",
		"q=" + strings.Repeat("_", 1001),
	} {
		if got := h.want(400, h.owner.secret, get, h.in("/keys?"+query), nil); got.code() != "parameter_unknown" {
			t.Errorf("%s: %s", query, got.body)
		}
	}
	for path, query := range map[string]string{
		h.in(""): "x=1", h.in("/audit-events"): "since=yesterday", h.in("/usage"): "bucket=week", h.in("/service-accounts"): "enabled=yes",
		h.in("/members"): "role=king", "/users": "organization_admin=1", "/users/me/keys": "", "/workspaces": "suspended=no",
	} {
		h.want(400, h.owner.secret, get, path+"?"+query, nil)
	}
	for _, at := range []string{"0000-01-05T00:00:00Z", "9999-12-31T23:59:59-23:59", "1969-12-31T23:59:59Z"} {
		h.want(400, h.owner.secret, get, h.in("/usage?until="+at), nil)
		h.want(400, h.owner.secret, get, h.in("/audit-events?since="+at), nil)
	}
	h.want(400, h.owner.secret, get, h.in("/usage?since=2030-01-02T00:00:00Z&until=2030-01-01T00:00:00Z"), nil)
	for _, odd := range []string{"%00", "%ff", "a%20b", strings.Repeat("x", 300), "%E2%80%AE"} {
		h.want(404, h.owner.secret, get, "/workspaces/"+odd, nil)
		h.want(404, h.owner.secret, get, h.in("/keys/"+odd), nil)
	}
}

// Pages follow each other without gap or repetition, and a cursor opens nothing
// but the list that it was given out for.
func TestCursors(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		for i := range 7 { // all made at one instant
			h.want(201, me, post, h.in("/service-accounts"), object{"name": "sa-" + string(rune('a'+i)), "role": "viewer"})
		}
		seen, path, pages := map[string]bool{}, h.in("/service-accounts?limit=3"), 0
		var cursor string
		for path != "" {
			page := h.want(200, me, get, path, nil)
			for _, sa := range page.data() {
				if seen[sa["id"].(string)] {
					h.Error("one comes twice")
				}
				seen[sa["id"].(string)] = true
			}
			next, more := page.object["next_cursor"].(string)
			if more != page.object["has_more"] || more != (page.header.Get("Link") != "") {
				h.Errorf("%s with Link %q", page.body, page.header.Get("Link"))
			}
			path = ""
			if pages++; more {
				path, cursor = h.in("/service-accounts?limit=3&cursor="+next), next
				if link := page.header.Get("Link"); link != "<"+issuer+base+h.in("/service-accounts?cursor="+url.QueryEscape(next)+"&limit=3")+`>; rel="next"` {
					h.Errorf("Link %s", link)
				}
			}
		}
		if len(seen) != 7 || pages != 3 {
			h.Errorf("%d of 7 in %d pages", len(seen), pages)
		}
		h.want(201, me, post, "/workspaces", object{"name": "Other"})
		other := h.want(201, me, post, "/users/me/keys", object{"workspace": "other", "name": "x"}).text("client_secret")
		for _, bad := range []string{
			h.in("/service-accounts?cursor=" + cursor[:len(cursor)-1]), h.in("/service-accounts?cursor=" + cursor + "A"), h.in("/service-accounts?cursor="),
			h.in("/service-accounts?cursor=" + flip(cursor)), h.in("/service-accounts?q=x&cursor=" + cursor), h.in("/keys?cursor=" + cursor),
			h.in("/service-accounts?cursor=bm90IGEgY3Vyc29y"),
		} {
			if got := h.want(400, me, get, bad, nil); got.code() != "cursor_invalid" {
				h.Errorf("%s: %s", bad, got.body)
			}
		}
		if got := h.want(400, other, get, "/workspaces/other/service-accounts?cursor="+cursor, nil); got.code() != "cursor_invalid" {
			h.Errorf("in another workspace: %s", got.body)
		}
		// An old cursor does not tell whether the workspace is still there.
		for i := range 2 {
			h.want(201, other, post, "/workspaces/other/service-accounts", object{"name": "x" + string(rune('a'+i)), "role": "viewer"})
		}
		list := "/workspaces/other/service-accounts?limit=1"
		list += "&cursor=" + h.want(200, other, get, list, nil).text("next_cursor")
		stranger := h.person("stranger", workspace.Owner, false).secret
		before := h.want(404, stranger, get, list, nil)
		h.want(204, me, remove, "/workspaces/other", nil)
		if after := h.want(404, stranger, get, list, nil); string(after.body) != string(before.body) {
			h.Errorf("an old cursor: %s, then %s", before.body, after.body)
		}
	})
}

func flip(text string) string {
	b := []byte(text)
	if b[5] == 'A' {
		b[5] = 'B'
	} else {
		b[5] = 'A'
	}
	return string(b)
}

// A change that is based on an older state is refused, and nothing is changed.
func TestConcurrentEdits(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		ada := h.person("ada", workspace.Viewer, false)
		key := h.want(201, me, post, h.in("/keys"), object{"name": "ci", "expires_at": nil})
		for path, change := range map[string]object{
			h.in("/keys/" + key.text("client_id")): {"description": "x"},
			h.in("/service-accounts/ci"):           {"description": "x"},
			h.in("/members/" + string(ada.user)):   {"role": "manager"},
			"/users/" + string(ada.user):           {"name": "Ada"},
			h.in(""):                               {"name": "New"},
		} {
			before := h.want(200, me, get, path, nil).header.Get("ETag")
			after := h.want(200, me, patch, path, change, header("If-Match", before)).header.Get("ETag")
			if before == "" || after == before {
				h.Errorf("%s: the ETag is %s, then %s", path, before, after)
			}
			for _, stale := range []string{before, `"x"`, "W/" + after} {
				if got := h.want(412, me, patch, path, change, header("If-Match", stale)); got.code() != "precondition_failed" {
					h.Errorf("%s: %s", path, got.body)
				}
			}
			h.want(412, me, remove, path, nil, header("If-Match", before))
			if got := h.want(200, me, get, path, nil, header("If-Match", before)).header.Get("ETag"); got != after {
				h.Errorf("%s: a refused change made the ETag %s of %s", path, got, after)
			}
			h.want(200, me, patch, path, change, header("If-Match", `"x", `+after))
			h.want(200, me, patch, path, change, header("If-Match", "*"))
		}
	})
}

// Only tokens for the issuer alone, and raw keys, are taken here.
func TestCredentials(t *testing.T) { on(t, credentials) }

func credentials(h *house) {
	t := h.TB
	me := h.owner.secret
	h.want(200, me, get, "/workspaces", nil)
	h.want(200, "", get, "/workspaces", nil, header("x-api-key", me))
	h.want(200, "", get, "/workspaces", nil, header("Authorization", "bEaReR "+me))
	h.want(200, h.token(me, issuer), get, "/workspaces", nil)
	for name, credential := range map[string]string{
		"a token for a service": h.token(me, apiURL), "a token for both": h.token(me, issuer, apiURL), "a wrong secret": h.Format.NewSecret(h.owner.key, keysPersonal).Reveal(),
		"a token that was changed": h.token(me, issuer) + "x", "nonsense": "nonsense", "a cut secret": me[:50],
	} {
		got := h.want(401, credential, get, "/workspaces", nil)
		if !strings.HasPrefix(got.header.Get("WWW-Authenticate"), `Bearer realm="tokenbooth", error="invalid_token"`) {
			t.Errorf("%s: WWW-Authenticate %s", name, got.header.Get("WWW-Authenticate"))
		}
	}
	if got := h.want(401, "", get, "/workspaces", nil); got.header.Get("WWW-Authenticate") != `Bearer realm="tokenbooth"` {
		t.Errorf("without credentials: %v", got.header)
	}
	h.want(401, "", get, "/workspaces", nil, header("Cookie", "session="+me))
	h.want(400, me, get, "/workspaces", nil, header("x-api-key", me))
	h.want(400, me, get, "/workspaces", nil, func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+me) })
	if got := h.want(405, me, "PUT", "/workspaces", nil); got.header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("Allow %s", got.header.Get("Allow"))
	}
	if got := h.want(200, me, "HEAD", "/workspaces", nil); len(got.body) != 0 {
		t.Errorf("HEAD has a body: %s", got.body)
	}
	expired := h.person("gone", workspace.Viewer, false)
	h.check(h.RevokeKey(h.Context(), operator, h.ws.ID, expired.key, ""))
	if got := h.want(401, expired.secret, get, "/workspaces", nil); got.code() != "key_revoked" || !strings.HasSuffix(got.text("type"), "/docs/errors/key_revoked") {
		t.Errorf("a revoked key: %s", got.body)
	}
}
