package manage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// ExtendSecret lets an old secret of a key that is rotated work until a later time,
// within what SecretLimit says. The caller has to hold all that the key can obtain.
// Extending it to the time that it has changes nothing. ErrNotFound: the key has no
// such secret. ErrConflict: it is the newest, which has no end of its own, or it has
// ended.
func (m *Manager) ExtendSecret(ctx context.Context, by Caller, in workspace.ID, id keys.ID, secret string, until time.Time) error {
	return m.do(ctx, by, operation{need: "api-keys:update", in: in, own: true}, func(ctx context.Context, u *unit) error {
		record, err := u.liveKey(ctx, in, id)
		if err != nil {
			return err
		}
		if err := u.mayProlong(record); err != nil {
			return err
		}
		end := workspace.At(until)
		longer, err := u.mayExtend(ctx, record, secret, end)
		if err != nil || !longer {
			return err
		}
		if err := keys.ExtendSecret(ctx, u.tx, id, secret, end); err != nil {
			return err
		}
		u.recordKeyEvent("extend_secret", record, map[string]any{"secret": secret, "expires_at": end})
		return u.touch(ctx, record)
	})
}

// mayProlong checks that the caller holds what a credential can obtain that shall
// go on.
func (u *unit) mayProlong(record *keys.Record) error {
	if record.UserID != "" && !u.all && u.by.userID() != record.UserID {
		return fmt.Errorf("%w: a personal key speaks for its user, so only they may let its old secret go on", workspace.ErrForbidden)
	}
	return u.mayGrant(u.Policy.Holds(record))
}

// mayExtend refuses an end that a secret cannot have. It reports whether that is
// later than the one that it has.
func (u *unit) mayExtend(ctx context.Context, record *keys.Record, secret string, end workspace.Time) (longer bool, err error) {
	listed, err := keys.Find(ctx, u.tx, record.WorkspaceID, record.ID, u.now)
	if err != nil {
		return false, err
	}
	b, err := u.bounds(ctx, record.WorkspaceID)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(listed.Secrets, func(s keys.ListedSecret) bool { return s.ID == secret })
	switch {
	case i < 0:
		return false, fmt.Errorf("secret %s of key %s: %w", secret, record.ID, workspace.ErrNotFound)
	case i == 0:
		return false, fmt.Errorf("%w: this is the newest secret of the key, which works as long as the key", workspace.ErrConflict)
	case !u.now.Before(listed.Secrets[i].ExpiresAt.Time):
		return false, fmt.Errorf("%w: the old secret has ended, and does not come back: use the new one, or rotate the key", workspace.ErrConflict)
	case end.Before(listed.Secrets[i].ExpiresAt.Time):
		return false, fmt.Errorf("%w: the old secret works longer than that already: to shorten its time, end it", workspace.ErrInvalid)
	}
	if limit, why := SecretLimit(b, &listed, listed.Secrets[i]); end.After(limit) {
		return false, fmt.Errorf("%w: the old secret can work until %s at most: %s", policy.ErrPolicy, limit.UTC().Format(time.RFC3339), why)
	}
	return end.After(listed.Secrets[i].ExpiresAt.Time), nil
}

// SecretLimit is until when an older secret of a key may work at most, and why.
func SecretLimit(b *policy.Bounds, k *keys.Listed, old keys.ListedSecret) (limit time.Time, why string) {
	limit, why = k.Secrets[0].CreatedAt.Add(b.MaxGrace), "policy bounds the grace period, which began with the rotation"
	if last := old.CreatedAt.Add(b.MaxLifetime); b.MaxLifetime > 0 && last.Before(limit) {
		limit, why = last, "policy bounds the life of a secret"
	}
	if last := k.ExpiresAt.Time; !k.ExpiresAt.IsZero() && last.Before(limit) {
		limit, why = last, "the key ends then"
	}
	return limit, why
}
