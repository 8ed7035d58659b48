package manage

import (
	"context"
	"fmt"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// bounds are what policy says in a workspace, as this transaction sees it.
func (u *unit) bounds(ctx context.Context, in workspace.ID) (*policy.Bounds, error) {
	if b, known := u.bounded[in]; known {
		return b, nil
	}
	organization, err := u.rules(ctx, policy.Organization)
	if err != nil {
		return nil, err
	}
	own, err := u.rules(ctx, string(in))
	if err != nil {
		return nil, err
	}
	b := policy.Combine(organization.Value, own.Value)
	if u.bounded == nil {
		u.bounded = map[workspace.ID]*policy.Bounds{}
	}
	u.bounded[in] = &b
	return &b, nil
}

// rules reads the rules of the organization or a workspace. What cannot be
// understood is passed over, as it is where keys are used.
func (u *unit) rules(ctx context.Context, of string) (policy.Document[policy.Rules], error) {
	d, _, err := policy.Current(ctx, u.tx, policy.KindKeys, of, policy.ParseRules)
	return d, err
}

// limits reads the quota of a workspace.
func (u *unit) limits(ctx context.Context, in workspace.ID) (policy.Document[quota.Limits], error) {
	d, _, err := policy.Current(ctx, u.tx, policy.KindQuota, string(in), quota.ParseLimits)
	return d, err
}

// mayHold refuses scopes that policy does not let the workspace hold.
func (u *unit) mayHold(ctx context.Context, in workspace.ID, scope oauth.Scope) error {
	b, err := u.bounds(ctx, in)
	if err != nil {
		return err
	}
	if missing := scope.Minus(b.Keep(scope)); len(missing) > 0 {
		return fmt.Errorf("%w: policy does not let this workspace hold %s: it may hold %s", policy.ErrPolicy, missing, b.Keep(u.Policy.Catalogue.All()))
	}
	return nil
}

// find reads a key as people see it.
func (u *unit) find(ctx context.Context, in workspace.ID, id keys.ID) (keys.Listed, error) {
	found, err := keys.Find(ctx, u.tx, in, id, u.now)
	if err != nil {
		return found, err
	}
	return found, u.judge(ctx, in, &found)
}

// judge notes what refuses keys of a workspace.
func (u *unit) judge(ctx context.Context, in workspace.ID, found ...*keys.Listed) error {
	b, err := u.bounds(ctx, in)
	if err != nil {
		return err
	}
	for _, k := range found {
		k.Blocked = nil
		for _, v := range b.Violations(k.Standing(), u.now.Time) {
			k.Blocked = append(k.Blocked, string(v.Rule))
		}
		if k.MaxUses > 0 && k.Uses >= k.MaxUses {
			k.Blocked = append(k.Blocked, "max_uses")
		}
	}
	return nil
}

// list reads keys as people see them.
func (u *unit) list(ctx context.Context, in workspace.ID, f keys.Filter, page workspace.Page) ([]keys.Listed, error) {
	found, err := keys.List(ctx, u.tx, in, f, page)
	if err != nil {
		return nil, err
	}
	var all []*keys.Listed
	for i := range found {
		all = append(all, &found[i])
	}
	return found, u.judge(ctx, in, all...)
}

// ErrLimit means that the workspace has as many of something as its quota allows.
var ErrLimit = fmt.Errorf("%w: limit reached", workspace.ErrConflict)

// withinQuota refuses one more of something, which exists already in this
// transaction, if there are more than the limit. Transactions that change anything
// run one by one, so that the count is exact. A soft limit is only noted.
func (u *unit) withinQuota(ctx context.Context, in workspace.ID, what string, limit func(quota.Limits) *int64, count func(context.Context, workspace.ID) (int64, error)) error {
	limits, err := u.limits(ctx, in)
	if err != nil || limit(limits.Value) == nil {
		return err
	}
	most := *limit(limits.Value)
	n, err := count(ctx, in)
	if err != nil || n <= most {
		return err
	}
	if limits.Value.Mode == quota.Soft {
		u.record("quota.exceed", in, policy.KindQuota.Subject(string(in)), map[string]any{"limit": what, "most": most, "count": n})
		return nil
	}
	return fmt.Errorf("%w: the workspace has %d %s, and its quota allows no more: end some, or ask an organization admin for more", ErrLimit, most, what)
}

// oneMoreKey refuses a key that exceeds the quota of its workspace.
func (u *unit) oneMoreKey(ctx context.Context, in workspace.ID) error {
	return u.withinQuota(ctx, in, "live API keys", func(l quota.Limits) *int64 { return l.MaxKeys }, u.liveKeys)
}

// oneMoreAccount refuses a service account that exceeds the quota of its workspace.
func (u *unit) oneMoreAccount(ctx context.Context, in workspace.ID) error {
	return u.withinQuota(ctx, in, "service accounts", func(l quota.Limits) *int64 { return l.MaxServiceAccounts }, u.accounts)
}

func (u *unit) liveKeys(ctx context.Context, in workspace.ID) (int64, error) {
	return keys.CountLive(ctx, u.tx, in, u.now)
}

func (u *unit) accounts(ctx context.Context, in workspace.ID) (int64, error) {
	return workspace.CountServiceAccounts(ctx, u.tx, in)
}
