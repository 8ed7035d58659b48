package manage

import (
	"context"
	"fmt"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// How long links work.
const (
	SetupFor      = 30 * time.Minute
	InvitationFor = 7 * 24 * time.Hour
	AccessFor     = 24 * time.Hour
)

// NewLink is a link with what it carries, which is shown once: it is empty when a
// request is repeated.
type NewLink struct {
	identity.Link
	Token string
}

// newLink stores a link that works from now on.
func (u *unit) newLink(ctx context.Context, l identity.Link, lasts time.Duration) (NewLink, error) {
	l.ID, l.CreatedAt, l.CreatedBy = "lnk_"+workspace.Unique(), u.now, u.by.String()
	l.ExpiresAt = workspace.At(u.now.Add(lasts))
	link := NewLink{Link: l, Token: identity.NewLinkToken()}
	return link, identity.InsertLink(ctx, u.tx, l, link.Token)
}

// SetUpLink makes a link that makes the first organization admin who can sign in.
// needed is false when there is one already. Only the operator may.
func (m *Manager) SetUpLink(ctx context.Context, by Caller) (link NewLink, needed bool, err error) {
	if by.kind != operatorCaller {
		return link, false, fmt.Errorf("%w: only the operator can set up", workspace.ErrForbidden)
	}
	err = m.do(ctx, by, operation{}, func(ctx context.Context, u *unit) error {
		can, err := identity.AdminCanSignIn(ctx, u.tx)
		if needed = !can; err != nil || can {
			return err
		}
		link, err = u.newLink(ctx, identity.Link{Kind: identity.SetupLink}, SetupFor)
		u.record("setup_link.create", "", link.ID, nil)
		return err
	})
	return link, needed, err
}

// SetUpPerson is who sets an installation up.
type SetUpPerson struct {
	Email     string
	Name      string // may be empty
	Password  string
	Workspace string // name of the first workspace; empty: none, or there is one
}

// OpenSetUp reports whether a token sets up the installation, and whether that has a
// workspace already. ErrNotFound.
func (m *Manager) OpenSetUp(ctx context.Context, token string) (hasWorkspace bool, err error) {
	q := m.Database.Reader()
	if _, err := identity.FindLink(ctx, q, identity.SetupLink, token, workspace.At(m.now())); err != nil {
		return false, err
	}
	some, err := workspace.List(ctx, q, workspace.Filter{}, workspace.Page{Limit: 1})
	return len(some) > 0, err
}

// SetUp makes a person the organization admin, with a password and if there is none a
// workspace: all or nothing. A user with their address is taken to be theirs, for the
// operator gave them the link. ErrNotFound: the link is none; ErrConflict: somebody
// can sign in already; ErrInvalid. What they set up is empty when there is no
// workspace of theirs.
func (m *Manager) SetUp(ctx context.Context, from Origin, token string, p SetUpPerson) (user workspace.User, ws workspace.Workspace, err error) {
	hasWorkspace, err := m.OpenSetUp(ctx, token)
	if err != nil {
		return user, ws, err
	}
	if p.Email, err = workspace.NormalEmail(p.Email); err != nil {
		return user, ws, err
	}
	stored, err := m.hashPassword(ctx, p.Password, p.Email)
	if err != nil {
		return user, ws, err
	}
	err = m.do(ctx, Operator("set-up link").From(from), operation{}, func(ctx context.Context, u *unit) error {
		if err := u.useSetUp(ctx, token); err != nil {
			return err
		}
		if user, err = u.setUpAdmin(ctx, p); err != nil {
			return err
		}
		if err := u.renewAccess(ctx, user.ID, stored); err != nil {
			return err
		}
		u.record("installation.set_up", "", string(user.ID), nil)
		u.concerning(string(user.ID))
		if p.Workspace == "" || hasWorkspace {
			return nil
		}
		if ws, err = u.createWorkspace(ctx, p.Workspace, ""); err != nil {
			return err
		}
		return u.insertMember(ctx, ws.ID, user.ID, workspace.Owner)
	})
	return user, ws, err
}

// useSetUp ends the link, and with it every other one that sets up.
func (u *unit) useSetUp(ctx context.Context, token string) error {
	if _, err := identity.UseLink(ctx, u.tx, identity.SetupLink, token, u.now); err != nil {
		return err
	}
	can, err := identity.AdminCanSignIn(ctx, u.tx)
	if err != nil {
		return err
	}
	if can {
		return fmt.Errorf("%w: somebody has set up this installation and can sign in: ask them for an invitation", workspace.ErrConflict)
	}
	_, err = identity.DeleteLinks(ctx, u.tx, identity.LinkFilter{Kind: identity.SetupLink})
	return err
}

// setUpAdmin finds or makes the user, who is an active organization admin then.
func (u *unit) setUpAdmin(ctx context.Context, p SetUpPerson) (workspace.User, error) {
	before, err := ensure(workspace.UserByEmail(ctx, u.tx, p.Email))(func() (workspace.User, error) {
		return u.createUser(ctx, p.Email, p.Name, true)
	})
	if err != nil {
		return before, err
	}
	after, detail := before, map[string]any{}
	if !before.OrganizationAdmin {
		after.OrganizationAdmin, detail["organization_admin"] = true, true
	}
	if !before.DisabledAt.IsZero() {
		after.DisabledAt, detail["enabled"] = workspace.Time{}, true
	}
	if p.Name != "" && p.Name != before.Name {
		after.Name, detail["name"] = p.Name, p.Name
	}
	if len(detail) == 0 {
		return before, nil
	}
	if err := validUser(after); err != nil {
		return before, err
	}
	return u.storeUser(ctx, before, after, detail)
}
