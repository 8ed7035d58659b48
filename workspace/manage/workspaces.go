package manage

import (
	"context"
	"fmt"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// CreateWorkspace makes a workspace; an empty slug is derived from the name.
// ErrConflict: the slug is taken.
func (m *Manager) CreateWorkspace(ctx context.Context, by Caller, name, slug string) (ws workspace.Workspace, err error) {
	err = m.do(ctx, by, operation{need: "organization:update"}, func(ctx context.Context, u *unit) error {
		ws, err = u.createWorkspace(ctx, name, slug)
		return err
	})
	return ws, err
}

func (u *unit) createWorkspace(ctx context.Context, name, slug string) (workspace.Workspace, error) {
	if slug == "" {
		if slug = workspace.Slug(name); slug == "" {
			return workspace.Workspace{}, fmt.Errorf("%w: the workspace name %q: use one with at least one letter a-z or digit, from which its slug is made", workspace.ErrInvalid, name)
		}
	}
	ws := workspace.Workspace{ID: workspace.NewID(), Slug: slug, Name: name, Generation: 1, CreatedAt: u.now, UpdatedAt: u.now}
	if err := ws.Validate(); err != nil {
		return ws, err
	}
	if err := workspace.Insert(ctx, u.tx, ws); err != nil {
		return ws, err
	}
	u.record("workspace.create", ws.ID, string(ws.ID), map[string]any{"slug": ws.Slug, "name": ws.Name})
	return ws, nil
}

// SuspendWorkspace closes a workspace: when it returns, no key of it is
// exchanged any more, and its tokens carry an old generation. Suspending a
// suspended workspace changes nothing.
func (m *Manager) SuspendWorkspace(ctx context.Context, by Caller, id workspace.ID) error {
	return m.do(ctx, by, operation{need: "organization:update"}, func(ctx context.Context, u *unit) error {
		if err := u.exists(ctx, id); err != nil {
			return err
		}
		u.denies = true
		suspended, err := workspace.Suspend(ctx, u.tx, id, u.now)
		if err != nil || !suspended {
			return err
		}
		u.record("workspace.suspend", id, string(id), nil)
		return nil
	})
}

// CreateUser makes a user.
func (m *Manager) CreateUser(ctx context.Context, by Caller, email string, organizationAdmin bool) (user workspace.User, err error) {
	err = m.do(ctx, by, operation{need: "organization:update"}, func(ctx context.Context, u *unit) error {
		user, err = u.createUser(ctx, email, organizationAdmin)
		return err
	})
	return user, err
}

func (u *unit) createUser(ctx context.Context, email string, organizationAdmin bool) (workspace.User, error) {
	address, err := workspace.NormalEmail(email)
	if err != nil {
		return workspace.User{}, err
	}
	user := workspace.User{
		ID: workspace.NewUserID(), Email: address, OrganizationAdmin: organizationAdmin,
		Generation: 1, CreatedAt: u.now, UpdatedAt: u.now,
	}
	if err := workspace.InsertUser(ctx, u.tx, user); err != nil {
		return user, err
	}
	u.record("user.create", "", string(user.ID), map[string]any{"email": user.Email, "organization_admin": organizationAdmin})
	return user, nil
}

// AddMember puts a user into a workspace. ErrNotFound: there is no such user.
// ErrConflict: they are in it.
func (m *Manager) AddMember(ctx context.Context, by Caller, in workspace.ID, user workspace.UserID, role workspace.Role) error {
	return m.do(ctx, by, operation{need: "members:create", in: in}, func(ctx context.Context, u *unit) error {
		return u.addMember(ctx, in, user, role)
	})
}

func (u *unit) addMember(ctx context.Context, in workspace.ID, user workspace.UserID, role workspace.Role) error {
	member := workspace.Member{WorkspaceID: in, UserID: user, Role: role, CreatedAt: u.now, UpdatedAt: u.now}
	if err := member.Validate(); err != nil {
		return err
	}
	if err := u.mayGrant(u.Policy.Catalogue.MemberRights(role, false)); err != nil {
		return err
	}
	if _, err := workspace.FindUser(ctx, u.tx, user); err != nil {
		return err
	}
	if err := workspace.InsertMember(ctx, u.tx, member); err != nil {
		return err
	}
	u.record("member.add", in, string(user), map[string]any{"role": role})
	return nil
}

// NewServiceAccount is what a service account is made of: a role of the
// catalogue or explicit scopes, not both.
type NewServiceAccount struct {
	Name        string
	Description string
	Role        string
	Scopes      oauth.Scope
}

// CreateServiceAccount makes a service account. ErrConflict: the name is taken.
func (m *Manager) CreateServiceAccount(ctx context.Context, by Caller, in workspace.ID, n NewServiceAccount) (sa workspace.ServiceAccount, err error) {
	err = m.do(ctx, by, operation{need: "service-accounts:create", in: in}, func(ctx context.Context, u *unit) error {
		sa, err = u.createServiceAccount(ctx, in, n)
		return err
	})
	return sa, err
}

func (u *unit) createServiceAccount(ctx context.Context, in workspace.ID, n NewServiceAccount) (workspace.ServiceAccount, error) {
	sa := workspace.ServiceAccount{
		ID: workspace.NewServiceAccountID(), WorkspaceID: in, Name: n.Name, Description: n.Description,
		Role: n.Role, Scopes: n.Scopes.String(), Generation: 1,
		CreatedAt: u.now, CreatedBy: u.by.String(), UpdatedAt: u.now,
	}
	if err := sa.Validate(); err != nil {
		return sa, err
	}
	if _, known := u.Policy.Catalogue.Role(n.Role); n.Role != "" && !known {
		return sa, fmt.Errorf("%w: there is no role %q: the catalogue has %v", workspace.ErrInvalid, n.Role, u.Policy.Catalogue.Roles())
	}
	if err := u.knownScopes(n.Scopes); err != nil {
		return sa, err
	}
	if err := u.mayGrant(u.Policy.ServiceAccountHolds(n.Role, n.Scopes)); err != nil {
		return sa, err
	}
	if err := workspace.InsertServiceAccount(ctx, u.tx, sa); err != nil {
		return sa, err
	}
	u.record("service_account.create", in, string(sa.ID), map[string]any{"name": sa.Name, "role": sa.Role, "scopes": sa.Scopes})
	return sa, nil
}

// knownScopes refuses scopes that are neither in the catalogue nor management
// rights.
func (u *unit) knownScopes(s oauth.Scope) error {
	catalogue := u.Policy.Catalogue.All()
	unknown := s.Minus(u.Policy.Catalogue.Known())
	if len(unknown) == 0 {
		return nil
	}
	if len(catalogue) == 0 {
		return fmt.Errorf("%w: there is no scope %s: the configured catalogue is empty; list your resources under catalogue.resources", workspace.ErrInvalid, unknown)
	}
	return fmt.Errorf("%w: there is no scope %s: the catalogue has %s", workspace.ErrInvalid, unknown, catalogue)
}

// DisableServiceAccount stops a service account: when it returns, none of its
// keys is exchanged any more, and its tokens carry an old generation. Disabling a
// disabled one changes nothing.
func (m *Manager) DisableServiceAccount(ctx context.Context, by Caller, in workspace.ID, id workspace.ServiceAccountID) error {
	return m.do(ctx, by, operation{need: "service-accounts:update", in: in}, func(ctx context.Context, u *unit) error {
		if _, err := workspace.FindServiceAccount(ctx, u.tx, in, id); err != nil {
			return err
		}
		u.denies = true
		disabled, err := workspace.DisableServiceAccount(ctx, u.tx, id, u.now)
		if err != nil || !disabled {
			return err
		}
		u.record("service_account.disable", in, string(id), nil)
		return nil
	})
}
