package main

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/console"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// demo is what `tokenbooth dev` has made, as --json prints it.
type demo struct {
	Issuer        string             `json:"issuer"`
	APIURL        string             `json:"api_url"`
	ConsoleURL    string             `json:"console_url"` // signs in as the owner
	LoginURL      string             `json:"login_url"`
	JWKSURI       string             `json:"jwks_uri"`
	WhoamiURL     string             `json:"whoami_url"`
	OperationsURL string             `json:"operations_url"`
	Audience      string             `json:"audience"`
	Workspace     string             `json:"workspace"`
	WorkspaceID   string             `json:"workspace_id"`
	ClientID      string             `json:"client_id"`
	ClientSecret  string             `json:"client_secret"`
	Scope         oauth.Scope        `json:"scope"`
	AdminKey      string             `json:"admin_key"` // the owner's personal secret
	Fixtures      map[string]fixture `json:"fixtures"`
}

// fixture is a key in a state that a client must cope with.
type fixture struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// demoRole is the role of the demo's service accounts.
const demoRole = "editor"

// demoMaker makes the demo through the same use cases as everything else.
type demoMaker struct {
	*backend
	ctx context.Context
	by  manage.Caller
}

// makeDemo makes a workspace with a key, and the fixtures.
func makeDemo(ctx context.Context, b *backend) (*demo, error) {
	m := demoMaker{backend: b, ctx: ctx, by: manage.Operator("dev")}
	ws, err := m.workspace("Demo")
	if err != nil {
		return nil, err
	}
	key, _, err := m.key(b.manager, ws, "demo-ci", time.Time{})
	if err != nil {
		return nil, err
	}
	owner, err := m.owner(ws)
	if err != nil {
		return nil, err
	}
	b.demo = &console.Demo{User: owner.UserID, Token: rand.Text()}
	scope, _ := b.policy.Catalogue.Role(demoRole)
	d := &demo{
		Workspace: ws.Slug, WorkspaceID: string(ws.ID), Scope: scope, Fixtures: map[string]fixture{},
		ClientID: string(key.ID), ClientSecret: key.Secret.Reveal(), AdminKey: owner.Secret.Reveal(),
	}
	for name, prepare := range map[string]func(workspace.Workspace) (manage.Issued, error){
		"expired": m.expired, "revoked": m.revoked, "disabled": m.disabled, "suspended": m.suspended, "other_workspace": m.other,
	} {
		issued, err := prepare(ws)
		if err != nil {
			return nil, err
		}
		d.Fixtures[name] = fixture{ClientID: string(issued.ID), ClientSecret: issued.Secret.Reveal()}
	}
	return d, nil
}

// workspace makes a workspace of that name, or when another start has made one
// in the same database, one with a longer slug.
func (m demoMaker) workspace(name string) (workspace.Workspace, error) {
	ws, err := m.manager.CreateWorkspace(m.ctx, m.by, name, "")
	if errors.Is(err, workspace.ErrConflict) {
		unique := workspace.Unique()
		return m.manager.CreateWorkspace(m.ctx, m.by, name, workspace.Slug(name)+"-"+unique[len(unique)-6:])
	}
	return ws, err
}

// demoOwner is the address of the demo's owner.
const demoOwner = "owner@demo.example"

// owner makes the owner of the demo, an organization admin, with a personal key.
func (m demoMaker) owner(ws workspace.Workspace) (manage.Issued, error) {
	user, err := m.manager.CreateUser(m.ctx, m.by, demoOwner, true)
	if errors.Is(err, workspace.ErrConflict) { // another start made it in the same database
		user, err = workspace.UserByEmail(m.ctx, m.db.Reader(), demoOwner)
	}
	if err != nil {
		return manage.Issued{}, err
	}
	if err := m.manager.AddMember(m.ctx, m.by, ws.ID, user.ID, workspace.Owner); err != nil {
		return manage.Issued{}, err
	}
	return m.manager.CreateKey(m.ctx, m.by, ws.ID, manage.NewKey{UserID: user.ID, Name: "demo-owner"})
}

// key makes a service account and a key of it.
func (m demoMaker) key(manager *manage.Manager, ws workspace.Workspace, name string, expires time.Time) (manage.Issued, workspace.ServiceAccount, error) {
	sa, err := m.manager.CreateServiceAccount(m.ctx, m.by, ws.ID, manage.NewServiceAccount{Name: name, Role: demoRole})
	if err != nil {
		return manage.Issued{}, sa, err
	}
	issued, err := manager.CreateKey(m.ctx, m.by, ws.ID, manage.NewKey{ServiceAccountID: sa.ID, Name: name, ExpiresAt: expires})
	return issued, sa, err
}

// expired was made two hours ago, to end an hour ago.
func (m demoMaker) expired(ws workspace.Workspace) (manage.Issued, error) {
	past := time.Now().Add(-2 * time.Hour)
	issued, _, err := m.key(m.managerAt(func() time.Time { return past }), ws, "expired", past.Add(time.Hour))
	return issued, err
}

func (m demoMaker) revoked(ws workspace.Workspace) (manage.Issued, error) {
	issued, _, err := m.key(m.manager, ws, "revoked", time.Time{})
	if err != nil {
		return issued, err
	}
	return issued, m.manager.RevokeKey(m.ctx, m.by, ws.ID, issued.ID, "a fixture")
}

func (m demoMaker) disabled(ws workspace.Workspace) (manage.Issued, error) {
	issued, sa, err := m.key(m.manager, ws, "disabled", time.Time{})
	if err != nil {
		return issued, err
	}
	return issued, m.manager.DisableServiceAccount(m.ctx, m.by, ws.ID, sa.ID)
}

func (m demoMaker) suspended(workspace.Workspace) (manage.Issued, error) {
	ws, err := m.workspace("Demo Suspended")
	if err != nil {
		return manage.Issued{}, err
	}
	issued, _, err := m.key(m.manager, ws, "suspended", time.Time{})
	if err != nil {
		return issued, err
	}
	return issued, m.manager.SuspendWorkspace(m.ctx, m.by, ws.ID)
}

func (m demoMaker) other(workspace.Workspace) (manage.Issued, error) {
	ws, err := m.workspace("Demo Other")
	if err != nil {
		return manage.Issued{}, err
	}
	issued, _, err := m.key(m.manager, ws, "other", time.Time{})
	return issued, err
}
