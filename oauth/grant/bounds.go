package grant

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
)

// bounds reads what policy says for a key, and refuses the key if it breaks that.
// Errors other than a *RefusedError wrap keys.ErrUnavailable.
func (a *Authenticator) bounds(ctx context.Context, r *keys.Record, now time.Time) (policy.Bounds, error) {
	b, err := a.boundsOf(ctx, r)
	if err != nil {
		return b, err
	}
	broken := b.Violations(r.Standing(), now)
	if len(broken) == 1 && broken[0].Rule == policy.RuleIdle {
		// A key in use stays in memory as it was read once: its later uses are in the
		// database alone.
		fresh, err := a.Directory.Reread(ctx, r.ID)
		if err != nil {
			return b, err
		}
		broken = b.Violations(fresh.Standing(), now)
	}
	return b, refuseFor(broken)
}

// refuseFor refuses a key for the rules that it breaks; nil if it breaks none.
func refuseFor(broken []policy.Violation) error {
	if len(broken) == 0 {
		return nil
	}
	reason := Policy
	if len(broken) == 1 && broken[0].Rule == policy.RuleIdle {
		reason = Idle
	}
	var all []string
	for _, v := range broken {
		all = append(all, v.Text)
	}
	return refuse(reason, "%s", strings.Join(all, " "))
}

// boundsOf is what policy says where a key is, no earlier than its record was read.
func (a *Authenticator) boundsOf(ctx context.Context, r *keys.Record) (policy.Bounds, error) {
	if a.Rules == nil {
		return policy.Unbounded(), nil
	}
	b, err := a.Rules.Bounds(ctx, r.WorkspaceID, r.Seq())
	if err != nil {
		return b, fmt.Errorf("%w: %w", keys.ErrUnavailable, err)
	}
	return b, nil
}

// spend takes one use out of the quota of the workspace, and of those that the key
// may have at all. The key's own are looked at first, so that a key which is used up
// takes nothing out of the quota, and spent last: who is over the quota loses none.
func (a *Authenticator) spend(ctx context.Context, r *keys.Record) (spent quota.Decision, err error) {
	ctx, end := a.step(ctx, "spend")
	defer func() { end(err) }()
	if r.MaxUses > 0 {
		if err := a.ofUses(ctx, r, keys.HasUse); err != nil {
			return spent, err
		}
	}
	if a.Quota != nil {
		spent, err = a.Quota.Spend(ctx, quota.Demand{Workspace: r.WorkspaceID, Key: r.ID, PerMinute: r.PerMinute})
		if err != nil {
			return spent, fmt.Errorf("%w: %w", keys.ErrUnavailable, err)
		}
		if !spent.Allowed {
			return spent, &QuotaError{spent}
		}
	}
	if r.MaxUses > 0 {
		return spent, a.ofUses(ctx, r, keys.SpendUse)
	}
	return spent, nil
}

// ofUses refuses a key that has no use left, as something tells.
func (a *Authenticator) ofUses(ctx context.Context, r *keys.Record, left func(context.Context, sqlx.ExtContext, keys.ID) (bool, error)) error {
	some, err := left(ctx, a.Uses, r.ID)
	if err != nil {
		return fmt.Errorf("%w: %w", keys.ErrUnavailable, err)
	}
	if !some {
		return refuse(UsedUp, "The API key was made for %d uses, which are used up: create a new one, or raise its max_uses.", r.MaxUses)
	}
	return nil
}

// refund gives back a use that gave no token. It is best effort: a use may be lost,
// and none is ever counted that did not happen.
func (a *Authenticator) refund(ctx context.Context, r *keys.Record) {
	if r.MaxUses > 0 {
		_ = keys.RefundUse(context.WithoutCancel(ctx), a.Uses, r.ID)
	}
}
