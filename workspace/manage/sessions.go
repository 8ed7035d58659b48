package manage

import (
	"context"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// NoteSignIn records that a person has signed in. ErrForbidden: they may not any more.
func (m *Manager) NoteSignIn(ctx context.Context, from Origin, user workspace.UserID, method identity.Method) error {
	return m.do(ctx, User(user).From(from), operation{}, func(_ context.Context, u *unit) error {
		u.noteSignIn(user, method)
		return nil
	})
}

// noteSignIn records that a person has signed in.
func (u *unit) noteSignIn(user workspace.UserID, method identity.Method) {
	by := u.by
	u.by = User(user).From(by.origin)
	u.record("user.sign_in", "", string(user), map[string]any{"method": method})
	u.concerning(string(user))
	u.by = by
}

// Sessions lists the sessions of the caller that go on, the one used last first.
func (m *Manager) Sessions(ctx context.Context, by Caller, limits identity.SessionOptions) (found []identity.Session, err error) {
	err = m.view(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.inPerson(); err != nil {
			return err
		}
		found, err = identity.ListSessions(ctx, u.tx, by.userID(), limits)
		return err
	})
	return found, err
}

// EndSession ends a session of the caller. ErrNotFound: they have no such session.
func (m *Manager) EndSession(ctx context.Context, by Caller, id string) error {
	return m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.inPerson(); err != nil {
			return err
		}
		if err := identity.EndSession(ctx, u.tx, by.userID(), id, u.now); err != nil {
			return err
		}
		u.record("session.end", "", id, nil)
		u.concerning(by.id)
		return nil
	})
}

// EndOtherSessions ends every session of the caller but one, and says how many.
func (m *Manager) EndOtherSessions(ctx context.Context, by Caller, except string) (n int64, err error) {
	err = m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.inPerson(); err != nil {
			return err
		}
		if n, err = identity.EndSessions(ctx, u.tx, by.userID(), except, u.now); err != nil || n == 0 {
			return err
		}
		u.record("session.end", "", by.id, map[string]any{"count": n})
		u.concerning(by.id)
		return nil
	})
	return n, err
}

// narrowed ends what a user has begun with rights that they have no more, in a
// workspace or with an empty one everywhere: their sessions, and the links that they
// have made.
func (u *unit) narrowed(ctx context.Context, user workspace.UserID, in workspace.ID) error {
	if _, err := identity.EndSessions(ctx, u.tx, user, "", u.now); err != nil {
		return err
	}
	return u.disown(ctx, user, in)
}

// forgetUser removes how a deleted user signed in here.
func (u *unit) forgetUser(ctx context.Context, user workspace.UserID) error {
	if err := identity.DeletePassword(ctx, u.tx, user); err != nil {
		return err
	}
	if err := identity.DeletePasskeys(ctx, u.tx, user); err != nil {
		return err
	}
	if _, err := identity.DeleteLinks(ctx, u.tx, identity.LinkFilter{UserID: user}); err != nil {
		return err
	}
	return u.narrowed(ctx, user, "")
}

// ForgetSignIns removes sessions, links and notes of what was spent that can be used
// no more.
func (m *Manager) ForgetSignIns(ctx context.Context) error {
	tx, now := m.Database.Writer(), workspace.At(m.now())
	if err := identity.ForgetSessions(ctx, tx, now); err != nil {
		return err
	}
	if err := identity.ForgetLinks(ctx, tx, now); err != nil {
		return err
	}
	return identity.ForgetSpent(ctx, tx, now)
}
