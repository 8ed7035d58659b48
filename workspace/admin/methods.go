package admin

import (
	"context"
	"iter"
	"net/http"
	"net/url"
)

// The methods name workspaces by ID or slug, and service accounts by ID or name.

func get[T any](ctx context.Context, c *Client, path string) (result T, err error) {
	_, err = c.Do(ctx, http.MethodGet, path, nil, &result)
	return result, err
}

func send[T any](ctx context.Context, c *Client, method, path string, body any, options []Option) (result T, err error) {
	_, err = c.Do(ctx, method, path, body, &result, options...)
	return result, err
}

func (c *Client) remove(ctx context.Context, path string, options []Option) error {
	_, err := c.Do(ctx, http.MethodDelete, path, nil, nil, options...)
	return err
}

// Workspaces lists the workspaces that the caller may see.
func (c *Client) Workspaces(ctx context.Context, filter url.Values) iter.Seq2[Workspace, error] {
	return All[Workspace](ctx, c, "/workspaces", filter)
}

// Workspace reads a workspace.
func (c *Client) Workspace(ctx context.Context, ws string) (Workspace, error) {
	return get[Workspace](ctx, c, path("workspaces", ws))
}

// CreateWorkspace makes a workspace, whose first owner is the caller.
func (c *Client) CreateWorkspace(ctx context.Context, n NewWorkspace, options ...Option) (Workspace, error) {
	return send[Workspace](ctx, c, http.MethodPost, "/workspaces", n, options)
}

// UpdateWorkspace changes a workspace.
func (c *Client) UpdateWorkspace(ctx context.Context, ws string, change WorkspaceChange, options ...Option) (Workspace, error) {
	return send[Workspace](ctx, c, http.MethodPatch, path("workspaces", ws), change, options)
}

// SuspendWorkspace closes a workspace.
func (c *Client) SuspendWorkspace(ctx context.Context, ws string) (Workspace, error) {
	return send[Workspace](ctx, c, http.MethodPost, path("workspaces", ws, "suspend"), nil, nil)
}

// ResumeWorkspace opens a workspace again.
func (c *Client) ResumeWorkspace(ctx context.Context, ws string) (Workspace, error) {
	return send[Workspace](ctx, c, http.MethodPost, path("workspaces", ws, "resume"), nil, nil)
}

// DeleteWorkspace ends a workspace for good.
func (c *Client) DeleteWorkspace(ctx context.Context, ws string, options ...Option) error {
	return c.remove(ctx, path("workspaces", ws), options)
}

// Members lists the members of a workspace.
func (c *Client) Members(ctx context.Context, ws string, filter url.Values) iter.Seq2[Member, error] {
	return All[Member](ctx, c, path("workspaces", ws, "members"), filter)
}

// Member reads a member.
func (c *Client) Member(ctx context.Context, ws, user string) (Member, error) {
	return get[Member](ctx, c, path("workspaces", ws, "members", user))
}

// AddMember puts a person into a workspace.
func (c *Client) AddMember(ctx context.Context, ws string, n NewMember, options ...Option) (Member, error) {
	return send[Member](ctx, c, http.MethodPost, path("workspaces", ws, "members"), n, options)
}

// UpdateMember changes a member's role.
func (c *Client) UpdateMember(ctx context.Context, ws, user string, change MemberChange, options ...Option) (Member, error) {
	return send[Member](ctx, c, http.MethodPatch, path("workspaces", ws, "members", user), change, options)
}

// RemoveMember takes a person out of a workspace.
func (c *Client) RemoveMember(ctx context.Context, ws, user string, options ...Option) error {
	return c.remove(ctx, path("workspaces", ws, "members", user), options)
}

// ServiceAccounts lists the service accounts of a workspace.
func (c *Client) ServiceAccounts(ctx context.Context, ws string, filter url.Values) iter.Seq2[ServiceAccount, error] {
	return All[ServiceAccount](ctx, c, path("workspaces", ws, "service-accounts"), filter)
}

// ServiceAccount reads a service account.
func (c *Client) ServiceAccount(ctx context.Context, ws, sa string) (ServiceAccount, error) {
	return get[ServiceAccount](ctx, c, path("workspaces", ws, "service-accounts", sa))
}

// CreateServiceAccount makes a service account.
func (c *Client) CreateServiceAccount(ctx context.Context, ws string, n NewServiceAccount, options ...Option) (ServiceAccount, error) {
	return send[ServiceAccount](ctx, c, http.MethodPost, path("workspaces", ws, "service-accounts"), n, options)
}

// UpdateServiceAccount changes a service account.
func (c *Client) UpdateServiceAccount(ctx context.Context, ws, sa string, change ServiceAccountChange, options ...Option) (ServiceAccount, error) {
	return send[ServiceAccount](ctx, c, http.MethodPatch, path("workspaces", ws, "service-accounts", sa), change, options)
}

// DeleteServiceAccount ends a service account and revokes its keys.
func (c *Client) DeleteServiceAccount(ctx context.Context, ws, sa string, options ...Option) error {
	return c.remove(ctx, path("workspaces", ws, "service-accounts", sa), options)
}

// Keys lists keys of a workspace.
func (c *Client) Keys(ctx context.Context, ws string, filter url.Values) iter.Seq2[Key, error] {
	return All[Key](ctx, c, path("workspaces", ws, "keys"), filter)
}

// Key reads a key.
func (c *Client) Key(ctx context.Context, ws, id string) (Key, error) {
	return get[Key](ctx, c, path("workspaces", ws, "keys", id))
}

// CreateKey makes a key, and its service account if n names none.
func (c *Client) CreateKey(ctx context.Context, ws string, n NewKey, options ...Option) (IssuedKey, error) {
	return send[IssuedKey](ctx, c, http.MethodPost, path("workspaces", ws, "keys"), n, options)
}

// UpdateKey changes a key.
func (c *Client) UpdateKey(ctx context.Context, ws, id string, change KeyChange, options ...Option) (Key, error) {
	return send[Key](ctx, c, http.MethodPatch, path("workspaces", ws, "keys", id), change, options)
}

// RotateKey gives a key a new secret.
func (c *Client) RotateKey(ctx context.Context, ws, id string, r Rotation, options ...Option) (IssuedKey, error) {
	return send[IssuedKey](ctx, c, http.MethodPost, path("workspaces", ws, "keys", id, "rotate"), r, options)
}

// EndSecret ends an older secret of a key before its time.
func (c *Client) EndSecret(ctx context.Context, ws, id, secret string) error {
	return c.remove(ctx, path("workspaces", ws, "keys", id, "secrets", secret), nil)
}

// RevokeKey ends a key for good. Revoking it again changes nothing, and answers with
// the same sequence.
func (c *Client) RevokeKey(ctx context.Context, ws, id string, r Revocation) (RevokedKey, error) {
	return send[RevokedKey](ctx, c, http.MethodPost, path("workspaces", ws, "keys", id, "revoke"), r, nil)
}

// DeleteKey revokes a key and takes it out of the lists.
func (c *Client) DeleteKey(ctx context.Context, ws, id string, options ...Option) error {
	return c.remove(ctx, path("workspaces", ws, "keys", id), options)
}

// AuditEvents lists what happened in a workspace, the newest first; in an empty
// workspace, what happened in the installation.
func (c *Client) AuditEvents(ctx context.Context, ws string, filter url.Values) iter.Seq2[AuditEvent, error] {
	if ws == "" {
		return All[AuditEvent](ctx, c, "/audit-events", filter)
	}
	return All[AuditEvent](ctx, c, path("workspaces", ws, "audit-events"), filter)
}

// Usage counts the exchanges of a workspace's keys.
func (c *Client) Usage(ctx context.Context, ws string, filter url.Values) (Usage, error) {
	return get[Usage](ctx, c, withQuery(path("workspaces", ws, "usage"), filter))
}

// Users lists users.
func (c *Client) Users(ctx context.Context, filter url.Values) iter.Seq2[User, error] {
	return All[User](ctx, c, "/users", filter)
}

// User reads a user.
func (c *Client) User(ctx context.Context, user string) (User, error) {
	return get[User](ctx, c, path("users", user))
}

// CreateUser makes a user.
func (c *Client) CreateUser(ctx context.Context, n NewUser, options ...Option) (User, error) {
	return send[User](ctx, c, http.MethodPost, "/users", n, options)
}

// UpdateUser changes a user.
func (c *Client) UpdateUser(ctx context.Context, user string, change UserChange, options ...Option) (User, error) {
	return send[User](ctx, c, http.MethodPatch, path("users", user), change, options)
}

// DeleteUser ends a user for good.
func (c *Client) DeleteUser(ctx context.Context, user string, options ...Option) error {
	return c.remove(ctx, path("users", user), options)
}

// Me reads the person who asks.
func (c *Client) Me(ctx context.Context) (Profile, error) { return get[Profile](ctx, c, "/users/me") }

// PersonalKeys lists the caller's own keys; filter has to name the workspace.
func (c *Client) PersonalKeys(ctx context.Context, filter url.Values) iter.Seq2[Key, error] {
	return All[Key](ctx, c, "/users/me/keys", filter)
}

// CreatePersonalKey makes a key that speaks for the caller in n.Workspace.
func (c *Client) CreatePersonalKey(ctx context.Context, n NewKey, options ...Option) (IssuedKey, error) {
	return send[IssuedKey](ctx, c, http.MethodPost, "/users/me/keys", n, options)
}
