package manage

import (
	"context"
	"fmt"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Organization admins see every workspace and may suspend and delete it. What is
// inside is for its members.
const (
	seeAll    = "organization:read"
	changeAll = "organization:update"
)

// CreateWorkspace makes a workspace; an empty slug is derived from the name. A
// person who makes one is its first owner. ErrConflict: the slug is taken, or was
// that of a deleted workspace.
func (m *Manager) CreateWorkspace(ctx context.Context, by Caller, name, slug string) (ws workspace.Workspace, err error) {
	err = m.do(ctx, by, operation{need: changeAll}, func(ctx context.Context, u *unit) error {
		return u.onlyOnce(ctx, "", func() (made, error) {
			if ws, err = u.createWorkspace(ctx, name, slug); err != nil || by.userID() == "" {
				return made{Subject: string(ws.ID)}, err
			}
			return made{Subject: string(ws.ID)}, u.insertMember(ctx, ws.ID, by.userID(), workspace.Owner)
		}, func(before made) error {
			ws, err = workspace.Find(ctx, u.tx, before.Subject)
			return err
		})
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

// RenameWorkspace changes the name that people see. The slug stays: services may
// authorise by it.
func (m *Manager) RenameWorkspace(ctx context.Context, by Caller, id workspace.ID, name string) (ws workspace.Workspace, err error) {
	err = m.do(ctx, by, operation{need: "workspace:update", in: id, elsewhere: changeAll}, func(ctx context.Context, u *unit) error {
		if ws, err = u.workspace(ctx, id); err != nil || ws.Name == name {
			return err
		}
		ws.Name, ws.UpdatedAt = name, u.stamp(ws.UpdatedAt)
		if err := ws.Validate(); err != nil {
			return err
		}
		u.record("workspace.update", id, string(id), map[string]any{"name": name})
		return workspace.Rename(ctx, u.tx, id, name, ws.UpdatedAt)
	})
	return ws, err
}

// workspace reads a workspace that is to be changed.
func (u *unit) workspace(ctx context.Context, id workspace.ID) (workspace.Workspace, error) {
	ws, err := workspace.Find(ctx, u.tx, string(id))
	if err != nil {
		return ws, err
	}
	return ws, u.matches(ws.UpdatedAt)
}

// SuspendWorkspace closes a workspace: when it returns, no key of it is
// exchanged any more, and its tokens carry an old generation. Suspending a
// suspended workspace changes nothing.
func (m *Manager) SuspendWorkspace(ctx context.Context, by Caller, id workspace.ID) error {
	_, err := m.CloseWorkspace(ctx, by, id)
	return err
}

// CloseWorkspace is SuspendWorkspace, and returns the workspace as it is then: a
// caller whose own workspace it is could not read it any more.
func (m *Manager) CloseWorkspace(ctx context.Context, by Caller, id workspace.ID) (after workspace.Workspace, err error) {
	err = m.do(ctx, by, operation{need: changeAll}, func(ctx context.Context, u *unit) error {
		ws, err := u.anyWorkspace(ctx, id)
		if err != nil {
			return err
		}
		u.denies = true
		generation, suspended, err := workspace.Suspend(ctx, u.tx, id, u.now, u.stamp(ws.UpdatedAt))
		if err != nil {
			return err
		}
		if suspended {
			u.deny(id, oauth.RevocableWorkspace, string(id), generation, revocation.Suspended)
			u.record("workspace.suspend", id, string(id), nil)
		}
		after, err = workspace.Find(ctx, u.tx, string(id))
		return err
	})
	return after, err
}

// anyWorkspace is workspace for organization admins, by its ID alone.
func (u *unit) anyWorkspace(ctx context.Context, id workspace.ID) (workspace.Workspace, error) {
	if err := u.exists(ctx, id); err != nil {
		return workspace.Workspace{}, err
	}
	return u.workspace(ctx, id)
}

// ResumeWorkspace opens a suspended workspace. What was revoked stays revoked,
// and so do the tokens from before. Resuming an open one changes nothing.
func (m *Manager) ResumeWorkspace(ctx context.Context, by Caller, id workspace.ID) error {
	_, err := m.OpenWorkspace(ctx, by, id)
	return err
}

// OpenWorkspace is ResumeWorkspace, and returns the workspace as it is then.
func (m *Manager) OpenWorkspace(ctx context.Context, by Caller, id workspace.ID) (after workspace.Workspace, err error) {
	err = m.do(ctx, by, operation{need: changeAll}, func(ctx context.Context, u *unit) error {
		ws, err := u.anyWorkspace(ctx, id)
		if err != nil {
			return err
		}
		u.denies = true // whoever is told that it works may try at once
		resumed, err := workspace.Resume(ctx, u.tx, id, u.stamp(ws.UpdatedAt))
		if err != nil {
			return err
		}
		if resumed {
			u.record("workspace.resume", id, string(id), nil)
		}
		after, err = workspace.Find(ctx, u.tx, string(id))
		return err
	})
	return after, err
}

// DeleteWorkspace ends a workspace for good, with every key of it. Its audit log
// stays, and nobody gets its slug.
func (m *Manager) DeleteWorkspace(ctx context.Context, by Caller, id workspace.ID) error {
	return m.do(ctx, by, operation{need: changeAll}, func(ctx context.Context, u *unit) error {
		if _, err := u.anyWorkspace(ctx, id); err != nil {
			return err
		}
		if err := u.revokeAll(ctx, id, "", "the workspace was deleted"); err != nil {
			return err
		}
		generation, _, err := workspace.Delete(ctx, u.tx, id, u.now)
		if err != nil {
			return err
		}
		u.deny(id, oauth.RevocableWorkspace, string(id), generation, revocation.Deleted)
		u.record("workspace.delete", id, string(id), nil)
		return nil
	})
}

// Workspace reads a workspace by its ID or slug. To those who are not in it, it
// does not exist.
func (m *Manager) Workspace(ctx context.Context, by Caller, idOrSlug string) (ws workspace.Workspace, err error) {
	if ws, err = workspace.Find(ctx, m.Database.Reader(), idOrSlug); err != nil {
		return ws, err
	}
	return ws, m.view(ctx, by, operation{need: "workspace:read", in: ws.ID, elsewhere: seeAll + " " + changeAll}, func(context.Context, *unit) error { return nil })
}

// ResolveWorkspace finds the ID of a workspace by its ID or slug, for a use case
// that decides whether the caller may know of it.
func (m *Manager) ResolveWorkspace(ctx context.Context, idOrSlug string) (workspace.ID, error) {
	ws, err := workspace.Find(ctx, m.Database.Reader(), idOrSlug)
	return ws.ID, err
}

// Workspaces lists the workspaces that the caller may see: all of them, or that
// of the key that is used, or those that the person is in.
func (m *Manager) Workspaces(ctx context.Context, by Caller, f workspace.Filter, page workspace.Page) (found []workspace.Workspace, err error) {
	err = m.view(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		if !u.all && !u.rights.Has(seeAll) {
			if err := u.onlyOwn(ctx, &f); err != nil {
				return err
			}
		}
		found, err = workspace.List(ctx, u.tx, f, page)
		return err
	})
	return found, err
}

// onlyOwn narrows a list of workspaces to those that the caller is in.
func (u *unit) onlyOwn(ctx context.Context, f *workspace.Filter) error {
	if u.by.key == "" {
		f.Member = u.by.userID()
		return nil
	}
	held, record, err := u.throughKey(ctx)
	if err != nil {
		return err
	}
	if !held.Has("workspace:read") {
		return fmt.Errorf("%w: this needs workspace:read", workspace.ErrForbidden)
	}
	f.Only = record.WorkspaceID
	return nil
}
