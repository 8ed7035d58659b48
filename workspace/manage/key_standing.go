package manage

import (
	"context"
	"errors"
	"strings"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// KeyStanding is a key with what decides what it can do now.
type KeyStanding struct {
	keys.Listed
	Owner      KeyOwner
	Creator    string             // name of who made it; empty: nobody who is known
	Holds      oauth.Scope        // what its tokens can carry now
	Violations []policy.Violation // of the rules in Blocked
	Bounds     policy.Bounds      // of its workspace
}

// KeyOwner is whom a key speaks for.
type KeyOwner struct {
	Name       string
	Role       string // of a service account, or the member's; empty: the account has scopes of its own
	DisabledAt workspace.Time
	Gone       bool // a deleted service account, or no longer a member
}

// KeyStanding reads a key of a workspace, and how it stands.
func (m *Manager) KeyStanding(ctx context.Context, by Caller, in workspace.ID, id keys.ID) (s KeyStanding, err error) {
	err = m.view(ctx, by, operation{need: "api-keys:read", in: in}, func(ctx context.Context, u *unit) error {
		if s.Listed, err = u.find(ctx, in, id); err != nil {
			return err
		}
		record, err := keys.Read(ctx, u.tx, id)
		if err != nil {
			return err
		}
		b, err := u.bounds(ctx, in)
		if err != nil {
			return err
		}
		s.Bounds, s.Holds, s.Violations = *b, b.Keep(u.Policy.Holds(record)), b.Violations(s.Standing(), u.now.Time)
		s.Owner = KeyOwner{Role: record.OwnerRole, DisabledAt: record.OwnerDisabledAt, Gone: record.OwnerGone}
		if s.Owner.Name, err = u.nameOf(ctx, in, record.OwnerID()); err != nil {
			return err
		}
		_, creator, _ := strings.Cut(s.CreatedBy, ":")
		s.Creator, err = u.nameOf(ctx, in, creator)
		return err
	})
	return s, err
}

// nameOf is how people call a user or a service account; empty: it is not there.
func (u *unit) nameOf(ctx context.Context, in workspace.ID, id string) (name string, err error) {
	if strings.HasPrefix(id, "usr_") {
		var user workspace.User
		user, err = workspace.FindUser(ctx, u.tx, workspace.UserID(id))
		if name = user.Name; name == "" {
			name = user.Email
		}
	} else {
		var sa workspace.ServiceAccount
		sa, err = workspace.FindServiceAccount(ctx, u.tx, in, workspace.ServiceAccountID(id))
		name = sa.Name
	}
	if errors.Is(err, workspace.ErrNotFound) {
		return "", nil
	}
	return name, err
}

// KeyReceipt is the Receipt of the newest revocation of a key. found is false when
// no token of the key was denied, or so long ago that none is good any more.
func (m *Manager) KeyReceipt(ctx context.Context, by Caller, in workspace.ID, id keys.ID) (r revocation.Receipt, found bool, err error) {
	err = m.view(ctx, by, operation{need: "tokens:read", in: in}, func(ctx context.Context, u *unit) error {
		if _, err := u.key(ctx, in, id); err != nil {
			return err
		}
		entries, err := revocation.Of(ctx, u.tx, oauth.RevocableKey, string(id))
		if err != nil || len(entries) == 0 {
			return err
		}
		found = true
		r, err = revocation.ReceiptOf(ctx, u.tx, entries[len(entries)-1], u.now.Time)
		return err
	})
	return r, found, err
}
