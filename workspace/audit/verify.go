package audit

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/jmoiron/sqlx"
)

// Finding is one place where the record is not what was recorded.
type Finding struct {
	Chain string `json:"chain"`
	Seq   int64  `json:"seq"`
	What  string `json:"what"` // a sentence for the operator
}

// Report is what Verify has seen and found.
type Report struct {
	Chains    int64     `json:"chains"`
	Events    int64     `json:"events"`
	Exchanges int64     `json:"exchanges"` // rows
	Findings  []Finding `json:"findings"`
}

// Verify checks every chain against itself, against its head and against heads
// that were exported earlier, and every batch of exchanges against its event. It
// goes on after a finding, from what is stored there, so that one run names all.
// Servers may go on writing meanwhile.
//
// Its errors are of reading alone: what is wrong with the record is in the report.
func Verify(ctx context.Context, q sqlx.ExtContext, heads []Head) (Report, error) {
	v := &verifier{q: q, exported: map[string][]Head{}}
	for _, h := range heads {
		v.exported[h.Chain] = append(v.exported[h.Chain], h)
	}
	chains, err := v.chains(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("verify the audit chains: %w", err)
	}
	for _, chain := range chains {
		if err := v.chain(ctx, chain); err != nil {
			return Report{}, fmt.Errorf("verify the audit chain %s: %w", chain, err)
		}
	}
	if err := v.exchanges(ctx); err != nil {
		return Report{}, fmt.Errorf("verify the exchanges: %w", err)
	}
	slices.SortStableFunc(v.report.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Seq, b.Seq))
	})
	return v.report, nil
}

type verifier struct {
	q        sqlx.ExtContext
	exported map[string][]Head
	report   Report

	doubted map[int64]bool // events of the chain Exchanges that say nothing reliable
	pruned  []span         // batches that were removed when their time had come
}

func (v *verifier) found(chain string, seq int64, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{chain, seq, fmt.Sprintf(format, args...)})
}

// chains lists every chain that is known from anywhere.
func (v *verifier) chains(ctx context.Context) ([]string, error) {
	var chains []string
	err := sqlx.SelectContext(ctx, v.q, &chains, `SELECT chain FROM audit_heads UNION SELECT chain FROM audit_events`)
	for chain := range v.exported {
		chains = append(chains, chain)
	}
	slices.Sort(chains)
	return slices.Compact(chains), err
}

// chain checks one chain.
func (v *verifier) chain(ctx context.Context, chain string) error {
	before, err := v.head(ctx, chain)
	if err != nil {
		return err
	}
	w := &walk{verifier: v, chain: chain, before: before, exported: v.exported[chain], candidates: [][]byte{beginning()}}
	slices.SortStableFunc(w.exported, func(a, b Head) int { return cmp.Compare(a.Seq, b.Seq) })
	for {
		page, err := v.page(ctx, chain, w.from(), ``)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			w.step(e)
		}
	}
	after, err := v.head(ctx, chain)
	if err != nil {
		return err
	}
	w.end(after)
	v.report.Chains++
	return nil
}

// head reads the head of a chain; it is zero if there is none.
func (v *verifier) head(ctx context.Context, chain string) (head, error) {
	var h head
	err := sqlx.GetContext(ctx, v.q, &h, `SELECT seq, hash FROM audit_heads WHERE chain = ?`, chain)
	if errors.Is(err, sql.ErrNoRows) {
		return h, nil
	}
	return h, err
}

const pageSize = 1000

// page reads the events of a chain that follow a number.
func (v *verifier) page(ctx context.Context, chain string, after int64, condition string) ([]Event, error) {
	var page []Event
	err := sqlx.SelectContext(ctx, v.q, &page, `SELECT `+eventColumns+` FROM audit_events
		WHERE chain = ? AND seq > ? `+condition+` ORDER BY seq LIMIT ?`, chain, after, pageSize)
	return page, err
}

// walk goes along one chain.
type walk struct {
	*verifier
	chain    string
	before   head   // of the chain, from before it was read
	exported []Head // that are not reached yet, by number
	begun    bool
	last     Event

	// candidates are what the next event's hash may cover: the hash of the event
	// before it, also as it should be when that is another; none after a gap.
	candidates [][]byte
	broken     []place
	gaps       []span
	differing  []Head // exported heads whose event is another
}

// place is where a chain breaks.
type place struct {
	Event
	before []byte // the hash that is stored before it
}

type span struct{ first, last int64 }

func (w *walk) from() int64 {
	if !w.begun {
		return math.MinInt64
	}
	return w.last.Seq
}

// step checks the next event.
func (w *walk) step(e Event) {
	w.report.Events++
	expected := max(w.last.Seq, 0) + 1
	w.begun = true
	switch {
	case e.Seq < 1:
		w.found(w.chain, e.Seq, "event %d is none that was recorded: events are numbered from 1", e.Seq)
		w.last = e
		return
	case e.Seq > expected:
		w.gap(expected, e.Seq-1)
		w.candidates = nil
	}
	stored, whole := w.last.Hash, w.candidates == nil
	for _, previous := range w.candidates {
		whole = whole || bytes.Equal(e.chained(previous), e.Hash)
	}
	intact := whole && e.faithful()
	if !intact {
		w.broken = append(w.broken, place{e, stored})
	}
	w.next(e, intact)
}

// next makes an event the last one.
func (w *walk) next(e Event, intact bool) {
	computed := w.candidates
	w.candidates = [][]byte{e.Hash}
	if !intact {
		for _, previous := range computed {
			w.candidates = append(w.candidates, e.chained(previous))
		}
		w.candidates = w.candidates[:min(len(w.candidates), 3)]
	}
	w.compare(e)
	if w.chain == Exchanges {
		w.batchEvent(e, intact)
	}
	w.last = e
}

func (w *walk) gap(first, last int64) {
	w.gaps = append(w.gaps, span{first, last})
	if first == last {
		w.found(w.chain, first, "event %d is missing, so that the next one cannot be checked", first)
		return
	}
	w.found(w.chain, first, "events %d to %d are missing, so that the next one cannot be checked", first, last)
}

// compare checks an event against the exported heads that name it.
func (w *walk) compare(e Event) {
	for len(w.exported) > 0 && w.exported[0].Seq <= e.Seq {
		if h := w.exported[0]; h.Seq == e.Seq && !bytes.Equal(h.Hash, e.Hash) {
			w.differing = append(w.differing, h)
		}
		w.exported = w.exported[1:]
	}
}

// end checks the chain against its head, and says what is broken where.
func (w *walk) end(after head) {
	broken := w.explain()
	switch {
	case w.before.Seq == 0 && w.begun && after.Seq == 0:
		w.found(w.chain, w.last.Seq, "the chain has events, but its head is gone")
	case w.last.Seq < w.before.Seq:
		w.found(w.chain, max(w.last.Seq, 0)+1, "the chain's end was cut off: its head is at event %d, and its last event is %d", w.before.Seq, max(w.last.Seq, 0))
	case w.last.Seq > after.Seq:
		w.found(w.chain, after.Seq+1, "events %d to %d are beyond the chain's head", after.Seq+1, w.last.Seq)
	case w.last.Seq == after.Seq && !bytes.Equal(w.last.Hash, after.Hash) && !broken[w.last.Seq]:
		w.found(w.chain, w.last.Seq, "the chain's head holds another hash than event %d, its last", w.last.Seq)
	}
	if n := len(w.differing); n > 0 {
		first := w.differing[0]
		w.found(w.chain, first.Seq, "event %d is another than the one whose head was exported at %s (as are those of %d later heads)",
			first.Seq, first.At.Format(timeForm), n-1)
	}
	if n := len(w.exported); n > 0 {
		last := w.exported[n-1]
		w.found(w.chain, max(w.last.Seq, 0)+1, "the chain's end was cut off: the head that was exported at %s is event %d, and its last event is %d",
			last.At.Format(timeForm), last.Seq, max(w.last.Seq, 0))
	}
}

const timeForm = "2006-01-02T15:04:05Z07:00"

// explainMax is how many broken places of a chain are told apart.
const explainMax = 64

// explain names each broken event as changed or as out of its place, and returns
// their numbers. An event that is whole, but after one that is not the one before
// it, is told nothing of: the other is.
func (w *walk) explain() map[int64]bool {
	broken := map[int64]bool{}
	for _, p := range w.broken {
		broken[p.Seq] = true
		own, moved := w.origin(p)
		switch {
		case moved && own != p.Seq:
			w.found(w.chain, p.Seq, "the event in place %d is out of order: it was event %d", p.Seq, own)
		case !moved:
			w.found(w.chain, p.Seq, "event %d was changed", p.Seq)
		}
	}
	return broken
}

// origin finds the number under which an event's hash is right.
func (w *walk) origin(p place) (int64, bool) {
	if !p.faithful() || len(w.broken) > explainMax {
		return 0, false
	}
	hashes := [][]byte{beginning()}
	numbers := []int64{p.Seq, p.Seq - 1, p.Seq + 1}
	for _, other := range w.broken {
		hashes = append(hashes, other.before, other.Hash)
		numbers = append(numbers, other.Seq)
	}
	for _, gap := range w.gaps[:min(len(w.gaps), explainMax)] {
		numbers = append(numbers, gap.first, gap.last)
	}
	for _, number := range numbers {
		e := p.Event
		e.Seq = number
		for _, previous := range hashes {
			if bytes.Equal(e.chained(previous), e.Hash) {
				return number, true
			}
		}
	}
	return 0, false
}
