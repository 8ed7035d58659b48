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

// Membership is a member with what people know them by.
type Membership struct {
	Member
	Email      string `db:"email"`
	Name       string `db:"name"`
	DisabledAt Time   `db:"disabled_at"` // of the user
}

const membershipQuery = `SELECT m.workspace_id, m.user_id, m.role, m.created_at, m.updated_at, u.email, u.name, u.disabled_at
	FROM members m JOIN users u ON u.id = m.user_id`

// MemberFilter chooses members.
type MemberFilter struct {
	Text string // part of the address or name
	Role Role
}

// ListMembers reads the members of a workspace, the newest first.
func ListMembers(ctx context.Context, q sqlx.ExtContext, ws ID, f MemberFilter, page Page) ([]Membership, error) {
	w := Where{}
	w.Add("m.workspace_id = ?", ws)
	w.Contains(f.Text, "u.email", "u.name")
	if f.Role != "" {
		w.Add("m.role = ?", f.Role)
	}
	return Select[Membership](ctx, q, "members", membershipQuery, w, page, "m.created_at", "m.user_id")
}

// FindMembership reads a member. ErrNotFound if the user is none.
func FindMembership(ctx context.Context, q sqlx.ExtContext, ws ID, user UserID) (Membership, error) {
	return get[Membership](ctx, q, fmt.Sprintf("member %s of %s", user, ws),
		membershipQuery+` WHERE m.workspace_id = ? AND m.user_id = ?`, ws, user)
}

// MembershipsOf reads the workspaces that a user is a member of, with the role
// in each; deleted workspaces do not count.
func MembershipsOf(ctx context.Context, q sqlx.ExtContext, user UserID) ([]Member, error) {
	var found []Member
	err := sqlx.SelectContext(ctx, q, &found, `SELECT m.workspace_id, m.user_id, m.role, m.created_at, m.updated_at FROM members m
		JOIN workspaces w ON w.id = m.workspace_id WHERE m.user_id = ? AND w.deleted_at IS NULL ORDER BY m.created_at, m.workspace_id`, user)
	if err != nil {
		return nil, fmt.Errorf("read the memberships of %s: %w", user, err)
	}
	return found, nil
}

// SetMemberRole changes a member's role.
func SetMemberRole(ctx context.Context, tx sqlx.ExtContext, m Member) error {
	_, err := updateOne(ctx, tx, `UPDATE members SET role = ?, updated_at = ? WHERE workspace_id = ? AND user_id = ?`,
		m.Role, m.UpdatedAt, m.WorkspaceID, m.UserID)
	return err
}

// DeleteMember takes a user out of a workspace.
func DeleteMember(ctx context.Context, tx sqlx.ExtContext, ws ID, user UserID) error {
	_, err := updateOne(ctx, tx, `DELETE FROM members WHERE workspace_id = ? AND user_id = ?`, ws, user)
	return err
}

// OtherOwners counts the owners of a workspace beside a user who can act.
func OtherOwners(ctx context.Context, q sqlx.ExtContext, ws ID, user UserID) (int64, error) {
	return count(ctx, q, `SELECT count(*) FROM members m JOIN users u ON u.id = m.user_id
		WHERE m.workspace_id = ? AND m.role = 'owner' AND m.user_id <> ? AND u.disabled_at IS NULL`, ws, user)
}
