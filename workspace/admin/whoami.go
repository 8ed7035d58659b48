package admin

import (
	"context"
	"time"
)

// Identity is whose the credential of the caller is.
type Identity struct {
	Workspace   string     `json:"workspace"` // slug
	WorkspaceID string     `json:"workspace_id"`
	Subject     string     `json:"subject"` // a service account or a user
	ClientID    string     `json:"client_id"`
	Scope       string     `json:"scope"`      // separated by spaces
	ExpiresAt   *time.Time `json:"expires_at"` // of the token or key that was sent; null: never
}

// Whoami asks whose the credential is.
func (c *Client) Whoami(ctx context.Context) (Identity, error) {
	return get[Identity](ctx, c, "/whoami")
}
