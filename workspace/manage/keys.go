package manage

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// NewKey is what a key is made of. It belongs to a service account, or, as a
// personal key, to a user.
type NewKey struct {
	ServiceAccountID workspace.ServiceAccountID
	UserID           workspace.UserID
	Name             string
	Description      string
	Scopes           *oauth.Scope // nil: whatever the owner holds
	Audiences        []string     // empty: any registered one
	AllowedCIDRs     []netip.Prefix
	TokenTTL         time.Duration // 0: the default
	ExpiresAt        time.Time     // zero: never
}

// Issued is a key with a secret of it, which can be read here and never again.
type Issued struct {
	keys.Key
	Secret keys.Secret
}

// CreateKey makes a key with its first secret.
func (m *Manager) CreateKey(ctx context.Context, by Caller, in workspace.ID, n NewKey) (issued Issued, err error) {
	err = m.do(ctx, by, operation{need: "api-keys:create", in: in}, func(ctx context.Context, u *unit) error {
		issued, err = u.createKey(ctx, in, n)
		return err
	})
	return issued, err
}

func (u *unit) createKey(ctx context.Context, in workspace.ID, n NewKey) (Issued, error) {
	key := keys.Key{
		ID: u.Format.NewID(), WorkspaceID: in, ServiceAccountID: n.ServiceAccountID, UserID: n.UserID,
		Name: n.Name, Description: n.Description, Scopes: n.Scopes, Audiences: n.Audiences,
		AllowedCIDRs: n.AllowedCIDRs, TokenTTL: n.TokenTTL, Generation: 1, ExpiresAt: workspace.At(n.ExpiresAt),
		CreatedAt: u.now, CreatedBy: u.by.String(), UpdatedAt: u.now,
	}
	if err := key.Validate(u.now.Time); err != nil {
		return Issued{}, err
	}
	for _, audience := range n.Audiences {
		if !u.Policy.Audiences.Known(audience) {
			return Issued{}, fmt.Errorf("%w: the audience %q is not registered: registered are %v", workspace.ErrInvalid, audience, u.Policy.Audiences.Names())
		}
	}
	if err := u.ownerExists(ctx, key); err != nil {
		return Issued{}, err
	}
	if n.Scopes != nil {
		if err := u.knownScopes(*n.Scopes); err != nil {
			return Issued{}, err
		}
	}
	if err := keys.Insert(ctx, u.tx, key); err != nil {
		return Issued{}, err
	}
	record, err := keys.Read(ctx, u.tx, key.ID) // as an exchange would
	if err != nil {
		return Issued{}, err
	}
	if err := u.mayHoldSecret(record); err != nil {
		return Issued{}, err
	}
	secret, err := u.addSecret(ctx, key)
	if err != nil {
		return Issued{}, err
	}
	u.record("key.create", in, string(key.ID), map[string]any{"name": key.Name, "owner": key.OwnerID(), "expires_at": key.ExpiresAt, "scopes": key.Scopes})
	return Issued{Key: key, Secret: secret}, nil
}

func (u *unit) ownerExists(ctx context.Context, key keys.Key) error {
	if key.UserID != "" {
		_, err := workspace.FindMember(ctx, u.tx, key.WorkspaceID, key.UserID)
		return err
	}
	_, err := workspace.FindServiceAccount(ctx, u.tx, key.WorkspaceID, key.ServiceAccountID)
	return err
}

// mayHoldSecret checks, for any answer that contains a secret, that the caller
// holds every scope that the credential can obtain, and is the person whom a
// personal key speaks for.
func (u *unit) mayHoldSecret(record *keys.Record) error {
	if record.UserID != "" && !u.all && u.by != User(record.UserID) {
		return fmt.Errorf("%w: a personal key speaks for its user, so only they may have its secret", workspace.ErrForbidden)
	}
	return u.mayGrant(u.Policy.Holds(record))
}

func (u *unit) addSecret(ctx context.Context, key keys.Key) (keys.Secret, error) {
	secret := u.Format.NewSecret(key.ID, key.Kind())
	return secret, keys.InsertSecret(ctx, u.tx, key.ID, keys.StoredSecret{
		ID: "sec_" + workspace.Unique(), Digest: u.Peppers.Digest(key.ID, secret), Hint: secret.Hint(), CreatedAt: u.now,
	})
}

// MaxGrace is how long an old secret may work beside the new one.
const MaxGrace = 7 * 24 * time.Hour

// RotateKey gives a key a new secret. The old one works for the grace period
// more; with none it stops as rotation completes. A key has at most two live
// secrets: rotating again ends the oldest at once.
func (m *Manager) RotateKey(ctx context.Context, by Caller, in workspace.ID, id keys.ID, grace time.Duration) (issued Issued, err error) {
	if grace < 0 || grace > MaxGrace {
		return issued, fmt.Errorf("%w: the grace period %s: use 0 to %s", workspace.ErrInvalid, grace, MaxGrace)
	}
	err = m.do(ctx, by, operation{need: "api-keys:update", in: in}, func(ctx context.Context, u *unit) error {
		issued, err = u.rotateKey(ctx, in, id, grace)
		return err
	})
	return issued, err
}

func (u *unit) rotateKey(ctx context.Context, in workspace.ID, id keys.ID, grace time.Duration) (Issued, error) {
	record, err := u.liveKey(ctx, in, id)
	if err != nil {
		return Issued{}, err
	}
	if err := u.mayHoldSecret(record); err != nil {
		return Issued{}, err
	}
	if err := keys.EndSecrets(ctx, u.tx, id, workspace.At(u.now.Add(grace)), keys.MaxLiveSecrets-1, u.now); err != nil {
		return Issued{}, err
	}
	secret, err := u.addSecret(ctx, record.Key)
	if err != nil {
		return Issued{}, err
	}
	u.denies = true
	u.record("key.rotate", in, string(id), map[string]any{"grace_period_seconds": int64(grace / time.Second)})
	return Issued{Key: record.Key, Secret: secret}, nil
}

// RevokeKey ends a key for good: when it returns, the key is not exchanged any
// more, and its tokens carry an old generation. Revoking a revoked key changes
// nothing.
func (m *Manager) RevokeKey(ctx context.Context, by Caller, in workspace.ID, id keys.ID, reason string) error {
	return m.do(ctx, by, operation{need: "api-keys:delete", in: in}, func(ctx context.Context, u *unit) error {
		if _, err := u.key(ctx, in, id); err != nil {
			return err
		}
		u.denies = true
		revoked, err := keys.Revoke(ctx, u.tx, id, reason, u.now)
		if err != nil || !revoked {
			return err
		}
		u.record("key.revoke", in, string(id), map[string]any{"reason": reason})
		return nil
	})
}

// SetKeyScopes changes what a key may do; nil gives it whatever its owner holds.
// The caller must hold what the key gains; narrowing a key needs no more than the
// right to change keys. When it returns, no replica issues by what was before.
func (m *Manager) SetKeyScopes(ctx context.Context, by Caller, in workspace.ID, id keys.ID, scopes *oauth.Scope) error {
	return m.do(ctx, by, operation{need: "api-keys:update", in: in}, func(ctx context.Context, u *unit) error {
		before, err := u.liveKey(ctx, in, id)
		if err != nil {
			return err
		}
		if scopes != nil {
			if err := u.knownScopes(*scopes); err != nil {
				return err
			}
		}
		if err := keys.SetScopes(ctx, u.tx, id, scopes, u.now); err != nil {
			return err
		}
		after, err := keys.Read(ctx, u.tx, id)
		if err != nil {
			return err
		}
		if err := u.mayGrant(u.Policy.Holds(after).Minus(u.Policy.Holds(before))); err != nil {
			return err
		}
		u.denies = true
		u.record("key.update", in, string(id), map[string]any{"scopes": scopes})
		return nil
	})
}

// key reads a key of that workspace.
func (u *unit) key(ctx context.Context, in workspace.ID, id keys.ID) (*keys.Record, error) {
	record, err := keys.Read(ctx, u.tx, id)
	if err == nil && record.WorkspaceID != in {
		return nil, fmt.Errorf("key %s: %w", id, workspace.ErrNotFound)
	}
	return record, err
}

// liveKey reads a key that is neither revoked nor expired.
func (u *unit) liveKey(ctx context.Context, in workspace.ID, id keys.ID) (*keys.Record, error) {
	record, err := u.key(ctx, in, id)
	switch {
	case err != nil:
		return nil, err
	case !record.RevokedAt.IsZero():
		return nil, fmt.Errorf("%w: key %s is revoked: create a new one", workspace.ErrConflict, id)
	case !record.ExpiresAt.IsZero() && !u.now.Before(record.ExpiresAt.Time):
		return nil, fmt.Errorf("%w: key %s has expired: create a new one", workspace.ErrConflict, id)
	}
	return record, nil
}
