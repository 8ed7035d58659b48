package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

const day = 24 * time.Hour

// Bounds are what Rules come to for the keys of one workspace: the narrowest of
// what the organization and the workspace say.
type Bounds struct {
	Enabled         bool
	MaxLifetime     time.Duration // 0: any
	DefaultLifetime time.Duration
	AllowNever      bool
	MaxGrace        time.Duration
	RequireNetworks bool
	Idle            time.Duration // 0: keys may be unused for ever
	ServiceAccounts bool          // they may manage service accounts and keys

	scopes [2]*[]string // the organization's and the workspace's list of patterns: of each a scope of the catalogue matches one; nil: there is none
}

// Unbounded is what applies where nobody says anything.
func Unbounded() Bounds {
	return Bounds{Enabled: true, DefaultLifetime: 90 * day, AllowNever: true, MaxGrace: MaxGraceSeconds * time.Second}
}

// Combine makes the bounds of the organization's rules, narrowed by those of a
// workspace.
func Combine(organization, ws Rules) Bounds {
	b := Unbounded()
	b.narrow(&organization)
	b.narrow(&ws)
	b.scopes = [...]*[]string{organization.AllowedScopes, ws.AllowedScopes}
	b.ServiceAccounts = says(organization.ServiceAccounts, false) && says(ws.ServiceAccounts, true)
	if b.MaxLifetime > 0 {
		b.AllowNever = false
		b.DefaultLifetime = min(b.DefaultLifetime, b.MaxLifetime)
	}
	return b
}

func (b *Bounds) narrow(r *Rules) {
	b.Enabled = b.Enabled && says(r.Enabled, true)
	b.AllowNever = b.AllowNever && says(r.AllowNever, true)
	b.RequireNetworks = b.RequireNetworks || says(r.RequireNetworks, false)
	b.MaxLifetime = least(b.MaxLifetime, r.MaxLifetimeDays, day)
	b.Idle = least(b.Idle, r.IdleDays, day)
	if r.MaxGraceSeconds != nil {
		b.MaxGrace = min(b.MaxGrace, time.Duration(*r.MaxGraceSeconds)*time.Second)
	}
	if r.DefaultLifetimeDays != nil {
		b.DefaultLifetime = time.Duration(*r.DefaultLifetimeDays) * day
	}
}

// says is what a rule says, or else what holds without it.
func says(rule *bool, otherwise bool) bool {
	if rule == nil {
		return otherwise
	}
	return *rule
}

// least is the smaller of a bound and a number of units; 0 and nil are none.
func least(bound time.Duration, n *int64, unit time.Duration) time.Duration {
	if n == nil {
		return bound
	}
	if other := time.Duration(*n) * unit; bound == 0 || other < bound {
		return other
	}
	return bound
}

// Keep is what of a scope a workspace may hold. Management rights are not
// bounded.
func (b *Bounds) Keep(s oauth.Scope) oauth.Scope {
	if b.scopes == ([2]*[]string{}) {
		return s
	}
	return keep(s, func(scope string) bool {
		if IsReserved(scope) {
			return true
		}
		for _, patterns := range b.scopes {
			if patterns != nil && !matchesAny(*patterns, scope) {
				return false
			}
		}
		return true
	})
}

func matchesAny(patterns []string, scope string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return covers(pattern, scope) })
}

// Expiry is when a key ends that is made now and whose creator does not say. It
// is on a whole second, like the expiry of tokens.
func (b *Bounds) Expiry(now time.Time) time.Time {
	return now.Add(b.DefaultLifetime).Truncate(time.Second)
}

// slack is by how much a lifetime may exceed its bound: who says "in 90 days"
// counts from a clock of their own.
const slack = time.Hour

// Rule names a rule that a key breaks: the member of Rules that says so.
type Rule string

// The rules that a key which exists can break.
const (
	RuleEnabled     Rule = "api_keys_enabled"
	RuleMaxLifetime Rule = "max_lifetime_days"
	RuleAllowNever  Rule = "allow_never_expiring"
	RuleNetworks    Rule = "require_allowed_cidrs"
	RuleIdle        Rule = "disable_idle_after_days"
)

// Violation is a rule that a key breaks, with a sentence for its holder: what the
// policy says, what the key is, what to do.
type Violation struct {
	Rule Rule
	Text string
}

// Violations lists the rules that a key breaks at an instant: it is not exchanged
// while it breaks one. Expiry is never changed for it.
//
// An organization admin's personal key breaks none, once it is there: with one rule
// too many, nobody could change the rules back.
func (b *Bounds) Violations(s keys.Standing, now time.Time) []Violation {
	if s.OwnerIsAdmin {
		return nil
	}
	found := b.breaks(s.Key, s.MadeAt)
	if b.TooIdle(s.IdleSince, now) {
		found = append(found, Violation{RuleIdle, fmt.Sprintf(
			"The API key was not used for %s, and policy disables keys after %s without use: rotate it, which gives it a new secret, or create a new one.",
			days(now.Sub(s.IdleSince)), days(b.Idle))})
	}
	return found
}

// TooIdle reports whether a key has been unused for too long.
func (b *Bounds) TooIdle(since, now time.Time) bool { return b.Idle > 0 && now.Sub(since) > b.Idle }

// Admits checks a key whose newest secret was made at some time against every rule
// but that on its use. Errors wrap ErrPolicy.
func (b *Bounds) Admits(key *keys.Key, madeAt time.Time) error {
	return b.AdmitsBy(key, madeAt, RuleEnabled, RuleMaxLifetime, RuleAllowNever, RuleNetworks)
}

// AdmitsBy is Admits by some of the rules.
func (b *Bounds) AdmitsBy(key *keys.Key, madeAt time.Time, rules ...Rule) error {
	for _, v := range b.breaks(key, madeAt) {
		if slices.Contains(rules, v.Rule) {
			return fmt.Errorf("%w: %s", ErrPolicy, v.Text)
		}
	}
	return nil
}

// ErrPolicy means that the API-key policy does not allow what is asked for.
var ErrPolicy = fmt.Errorf("%w: not allowed by policy", workspace.ErrInvalid)

// breaks lists the rules that a key breaks by what it is. madeAt is when its
// newest secret was made: rotating a key starts its lifetime anew.
func (b *Bounds) breaks(key *keys.Key, madeAt time.Time) (found []Violation) {
	add := func(rule Rule, format string, args ...any) {
		found = append(found, Violation{rule, fmt.Sprintf(format, args...)})
	}
	if !b.Enabled {
		add(RuleEnabled, "API keys are disabled by policy: ask an organization admin.")
	}
	switch lifetime := key.ExpiresAt.Sub(madeAt); {
	case key.ExpiresAt.IsZero() && b.MaxLifetime > 0:
		add(RuleMaxLifetime, "The API key never expires, and policy allows a lifetime of at most %s: set its expires_at to %s or earlier, or rotate it first.", days(b.MaxLifetime), date(madeAt.Add(b.MaxLifetime)))
	case key.ExpiresAt.IsZero() && !b.AllowNever:
		add(RuleAllowNever, "The API key never expires, which policy does not allow: set its expires_at.")
	case !key.ExpiresAt.IsZero() && b.MaxLifetime > 0 && lifetime > b.MaxLifetime+slack:
		add(RuleMaxLifetime, "The API key lives longer than policy allows, %s instead of at most %s: set its expires_at to %s or earlier, or rotate it first.",
			days(lifetime), days(b.MaxLifetime), date(madeAt.Add(b.MaxLifetime)))
	}
	if b.RequireNetworks && len(key.AllowedCIDRs) == 0 {
		add(RuleNetworks, "The API key may be used from everywhere, and policy wants keys tied to networks: set its allowed_cidrs.")
	}
	return found
}

// date is an instant that people can copy into expires_at.
func date(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// days is a duration for people, to the hour.
func days(d time.Duration) string {
	d = d.Round(time.Hour)
	text := numbered(int64(d/day), "day")
	if hours := int64(d % day / time.Hour); hours > 0 {
		text += " and " + numbered(hours, "hour")
	}
	return text
}

func numbered(n int64, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// Within checks that the rules of a workspace only narrow those of the
// organization. Errors wrap workspace.ErrInvalid.
func (r Rules) Within(organization Bounds) error {
	for _, n := range []struct {
		name  string
		value *int64
		most  int64 // 0: none
	}{
		{"max_lifetime_days", r.MaxLifetimeDays, int64(organization.MaxLifetime / day)},
		{"default_lifetime_days", r.DefaultLifetimeDays, int64(organization.MaxLifetime / day)},
		{"disable_idle_after_days", r.IdleDays, int64(organization.Idle / day)},
	} {
		if n.value != nil && n.most > 0 && *n.value > n.most {
			return fmt.Errorf("%w: %s is %d, and the organization allows at most %d: a workspace can only narrow that", workspace.ErrInvalid, n.name, *n.value, n.most)
		}
	}
	if most := int64(organization.MaxGrace / time.Second); r.MaxGraceSeconds != nil && *r.MaxGraceSeconds > most {
		return fmt.Errorf("%w: max_grace_period_seconds is %d, and the organization allows at most %d: a workspace can only narrow that", workspace.ErrInvalid, *r.MaxGraceSeconds, most)
	}
	for _, w := range []struct {
		name  string
		wider bool
	}{
		{"api_keys_enabled", says(r.Enabled, false) && !organization.Enabled},
		{"allow_never_expiring", says(r.AllowNever, false) && !organization.AllowNever},
		{"require_allowed_cidrs", !says(r.RequireNetworks, true) && organization.RequireNetworks},
		{"service_accounts_manage_keys", says(r.ServiceAccounts, false) && !organization.ServiceAccounts},
	} {
		if w.wider {
			return fmt.Errorf("%w: %s allows what the organization does not: a workspace can only narrow that; use null to follow the organization", workspace.ErrInvalid, w.name)
		}
	}
	return nil
}

// Looser reports whether the rules of a workspace allow by themselves what those
// before them did not, whatever the organization says and the catalogue has: both may
// change. What a key gets by default is no bound.
func (r Rules) Looser(before Rules) bool {
	more := func(now, was *int64) bool { return was != nil && (now == nil || *now > *was) }
	lifted := func(now, was *bool, strict bool) bool {
		return says(was, !strict) == strict && says(now, !strict) != strict
	}
	return lifted(r.Enabled, before.Enabled, false) || lifted(r.AllowNever, before.AllowNever, false) ||
		lifted(r.RequireNetworks, before.RequireNetworks, true) || lifted(r.ServiceAccounts, before.ServiceAccounts, false) ||
		more(r.MaxLifetimeDays, before.MaxLifetimeDays) || more(r.IdleDays, before.IdleDays) || more(r.MaxGraceSeconds, before.MaxGraceSeconds) ||
		widened(r.AllowedScopes, before.AllowedScopes)
}

// widened reports whether some pattern is within none of those before.
func widened(now, before *[]string) bool {
	if before == nil {
		return false
	}
	return now == nil || slices.ContainsFunc(*now, func(pattern string) bool {
		return !slices.ContainsFunc(*before, func(wide string) bool { return covers(wide, pattern) })
	})
}

// covers reports whether every scope that a pattern matches is matched by another.
func covers(wide, pattern string) bool {
	r, a, _ := strings.Cut(wide, ":")
	resource, action, _ := strings.Cut(pattern, ":")
	return (r == "*" || r == resource) && (a == "*" || a == action)
}
