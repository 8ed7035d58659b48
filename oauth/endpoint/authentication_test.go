package endpoint_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// An unknown key and a wrong secret get the same answer to the byte, header
// fields included, however the key is presented.
func TestUnknownAndWrongAreIndistinguishable(t *testing.T) {
	b := newBooth(t, options{})
	other, revoked := b.key(nil), b.revoked()
	inventedID, inventedSecret := invented()
	absent := b.format.NewID() // well made, but there is no such key
	want := dump(b.login(form(string(b.active.ID), b.wrong(b.active.ID))).want(b, http.StatusUnauthorized, "invalid_client"))
	for name, credentials := range map[string][2]string{
		"invented key":                      {inventedID, inventedSecret},
		"invented key, a secret of ours":    {inventedID, b.active.Secret.Reveal()},
		"no such key":                       {string(absent), b.wrong(absent)},
		"secret of another key":             {string(b.active.ID), other.Secret.Reveal()},
		"wrong secret of a revoked key":     {string(revoked.ID), b.wrong(revoked.ID)},
		"foreign secret":                    {string(b.active.ID), "hunter2"},
		"ID that is no ID":                  {"me", b.active.Secret.Reveal()},
		"ID in upper case":                  {strings.ToUpper(string(b.active.ID)), b.active.Secret.Reveal()},
		"ID with a space":                   {string(b.active.ID) + " ", b.active.Secret.Reveal()},
		"ID and secret exchanged":           {b.active.Secret.Reveal(), string(b.active.ID)},
		"secret after a space":              {string(b.active.ID), " " + b.active.Secret.Reveal()},
		"wildcards":                         {"%", "%"},
		"quotes":                            {`' OR 1=1 --`, `" OR 1=1 --`},
		"a NUL and what is not UTF-8":       {"\x00", "\xff\xfe"},
		"another installation's own secret": {string(b.active.ID), inventedSecret},
	} {
		post := b.login(form(credentials[0], credentials[1]))
		header := b.login(url.Values{"grant_type": {"client_credentials"}}, basic(credentials[0], credentials[1]))
		for way, a := range map[string]answer{"post": post, "basic": header} {
			if diff := cmp.Diff(want, dump(a)); diff != "" {
				t.Errorf("%s by %s: %s", name, way, diff)
			}
		}
	}
}

// RFC 6749 §5.2: what is no proof at all.
func TestIncompleteCredentials(t *testing.T) {
	b := newBooth(t, options{})
	id, secret := string(b.active.ID), b.active.Secret.Reveal()
	grantOnly := url.Values{"grant_type": {"client_credentials"}}
	authorization := func(value string) answer { return b.login(grantOnly, setHeader("Authorization", value)) }
	for name, a := range map[string]answer{
		"none":                    b.login(grantOnly),
		"no secret":               b.login(form(id, "")),
		"no ID":                   b.login(form("", secret)),
		"secret of a line end":    b.login(form(id, "\n")),
		"empty header":            authorization(""),
		"Basic alone":             authorization("Basic"),
		"Basic of nothing":        authorization("Basic " + encode(":")),
		"Basic without a secret":  authorization("Basic " + encode(id+":")),
		"Basic without an ID":     authorization("Basic " + encode(":"+secret)),
		"Basic without a colon":   authorization("Basic " + encode(id)),
		"Basic not base64":        authorization("Basic " + id + ":" + secret),
		"Basic, a bad escape":     authorization("Basic " + encode(id+":%zz")),
		"Bearer":                  authorization("Bearer " + secret),
		"assertion":               b.login(form(id, "", "client_assertion", "a.b.c", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")),
		"assertion with a secret": b.login(formOf(b.active, "client_assertion", "eyJhbGciOiJub25lIn0.e30.")),
		"assertion of dots":       b.login(form(id, "", "client_assertion", strings.Repeat(".", 7000))),
		"client certificate":      b.login(form(id, ""), setHeader("X-Ssl-Client-Cert", "x"), setHeader("X-Forwarded-Client-Cert", "x")),
	} {
		if a.status != http.StatusUnauthorized || a.code() != "invalid_client" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// Whoever holds the right secret learns why it does not work; nobody else does.
// (The texts are in testdata.)
func TestOnlyTheHolderLearnsTheReason(t *testing.T) {
	b := newBooth(t, options{now: clock(noon)})
	names := b.fixtures()
	unknown := dump(b.login(form(names["invented_id"], names["invented_secret"])))
	for _, state := range []string{"expired", "revoked", "disabled", "suspended", "rotated", "elsewhere"} {
		id := names[state+"_id"]
		holder := b.login(form(id, names[state+"_secret"])).want(b, http.StatusUnauthorized, "invalid_client")
		stranger := b.login(form(id, b.format.NewSecret(b.active.ID, 's').Reveal()))
		if dump(holder) == unknown {
			t.Errorf("%s: the holder learns nothing: %s", state, holder.body)
		}
		if dump(stranger) != unknown {
			t.Errorf("%s: a stranger learns something: %s", state, stranger.body)
		}
	}
}

// A flood of failures from one address is answered 429, whatever keys it aims at
// and however it spells them; the right secret from there always works.
func TestFloodOfFailures(t *testing.T) {
	b := newBooth(t, options{now: clock(noon), failures: quota.PerMinute(6, 10)})
	other := b.key(nil)
	id, wrong := string(b.active.ID), b.wrong(b.active.ID)
	inventedID, inventedSecret := invented()
	spellings := []func() answer{
		func() answer { return b.login(form(id, wrong)) },
		func() answer { return b.login(form(strings.ToUpper(id), wrong)) },
		func() answer { return b.login(form(id+" ", wrong)) },
		func() answer {
			return b.post(formType, "grant_type=client_credentials&client_id="+percent(id)+"&client_secret="+percent(wrong))
		},
		func() answer { return b.login(url.Values{"grant_type": {"client_credentials"}}, basic(id, wrong)) },
		func() answer { return b.login(form(string(other.ID), b.wrong(other.ID))) },
		func() answer { return b.login(form(inventedID, inventedSecret)) },
		func() answer { return b.login(form(id, b.active.Secret.Reveal()[:50])) },
		func() answer { return b.login(form(id, wrong), setHeader("X-Forwarded-For", "203.0.113.9")) },
		func() answer { return b.get(endpoint.WhoamiPath, setHeader("X-Api-Key", wrong)) },
	}
	for i, try := range spellings {
		if a := try(); a.status != http.StatusUnauthorized {
			t.Errorf("failure %d within the budget: %d %s", i, a.status, a.body)
		}
	}
	before := b.db.Queries()
	for i := range 5 * len(spellings) {
		a := spellings[i%len(spellings)]()
		if a.status != http.StatusTooManyRequests {
			t.Fatalf("failure beyond the budget: %d %s", a.status, a.body)
		}
		if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds != 10 {
			t.Fatalf("Retry-After is %q, want 10", a.header.Get("Retry-After"))
		}
	}
	loads := b.directory.Loads()
	b.login(formOf(b.active)).want(b, http.StatusOK, "")
	b.login(form(id, wrong), func(r *http.Request) { r.RemoteAddr = "198.51.100.1:1" }).want(b, http.StatusUnauthorized, "invalid_client")
	if b.directory.Loads() != loads {
		t.Error("a known key was read again")
	}
	// The follower's own statements come every 10 ms.
	if sent := b.db.Queries() - before; sent > 1000 {
		t.Errorf("the flood sent %d statements", sent)
	}
}

// A dependency that is down is never told to a client as a wrong secret.
func TestUnavailableIsNotUnauthorized(t *testing.T) {
	b := newBooth(t, options{idle: true})
	known, cold := b.active, b.key(nil)
	token := b.token(known)
	b.check(b.db.Close())
	b.login(formOf(known)).want(b, http.StatusOK, "") // from memory, within the lease
	a := b.login(formOf(cold)).want(b, http.StatusServiceUnavailable, "temporarily_unavailable")
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 5 {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	whoami := b.get(endpoint.WhoamiPath, setHeader("X-Api-Key", cold.Secret.Reveal()))
	if whoami.status != http.StatusServiceUnavailable || whoami.header.Get("Retry-After") == "" {
		t.Errorf("whoami: %d %s", whoami.status, whoami.body)
	}
	b.get(endpoint.WhoamiPath, setHeader("Authorization", "Bearer "+token)).want(b, http.StatusOK, "")
	b.get(endpoint.JWKSPath).want(b, http.StatusOK, "")
}

// A key that was rotated with a grace period has two secrets that work.
func TestRotationOverlaps(t *testing.T) {
	b := newBooth(t, options{})
	old := b.key(nil)
	issued := must(b.manager.RotateKey(b.Context(), operator, b.workspace.ID, old.ID, manage.Rotation{Grace: time.Hour}))
	b.hide(issued.Secret.Reveal())
	b.login(formOf(old)).want(b, http.StatusOK, "")
	b.login(formOf(issued)).want(b, http.StatusOK, "")
}
