package manage

import (
	"context"
	"fmt"
	"strings"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

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
		return u.onlyOnce(ctx, in, func() (made, error) {
			sa, err = u.createServiceAccount(ctx, in, n)
			return made{Subject: string(sa.ID)}, err
		}, func(before made) error {
			sa, err = workspace.FindServiceAccount(ctx, u.tx, in, workspace.ServiceAccountID(before.Subject))
			return err
		})
	})
	return sa, err
}

func (u *unit) createServiceAccount(ctx context.Context, in workspace.ID, n NewServiceAccount) (workspace.ServiceAccount, error) {
	sa := workspace.ServiceAccount{
		ID: workspace.NewServiceAccountID(), WorkspaceID: in, Name: n.Name, Description: n.Description,
		Role: n.Role, Scopes: n.Scopes.String(), Generation: 1,
		CreatedAt: u.now, CreatedBy: u.by.String(), UpdatedAt: u.now,
	}
	if err := u.validServiceAccount(sa); err != nil {
		return sa, err
	}
	if err := u.mayHold(ctx, in, n.Scopes); err != nil {
		return sa, err
	}
	if err := u.mayGrant(u.accountHolds(sa)); err != nil {
		return sa, err
	}
	if err := workspace.InsertServiceAccount(ctx, u.tx, sa); err != nil {
		return sa, err
	}
	if err := u.oneMoreAccount(ctx, in); err != nil {
		return sa, err
	}
	u.record("service_account.create", in, string(sa.ID), map[string]any{"name": sa.Name, "role": sa.Role, "scopes": sa.Scopes})
	u.concerning(string(sa.ID))
	return sa, nil
}

func (u *unit) validServiceAccount(sa workspace.ServiceAccount) error {
	if err := sa.Validate(); err != nil {
		return err
	}
	if _, known := u.Policy.Catalogue.Role(sa.Role); sa.Role != "" && !known {
		return fmt.Errorf("%w: there is no role %q: the catalogue has %v", workspace.ErrInvalid, sa.Role, u.Policy.Catalogue.Roles())
	}
	return u.knownScopes(oauth.NewScope(strings.Fields(sa.Scopes)...))
}

func (u *unit) accountHolds(sa workspace.ServiceAccount) oauth.Scope {
	return u.Policy.ServiceAccountHolds(sa.Role, oauth.NewScope(strings.Fields(sa.Scopes)...))
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

// ServiceAccountChange says what of a service account shall change; what is nil
// stays. A role takes the place of scopes, and scopes that of a role.
type ServiceAccountChange struct {
	Name        *string
	Description *string
	Role        *string
	Scopes      *oauth.Scope
	Enabled     *bool
}

// UpdateServiceAccount changes a service account. The caller has to hold what it
// gains. Taking rights away or disabling it denies its tokens; when it returns, no
// replica issues by what was before.
func (m *Manager) UpdateServiceAccount(ctx context.Context, by Caller, in workspace.ID, id workspace.ServiceAccountID, c ServiceAccountChange) (sa workspace.ServiceAccount, err error) {
	err = m.do(ctx, by, operation{need: "service-accounts:update", in: in}, func(ctx context.Context, u *unit) error {
		before, err := u.serviceAccount(ctx, in, id)
		if err != nil {
			return err
		}
		sa, err = u.updateServiceAccount(ctx, before, c)
		return err
	})
	return sa, err
}

// serviceAccount reads a service account that is to be changed.
func (u *unit) serviceAccount(ctx context.Context, in workspace.ID, id workspace.ServiceAccountID) (workspace.ServiceAccount, error) {
	sa, err := workspace.FindServiceAccount(ctx, u.tx, in, id)
	if err != nil {
		return sa, err
	}
	return sa, u.matches(sa.UpdatedAt)
}

func (u *unit) updateServiceAccount(ctx context.Context, before workspace.ServiceAccount, c ServiceAccountChange) (workspace.ServiceAccount, error) {
	after, detail := c.apply(before, u.now)
	if len(detail) == 0 {
		return before, nil
	}
	if err := u.validServiceAccount(after); err != nil {
		return before, err
	}
	if c.Scopes != nil {
		named := c.Scopes.Minus(oauth.NewScope(strings.Fields(before.Scopes)...))
		if err := u.mayHold(ctx, after.WorkspaceID, named); err != nil {
			return before, err
		}
	}
	had, has := u.accountHolds(before), u.accountHolds(after)
	enabled := !before.DisabledAt.IsZero() && after.DisabledAt.IsZero()
	gained := has.Minus(had)
	if enabled {
		gained = has // what was dead works again
	}
	if err := u.mayGrant(gained); err != nil {
		return before, err
	}
	disabled := before.DisabledAt.IsZero() && !after.DisabledAt.IsZero()
	narrower := disabled || len(had.Minus(has)) > 0
	after.UpdatedAt = u.stamp(before.UpdatedAt)
	generation, err := workspace.UpdateServiceAccount(ctx, u.tx, after, narrower)
	if err != nil {
		return before, err
	}
	after.Generation, u.denies = generation, true
	if narrower {
		cause := revocation.Changed
		if disabled {
			cause = revocation.Disabled
		}
		u.deny(after.WorkspaceID, oauth.RevocableSubject, string(after.ID), generation, cause)
	}
	action := "service_account.update"
	switch { // what people look for in the log
	case disabled:
		action = "service_account.disable"
	case enabled:
		action = "service_account.enable"
	}
	u.record(action, after.WorkspaceID, string(after.ID), detail)
	u.concerning(string(after.ID))
	return after, nil
}

// apply makes the service account as it shall be, and says what is other.
func (c ServiceAccountChange) apply(sa workspace.ServiceAccount, now workspace.Time) (workspace.ServiceAccount, map[string]any) {
	detail := map[string]any{}
	set(detail, "name", &sa.Name, c.Name)
	set(detail, "description", &sa.Description, c.Description)
	if c.Role != nil && c.Scopes == nil && *c.Role != "" && sa.Scopes != "" {
		sa.Scopes, detail["scopes"] = "", ""
	}
	if c.Scopes != nil && c.Role == nil && sa.Role != "" {
		sa.Role, detail["role"] = "", ""
	}
	set(detail, "role", &sa.Role, c.Role)
	if c.Scopes != nil {
		text := c.Scopes.String()
		set(detail, "scopes", &sa.Scopes, &text)
	}
	if c.Enabled != nil && *c.Enabled != sa.DisabledAt.IsZero() {
		sa.DisabledAt, detail["enabled"] = workspace.Time{}, *c.Enabled
		if !*c.Enabled {
			sa.DisabledAt = now
		}
	}
	return sa, detail
}

// DisableServiceAccount stops a service account: when it returns, none of its
// keys is exchanged any more, and its tokens carry an old generation. Disabling a
// disabled one changes nothing.
func (m *Manager) DisableServiceAccount(ctx context.Context, by Caller, in workspace.ID, id workspace.ServiceAccountID) error {
	return m.do(ctx, by, operation{need: "service-accounts:update", in: in}, func(ctx context.Context, u *unit) error {
		before, err := u.serviceAccount(ctx, in, id)
		if err != nil {
			return err
		}
		u.denies = true
		no := false
		_, err = u.updateServiceAccount(ctx, before, ServiceAccountChange{Enabled: &no})
		return err
	})
}

// DeleteServiceAccount ends a service account for good and revokes its keys: when
// it returns, none of them is exchanged any more. Its name is free again.
func (m *Manager) DeleteServiceAccount(ctx context.Context, by Caller, in workspace.ID, id workspace.ServiceAccountID) error {
	return m.do(ctx, by, operation{need: "service-accounts:delete", in: in}, func(ctx context.Context, u *unit) error {
		sa, err := u.serviceAccount(ctx, in, id)
		if err != nil {
			return err
		}
		if err := u.revokeAll(ctx, in, string(id), "the service account was deleted"); err != nil {
			return err
		}
		generation, _, err := workspace.DeleteServiceAccount(ctx, u.tx, id, u.now)
		if err != nil {
			return err
		}
		u.deny(in, oauth.RevocableSubject, string(id), generation, revocation.Removed)
		u.record("service_account.delete", in, string(id), map[string]any{"name": sa.Name})
		u.concerning(string(id))
		return nil
	})
}

// ServiceAccount reads a service account by its ID or name.
func (m *Manager) ServiceAccount(ctx context.Context, by Caller, in workspace.ID, idOrName string) (sa workspace.ServiceAccount, err error) {
	err = m.view(ctx, by, operation{need: "service-accounts:read", in: in}, func(ctx context.Context, u *unit) error {
		sa, err = findServiceAccount(ctx, u, in, idOrName)
		return err
	})
	return sa, err
}

func findServiceAccount(ctx context.Context, u *unit, in workspace.ID, idOrName string) (workspace.ServiceAccount, error) {
	if strings.Contains(idOrName, "_") { // an ID has one, a name has none
		return workspace.FindServiceAccount(ctx, u.tx, in, workspace.ServiceAccountID(idOrName))
	}
	return workspace.ServiceAccountByName(ctx, u.tx, in, idOrName)
}

// ResolveServiceAccount finds the ID of a service account by its ID or name, for a
// use case that decides whether the caller may know of it. What cannot be found is
// returned as it is, so that the use case says so. A deleted one is found if no
// live one has its name: its traces are asked for too.
func (m *Manager) ResolveServiceAccount(ctx context.Context, in workspace.ID, idOrName string) (workspace.ServiceAccountID, error) {
	if strings.Contains(idOrName, "_") {
		return workspace.ServiceAccountID(idOrName), nil
	}
	found, err := workspace.ListServiceAccounts(ctx, m.Database.Reader(), in, workspace.ServiceAccountFilter{Name: idOrName, Deleted: true}, workspace.Page{Limit: 1})
	if err != nil || len(found) == 0 {
		return workspace.ServiceAccountID(idOrName), err
	}
	return found[0].ID, nil
}

// ServiceAccounts lists the service accounts of a workspace.
func (m *Manager) ServiceAccounts(ctx context.Context, by Caller, in workspace.ID, f workspace.ServiceAccountFilter, page workspace.Page) (found []workspace.ServiceAccount, err error) {
	err = m.view(ctx, by, operation{need: "service-accounts:read", in: in}, func(ctx context.Context, u *unit) error {
		found, err = workspace.ListServiceAccounts(ctx, u.tx, in, f, page)
		return err
	})
	return found, err
}
