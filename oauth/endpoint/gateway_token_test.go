package endpoint_test

import (
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// A token is denied from the moment of its revocation, one of a key likewise.
func TestGatewayAfterRevocation(t *testing.T) {
	b := gatedBooth(t, options{})
	for _, k := range kinds {
		key := b.key(nil)
		token := b.token(key)
		b.passed(k, b.ask(k, bearing(token)), key)
		kept := b.passed(k, b.ask(k, bearing(key.Secret.Reveal())), key)
		b.check(b.manager.RevokeKey(b.Context(), operator, b.workspace.ID, key.ID, ""))
		for _, credential := range []string{token, kept, key.Secret.Reveal()} {
			a := b.ask(k, bearing(credential))
			b.refused(k, a, http.StatusUnauthorized, "revoked")
		}
	}
}

// The exchanges that raw keys cost: one for as long as the token is kept, however many
// requests come at once.
func TestGatewayKeepsTokens(t *testing.T) {
	b := gatedBooth(t, options{})
	const many = 64
	tokens := make([]string, many)
	var group sync.WaitGroup
	for i := range many {
		group.Go(func() {
			a := b.ask(kinds[i%3], setHeader("X-Api-Key", b.active.Secret.Reveal()))
			tokens[i] = a.header.Get("Authorization")
		})
	}
	group.Wait()
	for i, token := range tokens {
		if token != tokens[0] || token == "" {
			t.Fatalf("request %d got another token than the first", i)
		}
	}
	if got := len(b.outcomes); got != 1 || b.outcomes[0] != "issued" {
		t.Errorf("the exchanges are %v, want one", b.outcomes)
	}
	other := b.key(nil)
	if a := b.ask(kinds[0], bearing(other.Secret.Reveal())); a.header.Get("Authorization") == tokens[0] {
		t.Error("another key got the same token")
	}
}

// A kept token is not used past half of its life, nor past a minute, and never for what
// has changed since.
func TestGatewayRenewsTokens(t *testing.T) {
	now := time.Now()
	b := gatedBooth(t, options{now: func() time.Time { return now }})
	key := b.key(func(n *manage.NewKey) { n.TokenTTL = 80 * time.Second })
	k := kinds[0]
	ask := func() string { return b.passed(k, b.ask(k, bearing(key.Secret.Reveal())), key) }
	long := func() string {
		return b.passed(k, b.ask(k, bearing(b.active.Secret.Reveal())), b.active)
	}
	first, slow := ask(), long()
	now = now.Add(39 * time.Second)
	if ask() != first || long() != slow {
		t.Error("the token was not kept")
	}
	now = now.Add(2 * time.Second)
	if ask() == first {
		t.Error("the token was kept for more than half of its life")
	}
	now = now.Add(18 * time.Second)
	if long() != slow {
		t.Error("the token was not kept for a minute")
	}
	now = now.Add(2 * time.Second)
	if long() == slow {
		t.Error("the token was kept for more than a minute")
	}
}

// What a key may do is what its next request finds.
func TestGatewayFollowsScopes(t *testing.T) {
	b := gatedBooth(t, options{})
	key := b.key(nil)
	k := kinds[1]
	ask := func() string {
		return carries(b.passed(k, b.ask(k, bearing(key.Secret.Reveal())), key)).Scope.String()
	}
	all := ask()
	for _, scope := range []*oauth.Scope{ptr(oauth.NewScope("collectors:read")), ptr(oauth.NewScope("collectors:read", "pipelines:read"))} {
		must(b.manager.UpdateKey(b.Context(), operator, b.workspace.ID, key.ID, manage.KeyChange{Scopes: &scope}))
		if got := ask(); got != scope.String() || got == all {
			t.Errorf("the token holds %q, want %q", got, scope)
		}
	}
}

// A key that is bound to networks passes from there only, also while its token is
// kept, and at the same time as others.
func TestGatewayNetworks(t *testing.T) {
	b := gatedBooth(t, options{})
	key := b.key(func(n *manage.NewKey) { n.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix(theClient + "/32")} })
	var group sync.WaitGroup
	for i := range 30 {
		group.Go(func() {
			k, from, want := kinds[i%3], theClient, http.StatusOK
			if i%2 == 1 {
				from, want = "198.51.100."+strconv.Itoa(i), http.StatusUnauthorized
			}
			a := b.ask(k, bearing(key.Secret.Reveal()), setHeader("X-Forwarded-For", from))
			if a.status != want {
				t.Errorf("from %s: %d, want %d: %s", from, a.status, want, a.body)
			}
		})
	}
	group.Wait()
	a := b.ask(kinds[0], bearing(key.Secret.Reveal()), setHeader("X-Forwarded-For", theClient+", 198.51.100.1"))
	b.refused(kinds[0], a, http.StatusUnauthorized, "198.51.100.1")
}

// Over quota and too many failures are 429, which nginx finds in a header.
func TestGatewayLimits(t *testing.T) {
	now := time.Now()
	b := gatedBooth(t, options{now: func() time.Time { return now }, failures: quota.Rate{Burst: 3, Interval: time.Hour}})
	for _, k := range kinds {
		slow := b.key(func(n *manage.NewKey) { n.PerMinute, n.TokenTTL = 1, time.Minute })
		once := b.key(func(n *manage.NewKey) { n.MaxUses, n.TokenTTL = 1, time.Minute })
		for range 3 {
			b.passed(k, b.ask(k, bearing(slow.Secret.Reveal())), slow)
			b.passed(k, b.ask(k, bearing(once.Secret.Reveal())), once)
		}
		now = now.Add(31 * time.Second)
		over := b.ask(k, bearing(slow.Secret.Reveal()))
		b.refused(k, over, http.StatusTooManyRequests, "")
		if over.header.Get("Retry-After") == "" || over.header.Get("RateLimit") == "" {
			t.Errorf("%s: the header is %v", k.name, over.header)
		}
		b.refused(k, b.ask(k, bearing(once.Secret.Reveal())), http.StatusUnauthorized, "used up")
	}
	for i := range 6 {
		k, status := kinds[i%3], http.StatusUnauthorized
		if i >= 3 {
			status = http.StatusTooManyRequests
		}
		a := b.ask(k, bearing(b.wrong(b.active.ID)))
		b.refused(k, a, status, "")
		if i >= 3 && a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", k.name)
		}
	}
	b.passed(kinds[0], b.ask(kinds[0], bearing(b.active.Secret.Reveal())), b.active)
}

// Without the database and without the lease nothing is known: nobody passes.
func TestGatewayFailsClosed(t *testing.T) {
	b := gatedBooth(t, options{})
	token := b.token(b.active)
	secret := b.active.Secret.Reveal()
	b.passed(kinds[0], b.ask(kinds[0], bearing(secret)), b.active)
	b.check(b.db.Close())
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for deadline := time.Now().Add(time.Minute); b.ask(kinds[0], bearing(token)).status == http.StatusOK; {
		if now := <-pause.C; now.After(deadline) {
			t.Fatal("tokens pass though it cannot be known whether they were revoked")
		}
	}
	for _, k := range kinds {
		for _, credential := range []string{token, secret} {
			a := b.ask(k, bearing(credential))
			b.refused(k, a, http.StatusServiceUnavailable, "")
			if a.header.Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", k.name)
			}
		}
	}
}
