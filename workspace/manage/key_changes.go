package manage

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// KeyChange says what of a key shall change; what is nil stays.
type KeyChange struct {
	Name         *string
	Description  *string
	Scopes       **oauth.Scope // to nil: whatever the owner holds
	Audiences    *[]string     // to none: any registered one
	AllowedCIDRs *[]netip.Prefix
	TokenTTL     *time.Duration
	PerMinute    *int64     // to 0: no limit of its own
	MaxUses      *int64     // to 0: any number
	ExpiresAt    *time.Time // to the zero value: never
}

// UpdateKey changes a key. Taking away needs no more than the right to change
// keys, and denies the tokens that the key has; whoever widens it in any way has
// to hold all that it can obtain afterwards. When it returns, no replica issues by
// what was before.
func (m *Manager) UpdateKey(ctx context.Context, by Caller, in workspace.ID, id keys.ID, c KeyChange) (after keys.Listed, err error) {
	err = m.do(ctx, by, operation{need: "api-keys:update", in: in, own: true}, func(ctx context.Context, u *unit) error {
		record, err := u.liveKey(ctx, in, id)
		if err != nil {
			return err
		}
		if after, err = u.updateKey(ctx, record, c); err != nil {
			return err
		}
		after, err = u.find(ctx, in, id)
		return err
	})
	return after, err
}

func (u *unit) updateKey(ctx context.Context, before *keys.Record, c KeyChange) (keys.Listed, error) {
	listed, err := keys.Find(ctx, u.tx, before.WorkspaceID, before.ID, u.now)
	if err != nil {
		return listed, err
	}
	if err := u.matches(listed.UpdatedAt); err != nil {
		return listed, err
	}
	changed, detail := c.apply(listed.Key)
	if len(detail) == 0 {
		return listed, nil
	}
	if err := u.valid(changed); err != nil {
		return listed, err
	}
	if named := namedAnew(before.Scopes, changed.Scopes); len(named) > 0 {
		if err := u.mayHold(ctx, before.WorkspaceID, named); err != nil {
			return listed, err
		}
	}
	b, err := u.bounds(ctx, before.WorkspaceID)
	if err != nil {
		return listed, err
	}
	if err := b.AdmitsBy(&changed, before.Standing().MadeAt, rulesOf(detail)...); err != nil {
		return listed, err
	}
	changed.UpdatedAt = u.stamp(listed.UpdatedAt)
	if err := keys.Update(ctx, u.tx, changed); err != nil {
		return listed, err
	}
	after, err := keys.Read(ctx, u.tx, before.ID)
	if err != nil {
		return listed, err
	}
	if err := u.mayWiden(before, after); err != nil {
		return listed, err
	}
	if u.narrower(before, after) {
		if err := u.bumpKey(ctx, before.WorkspaceID, before.ID); err != nil {
			return listed, err
		}
	}
	u.denies = true
	u.recordKeyEvent("update", after, detail)
	return listed, nil
}

// apply makes the key as it shall be, and says what is other.
func (c KeyChange) apply(k keys.Key) (keys.Key, map[string]any) {
	detail := map[string]any{}
	set(detail, "name", &k.Name, c.Name)
	set(detail, "description", &k.Description, c.Description)
	if c.TokenTTL != nil && k.TokenTTL != *c.TokenTTL {
		k.TokenTTL, detail["token_ttl_seconds"] = *c.TokenTTL, int64(*c.TokenTTL/time.Second)
	}
	set(detail, "exchanges_per_minute", &k.PerMinute, c.PerMinute)
	set(detail, "max_uses", &k.MaxUses, c.MaxUses)
	if c.Scopes != nil && !sameScopes(k.Scopes, *c.Scopes) {
		k.Scopes, detail["scopes"] = *c.Scopes, *c.Scopes
	}
	if c.Audiences != nil && !slices.Equal(k.Audiences, *c.Audiences) {
		k.Audiences, detail["audiences"] = *c.Audiences, *c.Audiences
	}
	if c.AllowedCIDRs != nil && !slices.Equal(k.AllowedCIDRs, *c.AllowedCIDRs) {
		k.AllowedCIDRs, detail["allowed_cidrs"] = *c.AllowedCIDRs, *c.AllowedCIDRs
	}
	if c.ExpiresAt != nil && !k.ExpiresAt.Equal(workspace.At(*c.ExpiresAt).Time) {
		k.ExpiresAt = workspace.At(*c.ExpiresAt)
		detail["expires_at"] = k.ExpiresAt
	}
	return k, detail
}

// rulesOf are the rules that a change has to keep. Whatever else a key breaks, it
// may be changed otherwise; it is not exchanged meanwhile.
func rulesOf(detail map[string]any) (rules []policy.Rule) {
	if _, changed := detail["expires_at"]; changed {
		rules = append(rules, policy.RuleMaxLifetime, policy.RuleAllowNever)
	}
	if _, changed := detail["allowed_cidrs"]; changed {
		rules = append(rules, policy.RuleNetworks)
	}
	return rules
}

// set changes a field if it shall be another, and notes it.
func set[T comparable](detail map[string]any, name string, field, to *T) {
	if to != nil && *field != *to {
		*field, detail[name] = *to, *to
	}
}

func sameScopes(a, b *oauth.Scope) bool {
	return (a == nil) == (b == nil) && (a == nil || slices.Equal(*a, *b))
}

// mayWiden refuses what a caller may not give: scopes that they do not hold, and
// more places, networks, uses or time, its tokens' too, for a key that obtains more than they hold.
func (u *unit) mayWiden(before, after *keys.Record) error {
	obtains := u.Policy.Holds(after)
	if len(obtains.Minus(u.Policy.Holds(before))) > 0 || outside(after, before) || later(after.ExpiresAt, before.ExpiresAt) ||
		more(after.MaxUses, before.MaxUses) || more(after.PerMinute, before.PerMinute) ||
		before.Scopes != nil && len(namedAnew(before.Scopes, after.Scopes)) > 0 ||
		cmp.Or(after.TokenTTL, u.Policy.TokenTTL) > cmp.Or(before.TokenTTL, u.Policy.TokenTTL) {
		if after.UserID != "" && !u.all && u.by.userID() != after.UserID {
			return fmt.Errorf("%w: a personal key speaks for its user, so only they may widen it", workspace.ErrForbidden)
		}
		if after.Scopes != nil { // also those that its owner may come to hold later
			obtains = obtains.Union(*after.Scopes)
		}
		return u.mayGrant(obtains)
	}
	return nil
}

// narrower reports whether tokens of the key as it was may do what new ones may
// not.
func (u *unit) narrower(before, after *keys.Record) bool {
	return len(u.Policy.Holds(before).Minus(u.Policy.Holds(after))) > 0 || outside(before, after) || later(before.ExpiresAt, after.ExpiresAt)
}

// outside reports whether a key is good at an audience or from a network where
// another is not.
func outside(a, b *keys.Record) bool {
	return notAmong(a.Audiences, b.Audiences, func(x, y string) bool { return x == y }) ||
		notAmong(a.AllowedCIDRs, b.AllowedCIDRs, func(x, y netip.Prefix) bool {
			return y.Bits() <= x.Bits() && y.Contains(x.Addr())
		})
}

// notAmong reports whether some of a is in none of b. Empty means everything.
func notAmong[T any](a, b []T, in func(x, y T) bool) bool {
	if len(b) == 0 {
		return false
	}
	return len(a) == 0 || slices.ContainsFunc(a, func(x T) bool {
		return !slices.ContainsFunc(b, func(y T) bool { return in(x, y) })
	})
}

// namedAnew are the scopes that a key names and did not name, though its owner may
// not hold them now. Nil is whatever the owner holds.
func namedAnew(before, after *oauth.Scope) oauth.Scope {
	switch {
	case after == nil:
		return nil
	case before == nil:
		return *after
	}
	return after.Minus(*before)
}

// more compares limits; zero is none.
func more(a, b int64) bool { return b > 0 && (a == 0 || a > b) }

// later compares expiries; zero is never.
func later(a, b workspace.Time) bool {
	return !b.IsZero() && (a.IsZero() || a.After(b.Time))
}

// SetKeyScopes is UpdateKey for the scopes alone; nil gives the key whatever its
// owner holds.
func (m *Manager) SetKeyScopes(ctx context.Context, by Caller, in workspace.ID, id keys.ID, scopes *oauth.Scope) error {
	_, err := m.UpdateKey(ctx, by, in, id, KeyChange{Scopes: &scopes})
	return err
}
