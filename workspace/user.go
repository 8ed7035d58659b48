package workspace

import (
	"context"
	"net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

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
	DeletedAt         Time   `db:"deleted_at"`
	CreatedAt         Time   `db:"created_at"`
	UpdatedAt         Time   `db:"updated_at"`
}

const userColumns = `id, email, name, organization_admin, generation, disabled_at, deleted_at, created_at, updated_at`

// NormalEmail checks an address and folds the case of its ASCII letters, so that one
// mailbox is one user, and no two are: other alphabets fold letters together that
// are not the same. Errors wrap ErrInvalid.
func NormalEmail(address string) (string, error) {
	trimmed := strings.TrimSpace(address)
	parsed, err := mail.ParseAddress(trimmed)
	if err != nil || parsed.Address != trimmed || len(trimmed) > 254 || strings.ContainsFunc(trimmed, notPrintable) || strings.ContainsRune(trimmed, utf8.RuneError) {
		return "", invalidf("the e-mail address %q: use the form name@example.com", address)
	}
	if slices.ContainsFunc(strings.FieldsFunc(trimmed, func(r rune) bool { return r == '@' || r == '.' }), mixesScripts) {
		return "", invalidf("the e-mail address %q: it mixes Latin letters with those of another alphabet that look alike", address)
	}
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, trimmed), nil
}

// mixesScripts reports whether a part of an address has Latin letters and others: one
// that is written with a Cyrillic o looks like somebody else's (UTS #39).
func mixesScripts(part string) bool {
	var latin, other bool
	for _, r := range part {
		if unicode.IsLetter(r) {
			latin, other = latin || unicode.Is(unicode.Latin, r), other || !unicode.Is(unicode.Latin, r)
		}
	}
	return latin && other
}

// InsertUser stores a new user. ErrConflict: the address is taken.
func InsertUser(ctx context.Context, tx sqlx.ExtContext, u User) error {
	return insertOnce(ctx, tx, "a user with the address "+u.Email,
		`INSERT INTO users (`+userColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		u.ID, u.Email, u.Name, u.OrganizationAdmin, u.Generation, u.DisabledAt, u.DeletedAt, u.CreatedAt, u.UpdatedAt)
}

// FindUser reads a user by ID. ErrNotFound if there is none.
func FindUser(ctx context.Context, q sqlx.ExtContext, id UserID) (User, error) {
	return get[User](ctx, q, "user "+string(id), `SELECT `+userColumns+` FROM users WHERE id = ? AND deleted_at IS NULL`, id)
}

// UserByEmail reads a user by normalised address. ErrNotFound if there is none.
func UserByEmail(ctx context.Context, q sqlx.ExtContext, email string) (User, error) {
	return get[User](ctx, q, "user "+email, `SELECT `+userColumns+` FROM users WHERE email = ? AND deleted_at IS NULL`, email)
}

// UserFilter chooses users.
type UserFilter struct {
	Text              string // part of the address or name
	Disabled          *bool
	OrganizationAdmin *bool
}

// ListUsers reads users that were not deleted, the newest first.
func ListUsers(ctx context.Context, q sqlx.ExtContext, f UserFilter, page Page) ([]User, error) {
	w := Where{}
	w.Add("deleted_at IS NULL")
	w.Contains(f.Text, "email", "name")
	w.Set("disabled_at", f.Disabled)
	if f.OrganizationAdmin != nil {
		w.Add("organization_admin = ?", *f.OrganizationAdmin)
	}
	return Select[User](ctx, q, "users", `SELECT `+userColumns+` FROM users`, w, page, "created_at", "id")
}

// UpdateUser stores the name, the flag and whether the user is disabled. When
// narrower is set, the user's tokens are denied; it returns their generation.
func UpdateUser(ctx context.Context, tx sqlx.ExtContext, u User, narrower bool) (int64, error) {
	step := 0
	if narrower {
		step = 1
	}
	generation, _, err := Bump(ctx, tx, `UPDATE users SET name = ?, organization_admin = ?, disabled_at = ?, updated_at = ?,
		generation = generation + ? WHERE id = ? AND deleted_at IS NULL RETURNING generation`,
		u.Name, u.OrganizationAdmin, u.DisabledAt, u.UpdatedAt, step, u.ID)
	return generation, err
}

// DeleteUser ends a user for good and denies their tokens. The row stays without
// the address, which is free again. It returns the new generation.
func DeleteUser(ctx context.Context, tx sqlx.ExtContext, id UserID, at Time) (int64, error) {
	generation, _, err := Bump(ctx, tx, `UPDATE users SET deleted_at = ?, disabled_at = ?, updated_at = ?, email = ?, name = '',
		organization_admin = FALSE, generation = generation + 1 WHERE id = ? AND deleted_at IS NULL RETURNING generation`,
		at, at, at, string(id)+"@deleted.invalid", id)
	return generation, err
}

// OtherAdmins counts the active organization admins beside a user.
func OtherAdmins(ctx context.Context, q sqlx.ExtContext, id UserID) (int64, error) {
	return count(ctx, q, `SELECT count(*) FROM users WHERE organization_admin AND disabled_at IS NULL AND deleted_at IS NULL AND id <> ?`, id)
}
