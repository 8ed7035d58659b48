package workspace

import (
	"context"
	"net/mail"
	"strings"

	"github.com/jmoiron/sqlx"
)

// User is a person. What a person may do in a workspace is a Member's role.
type User struct {
	ID                UserID `db:"id"`
	Email             string `db:"email"` // normalised by NormalEmail; unique
	Name              string `db:"name"`
	OrganizationAdmin bool   `db:"organization_admin"`
	Generation        int64  `db:"generation"`
	DisabledAt        Time   `db:"disabled_at"`
	CreatedAt         Time   `db:"created_at"`
	UpdatedAt         Time   `db:"updated_at"`
}

const userColumns = `id, email, name, organization_admin, generation, disabled_at, created_at, updated_at`

// NormalEmail checks an address and folds its case, so that one mailbox is one
// user. Errors wrap ErrInvalid.
func NormalEmail(address string) (string, error) {
	trimmed := strings.TrimSpace(address)
	parsed, err := mail.ParseAddress(trimmed)
	if err != nil || parsed.Address != trimmed || len(trimmed) > 254 {
		return "", invalidf("the e-mail address %q: use the form name@example.com", address)
	}
	return strings.ToLower(trimmed), nil
}

// InsertUser stores a new user. ErrConflict: the address is taken.
func InsertUser(ctx context.Context, tx sqlx.ExtContext, u User) error {
	return insertOnce(ctx, tx, "a user with the address "+u.Email,
		`INSERT INTO users (`+userColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		u.ID, u.Email, u.Name, u.OrganizationAdmin, u.Generation, u.DisabledAt, u.CreatedAt, u.UpdatedAt)
}

// FindUser reads a user by ID. ErrNotFound if there is none.
func FindUser(ctx context.Context, q sqlx.ExtContext, id UserID) (User, error) {
	return get[User](ctx, q, "user "+string(id), `SELECT `+userColumns+` FROM users WHERE id = ?`, id)
}

// UserByEmail reads a user by normalised address. ErrNotFound if there is none.
func UserByEmail(ctx context.Context, q sqlx.ExtContext, email string) (User, error) {
	return get[User](ctx, q, "user "+email, `SELECT `+userColumns+` FROM users WHERE email = ?`, email)
}
