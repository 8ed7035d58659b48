package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

const day = 24 * time.Hour

// expiring is a key with the tightest of 14, 7 and 1 days that its end is within.
type expiring struct {
	ID          keys.ID        `db:"id"`
	WorkspaceID workspace.ID   `db:"workspace_id"`
	Slug        string         `db:"slug"`
	Name        string         `db:"name"`
	OwnerID     string         `db:"owner_id"`
	ExpiresAt   workspace.Time `db:"expires_at"`
	Days        int            `db:"days"`
}

// batch is how many keys are announced in one transaction.
const batch = 100

var errFull = errors.New("the webhook's outbox is full")

// AnnounceExpiries puts key.expiring into the outbox for every live key that
// ends within 14, 7 or 1 days: once for each, and only for the tightest, so that
// a key made for three days is announced for 7 and then for 1. When the outbox
// is full it returns an error, and nothing is lost: the next call goes on.
func (s *Sender) AnnounceExpiries(ctx context.Context) error {
	for last := keys.ID(""); ; {
		found, err := unannounced(ctx, s.Database.Reader(), s.now(), last)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return s.forgetExpired(ctx)
		}
		last = found[len(found)-1].ID
		err = s.Database.InTx(ctx, func(ctx context.Context, tx sqlx.ExtContext) error {
			return announce(ctx, tx, found, s.now())
		})
		if err != nil {
			return err
		}
	}
}

// unannounced reads the next keys, by ID, whose stage was not announced yet.
func unannounced(ctx context.Context, q sqlx.ExtContext, now workspace.Time, after keys.ID) ([]expiring, error) {
	in := func(days int) workspace.Time { return workspace.At(now.Add(time.Duration(days) * day)) }
	var found []expiring
	err := sqlx.SelectContext(ctx, q, &found, `WITH ending AS (
			SELECT k.id, k.workspace_id, w.slug, k.name, COALESCE(k.service_account_id, k.user_id) AS owner_id, k.expires_at,
				CASE WHEN k.expires_at <= ? THEN 1 WHEN k.expires_at <= ? THEN 7 ELSE 14 END AS days
			FROM keys k JOIN workspaces w ON w.id = k.workspace_id
			WHERE k.expires_at > ? AND k.expires_at <= ? AND k.revoked_at IS NULL AND k.deleted_at IS NULL AND w.deleted_at IS NULL)
		SELECT id, workspace_id, slug, name, owner_id, expires_at, days FROM ending
		WHERE id > ? AND NOT EXISTS (SELECT 1 FROM webhook_expiry_notices n
			WHERE n.key_id = ending.id AND n.expires_at = ending.expires_at AND n.days = ending.days)
		ORDER BY id LIMIT ?`, in(1), in(7), now, in(14), after, batch)
	if err != nil {
		return nil, fmt.Errorf("read the keys that expire: %w", err)
	}
	return found, nil
}

// announce notes and enqueues the keys that no other replica has announced and
// that nobody has changed meanwhile.
func announce(ctx context.Context, tx sqlx.ExtContext, found []expiring, now workspace.Time) error {
	for _, k := range found {
		first, err := note(ctx, tx, k)
		if err != nil {
			return fmt.Errorf("note that key %s expires: %w", k.ID, err)
		}
		if !first {
			continue
		}
		stored, err := insert(ctx, tx, Event{
			Type: KeyExpiring, At: now, WorkspaceID: k.WorkspaceID, Workspace: k.Slug, KeyID: k.ID, KeyName: k.Name,
			OwnerID: k.OwnerID, ExpiresAt: k.ExpiresAt, Days: k.Days,
		})
		if err != nil {
			return err
		}
		if !stored {
			return errFull // takes the note back
		}
	}
	return nil
}

func note(ctx context.Context, tx sqlx.ExtContext, k expiring) (first bool, err error) {
	result, err := tx.ExecContext(ctx, `INSERT INTO webhook_expiry_notices (key_id, expires_at, days)
		SELECT id, expires_at, CAST(? AS BIGINT) FROM keys
		WHERE id = ? AND expires_at = ? AND revoked_at IS NULL AND deleted_at IS NULL ON CONFLICT DO NOTHING`, k.Days, k.ID, k.ExpiresAt)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// forgetExpired removes the notes of keys that have ended. They stay for a day,
// since the clock of another replica may be behind.
func (s *Sender) forgetExpired(ctx context.Context) error {
	_, err := s.Database.Writer().ExecContext(ctx, `DELETE FROM webhook_expiry_notices WHERE expires_at <= ?`, s.in(-day))
	if err != nil {
		return fmt.Errorf("forget the notes of expired keys: %w", err)
	}
	return nil
}
