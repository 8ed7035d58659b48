package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// ErrNotRecorded means that an exchange could not be recorded, where it must be
// before it is answered.
var ErrNotRecorded = errors.New("the exchange could not be recorded")

// Bounds of the writer.
const (
	pendingMax   = 100_000          // exchanges remembered between two flushes
	batchMax     = 1_000            // rows of one transaction
	nobodysMax   = 100              // rows a flush for keys that do not exist
	guessesMax   = 1_000            // rows a flush for wrong secrets of keys that do
	batchTimeout = 10 * time.Second // of one transaction
)

// WriterOptions are how a Writer writes.
type WriterOptions struct {
	Interval time.Duration // between flushes; zero: a second
	Strict   bool          // Record waits for the commit
	Log      *slog.Logger  // nil: slog.Default
	// Owners finds whose the keys are that were named with a secret which is not
	// even of their form; it leaves out those that do not exist. nil: all do not.
	Owners func(ctx context.Context, q sqlx.ExtContext, keyIDs []string) (map[string]Owner, error)
}

// Owner is whose a key is.
type Owner struct {
	WorkspaceID workspace.ID
	OwnerID     string
}

// Writer records the uses of keys. It writes behind: Record only leaves a note in
// memory, and each flush writes what is noted. A crash loses at most one
// interval; a full memory drops notes, counts them, and the next batch says so.
//
// A strict one loses nothing that was answered: Record waits for the commit, which
// all who wait at the same time share.
type Writer struct {
	db       *schema.DB
	interval time.Duration
	strict   bool
	log      *slog.Logger
	owners   func(ctx context.Context, q sqlx.ExtContext, keyIDs []string) (map[string]Owner, error)

	flushing chan struct{} // one flush at a time
	mu       sync.Mutex
	next     *group
	untold   uint64 // dropped, and no batch says so yet

	dropped atomic.Uint64
}

// group is what one flush writes. done is closed when it was written, or not: err.
type group struct {
	room    int // for how many rows
	proven  []Exchange
	guesses map[guess]*Exchange
	nobodys int // how many of the guesses are at keys that do not exist
	done    chan struct{}
	err     error
}

// guess is what unproven exchanges have in common that become one row.
type guess struct{ workspaceID, keyID, action, outcome, address string }

func newGroup(room int) *group {
	return &group{room: room, guesses: map[guess]*Exchange{}, done: make(chan struct{})}
}

func (g *group) size() int { return len(g.proven) + len(g.guesses) }

// NewWriter makes a writer. Run must be running for anything to be written, but
// for what is proven when it is strict.
func NewWriter(db *schema.DB, o WriterOptions) *Writer {
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Writer{db: db, interval: o.Interval, strict: o.Strict, log: o.Log, owners: o.Owners, flushing: make(chan struct{}, 1), next: newGroup(pendingMax)}
}

// Record notes an exchange. It never blocks, unless the writer is strict: then it
// returns when the exchange is committed, or an error that wraps ErrNotRecorded.
//
// What is folded waits for the next interval even then, whether its key exists or
// not: it costs no commit of its own and its time tells nothing.
func (w *Writer) Record(ctx context.Context, e Exchange) error {
	e.Fold = e.Fold || e.WorkspaceID == ""
	noted := w.note(tidy(e))
	if !w.strict {
		return nil
	}
	if noted == nil {
		return fmt.Errorf("%w: too many others wait", ErrNotRecorded)
	}
	return w.wait(ctx, noted, e.Fold)
}

// tidy makes an exchange one that both databases take.
func tidy(e Exchange) Exchange {
	e.ID, e.Count = "exc_"+workspace.Unique(), max(e.Count, 1)
	e.Address, e.Agent, e.RequestID = clean(e.Address), clean(e.Agent), clean(e.RequestID)
	if e.Detail == "" {
		e.Detail = "{}"
	}
	e.Detail = strings.ToValidUTF8(strings.ReplaceAll(e.Detail, "\x00", ""), "?")
	return e
}

// note remembers an exchange for the next flush, whose group it returns; nil: it
// was dropped.
func (w *Writer) note(e Exchange) *group {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.next.add(e) {
		w.drop(1)
		return nil
	}
	return w.next
}

// drop counts what is lost. The caller holds the lock.
func (w *Writer) drop(n uint64) {
	w.dropped.Add(n)
	w.untold += n
}

// add reports whether there was room.
func (g *group) add(e Exchange) bool {
	if e.Fold {
		return g.addGuess(e)
	}
	if g.size() >= g.room {
		return false
	}
	g.proven = append(g.proven, e)
	return true
}

// addGuess adds to the row of those alike. When there are too many rows, those of
// all further addresses are alike.
func (g *group) addGuess(e Exchange) bool {
	if e.nobodys() {
		e = e.ofNobody()
	}
	row, known := g.guesses[guessOf(e)]
	if !known && g.crowded(e) {
		e.Address, e.Agent, e.RequestID = "", "", ""
		row, known = g.guesses[guessOf(e)]
	}
	if known {
		row.Count += e.Count
		return true
	}
	if g.size() >= g.room {
		return false
	}
	g.guesses[guessOf(e)] = &e
	if e.nobodys() {
		g.nobodys++
	}
	return true
}

func guessOf(e Exchange) guess {
	return guess{string(e.WorkspaceID), e.KeyID, e.Action, e.Outcome, e.Address}
}

// nobodys reports whether an exchange names no key, neither one that was looked up
// nor one whose ID is genuine.
func (e Exchange) nobodys() bool { return e.WorkspaceID == "" && e.KeyID == "" }

// ofNobody keeps of an exchange what may be told when its key does not exist.
func (e Exchange) ofNobody() Exchange {
	e.KeyID, e.OwnerID, e.SecretID, e.Agent, e.RequestID, e.Detail = "", "", "", "", "", "{}"
	return e
}

func (g *group) crowded(e Exchange) bool {
	if e.nobodys() {
		return g.nobodys >= nobodysMax
	}
	return len(g.guesses)-g.nobodys >= guessesMax
}

// wait returns when a group was written. The first who is in a hurry flushes it
// for all others.
func (w *Writer) wait(ctx context.Context, g *group, patient bool) error {
	turn := w.flushing
	if patient {
		turn = nil
	}
	select {
	case <-g.done:
	case turn <- struct{}{}:
		w.flushGroup(ctx, g)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotRecorded, ctx.Err())
	}
	if g.err != nil {
		return fmt.Errorf("%w: %w", ErrNotRecorded, g.err)
	}
	return nil
}

// flushGroup writes a group unless somebody did while the caller waited for its
// turn. It goes on when the caller hangs up, since others wait for it too.
func (w *Writer) flushGroup(ctx context.Context, g *group) {
	defer func() { <-w.flushing }()
	select {
	case <-g.done:
	default:
		_ = w.write(context.WithoutCancel(ctx)) // g.err tells
	}
}

// Run flushes each interval until ctx ends, and then once more.
func (w *Writer) Run(ctx context.Context) {
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.flushAndTell(ctx)
		case <-ctx.Done():
			w.flushAndTell(context.WithoutCancel(ctx))
			return
		}
	}
}

func (w *Writer) flushAndTell(ctx context.Context) {
	if err := w.Flush(ctx); err != nil {
		w.log.Warn("cannot record how keys were used; trying again", "error", err, "pending", w.Pending())
	}
}

// Flush writes what is noted now. What cannot be written is kept for the next
// time, but for what a strict writer's callers were told is not recorded.
func (w *Writer) Flush(ctx context.Context) error {
	select {
	case w.flushing <- struct{}{}:
		defer func() { <-w.flushing }()
		return w.write(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Prune removes all batches that are wholly older than an instant, in as many
// transactions as that takes.
func (w *Writer) Prune(ctx context.Context, before workspace.Time) error {
	for removed := int64(1); removed > 0; {
		err := w.db.InTx(ctx, func(ctx context.Context, tx sqlx.ExtContext) (err error) {
			removed, err = Prune(ctx, tx, before)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Dropped counts the exchanges that were lost.
func (w *Writer) Dropped() uint64 { return w.dropped.Load() }

// Pending is how many rows wait to be written.
func (w *Writer) Pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next.size()
}

// write takes the next group and writes it, a batch a transaction. The caller has
// the turn.
func (w *Writer) write(ctx context.Context) error {
	w.mu.Lock()
	g, untold := w.next, w.untold
	w.next, w.untold = newGroup(g.room), 0
	w.mu.Unlock()
	defer close(g.done)

	rows := g.rows()
	rows, g.err = w.attribute(ctx, rows)
	for len(rows) > 0 && g.err == nil {
		batch := rows[:min(len(rows), batchMax)]
		if g.err = w.writeBatch(ctx, batch, untold); g.err == nil {
			rows, untold = rows[len(batch):], 0
		}
	}
	w.keep(rows, untold)
	return g.err
}

// attribute finds the workspaces of keys that were only named.
func (w *Writer) attribute(ctx context.Context, rows []Exchange) ([]Exchange, error) {
	var named []string
	for _, e := range rows {
		if e.WorkspaceID == "" && e.KeyID != "" {
			named = append(named, e.KeyID)
		}
	}
	if len(named) == 0 {
		return rows, nil
	}
	owners, err := w.ownersOf(ctx, named)
	if err != nil {
		return rows, err
	}
	for i, e := range rows {
		if e.WorkspaceID != "" || e.KeyID == "" {
			continue
		}
		owner, exists := owners[e.KeyID]
		if !exists {
			rows[i] = e.ofNobody()
			continue
		}
		rows[i].WorkspaceID, rows[i].OwnerID = owner.WorkspaceID, owner.OwnerID
	}
	return rows, nil
}

func (w *Writer) ownersOf(ctx context.Context, named []string) (map[string]Owner, error) {
	if w.owners == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	slices.Sort(named)
	return w.owners(ctx, w.db.Reader(), slices.Compact(named))
}

// rows are in the order in which they were noted, the guesses at their first.
func (g *group) rows() []Exchange {
	rows := g.proven
	for e := range maps.Values(g.guesses) {
		rows = append(rows, *e)
	}
	slices.SortStableFunc(rows, func(a, b Exchange) int { return strings.Compare(a.ID, b.ID) })
	return rows
}

func (w *Writer) writeBatch(ctx context.Context, batch []Exchange, untold uint64) error {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	return w.db.InTx(ctx, func(ctx context.Context, tx sqlx.ExtContext) error {
		return appendBatch(ctx, tx, workspace.At(time.Now()), batch, untold)
	})
}

// keep takes back what was not written, as far as there is room.
func (w *Writer) keep(rows []Exchange, untold uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.untold += untold
	if w.strict {
		return // who recorded them was told
	}
	newer := w.next.rows()
	w.next.reset()
	for _, e := range append(rows, newer...) {
		if !w.next.add(e) {
			w.drop(uint64(e.Count))
		}
	}
}

// reset empties a group, for the same who wait.
func (g *group) reset() {
	g.proven, g.guesses, g.nobodys = nil, map[guess]*Exchange{}, 0
}
