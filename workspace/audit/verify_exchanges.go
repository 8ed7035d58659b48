package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

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

// batchReader reads one batch after the other.
type batchReader struct {
	*verifier
	ended      bool
	number     int64
	leaves     [][sha256.Size]byte
	unfaithful bool // a row holds what its hash does not cover

	hasher leafHasher

	page []exchangeRow
	last *exchangeRow // of the rows that were read
}

func (r *batchReader) count() int64            { return int64(len(r.leaves)) }
func (r *batchReader) root() [sha256.Size]byte { return merkleRoot(r.leaves) }

// advance reads the next batch.
func (r *batchReader) advance(ctx context.Context) error {
	r.leaves, r.unfaithful = nil, false
	for {
		row, err := r.peek(ctx)
		if err != nil {
			return err
		}
		switch {
		case row == nil:
			r.ended = len(r.leaves) == 0
			return nil
		case len(r.leaves) > 0 && row.Batch != r.number:
			return nil
		}
		r.number, r.last, r.page = row.Batch, row, r.page[1:]
		r.leaves = append(r.leaves, r.hasher.hash(row))
		r.unfaithful = r.unfaithful || !row.faithful()
		r.report.Exchanges++
	}
}

// peek returns the next row, and nil after the last.
func (r *batchReader) peek(ctx context.Context) (*exchangeRow, error) {
	if len(r.page) == 0 {
		query, args := `SELECT `+exchangeColumns+` FROM exchange_events`, []any{}
		if r.last != nil {
			query, args = query+` WHERE (batch, position) > (?, ?)`, []any{r.last.Batch, r.last.Position}
		}
		err := sqlx.SelectContext(ctx, r.q, &r.page, query+` ORDER BY batch, position LIMIT ?`, append(args, pageSize)...)
		if err != nil || len(r.page) == 0 {
			return nil, err
		}
	}
	return &r.page[0], nil
}
