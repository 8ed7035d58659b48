package revocation

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Bounds of what is kept of verifiers.
const (
	MaxVerifiers   = 200                 // in a workspace
	VerifierMemory = 30 * 24 * time.Hour // one that has not reported for so long is forgotten
	Silence        = 2 * time.Minute     // one that has not reported for so long may have ended
)

// reportInterval is how old the last report has to be for one that says the same to
// be written.
const reportInterval = 10 * time.Second

// Verifier is a service that verifies tokens, and how far it says that it has
// followed the revocations. Only its newest report counts: one that was started
// again from nothing is as far back as it says.
type Verifier struct {
	WorkspaceID workspace.ID   `db:"workspace_id"`
	Name        string         `db:"name"`
	KeyID       keys.ID        `db:"key_id"` // by which it reported
	Epoch       int64          `db:"epoch"`
	Seq         int64          `db:"seq"`
	ReportedAt  workspace.Time `db:"reported_at"`
}

// Position is how far it is.
func (v Verifier) Position() oauth.Position { return oauth.Position{Epoch: v.Epoch, Sequence: v.Seq} }

// Silent reports whether it has said nothing for so long that it may have ended.
func (v Verifier) Silent(now time.Time) bool { return now.Sub(v.ReportedAt.Time) > Silence }

// Knows reports whether it denies what was revoked up to a sequence number, when
// that epoch is the present one.
func (v Verifier) Knows(epoch, seq int64) bool { return v.Epoch == epoch && v.Seq >= seq }

var verifierName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Validate checks what a verifier says of itself. Errors wrap workspace.ErrInvalid.
func (v Verifier) Validate() error {
	switch {
	case !verifierName.MatchString(v.Name):
		return fmt.Errorf("%w: the verifier's name %q: use 1 to 63 of a-z, 0-9, dot, underscore and hyphen, with a letter or digit first", workspace.ErrInvalid, v.Name)
	case v.Epoch < 0:
		return fmt.Errorf("%w: epoch has to be 0 or more, as it is in the feed", workspace.ErrInvalid)
	case v.Seq < 0:
		return fmt.Errorf("%w: sequence has to be 0 or more, as seq is in the feed", workspace.ErrInvalid)
	}
	return nil
}

const verifierColumns = `workspace_id, name, key_id, epoch, seq, reported_at`

// LastReport is what a verifier said last; nil if it is not known.
func LastReport(ctx context.Context, q sqlx.ExtContext, in workspace.ID, name string) (*Verifier, error) {
	var found []Verifier
	err := sqlx.SelectContext(ctx, q, &found, `SELECT `+verifierColumns+` FROM verifiers WHERE workspace_id = ? AND name = ?`, in, name)
	if err != nil {
		return nil, fmt.Errorf("read the verifier %s: %w", name, err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	return &found[0], nil
}

// Adds reports whether a report says what the last one of that verifier did not, or
// whether that one has grown old.
func (v Verifier) Adds(last *Verifier) bool {
	return last == nil || last.Position() != v.Position() || last.KeyID != v.KeyID || v.ReportedAt.Sub(last.ReportedAt.Time) >= reportInterval
}

// Report keeps what a verifier says in the place of what it said before. When it is
// new, those that are forgotten make room for it; it is not kept if there is none.
func Report(ctx context.Context, tx sqlx.ExtContext, v Verifier) (kept bool, err error) {
	known, err := rows(tx.ExecContext(ctx, `
		UPDATE verifiers SET key_id = ?, epoch = ?, seq = ?, reported_at = ?
		WHERE workspace_id = ? AND name = ? AND reported_at >= ?`,
		v.KeyID, v.Epoch, v.Seq, v.ReportedAt, v.WorkspaceID, v.Name, remembered(v.ReportedAt.Time)))
	if err != nil {
		return false, fmt.Errorf("keep the report of %s: %w", v.Name, err)
	}
	if known > 0 {
		return true, nil
	}
	return addVerifier(ctx, tx, v)
}

// addVerifier counts while it holds the row of the workspace, so that those which
// are new at once do not exceed the bound together.
func addVerifier(ctx context.Context, tx sqlx.ExtContext, v Verifier) (kept bool, err error) {
	if _, err := tx.ExecContext(ctx, `UPDATE workspaces SET id = id WHERE id = ?`, v.WorkspaceID); err != nil {
		return false, fmt.Errorf("lock the workspace %s: %w", v.WorkspaceID, err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM verifiers WHERE reported_at < ?`, remembered(v.ReportedAt.Time)); err != nil {
		return false, fmt.Errorf("forget verifiers: %w", err)
	}
	var n int
	if err := sqlx.GetContext(ctx, tx, &n, `SELECT count(*) FROM verifiers WHERE workspace_id = ? AND name <> ?`, v.WorkspaceID, v.Name); err != nil {
		return false, fmt.Errorf("count the verifiers: %w", err)
	}
	if n >= MaxVerifiers {
		return false, nil
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO verifiers (`+verifierColumns+`) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (workspace_id, name) DO UPDATE
		SET key_id = excluded.key_id, epoch = excluded.epoch, seq = excluded.seq, reported_at = excluded.reported_at`,
		v.WorkspaceID, v.Name, v.KeyID, v.Epoch, v.Seq, v.ReportedAt)
	if err != nil {
		return false, fmt.Errorf("keep the first report of %s: %w", v.Name, err)
	}
	return true, nil
}

// RemoveVerifier forgets a verifier. It reports false if it was not known.
func RemoveVerifier(ctx context.Context, tx sqlx.ExtContext, in workspace.ID, name string) (bool, error) {
	n, err := rows(tx.ExecContext(ctx, `DELETE FROM verifiers WHERE workspace_id = ? AND name = ?`, in, name))
	if err != nil {
		return false, fmt.Errorf("forget the verifier %s: %w", name, err)
	}
	return n > 0, nil
}

func rows(result interface{ RowsAffected() (int64, error) }, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// remembered is when verifiers that are not forgotten have reported, at the earliest.
func remembered(now time.Time) workspace.Time { return workspace.At(now.Add(-VerifierMemory)) }

// Verifiers reads those of a workspace, or with an empty one of all, by workspace and
// name: those after a name in a workspace, at most limit of them.
func Verifiers(ctx context.Context, q sqlx.ExtContext, in workspace.ID, after Verifier, limit int, now time.Time) ([]Verifier, error) {
	found := []Verifier{}
	query, args := `SELECT `+verifierColumns+` FROM verifiers WHERE reported_at >= ?`, []any{remembered(now)}
	if in != "" {
		query, args = query+` AND workspace_id = ?`, append(args, in)
	}
	query += ` AND (workspace_id > ? OR workspace_id = ? AND name > ?) ORDER BY workspace_id, name LIMIT ?`
	args = append(args, after.WorkspaceID, after.WorkspaceID, after.Name, limit)
	if err := sqlx.SelectContext(ctx, q, &found, query, args...); err != nil {
		return nil, fmt.Errorf("read the verifiers: %w", err)
	}
	return found, nil
}

// Tally counts verifiers.
type Tally struct {
	CaughtUp int64 `db:"caught_up"`
	Behind   int64 `db:"behind"`
	Silent   int64 `db:"silent"` // how many of those behind may have ended
}

// Receipt says who has caught up with a revocation.
type Receipt struct {
	Entry
	Newest    oauth.Position
	Now       time.Time  // when it was so
	Verifiers []Verifier // of the workspace of the entry, or of all if it has none; those behind first
	Own       Tally      // of the same, also of those that are too many to be listed
	Others    Tally      // of all other workspaces
}

// listed is how many verifiers a receipt has at most.
const listed = 1000

// ReceiptOf reads who has caught up with an entry.
func ReceiptOf(ctx context.Context, q sqlx.ExtContext, e Entry, now time.Time) (Receipt, error) {
	r := Receipt{Entry: e, Now: now, Verifiers: []Verifier{}}
	var err error
	if r.Newest, err = Newest(ctx, q); err != nil {
		return r, err
	}
	scope, args := `reported_at >= ?`, []any{remembered(now)}
	if e.WorkspaceID != "" {
		scope, args = scope+` AND workspace_id = ?`, append(args, e.WorkspaceID)
	}
	err = sqlx.SelectContext(ctx, q, &r.Verifiers, `SELECT `+verifierColumns+` FROM verifiers WHERE `+scope+
		` ORDER BY CASE WHEN epoch = ? AND seq >= ? THEN 1 ELSE 0 END, workspace_id, name LIMIT ?`, append(args, r.Newest.Epoch, e.Seq, listed)...)
	if err != nil {
		return r, fmt.Errorf("read the verifiers: %w", err)
	}
	if r.Own, err = r.tally(ctx, q, scope, args); err != nil || e.WorkspaceID == "" {
		return r, err
	}
	r.Others, err = r.tally(ctx, q, `reported_at >= ? AND workspace_id <> ?`, args)
	return r, err
}

func (r Receipt) tally(ctx context.Context, q sqlx.ExtContext, scope string, args []any) (t Tally, err error) {
	err = sqlx.GetContext(ctx, q, &t, `
		SELECT count(*) - coalesce(sum(lacks), 0) AS caught_up, coalesce(sum(lacks), 0) AS behind, coalesce(sum(lacks * quiet), 0) AS silent
		FROM (
			SELECT CASE WHEN epoch = ? AND seq >= ? THEN 0 ELSE 1 END AS lacks, CASE WHEN reported_at < ? THEN 1 ELSE 0 END AS quiet
			FROM verifiers WHERE `+scope+`
		) AS known`, append([]any{r.Newest.Epoch, r.Seq, workspace.At(r.Now.Add(-Silence))}, args...)...)
	if err != nil {
		return t, fmt.Errorf("count the verifiers: %w", err)
	}
	return t, nil
}

// CaughtUp reports whether a verifier denies what the entry does.
func (r Receipt) CaughtUp(v Verifier) bool { return v.Knows(r.Newest.Epoch, r.Seq) }

// Dead reports whether no token that the entry denies is good any more.
func (r Receipt) Dead() bool { return !r.Now.Before(r.ExpiresAt.Time) }

// Settled reports whether there is nothing to wait for: nobody who reports is behind.
// Those that are silent may never report again.
func (r Receipt) Settled() bool {
	return r.Dead() || r.Own.Behind == r.Own.Silent && r.Others.Behind == r.Others.Silent
}

// AcceptsUntil is the last moment at which a verifier may take a token that the entry
// denies, as far as is known; zero: no such token is good any more, or there are
// verifiers and all have caught up.
func (r Receipt) AcceptsUntil() workspace.Time {
	if r.Dead() || r.Own.Behind+r.Others.Behind == 0 && r.Own.CaughtUp+r.Others.CaughtUp > 0 {
		return workspace.Time{}
	}
	return r.ExpiresAt
}

// VerifierAcceptsUntil is the same of one verifier; zero: it takes none.
func (r Receipt) VerifierAcceptsUntil(v Verifier) workspace.Time {
	if r.Dead() || r.CaughtUp(v) {
		return workspace.Time{}
	}
	return r.ExpiresAt
}
