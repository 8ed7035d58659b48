package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/jmoiron/sqlx"
)

// batchDetail is what the event of a batch says.
type batchDetail struct {
	Count int64  `json:"count"`
	Root  string `json:"root"`
}

// pruneDetail is what the event of a removal says.
type pruneDetail struct {
	Batches [][2]int64 `json:"batches"` // from and to, both included
}

// batchEvent notes what an event of the chain Exchanges means for the batches.
func (w *walk) batchEvent(e Event, intact bool) {
	if !intact {
		if w.doubted == nil {
			w.doubted = map[int64]bool{}
		}
		w.doubted[e.Seq] = true
		return
	}
	var detail pruneDetail
	if e.Action != pruneAction || json.Unmarshal([]byte(e.Detail), &detail) != nil {
		return
	}
	for _, s := range detail.Batches {
		w.pruned = append(w.pruned, span{s[0], min(s[1], e.Seq-1)})
	}
}

func (v *verifier) wasPruned(batch int64) bool {
	for _, s := range v.pruned {
		if s.first <= batch && batch <= s.last {
			return true
		}
	}
	return false
}

// exchanges checks the batches against their events: both come in the order of
// their numbers.
func (v *verifier) exchanges(ctx context.Context) error {
	rows := &batchReader{verifier: v}
	if err := rows.advance(ctx); err != nil {
		return err
	}
	var last int64
	for {
		page, err := v.page(ctx, Exchanges, last, `AND action = '`+batchAction+`'`)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return v.strays(ctx, rows)
		}
		for _, e := range page {
			if err := v.batch(ctx, rows, e); err != nil {
				return err
			}
			last = e.Seq
		}
	}
}

// batch checks the batch of an event.
func (v *verifier) batch(ctx context.Context, rows *batchReader, e Event) error {
	for !rows.ended && rows.number < e.Seq {
		v.stray(rows.number)
		if err := rows.advance(ctx); err != nil {
			return err
		}
	}
	var detail batchDetail
	err := json.Unmarshal([]byte(e.Detail), &detail)
	doubted := v.doubted[e.Seq] || err != nil // which is told already
	if rows.ended || rows.number > e.Seq {
		if !doubted && !v.wasPruned(e.Seq) {
			v.found(Exchanges, e.Seq, "batch %d of %d exchanges is gone", e.Seq, detail.Count)
		}
		return nil
	}
	root := rows.root()
	switch {
	case doubted:
	case rows.count() < detail.Count:
		v.found(Exchanges, e.Seq, "exchanges of batch %d were removed: there are %d of %d", e.Seq, rows.count(), detail.Count)
	case rows.count() > detail.Count:
		v.found(Exchanges, e.Seq, "exchanges were added to batch %d: there are %d instead of %d", e.Seq, rows.count(), detail.Count)
	case rows.unfaithful || hex.EncodeToString(root[:]) != detail.Root:
		v.found(Exchanges, e.Seq, "exchanges of batch %d were changed or moved: they do not have the root that its event holds", e.Seq)
	}
	return rows.advance(ctx)
}

func (v *verifier) stray(batch int64) {
	if v.doubted[batch] {
		return // its event is told of already
	}
	v.found(Exchanges, batch, "exchanges of batch %d were added or moved: no event holds their root", batch)
}

// strays are the batches that are left when every event was seen. One that was
// written since has its event by now.
func (v *verifier) strays(ctx context.Context, rows *batchReader) error {
	for !rows.ended {
		var n int64
		err := sqlx.GetContext(ctx, v.q, &n, `SELECT COUNT(*) FROM audit_events WHERE chain = ? AND seq = ? AND action = ?`,
			Exchanges, rows.number, batchAction)
		if err != nil {
			return err
		}
		if n == 0 {
			v.stray(rows.number)
		}
		if err := rows.advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// bundlesPage is how many bundles are read at a time: 2 MB or so.
const bundlesPage = 100

// batchReader reads one batch after the other.
type batchReader struct {
	*verifier
	ended      bool
	number     int64
	rows       []exchangeRow
	unfaithful bool // a bundle holds what no hash covers

	page []bundle
	last *bundle // of those that were read
}

func (r *batchReader) count() int64 { return int64(len(r.rows)) }

// root is that over the exchanges of the batch in their order.
func (r *batchReader) root() [sha256.Size]byte {
	slices.SortStableFunc(r.rows, func(a, b exchangeRow) int { return cmp.Compare(a.Position, b.Position) })
	leaves := make([][sha256.Size]byte, len(r.rows))
	for i := range r.rows {
		leaves[i] = r.rows[i].leaf()
	}
	return merkleRoot(leaves)
}

// advance reads the next batch.
func (r *batchReader) advance(ctx context.Context) error {
	r.rows, r.unfaithful = nil, false
	for begun := false; ; begun = true {
		next, err := r.peek(ctx)
		if err != nil {
			return err
		}
		switch {
		case next == nil:
			r.ended = !begun
			return nil
		case begun && next.Batch != r.number:
			return nil
		}
		r.number, r.last, r.page = next.Batch, next, r.page[1:]
		rows, err := next.exchanges()
		r.rows, r.unfaithful = append(r.rows, rows...), r.unfaithful || err != nil
		r.report.Exchanges += int64(len(rows))
	}
}

// peek returns the next bundle, and nil after the last.
func (r *batchReader) peek(ctx context.Context) (*bundle, error) {
	if len(r.page) == 0 {
		query, args := `SELECT `+bundleColumns+` FROM exchange_bundles`, []any{}
		if r.last != nil {
			query, args = query+` WHERE (batch, bundle) > (?, ?)`, []any{r.last.Batch, r.last.Bundle}
		}
		err := sqlx.SelectContext(ctx, r.q, &r.page, query+` ORDER BY batch, bundle LIMIT ?`, append(args, bundlesPage)...)
		if err != nil || len(r.page) == 0 {
			return nil, err
		}
	}
	return &r.page[0], nil
}
