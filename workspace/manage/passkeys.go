package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// Passkeys lists the passkeys of the caller.
func (m *Manager) Passkeys(ctx context.Context, by Caller) (found []identity.Passkey, err error) {
	err = m.view(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.inPerson(); err != nil {
			return err
		}
		found, err = identity.Passkeys(ctx, u.tx, by.userID())
		return err
	})
	return found, err
}

// BeginPasskey makes the options for a browser that shall make a passkey of the
// caller, and the challenge in them. ErrProveAgain;
// ErrConflict: they have as many as may be.
func (m *Manager) BeginPasskey(ctx context.Context, by Caller, rp *identity.RelyingParty) (options json.RawMessage, c identity.Challenge, err error) {
	if err := m.view(ctx, by, operation{}, func(_ context.Context, u *unit) error { return u.justProven() }); err != nil {
		return nil, c, err
	}
	has, err := m.Passkeys(ctx, by)
	if err != nil {
		return nil, c, err
	}
	if len(has) >= identity.MaxPasskeys {
		return nil, c, fmt.Errorf("%w: you have %d passkeys, and no more are kept: remove one first", workspace.ErrConflict, len(has))
	}
	user, err := workspace.FindUser(ctx, m.Database.Reader(), by.userID())
	if err != nil {
		return nil, c, err
	}
	return rp.Register(user, has)
}

// AddPasskey stores what the browser made for a challenge that was begun for the
// caller. ErrProveAgain; ErrPasskey; ErrInvalid: the name; ErrConflict: it is there.
func (m *Manager) AddPasskey(ctx context.Context, by Caller, rp *identity.RelyingParty, name string, c identity.Challenge, answer []byte) error {
	if err := workspace.ValidName("name", name); err != nil {
		return err
	}
	return m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.justProven(); err != nil {
			return err
		}
		user, err := workspace.FindUser(ctx, u.tx, by.userID())
		if err != nil {
			return err
		}
		passkey, err := rp.Registered(user, c, answer)
		if err != nil {
			return err
		}
		passkey.Name, passkey.CreatedAt = name, u.now
		if err := identity.InsertPasskey(ctx, u.tx, passkey); err != nil {
			return err
		}
		u.record("passkey.add", "", passkey.ID, map[string]any{"name": name})
		u.concerning(by.id)
		return nil
	})
}

// RemovePasskey ends a passkey of the caller. ErrProveAgain; ErrNotFound; ErrConflict:
// they could sign in no more.
func (m *Manager) RemovePasskey(ctx context.Context, by Caller, id string) error {
	return m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.justProven(); err != nil {
			return err
		}
		if err := identity.DeletePasskey(ctx, u.tx, by.userID(), id); err != nil {
			return err
		}
		u.record("passkey.remove", "", id, nil)
		u.concerning(by.id)
		return u.canStillSignIn(ctx)
	})
}

// AskPasskey makes the options for a browser that shall sign with one of a user's
// passkeys, or with an empty one with any, and the challenge in them. ErrNotFound:
// the user has none.
func (m *Manager) AskPasskey(ctx context.Context, rp *identity.RelyingParty, user workspace.UserID) (options json.RawMessage, c identity.Challenge, err error) {
	var has []identity.Passkey
	if user != "" {
		if has, err = identity.Passkeys(ctx, m.Database.Reader(), user); err != nil {
			return nil, c, err
		}
		if len(has) == 0 {
			return nil, c, fmt.Errorf("a passkey of %s: %w", user, workspace.ErrNotFound)
		}
	}
	return rp.Ask(user, has)
}

// UsePasskey signs a person in with the answer to a challenge, which has to be spent
// by then. ErrPasskey, which is also what somebody disabled gets. One that counts back
// is refused, and that is recorded (Web Authentication §6.1.1).
func (m *Manager) UsePasskey(ctx context.Context, from Origin, rp *identity.RelyingParty, c identity.Challenge, answer []byte) (workspace.UserID, error) {
	assertion, err := identity.ParseAssertion(answer)
	if err != nil {
		return "", err
	}
	found, err := identity.FindPasskey(ctx, m.Database.Reader(), assertion)
	if err != nil {
		return "", err
	}
	method := identity.ByPasskey
	if c.User != "" {
		method = identity.ByPasswordAndPasskey
	}
	var cloned error
	err = m.do(ctx, User(found.UserID).From(from), operation{}, func(ctx context.Context, u *unit) error {
		passkey, err := identity.FindPasskey(ctx, u.tx, assertion) // its counter may have moved
		if err != nil {
			return err
		}
		passkey, cloned = rp.Check(c, passkey, assertion)
		if errors.Is(cloned, identity.ErrClonedPasskey) {
			u.record("passkey.refuse", "", passkey.ID, map[string]any{"reason": "counter"})
			u.concerning(string(passkey.UserID))
			return nil
		}
		if cloned != nil {
			return cloned
		}
		passkey.LastUsedAt = u.now
		if err := identity.UsePasskey(ctx, u.tx, passkey); err != nil {
			return err
		}
		u.noteSignIn(passkey.UserID, method)
		return nil
	})
	if errors.Is(err, errGone) {
		return "", fmt.Errorf("%w: its owner may not sign in", identity.ErrPasskey)
	}
	if err == nil {
		err = cloned
	}
	return found.UserID, err
}
