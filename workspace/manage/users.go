package manage

import (
	"context"
	"fmt"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// CreateUser makes a user.
func (m *Manager) CreateUser(ctx context.Context, by Caller, email string, organizationAdmin bool) (user workspace.User, err error) {
	return m.CreateNamedUser(ctx, by, email, "", organizationAdmin)
}

// CreateNamedUser makes a user with the name that people see, which may be empty.
func (m *Manager) CreateNamedUser(ctx context.Context, by Caller, email, name string, organizationAdmin bool) (user workspace.User, err error) {
	err = m.do(ctx, by, operation{need: changeAll}, func(ctx context.Context, u *unit) error {
		return u.onlyOnce(ctx, "", func() (made, error) {
			user, err = u.createUser(ctx, email, name, organizationAdmin)
			return made{Subject: string(user.ID)}, err
		}, func(before made) error {
			user, err = workspace.FindUser(ctx, u.tx, workspace.UserID(before.Subject))
			return err
		})
	})
	return user, err
}

func (u *unit) createUser(ctx context.Context, email, name string, organizationAdmin bool) (workspace.User, error) {
	address, err := workspace.NormalEmail(email)
	if err != nil {
		return workspace.User{}, err
	}
	user := workspace.User{
		ID: workspace.NewUserID(), Email: address, Name: name, OrganizationAdmin: organizationAdmin,
		Generation: 1, CreatedAt: u.now, UpdatedAt: u.now,
	}
	if err := validUser(user); err != nil {
		return user, err
	}
	if organizationAdmin {
		if err := u.mayMakeAdmins(); err != nil {
			return user, err
		}
	}
	if err := workspace.InsertUser(ctx, u.tx, user); err != nil {
		return user, err
	}
	u.record("user.create", "", string(user.ID), map[string]any{"email": user.Email, "organization_admin": organizationAdmin})
	u.concerning(string(user.ID))
	return user, nil
}

// validUser checks what is chosen of a user, who may be without a name.
func validUser(user workspace.User) error {
	if user.Name == "" {
		return nil
	}
	return workspace.ValidName("user's name", user.Name)
}

// mayMakeAdmins refuses those who are not organization admins themselves.
func (u *unit) mayMakeAdmins() error { return u.mayGrant(u.Policy.Catalogue.MemberRights("", true)) }

// UserChange says what of a user shall change; what is nil stays.
type UserChange struct {
	Name              *string
	OrganizationAdmin *bool
	Enabled           *bool
}

// UpdateUser changes a user. Disabling one, or taking the organization from one,
// denies their tokens; when it returns, no replica issues by what was before.
// ErrLastOwner: it would leave no active organization admin.
func (m *Manager) UpdateUser(ctx context.Context, by Caller, id workspace.UserID, c UserChange) (user workspace.User, err error) {
	err = m.do(ctx, by, operation{need: changeAll}, func(ctx context.Context, u *unit) error {
		user, err = u.updateUser(ctx, id, c)
		return err
	})
	return user, err
}

func (u *unit) updateUser(ctx context.Context, id workspace.UserID, c UserChange) (workspace.User, error) {
	before, err := workspace.FindUser(ctx, u.tx, id)
	if err != nil {
		return before, err
	}
	if err := u.matches(before.UpdatedAt); err != nil {
		return before, err
	}
	after, detail := before, map[string]any{}
	set(detail, "name", &after.Name, c.Name)
	set(detail, "organization_admin", &after.OrganizationAdmin, c.OrganizationAdmin)
	disabled := !before.DisabledAt.IsZero()
	if c.Enabled != nil && *c.Enabled == disabled {
		after.DisabledAt, detail["enabled"] = workspace.Time{}, *c.Enabled
		if !*c.Enabled {
			after.DisabledAt = u.now
		}
	}
	if len(detail) == 0 {
		return before, nil
	}
	if err := validUser(after); err != nil {
		return before, err
	}
	return u.storeUser(ctx, before, after, detail)
}

func (u *unit) storeUser(ctx context.Context, before, after workspace.User, detail map[string]any) (workspace.User, error) {
	acts := func(user workspace.User) bool { return user.OrganizationAdmin && user.DisabledAt.IsZero() }
	if acts(before) && !acts(after) {
		if err := u.notLastAdmin(ctx, before.ID); err != nil {
			return before, err
		}
	}
	if acts(after) && !acts(before) {
		if err := u.mayMakeAdmins(); err != nil {
			return before, err
		}
	}
	narrower := (before.OrganizationAdmin && !after.OrganizationAdmin) || (before.DisabledAt.IsZero() && !after.DisabledAt.IsZero())
	after.UpdatedAt = u.stamp(before.UpdatedAt)
	generation, err := workspace.UpdateUser(ctx, u.tx, after, narrower)
	if err != nil {
		return before, err
	}
	after.Generation, u.denies = generation, true
	if narrower {
		cause := revocation.Changed
		if !after.DisabledAt.IsZero() {
			cause = revocation.Disabled
		}
		u.deny("", oauth.RevocableSubject, string(after.ID), generation, cause)
		if err := u.narrowed(ctx, after.ID, ""); err != nil {
			return before, err
		}
	}
	if !after.DisabledAt.IsZero() { // nor is it a way in once they are enabled again
		if _, err := identity.DeleteLinks(ctx, u.tx, identity.LinkFilter{Kind: identity.AccessLink, UserID: after.ID}); err != nil {
			return before, err
		}
	}
	u.record("user.update", "", string(after.ID), detail)
	u.concerning(string(after.ID))
	return after, nil
}

func (u *unit) notLastAdmin(ctx context.Context, id workspace.UserID) error {
	others, err := workspace.OtherAdmins(ctx, u.tx, id)
	if err != nil || others > 0 {
		return err
	}
	return fmt.Errorf("%w: this is the last active organization admin: make another one first", workspace.ErrLastOwner)
}

// DeleteUser ends a user for good: they leave every workspace, and their personal
// keys are revoked. ErrLastOwner: somewhere they are the only one in charge.
func (m *Manager) DeleteUser(ctx context.Context, by Caller, id workspace.UserID) error {
	return m.do(ctx, by, operation{need: changeAll}, func(ctx context.Context, u *unit) error {
		user, err := workspace.FindUser(ctx, u.tx, id)
		if err != nil {
			return err
		}
		if err := u.matches(user.UpdatedAt); err != nil {
			return err
		}
		if user.OrganizationAdmin && user.DisabledAt.IsZero() {
			if err := u.notLastAdmin(ctx, id); err != nil {
				return err
			}
		}
		memberships, err := workspace.MembershipsOf(ctx, u.tx, id)
		if err != nil {
			return err
		}
		for _, member := range memberships {
			if err := u.removeMember(ctx, member); err != nil {
				return err
			}
		}
		generation, err := workspace.DeleteUser(ctx, u.tx, id, u.stamp(user.UpdatedAt))
		if err != nil {
			return err
		}
		if err := u.forgetUser(ctx, id); err != nil {
			return err
		}
		u.deny("", oauth.RevocableSubject, string(id), generation, revocation.Removed)
		u.record("user.delete", "", string(id), nil)
		u.concerning(string(id))
		return nil
	})
}

// RenameMe changes the name by which people see the caller; it may be empty.
func (m *Manager) RenameMe(ctx context.Context, by Caller, name string) error {
	return m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.inPerson(); err != nil {
			return err
		}
		_, err := u.updateUser(ctx, by.userID(), UserChange{Name: &name})
		return err
	})
}

// User reads a user.
func (m *Manager) User(ctx context.Context, by Caller, id workspace.UserID) (user workspace.User, err error) {
	err = m.view(ctx, by, operation{need: seeAll}, func(ctx context.Context, u *unit) error {
		user, err = workspace.FindUser(ctx, u.tx, id)
		return err
	})
	return user, err
}

// Users lists users.
func (m *Manager) Users(ctx context.Context, by Caller, f workspace.UserFilter, page workspace.Page) (found []workspace.User, err error) {
	err = m.view(ctx, by, operation{need: seeAll}, func(ctx context.Context, u *unit) error {
		found, err = workspace.ListUsers(ctx, u.tx, f, page)
		return err
	})
	return found, err
}

// Profile is a person as they see themselves: with the workspaces that they are
// in, or through a key that of the key alone.
type Profile struct {
	workspace.User
	Memberships []ProfileMembership
}

// ProfileMembership is a workspace that a person is in.
type ProfileMembership struct {
	workspace.Workspace
	Role workspace.Role
}

// Me reads the person who asks.
func (m *Manager) Me(ctx context.Context, by Caller) (p Profile, err error) {
	err = m.view(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if err := u.person(); err != nil {
			return err
		}
		if p.User, err = workspace.FindUser(ctx, u.tx, by.userID()); err != nil {
			return err
		}
		return u.memberships(ctx, &p)
	})
	return p, err
}

func (u *unit) memberships(ctx context.Context, p *Profile) error {
	memberships, err := workspace.MembershipsOf(ctx, u.tx, p.ID)
	if err != nil {
		return err
	}
	home := workspace.ID("")
	if u.by.key != "" {
		_, record, err := u.throughKey(ctx)
		if err != nil {
			return err
		}
		home = record.WorkspaceID
	}
	for _, member := range memberships {
		if home != "" && member.WorkspaceID != home {
			continue
		}
		ws, err := workspace.Find(ctx, u.tx, string(member.WorkspaceID))
		if err != nil {
			return err
		}
		p.Memberships = append(p.Memberships, ProfileMembership{Workspace: ws, Role: member.Role})
	}
	return nil
}
