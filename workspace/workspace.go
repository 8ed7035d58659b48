package workspace

import (
	"context"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"
)

// Workspace is a tenant.
type Workspace struct {
	ID          ID     `db:"id"`
	Slug        string `db:"slug"` // unique; appears in tokens and URLs
	Name        string `db:"name"`
	Generation  int64  `db:"generation"`
	SuspendedAt Time   `db:"suspended_at"`
	DeletedAt   Time   `db:"deleted_at"`
	CreatedAt   Time   `db:"created_at"`
	UpdatedAt   Time   `db:"updated_at"`
}

const workspaceColumns = `id, slug, name, generation, suspended_at, deleted_at, created_at, updated_at`

// hyphenated is the form of slugs and service account names.
var hyphenated = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Validate checks the fields that people choose. Errors wrap ErrInvalid.
func (w Workspace) Validate() error {
	if !hyphenated.MatchString(w.Slug) {
		return invalidf("the workspace slug %q: use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends", w.Slug)
	}
	return ValidName("workspace name", w.Name)
}

// ValidName accepts a name that can be shown on one line without surprise: no control
// characters, no bidirectional overrides. Errors wrap ErrInvalid.
func ValidName(what, name string) error {
	switch {
	case strings.TrimSpace(name) == "" || utf8.RuneCountInString(name) > 200:
		return invalidf("the %s: use 1 to 200 characters", what)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, notPrintable):
		return invalidf("the %s has control or text-direction characters: use printable ones", what)
	}
	return nil
}

// ValidDescription accepts up to 1000 characters in any number of lines, without
// control characters or bidirectional overrides. Errors wrap ErrInvalid.
func ValidDescription(text string) error {
	switch {
	case utf8.RuneCountInString(text) > 1000:
		return invalidf("the description: use at most 1000 characters")
	case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return notPrintable(r) && r != '\n' && r != '\t' }):
		return invalidf("the description has control or text-direction characters: use printable ones")
	}
	return nil
}

func notPrintable(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }

// Slug derives a slug from a name: "Acme Payments" becomes "acme-payments". It
// is empty when the name has no letter or digit of ASCII.
func Slug(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	slug := strings.Join(words, "-")
	return strings.Trim(slug[:min(len(slug), 63)], "-")
}

// Insert stores a new workspace. ErrConflict: the slug is taken.
func Insert(ctx context.Context, tx sqlx.ExtContext, w Workspace) error {
	return insertOnce(ctx, tx, "a workspace with the slug "+w.Slug,
		`INSERT INTO workspaces (`+workspaceColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		w.ID, w.Slug, w.Name, w.Generation, w.SuspendedAt, w.DeletedAt, w.CreatedAt, w.UpdatedAt)
}

// Find reads a workspace by its ID or slug. ErrNotFound if there is none, or it
// was deleted.
func Find(ctx context.Context, q sqlx.ExtContext, idOrSlug string) (Workspace, error) {
	column := "slug" // a slug has no underscore, an ID always has one
	if strings.Contains(idOrSlug, "_") {
		column = "id"
	}
	return get[Workspace](ctx, q, "workspace "+idOrSlug,
		`SELECT `+workspaceColumns+` FROM workspaces WHERE `+column+` = ? AND deleted_at IS NULL`, idOrSlug)
}

// Filter chooses workspaces.
type Filter struct {
	Text      string // part of the name or slug
	Suspended *bool
	Only      ID     // empty: any
	Member    UserID // empty: anybody's
}

// List reads workspaces that were not deleted, the newest first.
func List(ctx context.Context, q sqlx.ExtContext, f Filter, page Page) ([]Workspace, error) {
	w := Where{}
	w.Add("deleted_at IS NULL")
	w.Contains(f.Text, "name", "slug")
	w.Set("suspended_at", f.Suspended)
	if f.Only != "" {
		w.Add("id = ?", f.Only)
	}
	if f.Member != "" {
		w.Add("id IN (SELECT workspace_id FROM members WHERE user_id = ?)", f.Member)
	}
	return Select[Workspace](ctx, q, "workspaces", `SELECT `+workspaceColumns+` FROM workspaces`, w, page, "created_at", "id")
}

// Rename changes the name that people see.
func Rename(ctx context.Context, tx sqlx.ExtContext, id ID, name string, at Time) error {
	_, err := updateOne(ctx, tx, `UPDATE workspaces SET name = ?, updated_at = ? WHERE id = ?`, name, at, id)
	return err
}

// Suspend closes a workspace at an instant and denies all its tokens; version is
// when it counts as changed. It returns the new
// generation, and whether the workspace was open until now.
func Suspend(ctx context.Context, tx sqlx.ExtContext, id ID, at, version Time) (int64, bool, error) {
	return Bump(ctx, tx, `UPDATE workspaces SET suspended_at = ?, updated_at = ?, generation = generation + 1
		WHERE id = ? AND suspended_at IS NULL RETURNING generation`, at, version, id)
}

// Resume opens a workspace. Tokens from before it was suspended stay denied. It
// reports whether the workspace was suspended until now.
func Resume(ctx context.Context, tx sqlx.ExtContext, id ID, at Time) (bool, error) {
	return updateOne(ctx, tx, `UPDATE workspaces SET suspended_at = NULL, updated_at = ?
		WHERE id = ? AND suspended_at IS NOT NULL AND deleted_at IS NULL`, at, id)
}

// Delete ends a workspace for good and denies all its tokens. Its row stays, so
// that nobody gets its slug. It returns the new generation.
func Delete(ctx context.Context, tx sqlx.ExtContext, id ID, at Time) (int64, bool, error) {
	return Bump(ctx, tx, `UPDATE workspaces SET deleted_at = ?, updated_at = ?, generation = generation + 1
		WHERE id = ? AND deleted_at IS NULL RETURNING generation`, at, at, id)
}
