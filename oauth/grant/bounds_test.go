package grant_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const day = 24 * time.Hour

func ptr[T any](v T) *T { return &v }

func (b *booth) rule(t *testing.T, rules policy.Rules) {
	t.Helper()
	_, _, err := b.manager.SetKeyPolicy(t.Context(), operator, "", rules)
	check(t, err)
}

func (b *booth) limit(t *testing.T, limits quota.Limits) {
	t.Helper()
	must(b.manager.SetQuota(t.Context(), operator, b.ws.ID, limits))(t)
}

// exchange asks for a token.
func (b *booth) exchange(t *testing.T, c grant.Credentials, from grant.Origin) (*grant.Token, error) {
	t.Helper()
	return b.Issue(t.Context(), grant.Request{Credentials: c, Origin: from})
}

// refused checks that an exchange was refused for a reason, with a text.
func refused(t *testing.T, what string, err error, reason grant.Reason, says string) {
	t.Helper()
	var refusal *grant.RefusedError
	if !errors.As(err, &refusal) || refusal.Reason != reason || !strings.Contains(refusal.Text, says) {
		t.Errorf("%s: %v, want %s and something about %q", what, err, reason, says)
	}
	if wire := grant.WireError(err).Explained(issuerName); wire.Status != 401 || wire.Code != oauth.InvalidClient {
		t.Errorf("%s: on the wire it is %d %s", what, wire.Status, wire.Code)
	}
}

func TestPolicyBlocksKeys(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	forever := b.key(t, manage.NewKey{})
	month := b.key(t, manage.NewKey{ExpiresAt: b.now().Add(30 * day)})
	tied := b.key(t, manage.NewKey{ExpiresAt: b.now().Add(30 * day), AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for _, c := range []struct {
		name   string
		rules  policy.Rules
		key    manage.Issued
		reason grant.Reason // empty: it works
		says   string
	}{
		{"nothing said", policy.Rules{}, forever, "", ""},
		{"never", policy.Rules{AllowNever: ptr(false)}, forever, grant.Policy, "never expires"},
		{"never, for one that ends", policy.Rules{AllowNever: ptr(false)}, month, "", ""},
		{"too long", policy.Rules{MaxLifetimeDays: ptr[int64](29)}, month, grant.Policy, "30 days instead of at most 29 days"},
		{"long enough", policy.Rules{MaxLifetimeDays: ptr[int64](30)}, month, "", ""},
		{"networks", policy.Rules{RequireNetworks: ptr(true)}, month, grant.Policy, "allowed_cidrs"},
		{"networks, for one that is tied", policy.Rules{RequireNetworks: ptr(true)}, tied, "", ""},
		{"disabled", policy.Rules{Enabled: ptr(false)}, tied, grant.Policy, "disabled by policy"},
		{"taken back", policy.Rules{}, forever, "", ""},
	} {
		b.rule(t, c.rules)
		_, err := b.exchange(t, right(c.key), home)
		if c.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		refused(t, c.name, err, c.reason, c.says)
		// Whoever does not hold the secret learns nothing of it.
		if _, err := b.exchange(t, b.wrong(c.key), abroad); !errors.Is(err, grant.ErrCredentials) {
			var slowed *grant.TooManyFailuresError
			if !errors.As(err, &slowed) {
				t.Errorf("%s: a wrong secret: %v", c.name, err)
			}
		}
	}
}

func TestPolicyNarrowsTokens(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	key := b.key(t, manage.NewKey{})
	before := must(b.exchange(t, right(key), home))(t)
	b.rule(t, policy.Rules{AllowedScopes: &[]string{"*:read"}})
	after := must(b.exchange(t, right(key), home))(t)
	if !slices.Equal(before.Scope, oauth.NewScope("charts:read", "charts:update")) || !slices.Equal(after.Scope, oauth.NewScope("charts:read")) {
		t.Errorf("before %s, after %s", before.Scope, after.Scope)
	}
}

// A key that nobody uses ends by itself; one that is used does not, also when what
// is in memory of its use is old.
func TestIdleKeys(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	b.cached.Store(true)
	b.rule(t, policy.Rules{IdleDays: ptr[int64](30)})
	used, idle := b.key(t, manage.NewKey{}), b.key(t, manage.NewKey{})
	must(b.exchange(t, right(idle), home))(t)
	for range 5 {
		b.pass(20 * day)
		must(b.exchange(t, right(used), home))(t)
		b.Usage.Flush(t.Context())
	}
	_, err := b.exchange(t, right(idle), home)
	refused(t, "after a hundred days", err, grant.Idle, "not used for 100 days")
	rotated := must(b.manager.RotateKey(t.Context(), operator, b.ws.ID, idle.ID, manage.Rotation{}))(t)
	b.cached.Store(false) // as if the change had reached the cache
	must(b.exchange(t, right(rotated), home))(t)
}

func TestUsesAreExact(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	key := b.key(t, manage.NewKey{MaxUses: 10})
	var running sync.WaitGroup
	results := make(chan error, 40)
	for range 40 {
		running.Go(func() {
			_, err := b.Issue(t.Context(), grant.Request{Credentials: right(key), Origin: home})
			results <- err
		})
	}
	running.Wait()
	close(results)
	issued := 0
	for err := range results {
		if err == nil {
			issued++
			continue
		}
		refused(t, "past the last use", err, grant.UsedUp, "made for 10 uses")
	}
	if issued != 10 {
		t.Errorf("%d tokens, want 10", issued)
	}
	if uses := must(keys.Read(t.Context(), b.db.Reader(), key.ID))(t).Uses; uses != 10 {
		t.Errorf("%d uses are counted", uses)
	}
	must(b.manager.UpdateKey(t.Context(), operator, b.ws.ID, key.ID, manage.KeyChange{MaxUses: ptr[int64](11)}))(t)
	must(b.exchange(t, right(key), home))(t)
	_, err := b.exchange(t, right(key), home)
	refused(t, "past the last use", err, grant.UsedUp, "made for 11 uses")
}

// A use is spent for a token, not for a request that is refused. Using the key itself
// is a use.
func TestWhatAUseIs(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	key := b.key(t, manage.NewKey{MaxUses: 2})
	_, err := b.Issue(t.Context(), grant.Request{Credentials: right(key), Origin: home, Request: policy.Request{Scope: oauth.NewScope("charts:fly")}})
	if !errors.Is(err, policy.ErrScope) {
		t.Fatal(err)
	}
	uses := func() int64 { return must(keys.Read(t.Context(), b.db.Reader(), key.ID))(t).Uses }
	if n := uses(); n != 0 {
		t.Errorf("%d uses for a request that was refused", n)
	}
	must(b.exchange(t, right(key), home))(t)
	must(b.Direct(t.Context(), right(key), home))(t)
	if n := uses(); n != 2 {
		t.Errorf("%d uses of an exchange and a direct use", n)
	}
}

// A use that gives no token is given back, also the last one.
func TestAUseWithoutATokenIsGivenBack(t *testing.T) {
	b := newBooth(t)
	key := b.key(t, manage.NewKey{MaxUses: 1})
	for range 3 {
		if _, err := b.exchange(t, right(key), home); !errors.Is(err, signing.ErrNoKey) {
			t.Fatalf("without a signing key: %v", err)
		}
	}
	b.open(t)
	must(b.exchange(t, right(key), home))(t)
	_, err := b.exchange(t, right(key), home)
	refused(t, "a second use", err, grant.UsedUp, "made for 1 uses")
}

func TestUsesNeedTheDatabase(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	b.cached.Store(true)
	limited, free := b.key(t, manage.NewKey{MaxUses: 10}), b.key(t, manage.NewKey{})
	must(b.exchange(t, right(limited), home))(t)
	must(b.exchange(t, right(free), home))(t)
	check(t, b.db.Close())
	if _, err := b.exchange(t, right(limited), home); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("a use that cannot be counted: %v", err)
	}
}

func TestQuotaOfAWorkspace(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	b.limit(t, quota.Limits{PerMinute: ptr[int64](1), Burst: ptr[int64](3), PerDay: ptr[int64](4)})
	one, other := b.key(t, manage.NewKey{}), b.key(t, manage.NewKey{})
	for range 20 { // nothing of what is not proven is spent
		_, _ = b.exchange(t, b.wrong(one), abroad)
	}
	for i := range 3 {
		token := must(b.exchange(t, right(one), home))(t)
		left := []string{`"minute";r=2;t=`, `"minute";r=1;t=`, `"minute";r=0;t=`}[i]
		if p, s := token.Client.Quota.Policy(), token.Client.Quota.State(); !strings.Contains(p, `"minute";q=`) || !strings.Contains(s, left) && i == 2 {
			t.Errorf("exchange %d: %s / %s", i+1, p, s)
		}
	}
	_, err := b.exchange(t, right(other), home)
	var over *grant.QuotaError
	if !errors.As(err, &over) || !slices.Equal(over.Violated, []string{"minute"}) || over.Wait < time.Minute {
		t.Fatalf("the fourth: %v", err)
	}
	wire := grant.WireError(err)
	if wire.Status != 429 || wire.Code != oauth.QuotaExceeded || wire.RetryAfter < time.Minute || wire.RateLimit == "" || !slices.Equal(wire.Violated, []string{"minute"}) {
		t.Errorf("%+v", wire)
	}
	b.pass(time.Minute)
	must(b.exchange(t, right(other), home))(t)
	b.pass(time.Minute)
	_, err = b.exchange(t, right(other), home)
	if !errors.As(err, &over) || !slices.Contains(over.Violated, "day") {
		t.Errorf("the fifth of the day: %v", err)
	}
	if _, err := b.Direct(t.Context(), right(one), home); !errors.As(err, &over) {
		t.Errorf("a key that is used directly: %v", err)
	}
	if got := grant.Outcome(err); got != "quota_exceeded" {
		t.Errorf("outcome %s", got)
	}
	stranger := must(b.manager.CreateWorkspace(t.Context(), operator, "Other", ""))(t)
	theirs := b.keyIn(t, stranger.ID)
	must(b.exchange(t, right(theirs), home))(t)
}

// keyIn makes a key of a new service account in a workspace.
func (b *booth) keyIn(t *testing.T, in workspace.ID) manage.Issued {
	t.Helper()
	return must(b.manager.CreateAccountWithKey(t.Context(), operator, in, manage.NewServiceAccount{Name: "other", Role: "viewer"}, manage.NewKey{Name: "other"}))(t)
}

func TestQuotaOfAKey(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	slow, free := b.key(t, manage.NewKey{PerMinute: 2}), b.key(t, manage.NewKey{})
	for range 2 {
		must(b.exchange(t, right(slow), home))(t)
	}
	var over *grant.QuotaError
	if _, err := b.exchange(t, right(slow), home); !errors.As(err, &over) || !slices.Equal(over.Violated, []string{"key"}) {
		t.Errorf("the third: %v", err)
	}
	for range 5 {
		must(b.exchange(t, right(free), home))(t)
	}
}

// Five thousand wrong secrets for a key slow those who send them, and nobody else:
// a right one is answered from everywhere.
func TestARightSecretAlwaysWins(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	key := b.key(t, manage.NewKey{})
	slowed := 0
	for range 5000 {
		_, err := b.exchange(t, b.wrong(key), abroad)
		var failures *grant.TooManyFailuresError
		if errors.As(err, &failures) {
			slowed++
		}
	}
	if slowed < 4900 {
		t.Errorf("only %d of 5000 were slowed", slowed)
	}
	must(b.exchange(t, right(key), abroad))(t)
	must(b.exchange(t, right(key), home))(t)
}

// A key that is used up takes nothing out of its workspace's quota.
func TestUsedUpKeysSpendNothing(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	b.limit(t, quota.Limits{PerMinute: ptr[int64](1), Burst: ptr[int64](3)})
	once, free := b.key(t, manage.NewKey{MaxUses: 1}), b.key(t, manage.NewKey{})
	must(b.exchange(t, right(once), home))(t)
	for range 10 {
		_, err := b.exchange(t, right(once), home)
		refused(t, "a second use", err, grant.UsedUp, "made for 1 uses")
	}
	for range 2 {
		must(b.exchange(t, right(free), home))(t)
	}
}

// Numbers that somebody wrote to the database stop nothing.
func TestOddLimitsOfKeys(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	for _, n := range []string{"9223372036854775807", "-1", "-9223372036854775808", "60000000001"} {
		key := b.key(t, manage.NewKey{})
		b.exec(t, `UPDATE keys SET exchanges_per_minute = `+n+` WHERE id = ?`, key.ID)
		must(b.exchange(t, right(key), home))(t)
	}
}

// Between the commit of a policy and the moment at which a replica has taken it in,
// no token is issued by the old one that carries the new generation.
func TestATokenIsByTheRulesOfItsGeneration(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	b.cached.Store(true)
	rules := policy.NewRulebook(b.db.Reader(), func(context.Context) bool { return b.cached.Load() }, slog.New(slog.DiscardHandler))
	check(t, rules.Follow(t.Context(), change.Batch{}))
	b.Rules = rules
	key := b.key(t, manage.NewKey{})
	b.rule(t, policy.Rules{AllowedScopes: &[]string{"*:read"}}) // committed, and not taken in
	token := must(b.exchange(t, right(key), home))(t)
	if !slices.Equal(token.Scope, oauth.NewScope("charts:read")) {
		t.Errorf("a token of generation %d carries %s", token.Client.Generation, token.Scope)
	}
}
