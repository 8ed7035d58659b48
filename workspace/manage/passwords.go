package manage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// ErrWrongPassword is the answer to a wrong password, and to an address that nobody
// has: they are not told apart.
var ErrWrongPassword = errors.New("the e-mail address or the password is wrong")

// recently is how long after signing in somebody counts as sitting there still.
const recently = 15 * time.Minute

func (m *Manager) passwords() *identity.Passwords {
	if m.Passwords == nil {
		return identity.DefaultPasswords
	}
	return m.Passwords
}

// hashPassword checks a password that somebody has chosen, and hashes it. It takes a
// while: never in a transaction.
func (m *Manager) hashPassword(ctx context.Context, password, email string) (stored string, err error) {
	if err := identity.ValidPassword(password, email); err != nil {
		return "", err
	}
	return m.passwords().Hash(ctx, password)
}

// CheckPassword finds the user whose address and password these are. second means
// that they have passkeys, and are signed in only with one of them as well. The
// answer to everything else is ErrWrongPassword, after the same time: to an unknown
// address, to one of a user who is disabled or has no password, to a wrong password.
func (m *Manager) CheckPassword(ctx context.Context, email, password string) (user workspace.User, second bool, err error) {
	q := m.Database.Reader()
	address, _ := workspace.NormalEmail(email) // nobody has the empty one
	user, err = workspace.UserByEmail(ctx, q, address)
	if err != nil && !errors.Is(err, workspace.ErrNotFound) {
		return user, false, err
	}
	stored, err := identity.PasswordOf(ctx, q, user.ID) // nobody's too: as many queries
	if err != nil && !errors.Is(err, workspace.ErrNotFound) {
		return user, false, err
	}
	if err != nil || !user.DisabledAt.IsZero() {
		if err := m.passwords().CheckNothing(ctx, password); err != nil {
			return workspace.User{}, false, err
		}
		return workspace.User{}, false, ErrWrongPassword
	}
	right, stale, err := m.passwords().Check(ctx, stored, password)
	if err == nil && !right {
		err = ErrWrongPassword
	}
	if err == nil && stale {
		err = m.rehash(ctx, user.ID, stored, password)
	}
	if err != nil {
		return workspace.User{}, false, err
	}
	second, err = identity.HasPasskeys(ctx, q, user.ID)
	return user, second, err
}

// rehash stores a password that was right in the form that new ones have.
func (m *Manager) rehash(ctx context.Context, user workspace.UserID, before, password string) error {
	after, err := m.passwords().Hash(ctx, password)
	if err != nil {
		return err
	}
	return identity.RehashPassword(ctx, m.Database.Writer(), user, before, after)
}

// SetOwnPassword changes the caller's password, and ends every session of theirs but
// this one. ErrWrongPassword: current is not their password; ErrProveAgain: they have
// none yet, and did not sign in just now; ErrInvalid.
func (m *Manager) SetOwnPassword(ctx context.Context, by Caller, session identity.Session, current, password string) error {
	var user workspace.User
	var before string
	err := m.view(ctx, by, operation{}, func(ctx context.Context, u *unit) (err error) {
		if err := u.inPerson(); err != nil {
			return err
		}
		if user, err = workspace.FindUser(ctx, u.tx, by.userID()); err != nil {
			return err
		}
		before, err = ensure(identity.PasswordOf(ctx, u.tx, user.ID))(func() (string, error) { return "", nil })
		return err
	})
	if err == nil {
		err = m.provenAgain(ctx, session, before, current)
	}
	if err != nil {
		return err
	}
	if before != "" && current == password {
		return fmt.Errorf("%w: the password is the one that you have: choose another one", workspace.ErrInvalid)
	}
	stored, err := m.hashPassword(ctx, password, user.Email)
	if err != nil {
		return err
	}
	return m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		now, err := ensure(identity.PasswordOf(ctx, u.tx, user.ID))(func() (string, error) { return "", nil })
		if err == nil && now != before {
			err = fmt.Errorf("%w: your password was changed elsewhere", workspace.ErrChanged)
		}
		if err == nil {
			err = u.setPassword(ctx, user.ID, stored, session.ID)
		}
		return err
	})
}

// provenAgain makes sure that it is still the person: by their password, or if they
// have none by having signed in a moment ago.
func (m *Manager) provenAgain(ctx context.Context, session identity.Session, stored, current string) error {
	if stored == "" {
		if m.now().Sub(session.CreatedAt.Time) > recently {
			return ErrProveAgain
		}
		return nil
	}
	right, _, err := m.passwords().Check(ctx, stored, current)
	if err == nil && !right {
		err = ErrWrongPassword
	}
	return err
}

// setPassword stores a password. Every session but one ends, and so does every link
// by which somebody could set another password.
func (u *unit) setPassword(ctx context.Context, user workspace.UserID, stored, except string) error {
	if err := identity.SetPassword(ctx, u.tx, user, stored, u.now); err != nil {
		return err
	}
	if _, err := identity.EndSessions(ctx, u.tx, user, except, u.now); err != nil {
		return err
	}
	if err := identity.KeepSession(ctx, u.tx, user, except, u.now); err != nil {
		return err
	}
	if _, err := identity.DeleteLinks(ctx, u.tx, identity.LinkFilter{Kind: identity.AccessLink, UserID: user}); err != nil {
		return err
	}
	u.record("password.set", "", string(user), nil)
	u.concerning(string(user))
	return nil
}

// renewAccess makes a new password the only thing that signs a user in, besides a
// provider: passkeys may be lost with a device, or be somebody else's.
func (u *unit) renewAccess(ctx context.Context, user workspace.UserID, stored string) error {
	if err := identity.DeletePasskeys(ctx, u.tx, user); err != nil {
		return err
	}
	return u.setPassword(ctx, user, stored, "")
}

// AccessLink makes a link by which a user gets a password, whatever they have lost. It
// ends the one that they had. Organization admins and the operator may; whoever makes
// one could use it themselves, which the audit log shows. ErrConflict: the user is
// disabled.
func (m *Manager) AccessLink(ctx context.Context, by Caller, user workspace.UserID) (link NewLink, err error) {
	err = m.do(ctx, by, operation{need: changeAll}, func(ctx context.Context, u *unit) error {
		if err := u.handsOutLinks(); err != nil {
			return err
		}
		return u.linkOnce(ctx, "", &link, func() (NewLink, error) { return u.accessLink(ctx, user) })
	})
	return link, err
}

func (u *unit) accessLink(ctx context.Context, id workspace.UserID) (NewLink, error) {
	user, err := workspace.FindUser(ctx, u.tx, id)
	if err != nil {
		return NewLink{}, err
	}
	if !user.DisabledAt.IsZero() {
		return NewLink{}, fmt.Errorf("%w: %s is disabled: enable them first", workspace.ErrConflict, user.Email)
	}
	if _, err := identity.DeleteLinks(ctx, u.tx, identity.LinkFilter{Kind: identity.AccessLink, UserID: id}); err != nil {
		return NewLink{}, err
	}
	link, err := u.newLink(ctx, identity.Link{Kind: identity.AccessLink, UserID: id, Email: user.Email}, AccessFor)
	u.record("access_link.create", "", string(id), map[string]any{"link": link.ID})
	u.concerning(string(id))
	return link, err
}

// UserByEmail reads the user with an address.
func (m *Manager) UserByEmail(ctx context.Context, by Caller, email string) (user workspace.User, err error) {
	address, err := workspace.NormalEmail(email)
	if err != nil {
		return user, err
	}
	err = m.view(ctx, by, operation{need: seeAll}, func(ctx context.Context, u *unit) error {
		user, err = workspace.UserByEmail(ctx, u.tx, address)
		return err
	})
	return user, err
}

// OpenAccessLink reads whose a link is by which they get a way to sign in. ErrNotFound.
func (m *Manager) OpenAccessLink(ctx context.Context, token string) (workspace.User, error) {
	q := m.Database.Reader()
	link, err := identity.FindLink(ctx, q, identity.AccessLink, token, workspace.At(m.now()))
	if err != nil {
		return workspace.User{}, err
	}
	user, err := workspace.FindUser(ctx, q, link.UserID)
	if err == nil && !user.DisabledAt.IsZero() {
		err = fmt.Errorf("user %s: %w", user.ID, workspace.ErrNotFound)
	}
	return user, err
}

// UseAccessLink sets the password of the user whose link it is, removes their
// passkeys, and ends their sessions. ErrNotFound; ErrInvalid: the password.
func (m *Manager) UseAccessLink(ctx context.Context, from Origin, token, password string) (user workspace.User, err error) {
	if user, err = m.OpenAccessLink(ctx, token); err != nil {
		return user, err
	}
	stored, err := m.hashPassword(ctx, password, user.Email)
	if err != nil {
		return user, err
	}
	return user, m.do(ctx, User(user.ID).From(from), operation{}, func(ctx context.Context, u *unit) error {
		link, err := identity.UseLink(ctx, u.tx, identity.AccessLink, token, u.now)
		if err != nil {
			return err
		}
		u.record("access_link.use", "", string(user.ID), map[string]any{"link": link.ID, "created_by": link.CreatedBy})
		u.concerning(string(user.ID))
		return u.renewAccess(ctx, user.ID, stored)
	})
}

// SignInMethods is how a user can sign in: one's own, or for organization admins
// anybody's.
func (m *Manager) SignInMethods(ctx context.Context, by Caller, user workspace.UserID) (found identity.Methods, err error) {
	op := operation{need: seeAll}
	if user == by.userID() {
		op.need = ""
	}
	err = m.view(ctx, by, op, func(ctx context.Context, u *unit) error {
		if _, err := workspace.FindUser(ctx, u.tx, user); err != nil {
			return err
		}
		found, err = identity.MethodsOf(ctx, u.tx, user)
		return err
	})
	return found, err
}
