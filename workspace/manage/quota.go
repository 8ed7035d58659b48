package manage

import (
	"cmp"
	"context"
	"fmt"

	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Quota is how many and how fast in a workspace, and how much of that is taken.
type Quota struct {
	policy.Document[quota.Limits]
	Use QuotaUse
}

// QuotaUse is what a workspace has and does. Exchanges are a few seconds old.
type QuotaUse struct {
	Keys            int64 // live ones
	ServiceAccounts int64
	Today           int64 // exchanges, in UTC
	ThisMonth       int64
}

// Quota reads the quota of a workspace.
func (m *Manager) Quota(ctx context.Context, by Caller, in workspace.ID) (found Quota, err error) {
	err = m.view(ctx, by, seePolicy("quota:read", in), func(ctx context.Context, u *unit) error {
		found, err = u.quota(ctx, in)
		return err
	})
	return found, err
}

// aWorkspace refuses the installation: quotas are of workspaces alone.
func aWorkspace(in workspace.ID) error {
	if in == "" {
		return fmt.Errorf("workspace %q: %w", in, workspace.ErrNotFound)
	}
	return nil
}

func (u *unit) quota(ctx context.Context, in workspace.ID) (q Quota, err error) {
	if err := aWorkspace(in); err != nil {
		return q, err
	}
	if q.Document, err = u.limits(ctx, in); err != nil {
		return q, err
	}
	q.Use, err = u.quotaUse(ctx, in)
	return q, err
}

func (u *unit) quotaUse(ctx context.Context, in workspace.ID) (use QuotaUse, err error) {
	if use.Keys, err = u.liveKeys(ctx, in); err != nil {
		return use, err
	}
	if use.ServiceAccounts, err = u.accounts(ctx, in); err != nil {
		return use, err
	}
	totals, err := quota.Totals(ctx, u.tx, in, quota.Day(u.now.Time), quota.Month(u.now.Time))
	if err != nil {
		return use, err
	}
	use.Today, use.ThisMonth = totals[0], totals[1]
	return use, nil
}

// SetQuota puts limits in the place of those that a workspace has. From when it
// returns, no replica goes by the old ones. Nothing that exists is ended by it.
func (m *Manager) SetQuota(ctx context.Context, by Caller, in workspace.ID, limits quota.Limits) (after Quota, err error) {
	err = m.do(ctx, by, changePolicy("quota:update", in), func(ctx context.Context, u *unit) error {
		before, err := u.mayLimit(ctx, in, limits)
		if err != nil {
			return err
		}
		if err := u.matchesDocument(before.Version); err != nil {
			return err
		}
		u.denies = true
		if err := u.store(ctx, policy.KindQuota, in, before.Version, before.Value, limits, map[string]any{}); err != nil {
			return err
		}
		after, err = u.quota(ctx, in)
		return err
	})
	return after, err
}

// mayLimit checks limits, and whether the caller may allow what they allow.
func (u *unit) mayLimit(ctx context.Context, in workspace.ID, limits quota.Limits) (before policy.Document[quota.Limits], err error) {
	if err := cmp.Or(aWorkspace(in), limits.Validate()); err != nil {
		return before, err
	}
	if before, err = u.limits(ctx, in); err != nil {
		return before, err
	}
	return before, u.mayLoosen(limits.Looser(before.Value))
}

// PreviewQuota tells what of the limits is exceeded already, and changes nothing.
func (m *Manager) PreviewQuota(ctx context.Context, by Caller, in workspace.ID, limits quota.Limits) (findings []Finding, use QuotaUse, err error) {
	err = m.view(ctx, by, changePolicy("quota:update", in), func(ctx context.Context, u *unit) error {
		if _, err := u.mayLimit(ctx, in, limits); err != nil {
			return err
		}
		use, err = u.quotaUse(ctx, in)
		findings = exceeded(limits, use)
		return err
	})
	return findings, use, err
}

// exceeded says in words which limits are below what there is.
func exceeded(l quota.Limits, use QuotaUse) (findings []Finding) {
	for _, c := range []struct {
		rule  string
		most  *int64
		there int64
		words string
	}{
		{"max_keys", l.MaxKeys, use.Keys, "The workspace has %d live API keys, and %d would be allowed: they go on working, and no further one can be made until enough of them are revoked."},
		{"max_service_accounts", l.MaxServiceAccounts, use.ServiceAccounts, "The workspace has %d service accounts, and %d would be allowed: they go on working, and no further one can be made until enough of them are deleted."},
		{"exchanges_per_day", l.PerDay, use.Today, "The workspace had %d exchanges today, and %d would be allowed: further ones would be refused until midnight UTC."},
		{"exchanges_per_month", l.PerMonth, use.ThisMonth, "The workspace had %d exchanges this month, and %d would be allowed: further ones would be refused until the month ends in UTC."},
	} {
		// At the limit nothing more is possible either, but for objects that is what a limit is for.
		if c.most != nil && (c.there > *c.most || c.there == *c.most && c.rule[0] == 'e') {
			findings = append(findings, Finding{Rule: c.rule, Text: fmt.Sprintf(c.words, c.there, *c.most)})
		}
	}
	return findings
}
