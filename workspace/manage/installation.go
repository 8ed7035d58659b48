package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// MarkInstallation says what made the database, the first time it is called;
// later calls change nothing. Only the operator may.
func (m *Manager) MarkInstallation(ctx context.Context, by Caller, mark workspace.Installation) error {
	return m.do(ctx, by, operation{need: "organization:update"}, func(ctx context.Context, u *unit) error {
		err := workspace.InsertInstallation(ctx, u.tx, mark, u.now)
		if errors.Is(err, workspace.ErrConflict) {
			return nil
		}
		if err != nil {
			return err
		}
		u.record("installation.create", "", "installation", map[string]any{"made_by": mark.MadeBy})
		return nil
	})
}

// SetFingerprints notes secrets that the installation has got since it was set
// up, such as a newer pepper. Those that are not named stay noted. The caller has
// checked the ones in use. Only the operator may.
func (m *Manager) SetFingerprints(ctx context.Context, by Caller, prints map[string]string) error {
	return m.do(ctx, by, operation{need: "organization:update"}, func(ctx context.Context, u *unit) error {
		installation, err := workspace.FindInstallation(ctx, u.tx)
		if err != nil {
			return err
		}
		noted, err := installation.Prints()
		if err != nil {
			return err
		}
		merged := maps.Clone(noted)
		maps.Copy(merged, prints)
		if maps.Equal(merged, noted) {
			return nil
		}
		text, err := json.Marshal(merged)
		if err != nil {
			return fmt.Errorf("fingerprints: %w", err)
		}
		u.record("installation.update", "", "installation", map[string]any{"fingerprints": merged})
		return workspace.SetFingerprints(ctx, u.tx, string(text))
	})
}

// Bootstrap names the first things of an installation.
type Bootstrap struct {
	OwnerEmail     string
	Workspace      string // its name; the slug is derived from it
	ServiceAccount string
	Scopes         oauth.Scope // of the service account; empty: the role viewer
	Rotate         bool        // keys that exist get new secrets, and their old ones end
}

// Bootstrapped is what there is after Bootstrap. A secret is the zero value
// when its key existed already.
type Bootstrapped struct {
	Created        bool // something was made
	OwnerID        workspace.UserID
	WorkspaceID    workspace.ID
	ServiceAccount workspace.ServiceAccount
	OwnerKey       Issued
	Key            Issued
}

// bootstrapKey names the keys that Bootstrap makes, so that it finds them again.
const bootstrapKey = "bootstrap"

// Bootstrap makes an owner, who is an organization admin, with a personal key, a
// workspace, and a service account with a key: all or nothing, and only what is
// missing. Only the operator may.
func (m *Manager) Bootstrap(ctx context.Context, by Caller, b Bootstrap) (result Bootstrapped, err error) {
	if by.kind != operatorCaller {
		return result, fmt.Errorf("%w: only the operator can bootstrap", workspace.ErrForbidden)
	}
	err = m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		result, err = u.bootstrap(ctx, b)
		result.Created = len(u.events) > 0
		return err
	})
	return result, err
}

func (u *unit) bootstrap(ctx context.Context, b Bootstrap) (r Bootstrapped, err error) {
	if err := u.knownScopes(b.Scopes); err != nil {
		return r, err
	}
	email, err := workspace.NormalEmail(b.OwnerEmail)
	if err != nil {
		return r, err
	}
	owner, err := ensure(workspace.UserByEmail(ctx, u.tx, email))(func() (workspace.User, error) {
		return u.createUser(ctx, email, "", true)
	})
	if err != nil {
		return r, err
	}
	ws, err := ensure(workspace.Find(ctx, u.tx, workspace.Slug(b.Workspace)))(func() (workspace.Workspace, error) {
		return u.createWorkspace(ctx, b.Workspace, "")
	})
	if err != nil {
		return r, err
	}
	if ws.Name != b.Workspace {
		return r, fmt.Errorf("%w: the workspace %q has the slug %s already, which %q would get: choose another name", workspace.ErrConflict, ws.Name, ws.Slug, b.Workspace)
	}
	_, err = ensure(workspace.FindMember(ctx, u.tx, ws.ID, owner.ID))(func() (workspace.Member, error) {
		return workspace.Member{}, u.addMember(ctx, ws.ID, owner.ID, workspace.Owner)
	})
	if err != nil {
		return r, err
	}
	sa, err := ensure(workspace.ServiceAccountByName(ctx, u.tx, ws.ID, b.ServiceAccount))(func() (workspace.ServiceAccount, error) {
		n := NewServiceAccount{Name: b.ServiceAccount, Scopes: b.Scopes}
		if len(b.Scopes) == 0 {
			n.Role = "viewer"
		}
		return u.createServiceAccount(ctx, ws.ID, n)
	})
	if err != nil {
		return r, err
	}
	if len(b.Scopes) > 0 && sa.Scopes != b.Scopes.String() {
		return r, fmt.Errorf("%w: the service account %s exists and holds other scopes, which bootstrap does not change: leave them out, or choose another name", workspace.ErrConflict, sa.Name)
	}
	r = Bootstrapped{OwnerID: owner.ID, WorkspaceID: ws.ID, ServiceAccount: sa}
	if r.OwnerKey, err = u.ensureKey(ctx, ws.ID, NewKey{UserID: owner.ID, Name: bootstrapKey}, b.Rotate); err != nil {
		return r, err
	}
	r.Key, err = u.ensureKey(ctx, ws.ID, NewKey{ServiceAccountID: sa.ID, Name: bootstrapKey}, b.Rotate)
	return r, err
}

// ensure uses what was found, or makes it.
func ensure[T any](found T, err error) func(create func() (T, error)) (T, error) {
	return func(create func() (T, error)) (T, error) {
		if errors.Is(err, workspace.ErrNotFound) {
			return create()
		}
		return found, err
	}
}

// ensureKey finds the owner's live key of that name, with a new secret if it is
// to be rotated, or makes it.
func (u *unit) ensureKey(ctx context.Context, in workspace.ID, n NewKey, rotate bool) (Issued, error) {
	id, err := keys.FindLive(ctx, u.tx, in, string(n.ServiceAccountID)+string(n.UserID), n.Name, u.now)
	switch {
	case errors.Is(err, workspace.ErrNotFound):
		return u.createKey(ctx, in, n)
	case err == nil && rotate:
		return u.rotateKey(ctx, in, id, Rotation{})
	}
	return Issued{Listed: keys.Listed{Key: keys.Key{ID: id}}}, err
}
