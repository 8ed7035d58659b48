package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// LinkKind is what a link is good for.
type LinkKind string

// The kinds of links.
const (
	SetupLink      LinkKind = "setup"      // makes the first organization admin
	InvitationLink LinkKind = "invitation" // makes whoever accepts a member of a workspace
	AccessLink     LinkKind = "access"     // gives a user a way to sign in
)

// Link works once and for a while. What it carries is a token, of which only the
// digest is stored: whoever reads the database cannot follow any.
type Link struct {
	ID          string           `db:"id"` // lnk_ and 26 characters
	Kind        LinkKind         `db:"kind"`
	WorkspaceID workspace.ID     `db:"workspace_id"` // of an invitation
	Role        workspace.Role   `db:"role"`         // of an invitation
	Email       string           `db:"email"`        // of an invitation: whose it is
	UserID      workspace.UserID `db:"user_id"`      // of an access link: whose it is
	CreatedAt   workspace.Time   `db:"created_at"`
	CreatedBy   string           `db:"created_by"` // such as user:usr_…
	ExpiresAt   workspace.Time   `db:"expires_at"`
	UsedAt      workspace.Time   `db:"used_at"`
}

const linkColumns = `id, kind, workspace_id, role, email, user_id, created_at, created_by, expires_at, used_at`

// tokenSize is in bytes: what has 256 random bits is not guessed.
const tokenSize = 32

// NewLinkToken makes the secret of a link: 43 characters of base64url.
func NewLinkToken() string {
	b := make([]byte, tokenSize)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// digestOf is how a token is stored, without a key: it cannot be guessed.
func digestOf(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// InsertLink stores a new link under its token.
func InsertLink(ctx context.Context, tx sqlx.ExtContext, l Link, token string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO links (digest, `+linkColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		digestOf(token), l.ID, l.Kind, l.WorkspaceID, l.Role, l.Email, l.UserID, l.CreatedAt, l.CreatedBy, l.ExpiresAt, l.UsedAt)
	if err != nil {
		return fmt.Errorf("store the link %s: %w", l.ID, err)
	}
	return nil
}

// errNoLink does not say whether there was one.
var errNoLink = fmt.Errorf("this link is not valid: it may have been used, replaced or withdrawn, or its time is over: %w", workspace.ErrNotFound)

// FindLink reads the link of a token. ErrNotFound: there is none of the kind that
// can still be used.
func FindLink(ctx context.Context, q sqlx.ExtContext, kind LinkKind, token string, now workspace.Time) (Link, error) {
	return oneLink(ctx, q, `SELECT `+linkColumns+` FROM links WHERE digest = ? AND kind = ? AND used_at IS NULL AND expires_at > ?`, digestOf(token), kind, now)
}

// UseLink ends the link of a token, if it can still be used; of several at once one
// succeeds. ErrNotFound otherwise.
func UseLink(ctx context.Context, tx sqlx.ExtContext, kind LinkKind, token string, now workspace.Time) (Link, error) {
	return oneLink(ctx, tx, `UPDATE links SET used_at = ? WHERE digest = ? AND kind = ? AND used_at IS NULL AND expires_at > ? RETURNING `+linkColumns,
		now, digestOf(token), kind, now)
}

// LinkByID reads a link by its public name, whether it can be used or not.
func LinkByID(ctx context.Context, q sqlx.ExtContext, id string) (Link, error) {
	return oneLink(ctx, q, `SELECT `+linkColumns+` FROM links WHERE id = ?`, id)
}

func oneLink(ctx context.Context, q sqlx.ExtContext, query string, args ...any) (l Link, err error) {
	err = sqlx.GetContext(ctx, q, &l, query, args...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return l, errNoLink
	case err != nil:
		return l, fmt.Errorf("read a link: %w", err)
	}
	return l, nil
}

// ListLinks reads the links of a kind to a workspace that can still be used, the
// newest first.
func ListLinks(ctx context.Context, q sqlx.ExtContext, in workspace.ID, kind LinkKind, now workspace.Time) ([]Link, error) {
	found := []Link{}
	err := sqlx.SelectContext(ctx, q, &found, `SELECT `+linkColumns+` FROM links WHERE workspace_id = ? AND kind = ? AND used_at IS NULL AND expires_at > ?
		ORDER BY created_at DESC, id DESC`, in, kind, now)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return found, nil
}

// LinkFilter names links; what is empty asks nothing.
type LinkFilter struct {
	ID          string
	Kind        LinkKind
	WorkspaceID workspace.ID
	Email       string
	UserID      workspace.UserID
	CreatedBy   string
}

// DeleteLinks removes the links that were not used yet and are all that the filter
// says, which has to say something. It returns them.
func DeleteLinks(ctx context.Context, tx sqlx.ExtContext, f LinkFilter) ([]Link, error) {
	w := workspace.Where{}
	w.Add("used_at IS NULL")
	for _, c := range []struct{ column, value string }{
		{"id", f.ID}, {"kind", string(f.Kind)}, {"workspace_id", string(f.WorkspaceID)}, {"email", f.Email},
		{"user_id", string(f.UserID)}, {"created_by", f.CreatedBy},
	} {
		if c.value != "" {
			w.Add(c.column+" = ?", c.value)
		}
	}
	if f == (LinkFilter{}) {
		return nil, errors.New("delete links: of all of them")
	}
	where, args := w.SQL()
	gone := []Link{}
	if err := sqlx.SelectContext(ctx, tx, &gone, `DELETE FROM links`+where+` RETURNING `+linkColumns, args...); err != nil {
		return nil, fmt.Errorf("delete links: %w", err)
	}
	return gone, nil
}

// ForgetLinks removes links whose time is over, used or not.
func ForgetLinks(ctx context.Context, tx sqlx.ExtContext, now workspace.Time) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM links WHERE expires_at <= ?`, now); err != nil {
		return fmt.Errorf("forget links: %w", err)
	}
	return nil
}
