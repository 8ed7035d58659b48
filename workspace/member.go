package workspace

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// Role is what a member may do in a workspace.
type Role string

// The roles of members. What each holds is in package policy.
const (
	Owner   Role = "owner"
	Manager Role = "manager"
	Viewer  Role = "viewer"
)

// Member is a user in a workspace.
type Member struct {
	WorkspaceID ID     `db:"workspace_id"`
	UserID      UserID `db:"user_id"`
	Role        Role   `db:"role"`
	CreatedAt   Time   `db:"created_at"`
	UpdatedAt   Time   `db:"updated_at"`
}

const memberColumns = `workspace_id, user_id, role, created_at, updated_at`

// Validate checks the role. Errors wrap ErrInvalid.
func (m Member) Validate() error {
	switch m.Role {
	case Owner, Manager, Viewer:
		return nil
	}
	return invalidf("the role %q: use owner, manager or viewer", m.Role)
}

// InsertMember stores a new member. ErrConflict: the user is one already.
func InsertMember(ctx context.Context, tx sqlx.ExtContext, m Member) error {
	return insertOnce(ctx, tx, fmt.Sprintf("member %s of %s", m.UserID, m.WorkspaceID),
		`INSERT INTO members (`+memberColumns+`) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		m.WorkspaceID, m.UserID, m.Role, m.CreatedAt, m.UpdatedAt)
}

// FindMember reads a member. ErrNotFound if the user is none.
func FindMember(ctx context.Context, q sqlx.ExtContext, ws ID, user UserID) (Member, error) {
	return get[Member](ctx, q, fmt.Sprintf("member %s of %s", user, ws),
		`SELECT `+memberColumns+` FROM members WHERE workspace_id = ? AND user_id = ?`, ws, user)
}
