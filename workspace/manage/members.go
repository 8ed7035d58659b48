package manage

import (
	"context"
	"fmt"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// AddMember puts a user into a workspace. ErrNotFound: there is no such user.
// ErrConflict: they are in it.
func (m *Manager) AddMember(ctx context.Context, by Caller, in workspace.ID, user workspace.UserID, role workspace.Role) error {
	return m.do(ctx, by, operation{need: "members:create", in: in}, func(ctx context.Context, u *unit) error {
		return u.addMember(ctx, in, user, role)
	})
}

// Invite puts the person with an address into a workspace. Whoever is not known
// yet becomes a user. ErrConflict: they are in it.
func (m *Manager) Invite(ctx context.Context, by Caller, in workspace.ID, email string, role workspace.Role) (found workspace.Membership, err error) {
	return m.join(ctx, by, in, role, func(ctx context.Context, u *unit) (workspace.UserID, error) {
		address, err := workspace.NormalEmail(email)
		if err != nil {
			return "", err
		}
		user, err := ensure(workspace.UserByEmail(ctx, u.tx, address))(func() (workspace.User, error) {
			return u.createUser(ctx, address, "", false)
		})
		return user.ID, err
	})
}

// Join puts a user into a workspace, as AddMember does, and returns the member.
func (m *Manager) Join(ctx context.Context, by Caller, in workspace.ID, user workspace.UserID, role workspace.Role) (workspace.Membership, error) {
	return m.join(ctx, by, in, role, func(context.Context, *unit) (workspace.UserID, error) { return user, nil })
}

func (m *Manager) join(ctx context.Context, by Caller, in workspace.ID, role workspace.Role, who func(context.Context, *unit) (workspace.UserID, error)) (found workspace.Membership, err error) {
	err = m.do(ctx, by, operation{need: "members:create", in: in}, func(ctx context.Context, u *unit) error {
		return u.onlyOnce(ctx, in, func() (made, error) {
			id, err := who(ctx, u)
			if err == nil {
				err = u.addMember(ctx, in, id, role)
			}
			if err == nil {
				found, err = workspace.FindMembership(ctx, u.tx, in, id)
			}
			return made{Subject: string(id)}, err
		}, func(before made) error {
			found, err = workspace.FindMembership(ctx, u.tx, in, workspace.UserID(before.Subject))
			return err
		})
	})
	return found, err
}

func (u *unit) addMember(ctx context.Context, in workspace.ID, user workspace.UserID, role workspace.Role) error {
	member := workspace.Member{WorkspaceID: in, UserID: user, Role: role}
	if err := member.Validate(); err != nil {
		return err
	}
	if err := u.mayGrant(u.Policy.Catalogue.MemberRights(role, false)); err != nil {
		return err
	}
	if _, err := workspace.FindUser(ctx, u.tx, user); err != nil {
		return err
	}
	return u.insertMember(ctx, in, user, role)
}

func (u *unit) insertMember(ctx context.Context, in workspace.ID, user workspace.UserID, role workspace.Role) error {
	member := workspace.Member{WorkspaceID: in, UserID: user, Role: role, CreatedAt: u.now, UpdatedAt: u.now}
	if err := workspace.InsertMember(ctx, u.tx, member); err != nil {
		return err
	}
	u.record("member.add", in, string(user), map[string]any{"role": role})
	u.concerning(string(user))
	return nil
}

// SetMemberRole changes what a member may do. The caller has to hold what the new
// role gives. Taking rights away denies the tokens of the member's personal keys
// here. ErrLastOwner: it would leave the workspace without an owner.
func (m *Manager) SetMemberRole(ctx context.Context, by Caller, in workspace.ID, user workspace.UserID, role workspace.Role) (found workspace.Membership, err error) {
	err = m.do(ctx, by, operation{need: "members:update", in: in}, func(ctx context.Context, u *unit) error {
		if found, err = workspace.FindMembership(ctx, u.tx, in, user); err != nil {
			return err
		}
		if err := u.matches(found.UpdatedAt); err != nil || found.Role == role {
			return err
		}
		if err := u.mayGrant(u.Policy.Catalogue.MemberRights(role, false)); err != nil {
			return err
		}
		if err := u.setMemberRole(ctx, found.Member, role); err != nil {
			return err
		}
		found, err = workspace.FindMembership(ctx, u.tx, in, user)
		return err
	})
	return found, err
}

// setMemberRole is for callers who may give the role, which is for them to check.
func (u *unit) setMemberRole(ctx context.Context, member workspace.Member, role workspace.Role) error {
	before := member.Role
	member.Role, member.UpdatedAt = role, u.stamp(member.UpdatedAt)
	if err := member.Validate(); err != nil {
		return err
	}
	had, has := u.Policy.Catalogue.MemberRights(before, false), u.Policy.Catalogue.MemberRights(role, false)
	if before == workspace.Owner {
		if err := u.notLastOwner(ctx, member); err != nil {
			return err
		}
	}
	if err := workspace.SetMemberRole(ctx, u.tx, member); err != nil {
		return err
	}
	u.denies = true
	u.record("member.update", member.WorkspaceID, string(member.UserID), map[string]any{"role": role, "before": before})
	u.concerning(string(member.UserID))
	if len(had.Minus(has)) == 0 {
		return nil
	}
	if err := u.narrowed(ctx, member.UserID, member.WorkspaceID); err != nil {
		return err
	}
	return u.bumpPersonalKeys(ctx, member)
}

// bumpPersonalKeys denies the tokens of a member's keys in the workspace, and
// leaves those in others alone.
func (u *unit) bumpPersonalKeys(ctx context.Context, member workspace.Member) error {
	ids, err := keys.Unrevoked(ctx, u.tx, member.WorkspaceID, string(member.UserID))
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := u.bumpKey(ctx, member.WorkspaceID, id); err != nil {
			return err
		}
	}
	return nil
}

func (u *unit) notLastOwner(ctx context.Context, member workspace.Member) error {
	others, err := workspace.OtherOwners(ctx, u.tx, member.WorkspaceID, member.UserID)
	if err != nil || others > 0 {
		return err
	}
	return fmt.Errorf("%w: this is the last owner of the workspace: make somebody else an owner first", workspace.ErrLastOwner)
}

// RemoveMember takes a user out of a workspace and revokes their personal keys
// there: when it returns, none of them is exchanged any more. ErrLastOwner: it
// would leave the workspace without an owner.
func (m *Manager) RemoveMember(ctx context.Context, by Caller, in workspace.ID, user workspace.UserID) error {
	return m.do(ctx, by, operation{need: "members:delete", in: in}, func(ctx context.Context, u *unit) error {
		member, err := workspace.FindMember(ctx, u.tx, in, user)
		if err != nil {
			return err
		}
		if err := u.matches(member.UpdatedAt); err != nil {
			return err
		}
		return u.removeMember(ctx, member)
	})
}

func (u *unit) removeMember(ctx context.Context, member workspace.Member) error {
	if member.Role == workspace.Owner {
		if err := u.notLastOwner(ctx, member); err != nil {
			return err
		}
	}
	u.denies = true
	if err := u.revokeAll(ctx, member.WorkspaceID, string(member.UserID), "the member left the workspace"); err != nil {
		return err
	}
	if err := workspace.DeleteMember(ctx, u.tx, member.WorkspaceID, member.UserID); err != nil {
		return err
	}
	u.record("member.remove", member.WorkspaceID, string(member.UserID), map[string]any{"role": member.Role})
	u.concerning(string(member.UserID))
	return u.narrowed(ctx, member.UserID, member.WorkspaceID)
}

// seeMembers is for members and, so that nobody hides there, for organization admins.
func seeMembers(in workspace.ID) operation {
	return operation{need: "members:read", in: in, elsewhere: seeAll}
}

// Member reads a member.
func (m *Manager) Member(ctx context.Context, by Caller, in workspace.ID, user workspace.UserID) (found workspace.Membership, err error) {
	err = m.view(ctx, by, seeMembers(in), func(ctx context.Context, u *unit) error {
		found, err = workspace.FindMembership(ctx, u.tx, in, user)
		return err
	})
	return found, err
}

// Members lists the members of a workspace.
func (m *Manager) Members(ctx context.Context, by Caller, in workspace.ID, f workspace.MemberFilter, page workspace.Page) (found []workspace.Membership, err error) {
	err = m.view(ctx, by, seeMembers(in), func(ctx context.Context, u *unit) error {
		found, err = workspace.ListMembers(ctx, u.tx, in, f, page)
		return err
	})
	return found, err
}
