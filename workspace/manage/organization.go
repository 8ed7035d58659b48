package manage

import (
	"context"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// What organization admins see of all workspaces and people at once.

// WorkspaceSize is how many are in a workspace.
type WorkspaceSize struct {
	Members int64
	Keys    int64 // live ones
}

// WorkspaceSizes counts what is in workspaces, for organization admins.
func (m *Manager) WorkspaceSizes(ctx context.Context, by Caller, of []workspace.ID) (sizes map[workspace.ID]WorkspaceSize, err error) {
	err = m.view(ctx, by, operation{need: seeAll}, func(ctx context.Context, u *unit) error {
		members, err := workspace.CountMembersOf(ctx, u.tx, of)
		if err != nil {
			return err
		}
		live, err := keys.CountLiveOf(ctx, u.tx, of, u.now)
		if err != nil {
			return err
		}
		sizes = map[workspace.ID]WorkspaceSize{}
		for _, id := range of {
			sizes[id] = WorkspaceSize{Members: members[id], Keys: live[id]}
		}
		return nil
	})
	return sizes, err
}

// ListedUser is a user as organization admins see them.
type ListedUser struct {
	workspace.User
	Places   []workspace.Place // by name
	Methods  identity.Methods  // how they can sign in
	SignedIn workspace.Time    // last; zero: never
}

// People lists users.
func (m *Manager) People(ctx context.Context, by Caller, f workspace.UserFilter, page workspace.Page) (found []ListedUser, err error) {
	err = m.view(ctx, by, operation{need: seeAll}, func(ctx context.Context, u *unit) error {
		users, err := workspace.ListUsers(ctx, u.tx, f, page)
		if err != nil {
			return err
		}
		found, err = u.listUsers(ctx, users...)
		return err
	})
	return found, err
}

// ListedUser reads a user.
func (m *Manager) ListedUser(ctx context.Context, by Caller, id workspace.UserID) (l ListedUser, err error) {
	err = m.view(ctx, by, operation{need: seeAll}, func(ctx context.Context, u *unit) error {
		user, err := workspace.FindUser(ctx, u.tx, id)
		if err != nil {
			return err
		}
		found, err := u.listUsers(ctx, user)
		if err == nil {
			l = found[0]
		}
		return err
	})
	return l, err
}

// listUsers adds what is known of users, in as many statements for many as for one.
func (u *unit) listUsers(ctx context.Context, users ...workspace.User) ([]ListedUser, error) {
	var ids []workspace.UserID
	for _, user := range users {
		ids = append(ids, user.ID)
	}
	places, err := workspace.PlacesOf(ctx, u.tx, ids)
	if err != nil {
		return nil, err
	}
	methods, err := identity.MethodsOfAll(ctx, u.tx, ids)
	if err != nil {
		return nil, err
	}
	last, err := audit.LastOf(ctx, u.tx, "user.sign_in", ids)
	if err != nil {
		return nil, err
	}
	found := make([]ListedUser, len(users))
	for i, user := range users {
		found[i] = ListedUser{User: user, Places: places[user.ID], Methods: methods[user.ID], SignedIn: last[user.ID]}
	}
	return found, nil
}

// PersonKey is a personal key with the workspace that it is in.
type PersonKey struct {
	keys.Listed
	Workspace workspace.Place
}

// maxPersonKeys is how many keys of one person in one workspace are listed.
const maxPersonKeys = 50

// KeysOfPerson lists the live personal keys of a user in every workspace: what ends
// with them.
func (m *Manager) KeysOfPerson(ctx context.Context, by Caller, id workspace.UserID) (found []PersonKey, err error) {
	err = m.view(ctx, by, operation{need: seeAll}, func(ctx context.Context, u *unit) error {
		places, err := workspace.PlacesOf(ctx, u.tx, []workspace.UserID{id})
		if err != nil {
			return err
		}
		f := keys.Filter{Owner: string(id), User: true, Status: keys.StatusActive, Now: u.now}
		for _, place := range places[id] {
			listed, err := u.list(ctx, place.WorkspaceID, f, workspace.Page{Limit: maxPersonKeys})
			if err != nil {
				return err
			}
			for _, k := range listed {
				found = append(found, PersonKey{k, place})
			}
		}
		return nil
	})
	return found, err
}
