package keys

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Listed is a key as people see it: with when it was used, and by which secret.
type Listed struct {
	Key
	LastUsedAt workspace.Time // the newest use of any of its secrets; zero: never
	Secrets    []ListedSecret // the newest first; those that ended long ago are left out

	OwnerIsAdmin bool // a personal key of an organization admin

	// Blocked names what refuses the key now although it has not ended: rules of
	// policy, or max_uses. It is for whoever knows the policy to set.
	Blocked []string
}

// Standing is what policy looks at of the key.
func (l *Listed) Standing() Standing {
	s := Standing{Key: &l.Key, MadeAt: l.CreatedAt.Time, OwnerIsAdmin: l.OwnerIsAdmin}
	if len(l.Secrets) > 0 {
		s.MadeAt = latest(s.MadeAt, l.Secrets[0].CreatedAt)
	}
	s.IdleSince = latest(s.MadeAt, l.LastUsedAt)
	return s
}

// ListedSecret is what people see of a secret.
type ListedSecret struct {
	ID              string         `db:"id"`
	KeyID           ID             `db:"key_id"`
	Hint            string         `db:"hint"`
	CreatedAt       workspace.Time `db:"created_at"`
	ExpiresAt       workspace.Time `db:"expires_at"`
	LastUsedAt      workspace.Time `db:"last_used_at"`
	LastUsedAddress string         `db:"last_used_address"`
	LastUsedAgent   string         `db:"last_used_agent"`
}

// Start is how the plain text of a secret begins, with the first of its random
// characters: enough to tell two secrets apart, and of no use for guessing.
func Start(id ID, kind Kind, hint string) string {
	end := len(id) - idLength
	return strings.TrimSuffix(string(id[:end]), "k_") + string(kind) + "_" + string(id[end:]) + "_" + hint
}

// Status is a word for the state of a key, to choose keys by.
type Status string

// The states. A key that is expiring is active too.
const (
	StatusActive   Status = "active"
	StatusExpiring Status = "expiring" // within the time of Filter.Expiring, or 14 days
	StatusExpired  Status = "expired"
	StatusRevoked  Status = "revoked"
)

// ExpiringSoon is how long before its end a key counts as expiring.
const ExpiringSoon = 14 * 24 * time.Hour

// Status is the state of the key at an instant.
func (k Key) Status(now time.Time) Status {
	switch {
	case !k.RevokedAt.IsZero():
		return StatusRevoked
	case k.ExpiresAt.IsZero():
		return StatusActive
	case !now.Before(k.ExpiresAt.Time):
		return StatusExpired
	case k.ExpiresAt.Sub(now) <= ExpiringSoon:
		return StatusExpiring
	}
	return StatusActive
}

// Filter chooses keys.
type Filter struct {
	Owner     string // a service account or user
	User      bool   // personal keys only
	CreatedBy string
	Text      string // part of the name, description or ID
	Status    Status
	Expiring  time.Duration // live, and ends within that time
	Unused    time.Duration // live, older than that, and not used for that time
	Now       workspace.Time
}

// List reads keys of a workspace that were not deleted, the newest first.
func List(ctx context.Context, q sqlx.ExtContext, ws workspace.ID, f Filter, page workspace.Page) ([]Listed, error) {
	w := workspace.Where{}
	w.Add("k.workspace_id = ?", ws)
	w.Add("k.deleted_at IS NULL")
	if f.Owner != "" {
		w.Add("(k.service_account_id = ? OR k.user_id = ?)", f.Owner, f.Owner)
	}
	if f.User {
		w.Add("k.user_id IS NOT NULL")
	}
	if f.CreatedBy != "" {
		w.Add("k.created_by = ?", f.CreatedBy)
	}
	w.Contains(f.Text, "k.name", "k.description", "k.id")
	f.state(&w)
	rows, err := workspace.Select[listedRow](ctx, q, "keys", listedQuery, w, page, "k.created_at", "k.id")
	if err != nil {
		return nil, err
	}
	return withSecrets(ctx, q, rows, f.Now)
}

func (f Filter) state(w *workspace.Where) {
	live := func() { w.Add("k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?)", f.Now) }
	within := f.Expiring
	switch f.Status {
	case StatusActive:
		live()
	case StatusExpiring:
		if within == 0 {
			within = ExpiringSoon
		}
	case StatusExpired:
		w.Add("k.revoked_at IS NULL AND k.expires_at <= ?", f.Now)
	case StatusRevoked:
		w.Add("k.revoked_at IS NOT NULL")
	}
	if within > 0 {
		live()
		w.Add("k.expires_at <= ?", workspace.At(f.Now.Add(within)))
	}
	if f.Unused > 0 {
		since := workspace.At(f.Now.Add(-f.Unused))
		live()
		w.Add("k.created_at <= ? AND NOT EXISTS (SELECT 1 FROM key_secrets s WHERE s.key_id = k.id AND s.last_used_at > ?)", since, since)
	}
}

// Find reads a key of a workspace. ErrNotFound if there is none, or it was
// deleted.
func Find(ctx context.Context, q sqlx.ExtContext, ws workspace.ID, id ID, now workspace.Time) (Listed, error) {
	var rows []listedRow
	err := sqlx.SelectContext(ctx, q, &rows, listedQuery+` WHERE k.id = ? AND k.workspace_id = ? AND k.deleted_at IS NULL`, id, ws)
	if err != nil {
		return Listed{}, fmt.Errorf("read key %s: %w", id, err)
	}
	if len(rows) == 0 {
		return Listed{}, fmt.Errorf("key %s: %w", id, workspace.ErrNotFound)
	}
	found, err := withSecrets(ctx, q, rows, now)
	if err != nil {
		return Listed{}, err
	}
	return found[0], nil
}

type listedRow struct {
	keyRow
	Description   string         `db:"description"`
	RevokedReason string         `db:"revoked_reason"`
	LastFailedAt  workspace.Time `db:"last_failed_at"`
	CreatedBy     string         `db:"created_by"`
	UpdatedAt     workspace.Time `db:"updated_at"`
	OwnerIsAdmin  bool           `db:"organization_admin"`
}

const listedQuery = `SELECT ` + keyColumns + `, k.description, k.revoked_reason, k.last_failed_at, k.created_by, k.updated_at,
	COALESCE(u.organization_admin, FALSE) AS organization_admin
	FROM keys k LEFT JOIN users u ON u.id = k.user_id`

func (r listedRow) key() (Key, error) {
	key, err := r.keyRow.key()
	if err != nil {
		return Key{}, fmt.Errorf("read key %s: %w", r.ID, err)
	}
	key.Description, key.RevokedReason, key.LastFailedAt = r.Description, r.RevokedReason, r.LastFailedAt
	key.CreatedBy, key.UpdatedAt = r.CreatedBy, r.UpdatedAt
	return key, nil
}

// endedKept is for how long people see a secret that has ended, and how many of
// them at most.
const (
	endedKept = 30 * 24 * time.Hour
	endedMost = 5
)

// withSecrets adds the secrets to keys.
func withSecrets(ctx context.Context, q sqlx.ExtContext, rows []listedRow, now workspace.Time) ([]Listed, error) {
	secrets, err := secretsOf(ctx, q, rows)
	if err != nil {
		return nil, err
	}
	found := make([]Listed, 0, len(rows))
	for _, row := range rows {
		key, err := row.key()
		if err != nil {
			return nil, err
		}
		listed, ended := Listed{Key: key, OwnerIsAdmin: row.OwnerIsAdmin}, 0
		for _, s := range secrets[key.ID] {
			if s.LastUsedAt.After(listed.LastUsedAt.Time) {
				listed.LastUsedAt = s.LastUsedAt
			}
			if !s.ExpiresAt.IsZero() && !s.ExpiresAt.After(now.Time) {
				if ended++; ended > endedMost || now.Sub(s.ExpiresAt.Time) > endedKept {
					continue
				}
			}
			listed.Secrets = append(listed.Secrets, s)
		}
		found = append(found, listed)
	}
	return found, nil
}

// secretsOf reads the secrets of keys in one statement, the newest first.
func secretsOf(ctx context.Context, q sqlx.ExtContext, rows []listedRow) (map[ID][]ListedSecret, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	var ids []any
	for _, row := range rows {
		ids = append(ids, row.ID)
	}
	var secrets []ListedSecret
	err := sqlx.SelectContext(ctx, q, &secrets, `SELECT id, key_id, hint, created_at, expires_at, last_used_at, last_used_address, last_used_agent
		FROM key_secrets WHERE key_id IN (`+repeat("?", len(ids))+`) ORDER BY created_at DESC, id DESC`, ids...)
	if err != nil {
		return nil, fmt.Errorf("read the secrets of keys: %w", err)
	}
	byKey := map[ID][]ListedSecret{}
	for _, s := range secrets {
		byKey[s.KeyID] = append(byKey[s.KeyID], s)
	}
	return byKey, nil
}
