package manage

import (
	"context"
	"errors"
	"fmt"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// An invitation is a link to a role in a workspace. Membership comes into being when
// somebody accepts it; the address on it says whom it is meant for, and proves
// nothing: it never opens an account that exists.

// CreateInvitation invites the person with an address. The caller has to hold what
// the role gives. An invitation of the address to the workspace that was open ends.
// ErrConflict: they are in it.
func (m *Manager) CreateInvitation(ctx context.Context, by Caller, in workspace.ID, email string, role workspace.Role) (link NewLink, err error) {
	err = m.do(ctx, by, operation{need: "members:create", in: in}, func(ctx context.Context, u *unit) error {
		if err := u.handsOutLinks(); err != nil {
			return err
		}
		return u.linkOnce(ctx, in, &link, func() (NewLink, error) { return u.invite(ctx, in, email, role) })
	})
	return link, err
}

// handsOutLinks refuses keys: a link is handed from one person to another.
func (u *unit) handsOutLinks() error {
	if u.by.kind == operatorCaller {
		return nil
	}
	return u.inPerson()
}

// linkOnce is onlyOnce for a link.
func (u *unit) linkOnce(ctx context.Context, in workspace.ID, link *NewLink, create func() (NewLink, error)) error {
	return u.onlyOnce(ctx, in, func() (made, error) {
		var err error
		*link, err = create()
		return made{Subject: link.ID, Secret: link.Token}, err
	}, func(before made) error {
		found, err := identity.LinkByID(ctx, u.tx, before.Subject)
		*link = NewLink{found, before.Secret}
		return err
	})
}

func (u *unit) invite(ctx context.Context, in workspace.ID, email string, role workspace.Role) (NewLink, error) {
	address, err := workspace.NormalEmail(email)
	if err != nil {
		return NewLink{}, err
	}
	if err := (workspace.Member{Role: role}).Validate(); err != nil {
		return NewLink{}, err
	}
	if err := u.mayGrant(u.Policy.Catalogue.MemberRights(role, false)); err != nil {
		return NewLink{}, err
	}
	if err := u.notYetIn(ctx, in, address); err != nil {
		return NewLink{}, err
	}
	if err := u.withdraw(ctx, identity.LinkFilter{Kind: identity.InvitationLink, WorkspaceID: in, Email: address}); err != nil {
		return NewLink{}, err
	}
	link, err := u.newLink(ctx, identity.Link{Kind: identity.InvitationLink, WorkspaceID: in, Role: role, Email: address}, InvitationFor)
	u.record("invitation.create", in, link.ID, map[string]any{"email": address, "role": role})
	return link, err
}

func (u *unit) notYetIn(ctx context.Context, in workspace.ID, address string) error {
	user, err := workspace.UserByEmail(ctx, u.tx, address)
	if err == nil {
		_, err = workspace.FindMember(ctx, u.tx, in, user.ID)
	}
	switch {
	case errors.Is(err, workspace.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: %s is in the workspace already: change their role instead", workspace.ErrConflict, address)
}

// withdraw ends invitations and records each.
func (u *unit) withdraw(ctx context.Context, f identity.LinkFilter) error {
	gone, err := identity.DeleteLinks(ctx, u.tx, f)
	for _, l := range gone {
		u.record("invitation.withdraw", l.WorkspaceID, l.ID, map[string]any{"email": l.Email, "role": l.Role})
	}
	return err
}

// disown ends the links that a user has made, in a workspace or with an empty one
// everywhere: who has lost rights shall not come back by what they prepared.
func (u *unit) disown(ctx context.Context, user workspace.UserID, in workspace.ID) error {
	maker := User(user).String()
	err := u.withdraw(ctx, identity.LinkFilter{Kind: identity.InvitationLink, CreatedBy: maker, WorkspaceID: in})
	if err == nil && in == "" {
		_, err = identity.DeleteLinks(ctx, u.tx, identity.LinkFilter{Kind: identity.AccessLink, CreatedBy: maker})
	}
	return err
}

// Invitations lists the invitations to a workspace that are open, the newest first.
func (m *Manager) Invitations(ctx context.Context, by Caller, in workspace.ID) (found []identity.Link, err error) {
	err = m.view(ctx, by, seeMembers(in), func(ctx context.Context, u *unit) error {
		found, err = identity.ListLinks(ctx, u.tx, in, identity.InvitationLink, u.now)
		return err
	})
	return found, err
}

// WithdrawInvitation ends an invitation. ErrNotFound: there is none that is open.
func (m *Manager) WithdrawInvitation(ctx context.Context, by Caller, in workspace.ID, id string) error {
	return m.do(ctx, by, operation{need: "members:delete", in: in}, func(ctx context.Context, u *unit) error {
		if err := u.withdraw(ctx, identity.LinkFilter{Kind: identity.InvitationLink, WorkspaceID: in, ID: id}); err != nil {
			return err
		}
		if id == "" || len(u.events) == 0 {
			return fmt.Errorf("invitation %s: %w", id, workspace.ErrNotFound)
		}
		return nil
	})
}

// Invitation is what whoever has its token may know of it.
type Invitation struct {
	identity.Link
	Workspace workspace.Workspace
}

// OpenInvitation reads the invitation of a token. ErrNotFound.
func (m *Manager) OpenInvitation(ctx context.Context, token string) (i Invitation, err error) {
	q := m.Database.Reader()
	if i.Link, err = identity.FindLink(ctx, q, identity.InvitationLink, token, workspace.At(m.now())); err != nil {
		return i, err
	}
	i.Workspace, err = workspace.Find(ctx, q, string(i.WorkspaceID))
	return i, err
}

// AcceptInvitation makes the caller a member by the token of an invitation. Whoever
// is one already with a lesser role gets the one of the invitation; who would gain
// nothing stays what they are, and the invitation stays open.
func (m *Manager) AcceptInvitation(ctx context.Context, by Caller, token string) error {
	return m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.inPerson(); err != nil {
			return err
		}
		user, err := workspace.FindUser(ctx, u.tx, by.userID())
		if err != nil {
			return err
		}
		return u.acceptInvitation(ctx, user, token)
	})
}

// acceptInvitation makes a user a member by the token of an invitation.
func (u *unit) acceptInvitation(ctx context.Context, user workspace.User, token string) error {
	link, err := identity.FindLink(ctx, u.tx, identity.InvitationLink, token, u.now)
	if err != nil {
		return err
	}
	if err := u.exists(ctx, link.WorkspaceID); err != nil {
		return err
	}
	member, err := workspace.FindMember(ctx, u.tx, link.WorkspaceID, user.ID)
	inside := err == nil
	switch {
	case inside && !u.lesser(member.Role, link.Role):
		return nil
	case !inside && !errors.Is(err, workspace.ErrNotFound):
		return err
	}
	if _, err := identity.UseLink(ctx, u.tx, identity.InvitationLink, token, u.now); err != nil {
		return err
	}
	u.record("invitation.accept", link.WorkspaceID, link.ID, map[string]any{"email": link.Email, "role": link.Role, "user": user.ID})
	u.concerning(string(user.ID))
	if inside {
		return u.setMemberRole(ctx, member, link.Role)
	}
	return u.insertMember(ctx, link.WorkspaceID, user.ID, link.Role)
}

// lesser reports whether a role gives something less than another, and nothing more.
func (u *unit) lesser(role, than workspace.Role) bool {
	has, would := u.Policy.Catalogue.MemberRights(role, false), u.Policy.Catalogue.MemberRights(than, false)
	return len(has.Minus(would)) == 0 && len(would.Minus(has)) > 0
}

// JoinByInvitation makes an account with the address of an invitation, and a member
// of it. ErrConflict: there is an account with that address; ErrNotFound: there is no
// such invitation; ErrInvalid.
func (m *Manager) JoinByInvitation(ctx context.Context, from Origin, token, name, password string) (user workspace.User, err error) {
	link, err := m.OpenInvitation(ctx, token)
	if err != nil {
		return user, err
	}
	stored, err := m.hashPassword(ctx, password, link.Email)
	if err != nil {
		return user, err
	}
	err = m.do(ctx, Operator("invitation").From(from), operation{}, func(ctx context.Context, u *unit) error {
		switch _, err := workspace.UserByEmail(ctx, u.tx, link.Email); {
		case err == nil:
			return fmt.Errorf("%w: there is an account with the address %s: sign in to it and open this link again; if you cannot sign in, ask an organization admin for an access link",
				workspace.ErrConflict, link.Email)
		case !errors.Is(err, workspace.ErrNotFound):
			return err
		}
		if user, err = u.createUser(ctx, link.Email, name, false); err != nil {
			return err
		}
		u.by = User(user.ID).From(from)
		if err := identity.SetPassword(ctx, u.tx, user.ID, stored, u.now); err != nil {
			return err
		}
		u.record("password.set", "", string(user.ID), nil)
		u.concerning(string(user.ID))
		return u.acceptInvitation(ctx, user, token)
	})
	return user, err
}
