// Package revocation owns what is denied before it expires: the rows and their
// sequence in SQL, which is the truth, and the copies that are made of it: the
// list in the memory of each replica, the projection in Redis, the signed feed
// that verifiers follow, and the journal that outlives the database.
//
// A row is appended in the transaction of the change that denies something, so
// that neither exists without the other. What may be denied by whom is decided
// in workspace/manage.
package revocation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Subject is how the change log and the audit log name the revocations as a whole.
const Subject = "revocations"

// Cause is what was done to the subject of a row.
type Cause string

// The causes.
const (
	Revoked   Cause = "revoked"   // a key or a token was revoked, a signing key removed
	Disabled  Cause = "disabled"  // a service account or user was
	Removed   Cause = "removed"   // a service account or user was deleted, or a member removed
	Suspended Cause = "suspended" // a workspace was
	Deleted   Cause = "deleted"   // a workspace was
	Changed   Cause = "changed"   // it may do less than before, and goes on
)

// skew is how much longer than its exp a token may be taken for good: verifiers
// allow for a minute, and the clock of the replica that issued it may be up to two
// minutes ahead of the one that revokes it; a second more for rounding.
const skew = 3*time.Minute + time.Second

// Entry denies the tokens of a subject that carry a smaller generation than its.
type Entry struct {
	Seq         int64           `db:"seq" json:"seq"`
	Kind        oauth.Revocable `db:"kind" json:"kind"`
	SubjectID   string          `db:"subject_id" json:"subject_id"`
	Generation  int64           `db:"generation" json:"generation"` // 0 for a token or a signing key: denied altogether
	WorkspaceID workspace.ID    `db:"workspace_id" json:"workspace_id"`
	Cause       Cause           `db:"cause" json:"cause"`
	At          workspace.Time  `db:"at" json:"at"`
	ExpiresAt   workspace.Time  `db:"expires_at" json:"expires_at"` // no token that it concerns is good any more
}

// Good is until when somebody whose clock is off may take a token that expires then.
func Good(expiry time.Time) workspace.Time { return workspace.At(expiry.Add(skew)) }

const columns = `seq, kind, subject_id, generation, workspace_id, cause, at, expires_at`

// batch is how many entries one statement adds: eight parameters each.
const batch = 500

// Append adds entries with the next numbers, which are gapless and in commit order:
// the counter's row stays locked until the transaction ends. It returns the last
// number. Numbers are set by it, and ExpiresAt where it is zero: to when a token
// that was issued at that moment is good for the longest.
func Append(ctx context.Context, tx sqlx.ExtContext, entries ...Entry) (last int64, err error) {
	for chunk := range slices.Chunk(entries, batch) {
		err := sqlx.GetContext(ctx, tx, &last, `UPDATE revocation_counter SET seq = seq + ? WHERE id = 1 RETURNING seq`, len(chunk))
		if err != nil {
			return 0, fmt.Errorf("take the next revocation numbers: %w", err)
		}
		for i := range chunk {
			chunk[i].Seq = last - int64(len(chunk)-1-i)
			chunk[i].ExpiresAt = cmp.Or(chunk[i].ExpiresAt, Good(chunk[i].At.Add(keys.MaxTokenTTL)))
		}
		if _, err := insert(ctx, tx, chunk); err != nil {
			return 0, err
		}
	}
	return last, nil
}

// insert writes rows with their numbers, but for those whose numbers are there.
func insert(ctx context.Context, tx sqlx.ExtContext, rows []Entry) (added int64, err error) {
	var args []any
	for _, e := range rows {
		args = append(args, e.Seq, e.Kind, e.SubjectID, e.Generation, e.WorkspaceID, e.Cause, e.At, e.ExpiresAt)
	}
	marks := strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?, ?, ?, ?), ", len(rows)), ", ")
	result, err := tx.ExecContext(ctx, `INSERT INTO revocations (`+columns+`) VALUES `+marks+` ON CONFLICT DO NOTHING`, args...)
	if err != nil {
		return 0, fmt.Errorf("append %d revocations: %w", len(rows), err)
	}
	return result.RowsAffected()
}

// Since reads the entries after a number, in order, at most limit of them.
func Since(ctx context.Context, q sqlx.ExtContext, seq int64, limit int) ([]Entry, error) {
	entries := []Entry{}
	err := sqlx.SelectContext(ctx, q, &entries, `SELECT `+columns+` FROM revocations WHERE seq > ? ORDER BY seq LIMIT ?`, seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read the revocations after %d: %w", seq, err)
	}
	return entries, nil
}

// live is Since of those that have not expired.
func live(ctx context.Context, q sqlx.ExtContext, seq int64, now workspace.Time, limit int) ([]Entry, error) {
	entries := []Entry{}
	err := sqlx.SelectContext(ctx, q, &entries, `SELECT `+columns+` FROM revocations WHERE seq > ? AND expires_at > ? ORDER BY seq LIMIT ?`, seq, now, limit)
	if err != nil {
		return nil, fmt.Errorf("read the revocations after %d: %w", seq, err)
	}
	return entries, nil
}

// Find reads one entry; workspace.ErrNotFound: there is none with that number.
func Find(ctx context.Context, q sqlx.ExtContext, seq int64) (Entry, error) {
	entries, err := Since(ctx, q, seq-1, 1)
	if err == nil && (len(entries) == 0 || entries[0].Seq != seq) {
		err = fmt.Errorf("revocation %d: %w", seq, workspace.ErrNotFound)
	}
	if err != nil {
		return Entry{}, err
	}
	return entries[0], nil
}

// Of reads the entries of one subject, in order.
func Of(ctx context.Context, q sqlx.ExtContext, kind oauth.Revocable, subject string) ([]Entry, error) {
	entries := []Entry{}
	err := sqlx.SelectContext(ctx, q, &entries, `SELECT `+columns+` FROM revocations WHERE subject_id = ? AND kind = ? ORDER BY seq`, subject, kind)
	if err != nil {
		return nil, fmt.Errorf("read the revocations of %s %s: %w", kind, subject, err)
	}
	return entries, nil
}

// CountLive counts what of a kind is denied in a workspace now.
func CountLive(ctx context.Context, q sqlx.ExtContext, in workspace.ID, kind oauth.Revocable, now workspace.Time) (n int64, err error) {
	err = sqlx.GetContext(ctx, q, &n, `SELECT count(*) FROM revocations WHERE workspace_id = ? AND kind = ? AND expires_at > ?`, in, kind, now)
	if err != nil {
		return 0, fmt.Errorf("count the revocations of %s in %s: %w", kind, in, err)
	}
	return n, nil
}

// Newest reads how far the revocations are.
func Newest(ctx context.Context, q sqlx.ExtContext) (oauth.Position, error) {
	var at struct {
		Epoch int64 `db:"epoch"`
		Seq   int64 `db:"seq"`
	}
	if err := sqlx.GetContext(ctx, q, &at, `SELECT epoch, seq FROM revocation_counter WHERE id = 1`); err != nil {
		return oauth.Position{}, fmt.Errorf("read the newest revocation number: %w", err)
	}
	return oauth.Position{Epoch: at.Epoch, Sequence: at.Seq}, nil
}

// NextEpoch begins a new epoch, unless the present one is another than old. Epochs
// are at least the time in seconds, so that also the epoch of a database that was
// restored is higher than any that verifiers have seen.
func NextEpoch(ctx context.Context, tx sqlx.ExtContext, old int64, now workspace.Time) (begun bool, err error) {
	result, err := tx.ExecContext(ctx, `UPDATE revocation_counter SET epoch = ? WHERE id = 1 AND epoch = ?`, max(old+1, now.Unix()), old)
	if err != nil {
		return false, fmt.Errorf("begin a new epoch of the revocations: %w", err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// Retention is for how long a row is kept when it has expired, for those who ask
// what became of it.
const Retention = 30 * 24 * time.Hour

// pruneRows is how many rows one call removes at most.
const pruneRows = 10_000

// Prune removes rows whose retention is over, and returns how many: a bounded
// number at a time.
func Prune(ctx context.Context, w sqlx.ExtContext, now time.Time) (int64, error) {
	result, err := w.ExecContext(ctx, `DELETE FROM revocations WHERE seq IN (SELECT seq FROM revocations WHERE expires_at < ? ORDER BY seq LIMIT ?)`,
		workspace.At(now.Add(-Retention)), pruneRows)
	if err != nil {
		return 0, fmt.Errorf("prune the revocations: %w", err)
	}
	return result.RowsAffected()
}
