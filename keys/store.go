package keys

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// Insert stores a new key.
func Insert(ctx context.Context, tx sqlx.ExtContext, k Key) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO keys (id, workspace_id, service_account_id, user_id, name, description,
			scopes, audiences, allowed_cidrs, token_ttl_seconds, exchanges_per_minute, max_uses,
			generation, expires_at, created_at, created_by, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		k.ID, k.WorkspaceID, null(k.ServiceAccountID), null(k.UserID), k.Name, k.Description,
		scopeText(k.Scopes), strings.Join(k.Audiences, " "), joinPrefixes(k.AllowedCIDRs), ttlSeconds(k.TokenTTL), orNull(k.PerMinute), orNull(k.MaxUses),
		k.Generation, k.ExpiresAt, k.CreatedAt, k.CreatedBy, k.UpdatedAt)
	if err != nil {
		return fmt.Errorf("insert key %s: %w", k.ID, err)
	}
	return nil
}

// InsertSecret stores the digest of a new secret of a key.
func InsertSecret(ctx context.Context, tx sqlx.ExtContext, id ID, s StoredSecret) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO key_secrets (id, key_id, digest, pepper_version, hint, created_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?)`, s.ID, id, s.Digest.Sum, s.Digest.Pepper, s.Hint, s.CreatedAt, s.ExpiresAt)
	if err != nil {
		return fmt.Errorf("insert a secret of key %s: %w", id, err)
	}
	return nil
}

// EndSecrets makes the secrets of a key that would live longer end at an
// instant, and all but the newest keep of them now.
func EndSecrets(ctx context.Context, tx sqlx.ExtContext, id ID, at workspace.Time, keep int, now workspace.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE key_secrets SET expires_at = ?
		WHERE key_id = ? AND (expires_at IS NULL OR expires_at > ?)`, at, id, at)
	if err != nil {
		return fmt.Errorf("end the secrets of key %s: %w", id, err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE key_secrets SET expires_at = ?
		WHERE key_id = ? AND expires_at > ? AND id NOT IN
			(SELECT id FROM key_secrets WHERE key_id = ? ORDER BY created_at DESC, id DESC LIMIT ?)`, now, id, now, id, keep)
	if err != nil {
		return fmt.Errorf("end the secrets of key %s: %w", id, err)
	}
	return nil
}

// EndSecret ends one secret of a key at an instant, if it would live longer. It
// reports whether it did; false too when the key has no such secret.
func EndSecret(ctx context.Context, tx sqlx.ExtContext, id ID, secret string, at workspace.Time) (bool, error) {
	result, err := tx.ExecContext(ctx, `UPDATE key_secrets SET expires_at = ? WHERE key_id = ? AND id = ? AND (expires_at IS NULL OR expires_at > ?)`,
		at, id, secret, at)
	if err != nil {
		return false, fmt.Errorf("end a secret of key %s: %w", id, err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// ExtendSecret lets one secret of a key that has an end live until a later instant.
func ExtendSecret(ctx context.Context, tx sqlx.ExtContext, id ID, secret string, until workspace.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE key_secrets SET expires_at = ? WHERE key_id = ? AND id = ? AND expires_at < ?`, until, id, secret, until)
	if err != nil {
		return fmt.Errorf("extend a secret of key %s: %w", id, err)
	}
	return nil
}

// Revoke ends a key for good and denies its tokens. It returns the new
// generation, and whether the key was live until now.
func Revoke(ctx context.Context, tx sqlx.ExtContext, id ID, reason string, at workspace.Time) (int64, bool, error) {
	return workspace.Bump(ctx, tx, `UPDATE keys SET revoked_at = ?, revoked_reason = ?, updated_at = ?, generation = generation + 1
		WHERE id = ? AND revoked_at IS NULL RETURNING generation`, at, reason, at, id)
}

// Delete takes a key that is revoked out of sight.
func Delete(ctx context.Context, tx sqlx.ExtContext, id ID, at workspace.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE keys SET deleted_at = ?, updated_at = ? WHERE id = ? AND deleted_at IS NULL`, at, at, id)
	if err != nil {
		return fmt.Errorf("delete key %s: %w", id, err)
	}
	return nil
}

// Bump denies the tokens that a key has. It returns the new generation.
func Bump(ctx context.Context, tx sqlx.ExtContext, id ID) (int64, error) {
	generation, _, err := workspace.Bump(ctx, tx, `UPDATE keys SET generation = generation + 1 WHERE id = ? RETURNING generation`, id)
	return generation, err
}

// BumpAll is Bump for many keys. It returns the new generations.
func BumpAll(ctx context.Context, tx sqlx.ExtContext, ids []ID) (map[ID]int64, error) {
	generations := map[ID]int64{}
	for chunk := range slices.Chunk(ids, 500) {
		var args []any
		for _, id := range chunk {
			args = append(args, id)
		}
		var rows []struct {
			ID         ID    `db:"id"`
			Generation int64 `db:"generation"`
		}
		err := sqlx.SelectContext(ctx, tx, &rows, `UPDATE keys SET generation = generation + 1 WHERE id IN (`+repeat("?", len(chunk))+`) RETURNING id, generation`, args...)
		if err != nil {
			return nil, fmt.Errorf("deny the tokens of %d keys: %w", len(chunk), err)
		}
		for _, row := range rows {
			generations[row.ID] = row.Generation
		}
	}
	return generations, nil
}

// Touch notes that something of a key was changed.
func Touch(ctx context.Context, tx sqlx.ExtContext, id ID, at workspace.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE keys SET updated_at = ? WHERE id = ?`, at, id)
	if err != nil {
		return fmt.Errorf("update key %s: %w", id, err)
	}
	return nil
}

// Update stores what can change of a key: its name, description, scopes,
// audiences, networks, token lifetime, limits and expiry.
func Update(ctx context.Context, tx sqlx.ExtContext, k Key) error {
	_, err := tx.ExecContext(ctx, `UPDATE keys SET name = ?, description = ?, scopes = ?, audiences = ?, allowed_cidrs = ?,
		token_ttl_seconds = ?, exchanges_per_minute = ?, max_uses = ?, expires_at = ?, updated_at = ? WHERE id = ?`,
		k.Name, k.Description, scopeText(k.Scopes), strings.Join(k.Audiences, " "), joinPrefixes(k.AllowedCIDRs),
		ttlSeconds(k.TokenTTL), orNull(k.PerMinute), orNull(k.MaxUses), k.ExpiresAt, k.UpdatedAt, k.ID)
	if err != nil {
		return fmt.Errorf("update key %s: %w", k.ID, err)
	}
	return nil
}

// SpendUse counts one use of a key that may be used so often only. It reports whether
// there was one left; concurrent callers get exactly as many as there are.
func SpendUse(ctx context.Context, writer sqlx.ExtContext, id ID) (bool, error) {
	result, err := writer.ExecContext(ctx, `UPDATE keys SET uses = uses + 1 WHERE id = ? AND revoked_at IS NULL AND (max_uses IS NULL OR uses < max_uses)`, id)
	if err != nil {
		return false, fmt.Errorf("count a use of key %s: %w", id, err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// HasUse reports whether a key that may be used so often only has a use left.
func HasUse(ctx context.Context, q sqlx.ExtContext, id ID) (bool, error) {
	var n int
	if err := sqlx.GetContext(ctx, q, &n, `SELECT COUNT(*) FROM keys WHERE id = ? AND (max_uses IS NULL OR uses < max_uses)`, id); err != nil {
		return false, fmt.Errorf("read the uses of key %s: %w", id, err)
	}
	return n == 1, nil
}

// RefundUse gives a use back that came to nothing.
func RefundUse(ctx context.Context, writer sqlx.ExtContext, id ID) error {
	if _, err := writer.ExecContext(ctx, `UPDATE keys SET uses = uses - 1 WHERE id = ? AND uses > 0`, id); err != nil {
		return fmt.Errorf("give back a use of key %s: %w", id, err)
	}
	return nil
}

// CountLive counts the keys of a workspace that are neither revoked nor expired.
func CountLive(ctx context.Context, q sqlx.ExtContext, in workspace.ID, now workspace.Time) (n int64, err error) {
	err = sqlx.GetContext(ctx, q, &n, `SELECT COUNT(*) FROM keys WHERE workspace_id = ? AND revoked_at IS NULL AND deleted_at IS NULL
		AND (expires_at IS NULL OR expires_at > ?)`, in, now)
	if err != nil {
		return 0, fmt.Errorf("count the keys of %s: %w", in, err)
	}
	return n, nil
}

// Unrevoked lists the keys of an owner in a workspace that are not revoked; an
// empty owner means everybody's.
func Unrevoked(ctx context.Context, q sqlx.ExtContext, ws workspace.ID, owner string) ([]ID, error) {
	var ids []ID
	err := sqlx.SelectContext(ctx, q, &ids, `SELECT id FROM keys WHERE workspace_id = ? AND revoked_at IS NULL
		AND (? = '' OR service_account_id = ? OR user_id = ?) ORDER BY id`, ws, owner, owner, owner)
	if err != nil {
		return nil, fmt.Errorf("read the keys of %s: %w", owner, err)
	}
	return ids, nil
}

// Owners reads whose keys are. Keys that do not exist are left out.
func Owners(ctx context.Context, q sqlx.ExtContext, ids []string) (map[string]audit.Owner, error) {
	found := map[string]audit.Owner{}
	for chunk := range slices.Chunk(ids, 500) {
		var rows []struct {
			ID          string       `db:"id"`
			WorkspaceID workspace.ID `db:"workspace_id"`
			OwnerID     string       `db:"owner_id"`
		}
		var args []any
		for _, id := range chunk {
			args = append(args, id)
		}
		err := sqlx.SelectContext(ctx, q, &rows, `SELECT id, workspace_id, COALESCE(service_account_id, user_id) AS owner_id
			FROM keys WHERE id IN (`+repeat("?", len(chunk))+`)`, args...)
		if err != nil {
			return nil, fmt.Errorf("read the owners of keys: %w", err)
		}
		for _, row := range rows {
			found[row.ID] = audit.Owner{WorkspaceID: row.WorkspaceID, OwnerID: row.OwnerID}
		}
	}
	return found, nil
}

// FindLive reads the ID of an owner's key by its name, if it is neither revoked
// nor expired; the newest when several share it. ErrNotFound if there is none.
func FindLive(ctx context.Context, q sqlx.ExtContext, ws workspace.ID, owner, name string, now workspace.Time) (ID, error) {
	var ids []ID
	err := sqlx.SelectContext(ctx, q, &ids, `SELECT id FROM keys WHERE workspace_id = ? AND name = ?
		AND (service_account_id = ? OR user_id = ?) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)
		ORDER BY created_at DESC, id DESC`, ws, name, owner, owner, now)
	if err != nil {
		return "", fmt.Errorf("read key %s: %w", name, err)
	}
	if len(ids) == 0 {
		return "", fmt.Errorf("key %s: %w", name, workspace.ErrNotFound)
	}
	return ids[0], nil
}

// PepperVersions lists the pepper versions under which live secrets are stored.
func PepperVersions(ctx context.Context, q sqlx.ExtContext, now workspace.Time) ([]int64, error) {
	var versions []int64
	err := sqlx.SelectContext(ctx, q, &versions, `SELECT DISTINCT s.pepper_version FROM key_secrets s JOIN keys k ON k.id = s.key_id
		WHERE (s.expires_at IS NULL OR s.expires_at > ?) AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?)
		ORDER BY s.pepper_version`, now, now)
	if err != nil {
		return nil, fmt.Errorf("read the pepper versions: %w", err)
	}
	return versions, nil
}

// null stores the empty string as NULL.
func null[T ~string](s T) any {
	if s == "" {
		return nil
	}
	return string(s)
}

func scopeText(s *oauth.Scope) any {
	if s == nil {
		return nil
	}
	return s.String()
}

func ttlSeconds(d time.Duration) any { return orNull(int64(d / time.Second)) }

// orNull stores 0 as NULL.
func orNull(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}
