package endpoint_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// about sends a form about a token to one of the endpoints that take one.
func (b *booth) about(path string, values url.Values, edits ...func(*http.Request)) answer {
	b.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", formType)
	for _, edit := range edits {
		edit(r)
	}
	a := b.send(r)
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		b.Errorf("Cache-Control of %s is %q on status %d", path, got, a.status)
	}
	return a
}

// by are the form parameters of a key, and a token.
func by(k manage.Issued, token string) url.Values {
	return url.Values{"client_id": {string(k.ID)}, "client_secret": {k.Secret.Reveal()}, "token": {token}}
}

func (b *booth) revoke(k manage.Issued, token string) answer {
	b.Helper()
	return b.about(endpoint.RevokePath, by(k, token))
}

func (b *booth) introspect(k manage.Issued, token string) answer {
	b.Helper()
	return b.about(endpoint.IntrospectPath, by(k, token))
}

func (b *booth) wantActive(k manage.Issued, token string, active bool) {
	b.Helper()
	a := b.introspect(k, token).want(b, http.StatusOK, "")
	if got := a.object(b)["active"]; got != active {
		b.Errorf("active is %v, want %v: %s", got, active, a.body)
	}
}

// holder makes a service account with these scopes and a key of it.
func (b *booth) holder(in workspace.ID, by manage.Caller, scopes ...string) manage.Issued {
	b.Helper()
	b.accounts++
	name := "holder-" + string(rune('a'+b.accounts))
	account := must(b.manager.CreateServiceAccount(b.Context(), by, in, manage.NewServiceAccount{Name: name, Scopes: oauth.NewScope(scopes...)}))
	issued := must(b.manager.CreateKey(b.Context(), operator, in, manage.NewKey{ServiceAccountID: account.ID, Name: name}))
	b.hide(issued.Secret.Reveal())
	return issued
}

func bearing(credential string) func(*http.Request) {
	return setHeader("Authorization", "Bearer "+credential)
}

// RFC 7009 §2.1, §2.2: a client revokes a token of its own. It is denied at once
// here, and for verifiers until it is good nowhere; the others of its key live.
func TestRevokeToken(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		b := newBooth(t, options{database: db, now: clock(noon)})
		token, other := b.token(b.active), b.token(b.active)
		b.wantActive(b.active, token, true)

		first := b.revoke(b.active, token).want(b, http.StatusOK, "")
		deadBy := revocation.Good(noon.Add(tokenTTL * time.Second))
		want := map[string]any{"sequence": 1.0, "dead_by": deadBy.Format(time.RFC3339)}
		if diff := cmp.Diff(want, first.object(t)); diff != "" {
			t.Error(diff)
		}
		b.wantActive(b.active, token, false)
		b.wantActive(b.active, other, true)
		if a := b.whoami("Bearer " + token); a.status != http.StatusUnauthorized || !strings.Contains(a.body, "revoked") {
			t.Errorf("whoami: %d %s", a.status, a.body)
		}

		claims := claimsOf(t, token)
		entries := must(revocation.Since(t.Context(), db.Reader(), 0, 10))
		entry := revocation.Entry{
			Seq: 1, Kind: oauth.RevocableToken, SubjectID: claims["jti"].(string), WorkspaceID: b.workspace.ID, Cause: revocation.Revoked,
			At: workspace.At(noon), ExpiresAt: deadBy,
		}
		if diff := cmp.Diff([]revocation.Entry{entry}, entries); diff != "" {
			t.Error(diff)
		}
		events := must(audit.List(t.Context(), db.Reader(), audit.Filter{Chain: string(b.workspace.ID), Action: "token.revoke"}, audit.Position{}, 10))
		if len(events) != 1 || events[0].SubjectID != entry.SubjectID || events[0].ActorID != b.active.OwnerID() || events[0].KeyID != string(b.active.ID) ||
			events[0].OwnerID != b.active.OwnerID() || !strings.Contains(events[0].Detail, `"jti":"`+entry.SubjectID+`"`) || !strings.Contains(events[0].Detail, `"exp":`) {
			t.Errorf("the audit log has %+v", events)
		}

		// Again, it is the same answer, and nothing is written.
		if again := b.revoke(b.active, token); dump(again) != dump(first) {
			t.Errorf("the second answer: %s", dump(again))
		}
		if n := len(must(revocation.Since(t.Context(), db.Reader(), 0, 10))); n != 1 {
			t.Errorf("%d rows", n)
		}
	})
}

// What nobody takes needs no revocation, and nothing is told of it (RFC 7009
// §2.2): neither is one that is denied with its key.
func TestRevokeWhatIsNoToken(t *testing.T) {
	f := newForger()
	b := newBooth(t, options{now: clock(noon), trusted: []jwk.Key{f.public}})
	good := claimsOf(t, b.token(b.active))
	foreign := b.foreign(f, good)
	foreign["expired for everybody"] = f.sign(good, nil, map[string]any{"exp": noon.Add(-time.Hour).Unix()})
	for name, token := range foreign {
		if a := b.revoke(b.active, token); a.status != http.StatusOK || a.body != "{}\n" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	k := b.key(nil)
	token := b.token(k)
	b.check(b.manager.SetKeyScopes(t.Context(), operator, b.workspace.ID, k.ID, ptr(narrowed())))
	before := must(revocation.Newest(t.Context(), b.db.Reader()))
	if a := b.revoke(k, token); a.status != http.StatusOK || a.body != "{}\n" {
		t.Errorf("a token of an older generation: %d %s", a.status, a.body)
	}
	if after := must(revocation.Newest(t.Context(), b.db.Reader())); after != before {
		t.Errorf("the revocations went from %v to %v", before, after)
	}
}

// bad are texts that are no good token of ours.
func (b *booth) bad(f forger, good map[string]any) map[string]string {
	claim := func(name string, value any) string { return f.sign(good, nil, map[string]any{name: value}) }
	found := b.foreign(f, good)
	found["expired"] = claim("exp", noon.Add(-2*time.Minute).Unix())
	found["other audience"] = claim("aud", "https://evil.example")
	found["issued in the future"] = claim("iat", noon.Add(time.Hour).Unix())
	found["other typ"] = f.sign(good, map[string]any{"typ": "JWT"}, nil)
	return found
}

// foreign are texts that are no access token of ours.
func (b *booth) foreign(f forger, good map[string]any) map[string]string {
	claim := func(name string, value any) string { return f.sign(good, nil, map[string]any{name: value}) }
	stranger := newForger()
	return map[string]string{
		"garbage":                   "garbage",
		"dots":                      "..",
		"long":                      strings.Repeat("a", 7000),
		"other issuer":              claim("iss", "https://evil.example"),
		"no jti":                    claim("jti", nil),
		"no sub":                    claim("sub", nil),
		"no client_id":              claim("client_id", nil),
		"exp is a text":             claim("exp", "2099"),
		"feed":                      f.sign(map[string]any{"iss": issuer, "iat": good["iat"], "exp": good["exp"], "epoch": 1, "seq": 1, "from": 0, "entries": []any{}}, map[string]any{"typ": oauth.FeedType}, nil),
		"crit":                      f.sign(good, map[string]any{"crit": []string{"exp"}}, nil),
		"alg none":                  f.sign(good, map[string]any{"alg": "none"}, nil),
		"signed by somebody else":   stranger.sign(good, nil, nil),
		"somebody else in our name": stranger.sign(good, map[string]any{"kid": f.public.ID}, nil),
		"key ID":                    string(b.active.ID),
	}
}

// RFC 7009 §2.1, RFC 7662 §2.1: who does not authenticate, or not rightly, gets 401
// before anything is said about the token; and not by a URL.
func TestAuthenticationAboutTokens(t *testing.T) {
	b := newBooth(t, options{now: clock(noon)})
	names := b.fixtures()
	token := b.token(b.active)
	with := func(id, secret string) url.Values {
		return url.Values{"client_id": {id}, "client_secret": {secret}, "token": {token}}
	}
	only := url.Values{"token": {token}}
	for _, path := range []string{endpoint.RevokePath, endpoint.IntrospectPath} {
		for name, a := range map[string]answer{
			"nothing":             b.about(path, only),
			"nothing at all":      b.about(path, url.Values{}),
			"no secret":           b.about(path, with(string(b.active.ID), "")),
			"wrong secret":        b.about(path, with(string(b.active.ID), b.wrong(b.active.ID))),
			"malformed secret":    b.about(path, with(string(b.active.ID), names["cut_secret"])),
			"invented key":        b.about(path, with(names["invented_id"], names["invented_secret"])),
			"Basic, wrong":        b.about(path, only, basic(string(b.active.ID), b.wrong(b.active.ID))),
			"Basic of nothing":    b.about(path, only, setHeader("Authorization", "Basic")),
			"key that is revoked": b.about(path, with(names["revoked_id"], names["revoked_secret"])),
			"key that expired":    b.about(path, with(names["expired_id"], names["expired_secret"])),
			"owner is disabled":   b.about(path, with(names["disabled_id"], names["disabled_secret"])),
			"suspended":           b.about(path, with(names["suspended_id"], names["suspended_secret"])),
			"elsewhere":           b.about(path, with(names["elsewhere_id"], names["elsewhere_secret"])),
		} {
			if a.status != http.StatusUnauthorized || a.code() != "invalid_client" || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
				t.Errorf("%s, %s: %d %q %s", path, name, a.status, a.header.Get("WWW-Authenticate"), a.body)
			}
		}
		for name, credential := range map[string]string{
			"garbage": "garbage", "wrong secret": b.wrong(b.active.ID), "revoked key": names["revoked_secret"], "revoked token": names["revoked_token"],
			"token for a service": token, "nothing": "",
		} {
			a := b.about(path, only, bearing(credential))
			if a.status != http.StatusUnauthorized || a.code() != "invalid_token" || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("%s, Bearer %s: %d %q %s", path, name, a.status, a.header.Get("WWW-Authenticate"), a.body)
			}
		}
	}
	b.wantActive(b.active, token, true)
}

// Requests are read as strictly as those for tokens.
func TestMalformedRequestsAboutTokens(t *testing.T) {
	b := newBooth(t, options{})
	token := b.token(b.active)
	full, other := by(b.active, token), b.key(nil)
	without := by(b.active, token)
	without.Del("token")
	twice := by(b.active, token)
	twice.Add("token", token)
	asJSON := string(must(json.Marshal(map[string]string{"client_id": string(b.active.ID), "client_secret": b.active.Secret.Reveal(), "token": token})))
	named := url.Values{"token": {token}, "client_id": {string(other.ID)}}
	for _, path := range []string{endpoint.RevokePath, endpoint.IntrospectPath} {
		for name, a := range map[string]answer{
			"no token":              b.about(path, without),
			"two tokens":            b.about(path, twice),
			"in the query":          b.about(path, full, query("token="+token)),
			"JSON":                  b.about(path, full, setHeader("Content-Type", "application/json"), setBody(asJSON)),
			"two ways":              b.about(path, full, basic(string(b.active.ID), b.active.Secret.Reveal())),
			"Bearer and a secret":   b.about(path, full, bearing(b.active.Secret.Reveal())),
			"Bearer and another ID": b.about(path, named, bearing(b.active.Secret.Reveal())),
			"Basic and another ID":  b.about(path, named, basic(string(b.active.ID), b.active.Secret.Reveal())),
			"Bearer and x-api-key":  b.about(path, url.Values{"token": {token}}, bearing(b.active.Secret.Reveal()), setHeader("X-Api-Key", "x")),
		} {
			if a.status != http.StatusBadRequest || a.code() != "invalid_request" {
				t.Errorf("%s, %s: %d %s", path, name, a.status, a.body)
			}
		}
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete} {
			r := httptest.NewRequest(method, path+"?token="+token, nil)
			r.SetBasicAuth(string(b.active.ID), b.active.Secret.Reveal())
			if a := b.send(r); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodPost {
				t.Errorf("%s %s: %d, Allow %q", method, path, a.status, a.header.Get("Allow"))
			}
		}
	}
	b.wantActive(b.active, token, true)
}

// setBody makes an edit of a request.
func setBody(text string) func(*http.Request) {
	return func(r *http.Request) {
		fresh := httptest.NewRequest(r.Method, r.URL.Path, strings.NewReader(text))
		r.Body, r.ContentLength = fresh.Body, fresh.ContentLength
	}
}

// RFC 7009 §2.1: a token of another client is refused, and whether it is one of the
// same workspace is not told. Who holds tokens:revoke revokes any of their workspace.
func TestRevokeTokensOfOthers(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		b := newBooth(t, options{database: db, now: clock(noon)})
		ws := must(b.manager.CreateWorkspace(t.Context(), operator, "Other", ""))
		there, mate := b.keyOf(b.manager, ws.ID, nil), b.key(nil)
		mayHere, mayThere := b.holder(b.workspace.ID, operator, manage.RevokeTokens), b.holder(ws.ID, operator, manage.RevokeTokens)
		b.catchUp()
		token := b.token(b.active)

		refusal := dump(b.revoke(mate, token).want(b, http.StatusBadRequest, "invalid_grant"))
		for name, k := range map[string]manage.Issued{"of another workspace": there, "who may there": mayThere} {
			if a := b.revoke(k, token); dump(a) != refusal {
				t.Errorf("%s: %s", name, dump(a))
			}
		}
		b.wantActive(b.active, token, true)
		if n := len(must(revocation.Since(t.Context(), db.Reader(), 0, 10))); n != 0 {
			t.Errorf("%d rows", n)
		}
		b.revoke(mayHere, token).want(b, http.StatusOK, "")
		b.wantActive(b.active, token, false)
		if a := b.revoke(mate, token); dump(a) != refusal {
			t.Errorf("of one that is revoked: %s", dump(a))
		}
	})
}

// RFC 6750: with a bearer token, which needs tokens:revoke, or with a raw key, which
// is that client.
func TestRevokeByBearer(t *testing.T) {
	b := newBooth(t, options{})
	may := b.holder(b.workspace.ID, operator, manage.RevokeTokens, "collectors:read")
	b.catchUp()
	send := func(credential, token string) answer {
		return b.about(endpoint.RevokePath, url.Values{"token": {token}}, bearing(credential))
	}
	first, second, third := b.token(b.active), b.token(b.active), b.token(b.active)
	send(b.active.Secret.Reveal(), first).want(b, http.StatusOK, "")
	b.wantActive(b.active, first, false)

	wide := b.token(may, "audience", issuer, "scope", manage.RevokeTokens)
	narrow := b.token(may, "audience", issuer, "scope", "collectors:read")
	own := b.token(b.active, "audience", issuer)
	for name, credential := range map[string]string{"without the scope": narrow, "of the same client": own} {
		a := send(credential, second).want(b, http.StatusForbidden, "insufficient_scope")
		if !strings.Contains(a.header.Get("WWW-Authenticate"), `scope="tokens:revoke"`) {
			t.Errorf("%s: %q", name, a.header.Get("WWW-Authenticate"))
		}
	}
	b.wantActive(b.active, second, true)
	send(wide, second).want(b, http.StatusOK, "")
	b.wantActive(b.active, second, false)

	send(wide, wide).want(b, http.StatusOK, "") // itself, and then no more
	send(wide, third).want(b, http.StatusUnauthorized, "invalid_token")
	b.wantActive(b.active, third, true)
}

// A token that is good at another service too could be replayed here by that one.
func TestRevokeByATokenForOthersToo(t *testing.T) {
	f := newForger()
	b := newBooth(t, options{now: clock(noon), trusted: []jwk.Key{f.public}})
	may := b.holder(b.workspace.ID, operator, manage.RevokeTokens)
	b.catchUp()
	claims := claimsOf(t, b.token(may, "audience", issuer))
	for audience, status := range map[string]int{issuer: http.StatusOK, issuer + " https://api.example.com": http.StatusUnauthorized} {
		credential := f.sign(claims, nil, map[string]any{"aud": strings.Fields(audience)})
		for _, path := range []string{endpoint.RevokePath, endpoint.IntrospectPath} {
			if a := b.about(path, url.Values{"token": {b.token(b.active)}}, bearing(credential)); a.status != status {
				t.Errorf("%s by a token for %s: %d %s, want %d", path, audience, a.status, a.body, status)
			}
		}
	}
}

// RFC 7009 §2.1: a hint is only one.
func TestTokenTypeHint(t *testing.T) {
	b := newBooth(t, options{})
	for _, hint := range []string{"access_token", "refresh_token", "pct", "\x00", strings.Repeat("x", 1000)} {
		token := b.token(b.active)
		values := by(b.active, token)
		values.Set("token_type_hint", hint)
		if a := b.about(endpoint.IntrospectPath, values).want(b, http.StatusOK, ""); a.object(t)["active"] != true {
			t.Errorf("%q: %s", hint, a.body)
		}
		if a := b.about(endpoint.RevokePath, values).want(b, http.StatusOK, ""); a.object(t)["sequence"] == nil {
			t.Errorf("%q: %s", hint, a.body)
		}
		b.wantActive(b.active, token, false)
	}
}

// A secret is no token. That it is still good has to be said, whether it is the
// caller's, another's, or cut off.
func TestRevokeASecret(t *testing.T) {
	b := newBooth(t, options{})
	other := b.key(nil)
	user := must(b.manager.CreateUser(t.Context(), operator, "ada@example.com", false))
	b.check(b.manager.AddMember(t.Context(), operator, b.workspace.ID, user.ID, workspace.Viewer))
	personal := must(b.manager.CreateKey(t.Context(), operator, b.workspace.ID, manage.NewKey{UserID: user.ID, Name: "mine"}))
	b.hide(personal.Secret.Reveal())
	b.catchUp()
	for name, secret := range map[string]string{
		"own": b.active.Secret.Reveal(), "another's": other.Secret.Reveal(), "personal": personal.Secret.Reveal(), "cut off": b.active.Secret.Reveal()[:50],
	} {
		if a := b.revoke(b.active, secret).want(b, http.StatusBadRequest, "unsupported_token_type"); !strings.Contains(a.body, "tokenbooth keys revoke") {
			t.Errorf("%s: %s", name, a.body)
		}
		if a := b.introspect(b.active, secret); a.status != http.StatusOK || a.body != inactive {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	b.token(b.active)
}

// CVE-2020-15223: what is not stored is not answered with success.
func TestRevokeWithoutStorage(t *testing.T) {
	b := newBooth(t, options{idle: true})
	token := b.token(b.active)
	b.check(b.db.Close())
	a := b.revoke(b.active, token).want(b, http.StatusServiceUnavailable, "temporarily_unavailable")
	if a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "still good") {
		t.Errorf("Retry-After is %q: %s", a.header.Get("Retry-After"), a.body)
	}
	b.whoami("Bearer "+token).want(b, http.StatusOK, "")
}

// However many ask at once, there is one revocation, and all are told of it.
func TestRevokeAtOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		b := newBooth(t, options{database: db})
		token := b.token(b.active)
		answers := make([]*httptest.ResponseRecorder, 50)
		var running sync.WaitGroup
		for i := range answers {
			running.Go(func() {
				answers[i] = httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodPost, endpoint.RevokePath, strings.NewReader(by(b.active, token).Encode()))
				r.Header.Set("Content-Type", formType)
				b.ServeHTTP(answers[i], r)
			})
		}
		running.Wait()
		for _, a := range answers {
			if a.Code != http.StatusOK || a.Body.String() != answers[0].Body.String() || !strings.Contains(a.Body.String(), `"sequence":1,`) {
				t.Errorf("%d %s", a.Code, a.Body)
			}
		}
		if n := len(must(revocation.Since(t.Context(), db.Reader(), 0, 100))); n != 1 {
			t.Errorf("%d rows", n)
		}
		events := must(audit.List(t.Context(), db.Reader(), audit.Filter{Chain: string(b.workspace.ID), Action: "token.revoke"}, audit.Position{}, 100))
		if len(events) != 1 {
			t.Errorf("%d audit events", len(events))
		}
	})
}

// While some replica may take the token, the answer says until when.
func TestRevokeWhileAReplicaIsAway(t *testing.T) {
	b := newBooth(t, options{})
	token := b.token(b.active)
	gone := &change.Follower{Database: b.db, Timing: change.Timing{Lease: 2 * time.Second, Renewal: 10 * time.Millisecond}, Alone: time.Minute, Log: slog.New(slog.DiscardHandler)}
	b.check(gone.Start(context.WithoutCancel(t.Context())))
	a := b.revoke(b.active, token).want(b, http.StatusAccepted, "")
	members := a.object(t)
	until, err := time.Parse(time.RFC3339, members["exchange_effective_by"].(string))
	if err != nil || time.Until(until) < 50*time.Second || time.Until(until) > 2*time.Minute || members["sequence"] != 1.0 || members["dead_by"] == nil {
		t.Errorf("%v: %s", err, a.body)
	}
	b.wantActive(b.active, token, false)
	again := b.revoke(b.active, token).want(b, http.StatusAccepted, "").object(t)
	if diff := cmp.Diff(members, again); diff != "" {
		t.Errorf("the second answer differs: %s", diff)
	}
}

// It spends no quota, but failures are slowed as at the token endpoint.
func TestRevokeAndQuota(t *testing.T) {
	b := newBooth(t, options{now: clock(noon), failures: quota.PerMinute(6, 3)})
	limited := b.key(func(n *manage.NewKey) { n.PerMinute = 1 })
	b.catchUp()
	token := b.token(limited)
	b.login(formOf(limited)).want(b, http.StatusTooManyRequests, "quota_exceeded")
	b.wantActive(limited, token, true)
	b.revoke(limited, token).want(b, http.StatusOK, "")

	wrong := by(limited, token)
	wrong.Set("client_secret", b.wrong(limited.ID))
	for range 3 {
		b.about(endpoint.RevokePath, wrong).want(b, http.StatusUnauthorized, "invalid_client")
	}
	for _, path := range []string{endpoint.RevokePath, endpoint.IntrospectPath} {
		if a := b.about(path, wrong).want(b, http.StatusTooManyRequests, "too_many_failures"); a.header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
	}
	b.wantActive(limited, token, false)
}
