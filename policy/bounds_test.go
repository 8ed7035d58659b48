package policy_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

const day = 24 * time.Hour

func ptr[T any](v T) *T { return &v }

func TestCombine(t *testing.T) {
	b := policy.Combine(policy.Rules{}, policy.Rules{})
	if !b.Enabled || !b.AllowNever || b.MaxLifetime != 0 || b.DefaultLifetime != 90*day || b.MaxGrace != 7*day || b.Idle != 0 || b.RequireNetworks || b.ServiceAccounts {
		t.Errorf("nobody says anything: %+v", b)
	}
	b = policy.Combine(
		policy.Rules{MaxLifetimeDays: ptr[int64](180), MaxGraceSeconds: ptr[int64](3600), IdleDays: ptr[int64](60), ServiceAccounts: ptr(true)},
		policy.Rules{MaxLifetimeDays: ptr[int64](30), DefaultLifetimeDays: ptr[int64](7), IdleDays: ptr[int64](90), RequireNetworks: ptr(true)},
	)
	if b.MaxLifetime != 30*day || b.DefaultLifetime != 7*day || b.MaxGrace != time.Hour || b.Idle != 60*day || !b.RequireNetworks || !b.ServiceAccounts {
		t.Errorf("narrowed: %+v", b)
	}
	if b.AllowNever {
		t.Error("a key that never expires lives longer than 30 days")
	}
	if policy.Combine(policy.Rules{}, policy.Rules{ServiceAccounts: ptr(true)}).ServiceAccounts {
		t.Error("a workspace lets its service accounts manage keys, and the organization does not")
	}
	if b := policy.Combine(policy.Rules{MaxLifetimeDays: ptr[int64](30)}, policy.Rules{}); b.DefaultLifetime != 30*day {
		t.Errorf("the default lifetime exceeds the longest: %s", b.DefaultLifetime)
	}
}

func TestKeep(t *testing.T) {
	all := oauth.NewScope("collectors:read", "collectors:delete", "charts:read", "api-keys:create")
	b := policy.Combine(policy.Rules{AllowedScopes: &[]string{"collectors:*", "charts:read"}}, policy.Rules{AllowedScopes: &[]string{"*:read"}})
	if got, want := b.Keep(all), oauth.NewScope("collectors:read", "charts:read", "api-keys:create"); !slices.Equal(got, want) {
		t.Errorf("kept %s, want %s", got, want)
	}
	none := policy.Combine(policy.Rules{AllowedScopes: &[]string{}}, policy.Rules{})
	if got := none.Keep(all); !slices.Equal(got, oauth.NewScope("api-keys:create")) {
		t.Errorf("an empty list keeps %s", got)
	}
	if got := everything.Keep(all); !slices.Equal(got, all) {
		t.Errorf("without a list: %s", got)
	}
}

// record is a key that was made at start, and last used some days later.
func record(expires, used int) *keys.Record {
	r := &keys.Record{}
	r.CreatedAt = workspace.At(start)
	r.Secrets = []keys.StoredSecret{{ID: "sec_1", CreatedAt: workspace.At(start)}}
	if expires > 0 {
		r.ExpiresAt = workspace.At(start.Add(time.Duration(expires) * day))
	}
	if used > 0 {
		r.Secrets[0].LastUsedAt = workspace.At(start.Add(time.Duration(used) * day))
	}
	return r
}

func TestViolations(t *testing.T) {
	tied, rotated, inUse := record(30, 0), record(100, 0), record(0, 20)
	tied.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	rotated.Secrets = append([]keys.StoredSecret{{ID: "sec_2", CreatedAt: workspace.At(start.Add(20 * day))}}, rotated.Secrets...)
	now := start.Add(25 * day)
	admins, formers := record(0, 0), record(0, 0)
	admins.UserID, admins.OwnerIsAdmin = "usr_1", true
	formers.UserID = "usr_1"
	for _, c := range []struct {
		name   string
		rules  policy.Rules
		record *keys.Record
		want   []policy.Rule
		says   string
	}{
		{"nothing said", policy.Rules{}, record(0, 0), nil, ""},
		{"disabled", policy.Rules{Enabled: ptr(false)}, record(30, 0), []policy.Rule{policy.RuleEnabled}, "disabled by policy"},
		{"long enough", policy.Rules{MaxLifetimeDays: ptr[int64](30)}, record(30, 0), nil, ""},
		{"too long", policy.Rules{MaxLifetimeDays: ptr[int64](29)}, record(30, 0), []policy.Rule{policy.RuleMaxLifetime}, "30 days instead of at most 29 days: set its expires_at to 2026-03-30T12:00:00Z or earlier"},
		{"longer than the longest for ever", policy.Rules{MaxLifetimeDays: ptr[int64](29)}, record(0, 0), []policy.Rule{policy.RuleMaxLifetime}, "never expires"},
		{"its lifetime counts from the newest secret", policy.Rules{MaxLifetimeDays: ptr[int64](80)}, rotated, nil, ""},
		{"and not from one before", policy.Rules{MaxLifetimeDays: ptr[int64](79)}, rotated, []policy.Rule{policy.RuleMaxLifetime}, "80 days"},
		{"for ever", policy.Rules{AllowNever: ptr(false)}, record(0, 0), []policy.Rule{policy.RuleAllowNever}, "set its expires_at"},
		{"from everywhere", policy.Rules{RequireNetworks: ptr(true)}, record(30, 0), []policy.Rule{policy.RuleNetworks}, "allowed_cidrs"},
		{"from somewhere", policy.Rules{RequireNetworks: ptr(true)}, tied, nil, ""},
		{"idle since it was made", policy.Rules{IdleDays: ptr[int64](24)}, record(0, 0), []policy.Rule{policy.RuleIdle}, "not used for 25 days"},
		{"not idle that long", policy.Rules{IdleDays: ptr[int64](25)}, record(0, 0), nil, ""},
		{"in use", policy.Rules{IdleDays: ptr[int64](5)}, inUse, nil, ""},
		{"idle since it was used", policy.Rules{IdleDays: ptr[int64](4)}, inUse, []policy.Rule{policy.RuleIdle}, "not used for 5 days"},
		{"idle until it was rotated", policy.Rules{IdleDays: ptr[int64](10)}, rotated, nil, ""},
		{"an organization admin's", policy.Rules{Enabled: ptr(false), AllowNever: ptr(false), IdleDays: ptr[int64](1)}, admins, nil, ""},
		{"a former one's", policy.Rules{Enabled: ptr(false)}, formers, []policy.Rule{policy.RuleEnabled}, ""},
		{"all at once", policy.Rules{Enabled: ptr(false), RequireNetworks: ptr(true), IdleDays: ptr[int64](1), AllowNever: ptr(false)}, record(0, 0),
			[]policy.Rule{policy.RuleEnabled, policy.RuleAllowNever, policy.RuleNetworks, policy.RuleIdle}, ""},
	} {
		b := policy.Combine(c.rules, policy.Rules{})
		var got []policy.Rule
		var text strings.Builder
		for _, v := range b.Violations(c.record.Standing(), now) {
			got = append(got, v.Rule)
			text.WriteString(v.Text)
		}
		if !slices.Equal(got, c.want) || !strings.Contains(text.String(), c.says) {
			t.Errorf("%s: breaks %v, %s; want %v, %s", c.name, got, text.String(), c.want, c.says)
		}
	}
}

func TestAdmits(t *testing.T) {
	b := policy.Combine(policy.Rules{MaxLifetimeDays: ptr[int64](30), RequireNetworks: ptr(true)}, policy.Rules{})
	key := record(31, 0).Key
	if err := b.Admits(&key, start); !errors.Is(err, policy.ErrPolicy) || !errors.Is(err, workspace.ErrInvalid) {
		t.Errorf("31 days: %v", err)
	}
	if err := b.AdmitsBy(&key, start, policy.RuleAllowNever); err != nil {
		t.Errorf("another rule was asked for: %v", err)
	}
	if err := b.AdmitsBy(&key, start, policy.RuleNetworks); !errors.Is(err, policy.ErrPolicy) {
		t.Errorf("from everywhere: %v", err)
	}
	// Whoever says "in 30 days" counts from a clock of their own.
	key.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	key.ExpiresAt = workspace.At(start.Add(30*day + 59*time.Minute))
	if err := b.Admits(&key, start); err != nil {
		t.Errorf("59 minutes more: %v", err)
	}
	key.ExpiresAt = workspace.At(start.Add(30*day + 61*time.Minute))
	if err := b.Admits(&key, start); err == nil {
		t.Error("61 minutes more are allowed")
	}
	if got := b.Expiry(start.Add(time.Millisecond)); !got.Equal(start.Add(30 * day)) {
		t.Errorf("by default it ends at %s", got)
	}
}

func randomRules(t *rapid.T, name string) policy.Rules {
	flag := func(of string) *bool { return rapid.Ptr(rapid.Bool(), true).Draw(t, name+" "+of) }
	number := func(of string, most int64) *int64 {
		return rapid.Ptr(rapid.Int64Range(1, most), true).Draw(t, name+" "+of)
	}
	r := policy.Rules{
		Enabled: flag("enabled"), AllowNever: flag("never"), RequireNetworks: flag("networks"), ServiceAccounts: flag("service accounts"),
		MaxLifetimeDays: number("longest", 40), IdleDays: number("idle", 40), MaxGraceSeconds: number("grace", 1000),
	}
	patterns := rapid.SliceOfN(rapid.SampledFrom([]string{"collectors:*", "*:read", "charts:update", "*:*", "gone:read"}), 0, 3)
	r.AllowedScopes = rapid.Ptr(patterns, true).Draw(t, name+" scopes")
	return r
}

// Whatever a workspace says, it allows no more than the organization does.
func TestAWorkspaceOnlyNarrows(t *testing.T) {
	catalogue := oauth.NewScope("collectors:read", "collectors:delete", "charts:read", "charts:update")
	more := func(now, was time.Duration) bool { return was > 0 && (now == 0 || now > was) }
	rapid.Check(t, func(t *rapid.T) {
		organization, own := randomRules(t, "organization"), randomRules(t, "workspace")
		whole, narrowed := policy.Combine(organization, policy.Rules{}), policy.Combine(organization, own)
		if narrowed.Enabled && !whole.Enabled || narrowed.AllowNever && !whole.AllowNever || !narrowed.RequireNetworks && whole.RequireNetworks ||
			narrowed.ServiceAccounts && !whole.ServiceAccounts || more(narrowed.MaxLifetime, whole.MaxLifetime) || more(narrowed.Idle, whole.Idle) ||
			narrowed.MaxGrace > whole.MaxGrace || len(narrowed.Keep(catalogue).Minus(whole.Keep(catalogue))) > 0 {
			t.Fatalf("%+v is looser than %+v", narrowed, whole)
		}
		if other := randomRules(t, "other"); !other.Looser(own) {
			b := policy.Combine(organization, other)
			if len(b.Keep(catalogue).Minus(narrowed.Keep(catalogue))) > 0 || more(b.MaxLifetime, narrowed.MaxLifetime) || b.Enabled && !narrowed.Enabled {
				t.Fatalf("%+v is not looser than %+v, and allows more", other, own)
			}
		}
		r := record(rapid.IntRange(0, 50).Draw(t, "expires"), rapid.IntRange(0, 30).Draw(t, "used"))
		now := start.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "now")) * day)
		if len(whole.Violations(r.Standing(), now)) > 0 && len(narrowed.Violations(r.Standing(), now)) == 0 {
			t.Fatal("a key that the organization refuses is let through by the workspace")
		}
		if own.Within(whole) == nil && own.MaxLifetimeDays != nil && narrowed.MaxLifetime != time.Duration(*own.MaxLifetimeDays)*day {
			t.Fatal("rules within the organization's do not apply as they stand")
		}
	})
}

// Looser says whether rules allow by themselves what others do not.
func TestLooser(t *testing.T) {
	tight := policy.Rules{
		Enabled: ptr(false), AllowNever: ptr(false), MaxLifetimeDays: ptr[int64](30), MaxGraceSeconds: ptr[int64](60), RequireNetworks: ptr(true),
		IdleDays: ptr[int64](30), AllowedScopes: &[]string{"collectors:*", "*:read"}, ServiceAccounts: ptr(false), DefaultLifetimeDays: ptr[int64](3),
	}
	if tight.Looser(tight) || tight.Looser(policy.Rules{}) || !(policy.Rules{}).Looser(tight) {
		t.Error("what says nothing is looser than what says something, and nothing else")
	}
	for name, c := range map[string]struct {
		change func(*policy.Rules)
		looser bool
	}{
		"enabled": {func(r *policy.Rules) { r.Enabled = ptr(true) }, true}, "enabled by default": {func(r *policy.Rules) { r.Enabled = nil }, true},
		"lifetime": {func(r *policy.Rules) { r.MaxLifetimeDays = ptr[int64](31) }, true}, "any lifetime": {func(r *policy.Rules) { r.MaxLifetimeDays = nil }, true},
		"shorter": {func(r *policy.Rules) { r.MaxLifetimeDays = ptr[int64](29) }, false}, "never": {func(r *policy.Rules) { r.AllowNever = nil }, true},
		"grace": {func(r *policy.Rules) { r.MaxGraceSeconds = ptr[int64](61) }, true}, "no grace": {func(r *policy.Rules) { r.MaxGraceSeconds = ptr[int64](0) }, false},
		"networks": {func(r *policy.Rules) { r.RequireNetworks = ptr(false) }, true}, "idle": {func(r *policy.Rules) { r.IdleDays = nil }, true},
		"service accounts": {func(r *policy.Rules) { r.ServiceAccounts = nil }, true}, "default": {func(r *policy.Rules) { r.DefaultLifetimeDays = ptr[int64](30) }, false},
		"any scopes":   {func(r *policy.Rules) { r.AllowedScopes = nil }, true},
		"other scopes": {func(r *policy.Rules) { r.AllowedScopes = &[]string{"charts:update"} }, true},
		"all of them":  {func(r *policy.Rules) { r.AllowedScopes = &[]string{"*:*"} }, true},
		"some of them": {func(r *policy.Rules) { r.AllowedScopes = &[]string{"collectors:update", "charts:read"} }, false},
		"none of them": {func(r *policy.Rules) { r.AllowedScopes = &[]string{} }, false},
	} {
		r := tight
		c.change(&r)
		if r.Looser(tight) != c.looser {
			t.Errorf("%s: looser is %v", name, !c.looser)
		}
	}
}

func TestWithin(t *testing.T) {
	organization := policy.Combine(policy.Rules{
		Enabled: ptr(false), MaxLifetimeDays: ptr[int64](30), MaxGraceSeconds: ptr[int64](60), RequireNetworks: ptr(true), IdleDays: ptr[int64](30),
	}, policy.Rules{})
	for name, rules := range map[string]policy.Rules{
		"max_lifetime_days": {MaxLifetimeDays: ptr[int64](31)}, "default_lifetime_days": {DefaultLifetimeDays: ptr[int64](31)},
		"disable_idle_after_days": {IdleDays: ptr[int64](31)}, "max_grace_period_seconds": {MaxGraceSeconds: ptr[int64](61)},
		"api_keys_enabled": {Enabled: ptr(true)}, "allow_never_expiring": {AllowNever: ptr(true)},
		"require_allowed_cidrs": {RequireNetworks: ptr(false)}, "service_accounts_manage_keys": {ServiceAccounts: ptr(true)},
	} {
		if err := rules.Within(organization); !errors.Is(err, workspace.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	narrower := policy.Rules{
		MaxLifetimeDays: ptr[int64](30), DefaultLifetimeDays: ptr[int64](7), IdleDays: ptr[int64](30), MaxGraceSeconds: ptr[int64](0),
		Enabled: ptr(false), AllowNever: ptr(false), RequireNetworks: ptr(true), ServiceAccounts: ptr(false),
	}
	if err := narrower.Within(organization); err != nil {
		t.Error(err)
	}
}
