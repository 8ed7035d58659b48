package keys

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Record is all that an exchange needs to know of a key, read in one statement:
// the key, its secrets, its owner and its workspace as they were together.
// Records are shared between exchanges: treat them as immutable.
type Record struct {
	Key
	Secrets []StoredSecret // the newest first, at most MaxStoredSecrets

	WorkspaceSlug        string
	WorkspaceGeneration  int64
	WorkspaceSuspendedAt workspace.Time
	WorkspaceDeletedAt   workspace.Time

	OwnerGeneration int64
	OwnerDisabledAt workspace.Time
	OwnerGone       bool        // a deleted service account, or no longer a member
	OwnerRole       string      // of a service account: a role of the catalogue, or empty; of a user: the member's role
	OwnerScopes     oauth.Scope // of a service account without a role
	OwnerIsAdmin    bool        // of a user: an organization admin

	seq int64 // the change sequence at which this was read
}

// Seq is the number of the newest change that the record was read with.
func (r *Record) Seq() int64 { return r.seq }

// Standing is what policy looks at of a key.
type Standing struct {
	Key          *Key
	MadeAt       time.Time // when the newest secret was made: rotating a key starts its lifetime anew
	IdleSince    time.Time // when it was last used or got its newest secret
	OwnerIsAdmin bool      // a personal key of an organization admin
}

// Standing is that of the key as far as was known when the record was read: it may
// have been used since (Directory.Reread).
func (r *Record) Standing() Standing {
	s := Standing{Key: &r.Key, MadeAt: r.CreatedAt.Time, OwnerIsAdmin: r.OwnerIsAdmin}
	if len(r.Secrets) > 0 {
		s.MadeAt = latest(s.MadeAt, r.Secrets[0].CreatedAt)
	}
	s.IdleSince = s.MadeAt
	for _, secret := range r.Secrets {
		s.IdleSince = latest(s.IdleSince, secret.LastUsedAt)
	}
	return s
}

func latest(a time.Time, b workspace.Time) time.Time {
	if b.After(a) {
		return b.Time
	}
	return a
}

// MaxStoredSecrets is how many secrets of a key are looked at: those that may
// work, and one that has ended, so that its holder can be told.
const MaxStoredSecrets = MaxLiveSecrets + 1

// Usable reports whether the key could be exchanged at that instant, from where
// it may be, with a secret that lives.
func (r *Record) Usable(now time.Time) bool {
	return r.RevokedAt.IsZero() && r.DeletedAt.IsZero() && (r.ExpiresAt.IsZero() || now.Before(r.ExpiresAt.Time)) &&
		!r.OwnerGone && r.OwnerDisabledAt.IsZero() && r.WorkspaceSuspendedAt.IsZero() && r.WorkspaceDeletedAt.IsZero()
}

// Denies reports whether a token of the key is denied by what has become of the
// key, its owner or its workspace since: it carries an older generation of one.
func (r *Record) Denies(c *oauth.Claims) bool {
	return c.KeyGeneration < r.Generation || c.SubjectGeneration < r.OwnerGeneration || c.WorkspaceGeneration < r.WorkspaceGeneration ||
		r.OwnerGone || !r.WorkspaceDeletedAt.IsZero()
}

const keyColumns = `k.id, k.workspace_id, k.service_account_id, k.user_id, k.name, k.scopes, k.audiences, k.allowed_cidrs,
	k.token_ttl_seconds, k.exchanges_per_minute, k.max_uses, k.uses, k.generation, k.expires_at, k.revoked_at, k.deleted_at, k.created_at`

// keyRow is what every reader of a key reads of it.
type keyRow struct {
	ID               ID             `db:"id"`
	WorkspaceID      workspace.ID   `db:"workspace_id"`
	ServiceAccountID sql.NullString `db:"service_account_id"`
	UserID           sql.NullString `db:"user_id"`
	Name             string         `db:"name"`
	Scopes           sql.NullString `db:"scopes"`
	Audiences        string         `db:"audiences"`
	AllowedCIDRs     string         `db:"allowed_cidrs"`
	TokenTTL         sql.NullInt64  `db:"token_ttl_seconds"`
	PerMinute        sql.NullInt64  `db:"exchanges_per_minute"`
	MaxUses          sql.NullInt64  `db:"max_uses"`
	Uses             int64          `db:"uses"`
	Generation       int64          `db:"generation"`
	ExpiresAt        workspace.Time `db:"expires_at"`
	RevokedAt        workspace.Time `db:"revoked_at"`
	DeletedAt        workspace.Time `db:"deleted_at"`
	CreatedAt        workspace.Time `db:"created_at"`
}

func (r keyRow) key() (Key, error) {
	networks, err := prefixes(r.AllowedCIDRs)
	if err != nil {
		return Key{}, err
	}
	key := Key{
		ID: r.ID, WorkspaceID: r.WorkspaceID,
		ServiceAccountID: workspace.ServiceAccountID(r.ServiceAccountID.String), UserID: workspace.UserID(r.UserID.String),
		Name: r.Name, Audiences: strings.Fields(r.Audiences), AllowedCIDRs: networks,
		TokenTTL:  time.Duration(r.TokenTTL.Int64) * time.Second,
		PerMinute: r.PerMinute.Int64, MaxUses: r.MaxUses.Int64, Uses: r.Uses, Generation: r.Generation,
		ExpiresAt: r.ExpiresAt, RevokedAt: r.RevokedAt, DeletedAt: r.DeletedAt, CreatedAt: r.CreatedAt,
	}
	if r.Scopes.Valid {
		scopes := oauth.NewScope(strings.Fields(r.Scopes.String)...)
		key.Scopes = &scopes
	}
	return key, nil
}

// recordRow is one row of the statement: the key once per secret.
type recordRow struct {
	Seq int64 `db:"seq"`
	keyRow

	Slug        string         `db:"slug"`
	WsGen       int64          `db:"ws_generation"`
	SuspendedAt workspace.Time `db:"suspended_at"`
	WsDeleted   workspace.Time `db:"ws_deleted_at"`

	SAGen      sql.NullInt64  `db:"sa_generation"`
	SADisabled workspace.Time `db:"sa_disabled_at"`
	SADeleted  workspace.Time `db:"sa_deleted_at"`
	SARole     sql.NullString `db:"sa_role"`
	SAScopes   sql.NullString `db:"sa_scopes"`

	UserGen      sql.NullInt64  `db:"user_generation"`
	UserDisabled workspace.Time `db:"user_disabled_at"`
	UserIsAdmin  sql.NullBool   `db:"organization_admin"`
	MemberRole   sql.NullString `db:"member_role"`

	SecretID        sql.NullString `db:"secret_id"`
	Digest          []byte         `db:"digest"`
	Pepper          sql.NullInt64  `db:"pepper_version"`
	Hint            sql.NullString `db:"hint"`
	SecretCreatedAt workspace.Time `db:"secret_created_at"`
	SecretExpiresAt workspace.Time `db:"secret_expires_at"`
	SecretUsedAt    workspace.Time `db:"secret_used_at"`
}

const recordQuery = `
SELECT c.seq, ` + keyColumns + `,
       w.slug, w.generation AS ws_generation, w.suspended_at, w.deleted_at AS ws_deleted_at,
       a.generation AS sa_generation, a.disabled_at AS sa_disabled_at, a.deleted_at AS sa_deleted_at,
       a.role AS sa_role, a.scopes AS sa_scopes,
       u.generation AS user_generation, u.disabled_at AS user_disabled_at, u.organization_admin,
       m.role AS member_role,
       s.id AS secret_id, s.digest, s.pepper_version, s.hint, s.created_at AS secret_created_at, s.expires_at AS secret_expires_at,
       s.last_used_at AS secret_used_at
FROM change_counter c
JOIN keys k ON %s
JOIN workspaces w ON w.id = k.workspace_id
LEFT JOIN service_accounts a ON a.id = k.service_account_id
LEFT JOIN users u ON u.id = k.user_id
LEFT JOIN members m ON m.workspace_id = k.workspace_id AND m.user_id = k.user_id
LEFT JOIN key_secrets s ON s.key_id = k.id
WHERE c.id = 1
ORDER BY k.id, s.created_at DESC, s.id DESC`

var (
	oneRecord   = fmt.Sprintf(recordQuery, "k.id = ?") + ` LIMIT ` + strconv.Itoa(MaxStoredSecrets)
	liveRecords = fmt.Sprintf(recordQuery, `k.revoked_at IS NULL AND k.deleted_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?)
	AND (? = '' OR k.workspace_id = ?)`)
)

// Read reads a key's record. workspace.ErrNotFound if there is no such key.
func Read(ctx context.Context, q sqlx.ExtContext, id ID) (*Record, error) {
	var rows []recordRow
	if err := sqlx.SelectContext(ctx, q, &rows, oneRecord, id); err != nil {
		return nil, fmt.Errorf("read key %s: %w", id, err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("key %s: %w", id, workspace.ErrNotFound)
	}
	record, err := rows[0].record()
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", id, err)
	}
	for _, row := range rows {
		record.add(row)
	}
	return record, nil
}

// EachLive calls f with the record of each key that is neither revoked nor expired,
// of one workspace or, with an empty one, of all. Rows come one by one: f must not
// use q.
func EachLive(ctx context.Context, q sqlx.ExtContext, in workspace.ID, now workspace.Time, f func(*Record)) error {
	rows, err := q.QueryxContext(ctx, liveRecords, now, in, in)
	if err != nil {
		return fmt.Errorf("read the live keys: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var record *Record
	for rows.Next() {
		var row recordRow
		if err := rows.StructScan(&row); err != nil {
			return fmt.Errorf("read the live keys: %w", err)
		}
		if record == nil || record.ID != row.ID {
			if record != nil {
				f(record)
			}
			if record, err = row.record(); err != nil {
				return fmt.Errorf("read key %s: %w", row.ID, err)
			}
		}
		record.add(row)
	}
	if record != nil {
		f(record)
	}
	return rows.Err()
}

// add adds the secret of a row, if it has one that is looked at.
func (r *Record) add(row recordRow) {
	if row.SecretID.Valid && len(r.Secrets) < MaxStoredSecrets {
		r.Secrets = append(r.Secrets, row.secret())
	}
}

func (r recordRow) secret() StoredSecret {
	return StoredSecret{
		ID:        r.SecretID.String,
		Digest:    Digest{Pepper: r.Pepper.Int64, Sum: r.Digest},
		Hint:      r.Hint.String,
		CreatedAt: r.SecretCreatedAt,
		ExpiresAt: r.SecretExpiresAt, LastUsedAt: r.SecretUsedAt,
	}
}

func (r recordRow) record() (*Record, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	record := &Record{
		Key:           key,
		WorkspaceSlug: r.Slug, WorkspaceGeneration: r.WsGen, WorkspaceSuspendedAt: r.SuspendedAt, WorkspaceDeletedAt: r.WsDeleted,
		seq: r.Seq,
	}
	r.owner(record)
	return record, nil
}

func (r recordRow) owner(record *Record) {
	if r.UserID.Valid {
		record.OwnerGeneration, record.OwnerDisabledAt = r.UserGen.Int64, r.UserDisabled
		record.OwnerGone, record.OwnerRole = !r.MemberRole.Valid, r.MemberRole.String
		record.OwnerIsAdmin = r.UserIsAdmin.Bool
		return
	}
	record.OwnerGeneration, record.OwnerDisabledAt = r.SAGen.Int64, r.SADisabled
	record.OwnerGone = !r.SADeleted.IsZero()
	record.OwnerRole, record.OwnerScopes = r.SARole.String, oauth.NewScope(strings.Fields(r.SAScopes.String)...)
}
