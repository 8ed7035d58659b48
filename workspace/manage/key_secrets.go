package manage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

func (u *unit) addSecret(ctx context.Context, key keys.Key) (keys.Secret, error) {
	secret := u.Format.NewSecret(key.ID, key.Kind())
	return secret, keys.InsertSecret(ctx, u.tx, key.ID, keys.StoredSecret{
		ID: "sec_" + workspace.Unique(), Digest: u.Peppers.Digest(key.ID, secret), Hint: secret.Hint(), CreatedAt: u.now,
	})
}

// MaxGrace is how long an old secret may work beside the new one; policy may say
// less.
const MaxGrace = policy.MaxGraceSeconds * time.Second

// Rotation says how a key gets a new secret.
type Rotation struct {
	Grace        time.Duration // for which the old secret works beside the new one; 0: it stops at once
	RevokeTokens bool          // deny the tokens that the key has as well
}

// RotateKey gives a key a new secret. The old one works for the grace period
// more; with none it stops as rotation completes. A key has at most two live
// secrets: rotating again ends the oldest at once. With ErrPending the result is
// good all the same.
func (m *Manager) RotateKey(ctx context.Context, by Caller, in workspace.ID, id keys.ID, r Rotation) (issued Issued, err error) {
	if r.Grace < 0 || r.Grace > MaxGrace {
		return issued, fmt.Errorf("%w: the grace period %s: use 0 to %s", workspace.ErrInvalid, r.Grace, MaxGrace)
	}
	err = m.do(ctx, by, operation{need: "api-keys:update", in: in, own: true}, func(ctx context.Context, u *unit) error {
		return u.issueOnce(ctx, in, &issued, func() (Issued, error) { return u.rotateKey(ctx, in, id, r) })
	})
	return issued, err
}

func (u *unit) rotateKey(ctx context.Context, in workspace.ID, id keys.ID, r Rotation) (Issued, error) {
	record, err := u.liveKey(ctx, in, id)
	if err != nil {
		return Issued{}, err
	}
	if err := u.mayHoldSecret(record); err != nil {
		return Issued{}, err
	}
	end, err := u.mayRotate(ctx, record, r)
	if err != nil {
		return Issued{}, err
	}
	if err := keys.EndSecrets(ctx, u.tx, id, end, keys.MaxLiveSecrets-1, u.now); err != nil {
		return Issued{}, err
	}
	secret, err := u.addSecret(ctx, record.Key)
	if err != nil {
		return Issued{}, err
	}
	if err := u.touch(ctx, record); err != nil {
		return Issued{}, err
	}
	u.denies = true
	if r.RevokeTokens {
		if err := u.bumpKey(ctx, in, id); err != nil {
			return Issued{}, err
		}
	}
	u.recordKeyEvent("rotate", record, map[string]any{"grace_period_seconds": int64(r.Grace / time.Second), "revoke_tokens": r.RevokeTokens})
	return u.issued(ctx, record.Key, secret)
}

// mayRotate refuses what policy does not allow, and returns when the old secrets
// end: after the grace period, but no later than policy lets a secret live.
func (u *unit) mayRotate(ctx context.Context, record *keys.Record, r Rotation) (end workspace.Time, err error) {
	b, err := u.bounds(ctx, record.WorkspaceID)
	if err != nil {
		return end, err
	}
	standing := record.Standing()
	switch {
	case r.Grace > b.MaxGrace:
		return end, fmt.Errorf("%w: the grace period is %s, and policy allows at most %s", policy.ErrPolicy, r.Grace, b.MaxGrace)
	case r.Grace > 0 && b.TooIdle(standing.IdleSince, u.now.Time):
		return end, fmt.Errorf("%w: the key was not used for so long that it disabled itself, so its old secret cannot go on: rotate it without a grace period", policy.ErrPolicy)
	}
	end = workspace.At(u.now.Add(r.Grace))
	if last := standing.MadeAt.Add(b.MaxLifetime); b.MaxLifetime > 0 && last.Before(end.Time) {
		end = workspace.At(last)
	}
	if end.Before(u.now.Time) {
		end = u.now
	}
	return end, b.AdmitsBy(&record.Key, standing.MadeAt, policy.RuleEnabled)
}

// bumpKey denies the tokens that a key has.
func (u *unit) bumpKey(ctx context.Context, in workspace.ID, id keys.ID) error {
	generation, err := keys.Bump(ctx, u.tx, id)
	if err == nil {
		u.deny(in, oauth.RevocableKey, string(id), generation, revocation.Changed)
	}
	return err
}

// touch gives a key a new version, if it is of the one that the caller has seen.
func (u *unit) touch(ctx context.Context, record *keys.Record) error {
	before, err := keys.Find(ctx, u.tx, record.WorkspaceID, record.ID, u.now)
	if err != nil {
		return err
	}
	if err := u.matches(before.UpdatedAt); err != nil {
		return err
	}
	return keys.Touch(ctx, u.tx, record.ID, u.stamp(before.UpdatedAt))
}

// EndSecret ends one secret of a key before its time: when it returns, that
// secret is not exchanged any more. ErrNotFound: the key has no such secret.
// ErrConflict: it is the newest, without which the key would have none.
func (m *Manager) EndSecret(ctx context.Context, by Caller, in workspace.ID, id keys.ID, secret string) error {
	return m.do(ctx, by, operation{need: "api-keys:update", in: in, own: true}, func(ctx context.Context, u *unit) error {
		record, err := u.liveKey(ctx, in, id)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(record.Secrets, func(s keys.StoredSecret) bool { return s.ID == secret })
		switch {
		case i < 0:
			return fmt.Errorf("secret %s of key %s: %w", secret, id, workspace.ErrNotFound)
		case i == 0:
			return fmt.Errorf("%w: this is the newest secret of the key, which would have none: rotate the key or revoke it", workspace.ErrConflict)
		}
		u.denies = true
		ended, err := keys.EndSecret(ctx, u.tx, id, secret, u.now)
		if err != nil || !ended {
			return err
		}
		u.recordKeyEvent("end_secret", record, map[string]any{"secret": secret})
		return u.touch(ctx, record)
	})
}
