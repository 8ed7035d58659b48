package manage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// ErrNoAccess means that a provider has proven who somebody is, and nobody has given
// them anything here. It is not allowed.
var ErrNoAccess = fmt.Errorf("%w: nobody has given you access here yet", workspace.ErrForbidden)

// ErrAddressTaken means that somebody whom a provider has proven would need a new
// user, and another one has their address. They are never taken for the same person.
var ErrAddressTaken = fmt.Errorf("%w: the address belongs to another account", workspace.ErrConflict)

// SignedIn is a person who has come from their provider.
type SignedIn struct {
	workspace.User
	Notes  []string // what the mapping asks for and was not done, a sentence each, for the log
	Joined bool     // somebody new, who is a member by the invitation that they came with
}

// Spend uses up something that is good once, such as the state of an attempt to sign
// in, until it is of no use anyway. ErrConflict: it is used up.
func (m *Manager) Spend(ctx context.Context, once string, until time.Time) error {
	digest := sha256.Sum256([]byte(once))
	return identity.Spend(ctx, m.Database.Writer(), digest[:], workspace.At(until))
}

// SignInSubject finds the user whom a person of a provider is, and gives and takes
// what the mapping says for them. Somebody unknown becomes a user if the mapping
// gives them something, or if they come with the token of an invitation, which is
// accepted then; somebody known accepts one by themselves. ErrNoAccess, ErrAddressTaken, ErrForbidden: the user is disabled;
// ErrNotFound: the invitation is not good any more.
func (m *Manager) SignInSubject(ctx context.Context, from Origin, p identity.Person, mapping identity.Mapping, invitation string) (result SignedIn, err error) {
	err = m.do(ctx, provider(p.Issuer).From(from), operation{}, func(ctx context.Context, u *unit) error {
		result = SignedIn{}
		if result.User, result.Joined, err = u.subjectUser(ctx, p, mapping, invitation); err != nil {
			return err
		}
		if result.Notes, err = u.followMapping(ctx, &result.User, p, mapping); err != nil {
			return err
		}
		u.noteSignIn(result.ID, identity.ByProvider)
		return nil
	})
	return result, err
}

// subjectUser is the user that a person is, or becomes.
func (u *unit) subjectUser(ctx context.Context, p identity.Person, mapping identity.Mapping, invitation string) (user workspace.User, joined bool, err error) {
	known, err := identity.FindSubject(ctx, u.tx, p.Issuer, p.Subject)
	switch {
	case err == nil:
		user, err = u.knownSubject(ctx, p, known)
		return user, false, err
	case !errors.Is(err, workspace.ErrNotFound):
		return user, false, err
	}
	if user, err = u.newSubject(ctx, p, mapping, invitation != ""); err != nil || invitation == "" {
		return user, false, err
	}
	return user, true, u.acceptInvitation(ctx, user, invitation)
}

// knownSubject is the user that a person is already.
func (u *unit) knownSubject(ctx context.Context, p identity.Person, known identity.Subject) (workspace.User, error) {
	user, err := workspace.FindUser(ctx, u.tx, known.UserID)
	if errors.Is(err, workspace.ErrNotFound) || (err == nil && !user.DisabledAt.IsZero()) {
		return user, fmt.Errorf("%w: your account here is disabled", workspace.ErrForbidden)
	}
	if err != nil {
		return user, err
	}
	known.Email, known.SeenAt = p.Email, u.now
	return user, identity.SeeSubject(ctx, u.tx, known)
}

// newSubject makes a user of somebody who is let in.
func (u *unit) newSubject(ctx context.Context, p identity.Person, mapping identity.Mapping, invited bool) (user workspace.User, err error) {
	gives := mapping.Admin(p.Groups)
	for slug, role := range mapping.Roles(p.Groups) {
		if role == "" || gives {
			continue
		}
		switch _, err := workspace.Find(ctx, u.tx, slug); {
		case err == nil:
			gives = true
		case !errors.Is(err, workspace.ErrNotFound):
			return user, err
		}
	}
	if !gives && !invited {
		return user, ErrNoAccess
	}
	address, err := workspace.NormalEmail(p.Email)
	if err != nil {
		address = madeUpAddress(p)
	}
	switch _, err := workspace.UserByEmail(ctx, u.tx, address); {
	case err == nil:
		return user, ErrAddressTaken
	case !errors.Is(err, workspace.ErrNotFound):
		return user, err
	}
	name := p.Name
	if workspace.ValidName("name", name) != nil {
		name = ""
	}
	if user, err = u.createUser(ctx, address, name, false); err != nil {
		return user, err
	}
	return user, u.linkSubject(ctx, user.ID, p)
}

// madeUpAddress stands for an address that the provider does not tell. Nobody else
// has it: the domain is reserved (RFC 2606 §2).
func madeUpAddress(p identity.Person) string {
	sum := sha256.Sum256([]byte(p.Issuer + "\x00" + p.Subject))
	return hex.EncodeToString(sum[:16]) + "@subject.invalid"
}

func (u *unit) linkSubject(ctx context.Context, user workspace.UserID, p identity.Person) error {
	s := identity.Subject{Issuer: p.Issuer, Subject: p.Subject, UserID: user, Email: p.Email, CreatedAt: u.now, SeenAt: u.now}
	if err := identity.InsertSubject(ctx, u.tx, s); err != nil {
		return err
	}
	u.record("provider.link", "", string(user), map[string]any{"issuer": p.Issuer, "subject": p.Subject})
	u.concerning(string(user))
	return nil
}

// followMapping makes a user's roles what their groups give, in what the mapping
// names and nowhere else. The last one in charge of something stays it.
func (u *unit) followMapping(ctx context.Context, user *workspace.User, p identity.Person, mapping identity.Mapping) (notes []string, err error) {
	if admin := mapping.Admin(p.Groups); len(mapping.Admins) > 0 && user.OrganizationAdmin != admin {
		after := *user
		after.OrganizationAdmin = admin
		changed, err := u.storeUser(ctx, *user, after, map[string]any{"organization_admin": admin})
		switch {
		case errors.Is(err, workspace.ErrLastOwner):
			notes = append(notes, "the last organization admin stays one, without a group for it")
		case err != nil:
			return nil, err
		default:
			*user = changed
		}
	}
	roles := mapping.Roles(p.Groups)
	for _, slug := range slices.Sorted(maps.Keys(roles)) {
		ws, err := workspace.Find(ctx, u.tx, slug)
		if err == nil {
			err = u.followRole(ctx, ws.ID, user.ID, roles[slug])
		}
		switch {
		case errors.Is(err, workspace.ErrLastOwner):
			notes = append(notes, "the last owner of the workspace "+slug+" stays one, without a group for it")
		case errors.Is(err, workspace.ErrNotFound):
			notes = append(notes, "there is no workspace "+slug)
		case err != nil:
			return nil, err
		}
	}
	return notes, nil
}

// followRole makes a user's role in a workspace what it shall be; empty: none.
func (u *unit) followRole(ctx context.Context, in workspace.ID, user workspace.UserID, role workspace.Role) error {
	member, err := workspace.FindMember(ctx, u.tx, in, user)
	switch missing := errors.Is(err, workspace.ErrNotFound); {
	case missing && role == "":
		return nil
	case missing:
		return u.addMember(ctx, in, user, role)
	case err != nil || member.Role == role:
		return err
	case role == "":
		return u.removeMember(ctx, member)
	}
	return u.setMemberRole(ctx, member, role)
}

// Subjects lists who the caller is at providers.
func (m *Manager) Subjects(ctx context.Context, by Caller) (found []identity.Subject, err error) {
	err = m.view(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.inPerson(); err != nil {
			return err
		}
		found, err = identity.Subjects(ctx, u.tx, by.userID())
		return err
	})
	return found, err
}

// LinkSubject lets the caller sign in as a person of a provider, which has just proven
// them. ErrProveAgain; ErrConflict: that person is somebody here.
func (m *Manager) LinkSubject(ctx context.Context, by Caller, p identity.Person) error {
	return m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.justProven(); err != nil {
			return err
		}
		return u.linkSubject(ctx, by.userID(), p)
	})
}

// UnlinkSubject ends that the caller can sign in as a person of a provider.
// ErrProveAgain; ErrConflict: they could sign in no more.
func (m *Manager) UnlinkSubject(ctx context.Context, by Caller, issuer, subject string) error {
	return m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.justProven(); err != nil {
			return err
		}
		if err := identity.DeleteSubject(ctx, u.tx, by.userID(), issuer, subject); err != nil {
			return err
		}
		u.record("provider.unlink", "", by.id, map[string]any{"issuer": issuer, "subject": subject})
		u.concerning(by.id)
		return u.canStillSignIn(ctx)
	})
}

// inPerson refuses whoever does not sit in front of the console themselves: how a
// person signs in is nothing that a key may change.
func (u *unit) inPerson() error {
	if err := u.person(); err != nil {
		return err
	}
	if u.by.key != "" {
		return fmt.Errorf("%w: how you sign in is changed in the console, not with a key", workspace.ErrForbidden)
	}
	return nil
}

// ErrProveAgain means that the person has to sign in again first. It is not allowed.
var ErrProveAgain = fmt.Errorf("%w: sign in again first, since it changes how you sign in", workspace.ErrForbidden)

// justProven refuses whoever does not sit in front of the console themselves, or did
// not prove it a short while ago.
func (u *unit) justProven() error {
	if err := u.inPerson(); err != nil {
		return err
	}
	if u.now.Sub(u.by.proven) > recently {
		return ErrProveAgain
	}
	return nil
}

// canStillSignIn refuses what would leave the caller without a way to sign in.
func (u *unit) canStillSignIn(ctx context.Context) error {
	left, err := identity.MethodsOf(ctx, u.tx, u.by.userID())
	if err != nil || left.Password || left.Passkeys > 0 || left.Subjects > 0 {
		return err
	}
	return fmt.Errorf("%w: it is your last way to sign in: set a password or add a passkey first", workspace.ErrConflict)
}
