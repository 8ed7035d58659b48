package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// How much one call removes at most, or a little more, so that its transaction is
// short.
const (
	pruneBatches   = 1_000
	pruneExchanges = 10_000
)

// Prune removes batches of exchanges that are wholly older than an instant, the
// oldest first, and returns how many exchanges that were. An event on their chain says
// which, so that Verify misses only others. It removes a bounded number at a time:
// call it again until nothing is left to remove.
func Prune(ctx context.Context, tx sqlx.ExtContext, before workspace.Time) (int64, error) {
	n, err := prune(ctx, tx, before)
	if err != nil {
		return 0, fmt.Errorf("prune the exchanges: %w", err)
	}
	return n, nil
}

func prune(ctx context.Context, tx sqlx.ExtContext, before workspace.Time) (int64, error) {
	// Locked first: of two replicas that prune at a time, the second sees what is left.
	if _, err := tx.ExecContext(ctx, `UPDATE audit_heads SET seq = seq WHERE chain = ?`, Exchanges); err != nil {
		return 0, err
	}
	batches, err := expired(ctx, tx, before)
	if err != nil || len(batches) == 0 {
		return 0, err
	}
	spans, err := spansOf(ctx, tx, batches)
	if err != nil {
		return 0, err
	}
	e := Event{Chain: Exchanges, At: workspace.At(time.Now()), Action: pruneAction, ActorKind: serverKind}
	if err := Append(ctx, tx, e, map[string]any{"before": before, "batches": spans}); err != nil {
		return 0, err
	}
	var removed int64
	for _, s := range spans {
		var gone []int64
		if err := sqlx.SelectContext(ctx, tx, &gone, `DELETE FROM exchange_bundles WHERE batch BETWEEN ? AND ? RETURNING count`, s[0], s[1]); err != nil {
			return 0, err
		}
		for _, n := range gone {
			removed += n
		}
	}
	return removed, nil
}

// expired lists the batches that may go, in order. Batches come nearly in the order of
// time, so only those before the first event that is young enough are looked at.
func expired(ctx context.Context, tx sqlx.ExtContext, before workspace.Time) ([]int64, error) {
	end := int64(math.MaxInt64)
	err := sqlx.GetContext(ctx, tx, &end, `SELECT seq FROM audit_events WHERE chain = ? AND at >= ? ORDER BY at, id LIMIT 1`, Exchanges, before)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	var found []struct {
		Batch int64 `db:"batch"`
		Size  int64 `db:"size"` // nearly how many exchanges
	}
	err = sqlx.SelectContext(ctx, tx, &found, `SELECT batch, MAX(bundle) + 1 AS size FROM exchange_bundles WHERE batch < ?
		GROUP BY batch HAVING MAX(until_at) < ? ORDER BY batch LIMIT ?`, end, before, pruneBatches)
	var batches []int64
	for size := int64(0); len(found) > len(batches) && size < pruneExchanges; size += found[len(batches)-1].Size {
		batches = append(batches, found[len(batches)].Batch)
	}
	return batches, err
}

// spansOf joins numbers between which no other batch has rows.
func spansOf(ctx context.Context, tx sqlx.ExtContext, batches []int64) ([][2]int64, error) {
	var all []int64
	err := sqlx.SelectContext(ctx, tx, &all, `SELECT DISTINCT batch FROM exchange_bundles WHERE batch BETWEEN ? AND ? ORDER BY batch`,
		batches[0], batches[len(batches)-1])
	if err != nil {
		return nil, err
	}
	var spans [][2]int64
	joined := false
	for _, batch := range all {
		goes := len(batches) > 0 && batches[0] == batch
		switch {
		case goes && joined:
			spans[len(spans)-1][1] = batch
		case goes:
			spans = append(spans, [2]int64{batch, batch})
		}
		if goes {
			batches = batches[1:]
		}
		joined = goes
	}
	return spans, nil
}
