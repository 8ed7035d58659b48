package workspace

import (
	"context"
	"fmt"

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
	case a.Role != "" && a.Scopes != "":
		return invalidf("a service account has a role or explicit scopes, not both")
	}
	return ValidDescription(a.Description)
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

// ServiceAccountFilter chooses service accounts.
type ServiceAccountFilter struct {
	Text     string // part of the name or description
	Disabled *bool
	Name     string // exactly
	Deleted  bool   // deleted ones too
}

// ListServiceAccounts reads those of a workspace, the newest first: the live ones,
// unless the filter wants more.
func ListServiceAccounts(ctx context.Context, q sqlx.ExtContext, ws ID, f ServiceAccountFilter, page Page) ([]ServiceAccount, error) {
	w := Where{}
	w.Add("workspace_id = ?", ws)
	if !f.Deleted {
		w.Add("deleted_at IS NULL")
	}
	w.Contains(f.Text, "name", "description")
	w.Set("disabled_at", f.Disabled)
	if f.Name != "" {
		w.Add("name = ?", f.Name)
	}
	return Select[ServiceAccount](ctx, q, "service accounts", `SELECT `+serviceAccountColumns+` FROM service_accounts`, w, page, "created_at", "id")
}

// UpdateServiceAccount stores what can change of a live one. When narrower is
// set, its tokens are denied. It returns the generation. ErrConflict: the name
// is taken.
func UpdateServiceAccount(ctx context.Context, tx sqlx.ExtContext, a ServiceAccount, narrower bool) (int64, error) {
	taken, err := count(ctx, tx, `SELECT count(*) FROM service_accounts WHERE workspace_id = ? AND name = ? AND deleted_at IS NULL AND id <> ?`,
		a.WorkspaceID, a.Name, a.ID)
	if err != nil {
		return 0, err
	}
	if taken > 0 {
		return 0, fmt.Errorf("a service account named %s exists already: %w", a.Name, ErrConflict)
	}
	step := 0
	if narrower {
		step = 1
	}
	generation, _, err := Bump(ctx, tx, `UPDATE service_accounts SET name = ?, description = ?, role = ?, scopes = ?, disabled_at = ?,
		updated_at = ?, generation = generation + ? WHERE id = ? AND deleted_at IS NULL RETURNING generation`,
		a.Name, a.Description, a.Role, a.Scopes, a.DisabledAt, a.UpdatedAt, step, a.ID)
	return generation, err
}

// DeleteServiceAccount ends a service account for good and denies all its
// tokens; its name is free again. It returns the new generation.
func DeleteServiceAccount(ctx context.Context, tx sqlx.ExtContext, id ServiceAccountID, at Time) (int64, bool, error) {
	return Bump(ctx, tx, `UPDATE service_accounts SET deleted_at = ?, updated_at = ?, generation = generation + 1
		WHERE id = ? AND deleted_at IS NULL RETURNING generation`, at, at, id)
}

// CountServiceAccounts counts the service accounts of a workspace.
func CountServiceAccounts(ctx context.Context, q sqlx.ExtContext, in ID) (n int64, err error) {
	if err := sqlx.GetContext(ctx, q, &n, `SELECT COUNT(*) FROM service_accounts WHERE workspace_id = ? AND deleted_at IS NULL`, in); err != nil {
		return 0, fmt.Errorf("count the service accounts of %s: %w", in, err)
	}
	return n, nil
}
