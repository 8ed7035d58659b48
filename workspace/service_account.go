package workspace

import (
	"context"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"
)

// ServiceAccount is a non-human identity that owns API keys. It has a role or
// explicit scopes, not both.
type ServiceAccount struct {
	ID          ServiceAccountID `db:"id"`
	WorkspaceID ID               `db:"workspace_id"`
	Name        string           `db:"name"` // unique among the workspace's live ones
	Description string           `db:"description"`
	Role        string           `db:"role"`   // a role of the catalogue, or empty
	Scopes      string           `db:"scopes"` // space-separated, or empty
	Generation  int64            `db:"generation"`
	DisabledAt  Time             `db:"disabled_at"`
	DeletedAt   Time             `db:"deleted_at"`
	CreatedAt   Time             `db:"created_at"`
	CreatedBy   string           `db:"created_by"`
	UpdatedAt   Time             `db:"updated_at"`
}

const serviceAccountColumns = `id, workspace_id, name, description, role, scopes, generation,
	disabled_at, deleted_at, created_at, created_by, updated_at`

// Validate checks the fields that people choose. Errors wrap ErrInvalid.
func (a ServiceAccount) Validate() error {
	switch {
	case !hyphenated.MatchString(a.Name):
		return invalidf("the service account name %q: use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends, such as gitlab-ci", a.Name)
	case utf8.RuneCountInString(a.Description) > 1000 || !utf8.ValidString(a.Description):
		return invalidf("the description: use at most 1000 characters")
	case a.Role != "" && a.Scopes != "":
		return invalidf("a service account has a role or explicit scopes, not both")
	}
	return nil
}

// InsertServiceAccount stores a new one. ErrConflict: the name is taken.
func InsertServiceAccount(ctx context.Context, tx sqlx.ExtContext, a ServiceAccount) error {
	return insertOnce(ctx, tx, "a service account named "+a.Name,
		`INSERT INTO service_accounts (`+serviceAccountColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		a.ID, a.WorkspaceID, a.Name, a.Description, a.Role, a.Scopes, a.Generation,
		a.DisabledAt, a.DeletedAt, a.CreatedAt, a.CreatedBy, a.UpdatedAt)
}

// FindServiceAccount reads a live one by ID. ErrNotFound if there is none in
// that workspace.
func FindServiceAccount(ctx context.Context, q sqlx.ExtContext, ws ID, id ServiceAccountID) (ServiceAccount, error) {
	return get[ServiceAccount](ctx, q, "service account "+string(id), `SELECT `+serviceAccountColumns+`
		FROM service_accounts WHERE workspace_id = ? AND id = ? AND deleted_at IS NULL`, ws, id)
}

// ServiceAccountByName reads a live one by name. ErrNotFound if there is none.
func ServiceAccountByName(ctx context.Context, q sqlx.ExtContext, ws ID, name string) (ServiceAccount, error) {
	return get[ServiceAccount](ctx, q, "service account "+name, `SELECT `+serviceAccountColumns+`
		FROM service_accounts WHERE workspace_id = ? AND name = ? AND deleted_at IS NULL`, ws, name)
}

// DisableServiceAccount stops a service account and denies all its tokens.
// It reports whether the account was live until now.
func DisableServiceAccount(ctx context.Context, tx sqlx.ExtContext, id ServiceAccountID, at Time) (bool, error) {
	return updateOne(ctx, tx, `UPDATE service_accounts SET disabled_at = ?, updated_at = ?, generation = generation + 1
		WHERE id = ? AND disabled_at IS NULL AND deleted_at IS NULL`, at, at, id)
}
