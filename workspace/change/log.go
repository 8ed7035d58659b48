package change

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Retention is how many changes the log keeps. A follower that is further
// behind forgets everything instead.
const Retention = 10_000

// Lock takes the next number. It must be the first statement of a transaction
// that changes anything: the row stays locked until that commits, which makes
// such transactions run one by one.
func Lock(ctx context.Context, tx sqlx.ExtContext) (seq int64, err error) {
	err = sqlx.GetContext(ctx, tx, &seq, `UPDATE change_counter SET seq = seq + 1 WHERE id = 1 RETURNING seq`)
	if err != nil {
		return 0, fmt.Errorf("take the next change number: %w", err)
	}
	return seq, nil
}

// Newest is the number of the newest change that is committed.
func Newest(ctx context.Context, q sqlx.ExtContext) (seq int64, err error) {
	if err := sqlx.GetContext(ctx, q, &seq, `SELECT seq FROM change_counter WHERE id = 1`); err != nil {
		return 0, fmt.Errorf("read the change number: %w", err)
	}
	return seq, nil
}

// Record logs what the change with that number touched: IDs of keys, service
// accounts, users, workspaces or signing keys.
func Record(ctx context.Context, tx sqlx.ExtContext, seq int64, at workspace.Time, subjects ...string) error {
	for chunk := range slices.Chunk(subjects, 500) {
		var args []any
		for _, subject := range chunk {
			args = append(args, seq, subject, at)
		}
		marks := strings.TrimSuffix(strings.Repeat("(?, ?, ?), ", len(chunk)), ", ")
		if _, err := tx.ExecContext(ctx, `INSERT INTO changes (seq, subject_id, at) VALUES `+marks+` ON CONFLICT DO NOTHING`, args...); err != nil {
			return fmt.Errorf("record change %d: %w", seq, err)
		}
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM changes WHERE seq <= ?`, seq-Retention); err != nil {
		return fmt.Errorf("trim the change log: %w", err)
	}
	return nil
}

// Batch is what changed since a follower last looked.
type Batch struct {
	Since    int64           // the newest number before; -1: nothing was applied
	Seq      int64           // the newest number
	Subjects map[string]bool // what was touched
	Complete bool            // false: the log no longer reaches back; forget everything
}

// nothing is the number of a follower that has applied nothing yet.
const nothing = -1

type row struct {
	Seq     int64  `db:"seq"`
	Subject string `db:"subject_id"`
}

// since reads all changes after the number a follower has applied. The counter
// is read first, so what it reports as newest is in the log that follows.
func since(ctx context.Context, q sqlx.ExtContext, applied int64) (Batch, error) {
	batch := Batch{Since: applied, Subjects: map[string]bool{}, Complete: true}
	var err error
	if batch.Seq, err = Newest(ctx, q); err != nil {
		return Batch{}, err
	}
	if batch.Seq == applied {
		return batch, nil
	}
	// A number that went backwards is another database, or one restored from a
	// backup, as far as this replica can see it: after a restore, restart them all.
	if applied == nothing || batch.Seq < applied || batch.Seq-applied > Retention/2 {
		batch.Complete = false
		return batch, nil
	}
	var rows []row
	err = sqlx.SelectContext(ctx, q, &rows, `SELECT seq, subject_id FROM changes WHERE seq > ? ORDER BY seq`, applied)
	if err != nil {
		return Batch{}, fmt.Errorf("read the change log: %w", err)
	}
	for _, r := range rows {
		batch.Subjects[r.Subject] = true
		batch.Seq = max(batch.Seq, r.Seq)
	}
	return batch, nil
}
