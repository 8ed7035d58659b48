package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	pendingMax   = 100_000          // exchanges remembered between two flushes: some 40 MB, and as much again while they are written
	batchMax     = 1_000            // rows of one transaction, or a quarter more when they are the last
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
// interval; a full memory drops notes, counts them, and the next batch says so. What
// a broken connection committed after all, without being able to say so, is there twice.
//
// A strict one loses nothing that was answered: Record waits for the commit, which
// all who wait at the same time share.
type Writer struct {
	db       *schema.DB
	insert   insertFunc
	enough   int // proven ones that do not wait for the interval
	interval time.Duration
	strict   bool
	log      *slog.Logger
	owners   func(ctx context.Context, q sqlx.ExtContext, keyIDs []string) (map[string]Owner, error)

	full     chan struct{} // enough wait
	flushing chan struct{} // one flush at a time
	mu       sync.Mutex
	next     *group
	untold   uint64 // dropped, and no batch says so yet

	dropped  atomic.Uint64
	failures atomic.Uint64
}

// NewWriter makes a writer. Run must be running for anything to be written, but
// for what is proven when it is strict.
func NewWriter(db *schema.DB, o WriterOptions) *Writer {
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	insert, enough := insertFor(db.Dialect())
	return &Writer{
		db: db, insert: insert, enough: enough, interval: o.Interval, strict: o.Strict, log: o.Log, owners: o.Owners,
		full: make(chan struct{}, 1), flushing: make(chan struct{}, 1), next: newGroup(pendingMax, 0),
	}
}

// Record notes an exchange. It never blocks, unless the writer is strict: then it
// returns when the exchange is committed, or an error that wraps ErrNotRecorded.
//
// What is folded waits for the next interval even then, whether its key exists or
// not: it costs no commit of its own and its time tells nothing.
func (w *Writer) Record(ctx context.Context, e Exchange) error {
	e.Fold = e.Fold || e.WorkspaceID == ""
	tidy(&e)
	noted := w.note(&e)
	if !w.strict {
		return nil
	}
	if noted == nil {
		return fmt.Errorf("%w: too many others wait", ErrNotRecorded)
	}
	return w.wait(ctx, noted, e.Fold)
}

// tidy makes an exchange one that both databases take.
func tidy(e *Exchange) {
	e.Count = max(e.Count, 1)
	e.Address, e.Agent, e.RequestID = clean(e.Address), clean(e.Agent), clean(e.RequestID)
	if e.Detail == "" {
		e.Detail = "{}"
	}
	e.Detail = workspace.Storable(e.Detail)
}

// note remembers an exchange for the next flush, whose group it returns; nil: it
// was dropped. Every exchange passes here, so the lock is held for no more than that.
func (w *Writer) note(e *Exchange) *group {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.next.add(e) {
		w.drop(1)
		return nil
	}
	// Told once only: a database that is away is asked again each interval, not each time.
	if len(w.next.proven) == w.enough && !e.Fold && !w.strict {
		select {
		case w.full <- struct{}{}:
		default:
		}
	}
	return w.next
}

// drop counts what is lost. The caller holds the lock.
func (w *Writer) drop(n uint64) {
	w.dropped.Add(n)
	w.untold += n
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
		_ = w.write(context.WithoutCancel(ctx), w.take()) // g.err tells
	}
}

// Run flushes each interval until ctx ends, and then once more. When many wait it
// writes those that are proven sooner: small batches hold up less than large ones.
func (w *Writer) Run(ctx context.Context) {
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	whole := context.WithoutCancel(ctx) // a batch under way is not cut off
	for {
		select {
		case <-tick.C:
			w.tell(w.Flush(whole))
		case <-w.full:
			w.tell(w.flush(whole, w.takeProven))
		case <-ctx.Done():
			w.tell(w.Flush(whole))
			return
		}
	}
}

func (w *Writer) tell(err error) {
	if err != nil {
		w.log.Warn("cannot record how keys were used; trying again", "error", err, "pending", w.Pending())
	}
}

// Flush writes what is noted now. What cannot be written is kept for the next
// time, but for what a strict writer's callers were told is not recorded.
func (w *Writer) Flush(ctx context.Context) error { return w.flush(ctx, w.take) }

func (w *Writer) flush(ctx context.Context, take func() *group) error {
	select {
	case w.flushing <- struct{}{}:
		defer func() { <-w.flushing }()
		return w.write(ctx, take())
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

// Failures counts the attempts to write that failed. Each is tried again, unless the
// writer is strict.
func (w *Writer) Failures() uint64 { return w.failures.Load() }

// Pending is how many rows wait to be written.
func (w *Writer) Pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next.size()
}

// take takes what is noted. The caller has the turn.
func (w *Writer) take() *group {
	next := w.successor()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.handOver(next)
}

// takeProven leaves the guesses for the interval, so that they become no more rows
// than without the many that are proven. Nobody waits for its group.
func (w *Writer) takeProven() *group {
	next := w.successor()
	w.mu.Lock()
	defer w.mu.Unlock()
	next.inherit(w.next)
	return w.handOver(next)
}

// successor makes the group after the one that is next. It has memory for a few more
// already: whoever records would wait while it grows.
func (w *Writer) successor() *group {
	w.mu.Lock()
	room, n := w.next.room, len(w.next.proven)
	w.mu.Unlock()
	return newGroup(room, min(n+n/4, 2*w.enough))
}

// handOver returns the group that was next. The caller holds the lock.
func (w *Writer) handOver(next *group) *group {
	g := w.next
	g.untold, w.untold = w.untold, 0
	w.next = next
	return g
}

// write writes a group, a batch a transaction. The caller has the turn.
func (w *Writer) write(ctx context.Context, g *group) error {
	defer close(g.done)

	rows, untold := g.rows(), g.untold
	rows, g.err = w.attribute(ctx, rows)
	for len(rows) > 0 && g.err == nil {
		batch := firstBatch(rows)
		if g.err = w.writeBatch(ctx, batch, untold); g.err == nil {
			rows, untold = rows[len(batch):], 0
		}
	}
	if g.err != nil {
		w.failures.Add(1)
	}
	w.keep(rows, untold)
	return g.err
}

// firstBatch leaves no small rest, which would cost a commit of its own.
func firstBatch(rows []Exchange) []Exchange {
	if len(rows) <= batchMax+batchMax/4 {
		return rows
	}
	return rows[:batchMax]
}

// attribute finds the workspaces of keys that were only named.
func (w *Writer) attribute(ctx context.Context, rows []Exchange) ([]Exchange, error) {
	var named []string
	for i := range rows {
		if e := &rows[i]; e.WorkspaceID == "" && e.KeyID != "" {
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
	for i := range rows {
		e := &rows[i]
		if e.WorkspaceID != "" || e.KeyID == "" {
			continue
		}
		owner, exists := owners[e.KeyID]
		if !exists {
			*e = e.ofNobody()
			continue
		}
		e.WorkspaceID, e.OwnerID = owner.WorkspaceID, owner.OwnerID
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

func (w *Writer) writeBatch(ctx context.Context, batch []Exchange, untold uint64) error {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	return w.db.InTx(ctx, func(ctx context.Context, tx sqlx.ExtContext) error {
		return w.appendBatch(ctx, tx, batch, untold)
	})
}

// keep takes back what was not written, as far as there is room. Those who record
// meanwhile wait only while what they have noted moves behind it.
func (w *Writer) keep(rows []Exchange, untold uint64) {
	w.mu.Lock()
	w.untold += untold
	room := w.next.room
	w.mu.Unlock()
	if w.strict || len(rows) == 0 {
		return // who recorded them was told
	}
	kept := newGroup(room, 0)
	lost := kept.addAll(rows)

	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop(lost + kept.addAll(w.next.rows()))
	w.next = kept
}
