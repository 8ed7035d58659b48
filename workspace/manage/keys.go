package manage

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/webhook"
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
	PerMinute        int64         // exchanges a minute; 0: no limit of its own
	MaxUses          int64         // 0: any number
	ExpiresAt        time.Time     // zero: never
	DefaultExpiry    bool          // instead of ExpiresAt, what policy says
}

// Issued is a key with a secret of it, which can be read here and never again.
// The secret is the zero value when a repeated request comes too late for it.
type Issued struct {
	keys.Listed
	Secret keys.Secret
}

// ErrNotLive means that a key has been revoked or has expired. It is a conflict.
var ErrNotLive = fmt.Errorf("%w: the key has ended", workspace.ErrConflict)

// CreateKey makes a key with its first secret.
func (m *Manager) CreateKey(ctx context.Context, by Caller, in workspace.ID, n NewKey) (issued Issued, err error) {
	err = m.do(ctx, by, operation{need: "api-keys:create", in: in}, func(ctx context.Context, u *unit) error {
		return u.issueOnce(ctx, in, &issued, func() (Issued, error) { return u.createKey(ctx, in, n) })
	})
	return issued, err
}

// CreateAccountWithKey makes a service account of the key's name with the key.
// ErrConflict: there is an account of that name.
func (m *Manager) CreateAccountWithKey(ctx context.Context, by Caller, in workspace.ID, a NewServiceAccount, n NewKey) (issued Issued, err error) {
	err = m.do(ctx, by, operation{need: "api-keys:create", in: in}, func(ctx context.Context, u *unit) error {
		return u.issueOnce(ctx, in, &issued, func() (Issued, error) {
			if !u.all && !u.rights.Has("service-accounts:create") {
				return Issued{}, fmt.Errorf("%w: this needs service-accounts:create, or name a service_account that is there", workspace.ErrForbidden)
			}
			sa, err := u.createServiceAccount(ctx, in, a)
			if err != nil {
				return Issued{}, err
			}
			n.ServiceAccountID = sa.ID
			return u.createKey(ctx, in, n)
		})
	})
	return issued, err
}

// CreatePersonalKey makes a key that speaks for the caller in a workspace that
// they are a member of. Whoever speaks through a key needs one that may create
// keys, and gets no more than it holds.
func (m *Manager) CreatePersonalKey(ctx context.Context, by Caller, in workspace.ID, n NewKey) (issued Issued, err error) {
	err = m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.own(ctx, in); err != nil {
			return err
		}
		n.UserID = by.userID()
		return u.issueOnce(ctx, in, &issued, func() (Issued, error) { return u.createKey(ctx, in, n) })
	})
	return issued, err
}

// own reads what the person who asks holds in a workspace of theirs, be it
// another one than that of the key that they use.
func (u *unit) own(ctx context.Context, in workspace.ID) error {
	if err := u.person(); err != nil {
		return err
	}
	role, err := u.roleOf(ctx, in, u.by.userID())
	if err != nil {
		return err
	}
	user, err := workspace.FindUser(ctx, u.tx, u.by.userID())
	if err != nil {
		return err
	}
	u.rights = u.Policy.Catalogue.MemberRights(role, user.OrganizationAdmin)
	if u.by.key == "" {
		return nil
	}
	held, record, err := u.throughKey(ctx)
	if err != nil {
		return err
	}
	if !held.Has("api-keys:create") {
		return fmt.Errorf("%w: this needs a key that holds api-keys:create", workspace.ErrForbidden)
	}
	if record.WorkspaceID != in && record.Scopes != nil { // it was narrowed to what it does where it is
		return fmt.Errorf("%w: this key was given certain scopes, so it makes keys in its own workspace only: use one that holds whatever its user holds", workspace.ErrForbidden)
	}
	u.rights = u.rights.Intersect(held)
	return nil
}

// issueOnce makes a key or a secret, once for a request that is repeated.
func (u *unit) issueOnce(ctx context.Context, in workspace.ID, issued *Issued, create func() (Issued, error)) error {
	return u.onlyOnce(ctx, in, func() (made, error) {
		result, err := create()
		*issued = result
		return made{Subject: string(result.ID), Secret: result.Secret.Reveal()}, err
	}, func(m made) error {
		*issued = Issued{} // nothing of a run that was rolled back
		record, err := u.key(ctx, in, keys.ID(m.Subject))
		if err != nil {
			return err
		}
		if err := u.mayHoldSecret(record); err != nil {
			return err
		}
		if issued.Listed, err = u.find(ctx, in, record.ID); err != nil || m.Secret == "" {
			return err
		}
		issued.Secret, err = u.Format.ParseSecret(m.Secret)
		return err
	})
}

func (u *unit) createKey(ctx context.Context, in workspace.ID, n NewKey) (Issued, error) {
	b, err := u.bounds(ctx, in)
	if err != nil {
		return Issued{}, err
	}
	if n.DefaultExpiry {
		n.ExpiresAt = b.Expiry(u.now.Time)
	}
	key := keys.Key{
		ID: u.Format.NewID(), WorkspaceID: in, ServiceAccountID: n.ServiceAccountID, UserID: n.UserID,
		Name: n.Name, Description: n.Description, Scopes: n.Scopes, Audiences: n.Audiences,
		AllowedCIDRs: n.AllowedCIDRs, TokenTTL: n.TokenTTL, PerMinute: n.PerMinute, MaxUses: n.MaxUses, Generation: 1, ExpiresAt: workspace.At(n.ExpiresAt),
		CreatedAt: u.now, CreatedBy: u.by.String(), UpdatedAt: u.now,
	}
	if err := u.valid(key); err != nil {
		return Issued{}, err
	}
	if key.Scopes != nil {
		if err := u.mayHold(ctx, in, *key.Scopes); err != nil {
			return Issued{}, err
		}
	}
	if err := b.Admits(&key, u.now.Time); err != nil {
		return Issued{}, err
	}
	if err := u.ownerExists(ctx, key); err != nil {
		return Issued{}, err
	}
	if err := keys.Insert(ctx, u.tx, key); err != nil {
		return Issued{}, err
	}
	if err := u.oneMoreKey(ctx, in); err != nil {
		return Issued{}, err
	}
	record, err := keys.Read(ctx, u.tx, key.ID) // as an exchange would
	if err != nil {
		return Issued{}, err
	}
	if err := u.mayHoldSecret(record); err != nil {
		return Issued{}, err
	}
	if key.Scopes != nil { // also those that its owner may come to hold later
		if err := u.mayGrant(*key.Scopes); err != nil {
			return Issued{}, err
		}
	}
	secret, err := u.addSecret(ctx, key)
	if err != nil {
		return Issued{}, err
	}
	u.recordKeyEvent("create", record, map[string]any{
		"name": key.Name, "owner": key.OwnerID(), "expires_at": key.ExpiresAt, "scopes": key.Scopes, "audiences": key.Audiences,
		"allowed_cidrs": key.AllowedCIDRs, "max_uses": key.MaxUses, "exchanges_per_minute": key.PerMinute,
	})
	return u.issued(ctx, key, secret)
}

func (u *unit) issued(ctx context.Context, key keys.Key, secret keys.Secret) (Issued, error) {
	listed, err := u.find(ctx, key.WorkspaceID, key.ID)
	return Issued{Listed: listed, Secret: secret}, err
}

// valid checks what people choose of a key.
func (u *unit) valid(key keys.Key) error {
	if err := key.Validate(u.now.Time); err != nil {
		return err
	}
	for _, audience := range key.Audiences {
		if !u.Policy.Audiences.Known(audience) {
			return fmt.Errorf("%w: the audience %q is not registered: registered are %v", workspace.ErrInvalid, audience, u.Policy.Audiences.Names())
		}
	}
	if key.Scopes == nil {
		return nil
	}
	return u.knownScopes(*key.Scopes)
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
	if record.UserID != "" && !u.all && u.by.userID() != record.UserID {
		return fmt.Errorf("%w: a personal key speaks for its user, so only they may have its secret", workspace.ErrForbidden)
	}
	return u.mayGrant(u.Policy.Holds(record))
}

// RevokeKey ends a key for good: when it returns, the key is not exchanged any
// more, and its tokens carry an old generation. Revoking a revoked key changes
// nothing.
func (m *Manager) RevokeKey(ctx context.Context, by Caller, in workspace.ID, id keys.ID, reason string) error {
	_, err := m.EndKey(ctx, by, in, id, reason)
	return err
}

// EndKey is RevokeKey, and returns the key as it is then.
func (m *Manager) EndKey(ctx context.Context, by Caller, in workspace.ID, id keys.ID, reason string) (after keys.Listed, err error) {
	if reason != "" {
		if err := workspace.ValidName("reason", reason); err != nil {
			return after, err
		}
	}
	err = m.do(ctx, by, operation{need: "api-keys:delete", in: in, own: true}, func(ctx context.Context, u *unit) error {
		record, err := u.key(ctx, in, id)
		if err != nil {
			return err
		}
		u.denies = true
		if err := u.revokeKey(ctx, record, reason); err != nil {
			return err
		}
		after, err = u.find(ctx, in, id)
		return err
	})
	return after, err
}

func (u *unit) revokeKey(ctx context.Context, record *keys.Record, reason string) error {
	generation, revoked, err := keys.Revoke(ctx, u.tx, record.ID, reason, u.now)
	if err != nil {
		return err
	}
	if !revoked {
		return u.repeats(ctx, oauth.RevocableKey, string(record.ID))
	}
	u.deny(record.WorkspaceID, oauth.RevocableKey, string(record.ID), generation, revocation.Revoked)
	u.recordKeyEvent("revoke", record, map[string]any{"reason": reason})
	return nil
}

// revokeAll ends every key of an owner in a workspace; an empty owner means
// everybody's.
func (u *unit) revokeAll(ctx context.Context, in workspace.ID, owner, reason string) error {
	ids, err := keys.Unrevoked(ctx, u.tx, in, owner)
	if err != nil {
		return err
	}
	for _, id := range ids {
		record, err := keys.Read(ctx, u.tx, id)
		if err != nil {
			return err
		}
		if err := u.revokeKey(ctx, record, reason); err != nil {
			return err
		}
	}
	return nil
}

// DeleteKey revokes a key, if it is not revoked, and takes it out of sight. Its
// traces in the audit log stay.
func (m *Manager) DeleteKey(ctx context.Context, by Caller, in workspace.ID, id keys.ID) error {
	return m.do(ctx, by, operation{need: "api-keys:delete", in: in, own: true}, func(ctx context.Context, u *unit) error {
		record, err := u.key(ctx, in, id)
		if err != nil {
			return err
		}
		if err := u.touch(ctx, record); err != nil {
			return err
		}
		u.denies = true
		if err := u.revokeKey(ctx, record, "deleted"); err != nil {
			return err
		}
		u.recordKeyEvent("delete", record, nil)
		return keys.Delete(ctx, u.tx, id, u.now)
	})
}

// Key reads a key of a workspace.
func (m *Manager) Key(ctx context.Context, by Caller, in workspace.ID, id keys.ID) (found keys.Listed, err error) {
	err = m.view(ctx, by, operation{need: "api-keys:read", in: in}, func(ctx context.Context, u *unit) error {
		found, err = u.find(ctx, in, id)
		return err
	})
	return found, err
}

// Keys lists keys of a workspace.
func (m *Manager) Keys(ctx context.Context, by Caller, in workspace.ID, f keys.Filter, page workspace.Page) (found []keys.Listed, err error) {
	err = m.view(ctx, by, operation{need: "api-keys:read", in: in}, func(ctx context.Context, u *unit) error {
		f.Now = u.now
		found, err = u.list(ctx, in, f, page)
		return err
	})
	return found, err
}

// PersonalKeys lists the caller's own keys in a workspace.
func (m *Manager) PersonalKeys(ctx context.Context, by Caller, in workspace.ID, page workspace.Page) (found []keys.Listed, err error) {
	err = m.view(ctx, by, operation{in: in}, func(ctx context.Context, u *unit) error {
		if err := u.person(); err != nil {
			return err
		}
		if by.key != "" && !u.rights.Has("api-keys:read") {
			return fmt.Errorf("%w: this needs a key that holds api-keys:read", workspace.ErrForbidden)
		}
		found, err = u.list(ctx, in, keys.Filter{Owner: by.id, User: true, Now: u.now}, page)
		return err
	})
	return found, err
}

// key reads a key of that workspace. Whoever may only touch keys of their own
// does not learn what other keys there are.
func (u *unit) key(ctx context.Context, in workspace.ID, id keys.ID) (*keys.Record, error) {
	record, err := keys.Read(ctx, u.tx, id)
	if err == nil && (record.WorkspaceID != in || !record.DeletedAt.IsZero()) {
		err = fmt.Errorf("key %s: %w", id, workspace.ErrNotFound)
	}
	if u.lacks != nil && (err == nil || errors.Is(err, workspace.ErrNotFound)) {
		if err != nil || u.by.userID() == "" || record.UserID != u.by.userID() || u.by.key != "" {
			return nil, u.lacks
		}
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
		return nil, fmt.Errorf("%w: key %s is revoked: create a new one", ErrNotLive, id)
	case !record.ExpiresAt.IsZero() && !u.now.Before(record.ExpiresAt.Time):
		return nil, fmt.Errorf("%w: key %s has expired: create a new one", ErrNotLive, id)
	}
	return record, nil
}

// announcements are the steps of a key's life that the webhook is told of.
var announcements = map[string]string{"create": "key.created", "rotate": "key.rotated", "revoke": "key.revoked", "delete": "key.deleted"}

// recordKeyEvent notes a step of a key's life.
func (u *unit) recordKeyEvent(step string, r *keys.Record, detail map[string]any) {
	u.record("key."+step, r.WorkspaceID, string(r.ID), detail)
	u.concerning(r.OwnerID())
	word, told := announcements[step]
	if !told || !u.Announce {
		return
	}
	reason, _ := detail["reason"].(string)
	u.announced = append(u.announced, webhook.Event{
		Type: word, At: u.now, WorkspaceID: r.WorkspaceID, Workspace: r.WorkspaceSlug, KeyID: r.ID, KeyName: r.Name,
		OwnerID: r.OwnerID(), Actor: u.by.String(), ExpiresAt: r.ExpiresAt, Reason: reason,
	})
}
