package identity

import (
	"context"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Person is somebody whom an OpenID provider has proven. They are issuer and subject;
// an address says nothing of who they are, for providers hand it to others later.
type Person struct {
	Issuer  string
	Subject string
	Email   string // empty: the provider says none, or that it is not proven
	Name    string
	Groups  []string
}

// Mapping says what the groups of a person are good for here.
type Mapping struct {
	Admins     []string // groups of organization admins; none: the provider does not say who is one
	Workspaces []MappedWorkspace
}

// MappedWorkspace gives a group a role in a workspace.
type MappedWorkspace struct {
	Value     string // of the claim
	Workspace string // slug
	Role      workspace.Role
}

// Admin reports whether groups make an organization admin.
func (m Mapping) Admin(groups []string) bool {
	return slices.ContainsFunc(m.Admins, func(value string) bool { return slices.Contains(groups, value) })
}

// Roles is the highest role that groups give in each workspace that the mapping
// names, by slug; empty where they give none.
func (m Mapping) Roles(groups []string) map[string]workspace.Role {
	roles := map[string]workspace.Role{}
	for _, w := range m.Workspaces {
		best := roles[w.Workspace]
		if slices.Contains(groups, w.Value) && rank(w.Role) > rank(best) {
			best = w.Role
		}
		roles[w.Workspace] = best
	}
	return roles
}

// rank orders roles; the one that gives most is the highest.
func rank(role workspace.Role) int {
	return 1 + slices.Index([]workspace.Role{workspace.Viewer, workspace.Manager, workspace.Owner}, role)
}

// Subject is a person at a provider, and the user that they are here.
type Subject struct {
	Issuer    string           `db:"issuer"`
	Subject   string           `db:"subject"`
	UserID    workspace.UserID `db:"user_id"`
	Email     string           `db:"email"` // what the provider said last
	CreatedAt workspace.Time   `db:"created_at"`
	SeenAt    workspace.Time   `db:"seen_at"`
}

const subjectColumns = `issuer, subject, user_id, email, created_at, seen_at`

// FindSubject reads a person of a provider. ErrNotFound: nobody here is they.
func FindSubject(ctx context.Context, q sqlx.ExtContext, issuer, subject string) (Subject, error) {
	found, err := listSubjects(ctx, q, `issuer = ? AND subject = ?`, issuer, subject)
	if err != nil {
		return Subject{}, err
	}
	if len(found) == 0 {
		return Subject{}, fmt.Errorf("a person of %s: %w", issuer, workspace.ErrNotFound)
	}
	return found[0], nil
}

// Subjects lists who a user is at providers, the oldest link first.
func Subjects(ctx context.Context, q sqlx.ExtContext, user workspace.UserID) ([]Subject, error) {
	return listSubjects(ctx, q, `user_id = ? ORDER BY created_at, issuer, subject`, user)
}

func listSubjects(ctx context.Context, q sqlx.ExtContext, condition string, args ...any) (found []Subject, err error) {
	if err := sqlx.SelectContext(ctx, q, &found, `SELECT `+subjectColumns+` FROM subjects WHERE `+condition, args...); err != nil {
		return nil, fmt.Errorf("read subjects: %w", err)
	}
	return found, nil
}

// InsertSubject makes a person of a provider a user. ErrConflict: they are one.
func InsertSubject(ctx context.Context, tx sqlx.ExtContext, s Subject) error {
	return changeOne(ctx, tx, fmt.Errorf("%w: that person of the provider has an account here", workspace.ErrConflict),
		`INSERT INTO subjects (`+subjectColumns+`) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		s.Issuer, s.Subject, s.UserID, s.Email, s.CreatedAt, s.SeenAt)
}

// SeeSubject notes that a person came from their provider, and the address that it
// has for them now. ErrNotFound: nobody here is they.
func SeeSubject(ctx context.Context, tx sqlx.ExtContext, s Subject) error {
	return changeOne(ctx, tx, fmt.Errorf("a person of %s: %w", s.Issuer, workspace.ErrNotFound),
		`UPDATE subjects SET email = ?, seen_at = ? WHERE issuer = ? AND subject = ?`, s.Email, s.SeenAt, s.Issuer, s.Subject)
}

// DeleteSubject takes a person of a provider from a user. ErrNotFound: they have no
// such link.
func DeleteSubject(ctx context.Context, tx sqlx.ExtContext, user workspace.UserID, issuer, subject string) error {
	return changeOne(ctx, tx, fmt.Errorf("a person of %s: %w", issuer, workspace.ErrNotFound),
		`DELETE FROM subjects WHERE user_id = ? AND issuer = ? AND subject = ?`, user, issuer, subject)
}

// changeOne changes a row, or returns otherwise when there is none to change.
func changeOne(ctx context.Context, tx sqlx.ExtContext, otherwise error, query string, args ...any) error {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("store how people sign in: %w", err)
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = otherwise
	}
	return err
}
