package keys

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Bounds of the usage writer.
const (
	usagePending = 100_000 // secrets remembered between two writes
	usageBatch   = 200     // rows of one statement: four parameters each
	usageTimeout = 5 * time.Second
	agentLength  = 256 // bytes of a user agent that are kept
)

// Use is one successful exchange.
type Use struct {
	SecretID string
	At       workspace.Time
	Address  string
	Agent    string
}

// UsageWriter keeps when, from where and by what each secret was last used, and
// when a key was last refused. It writes behind: exchanges only leave a note in
// memory, of which the newest per secret goes to the database in batches. A
// crash loses at most one interval; a full memory drops notes and counts them.
type UsageWriter struct {
	writer   sqlx.ExtContext
	interval time.Duration
	log      *slog.Logger

	mu     sync.Mutex
	used   map[string]*Use
	failed map[ID]workspace.Time

	dropped atomic.Uint64
}

// NewUsageWriter makes a writer that writes once per interval. Run must be
// running for anything to be written.
func NewUsageWriter(writer sqlx.ExtContext, interval time.Duration, log *slog.Logger) *UsageWriter {
	return &UsageWriter{writer: writer, interval: interval, log: log, used: map[string]*Use{}, failed: map[ID]workspace.Time{}}
}

// Used notes a successful exchange.
func (w *UsageWriter) Used(u Use) {
	u.Agent = workspace.Storable(u.Agent[:min(len(u.Agent), agentLength)])
	w.mu.Lock()
	defer w.mu.Unlock()
	if note := w.used[u.SecretID]; note != nil {
		if u.At.After(note.At.Time) { // exchanges overtake each other
			*note = u // in place: one look-up for a key that is used all the time
		}
		return
	}
	if len(w.used) >= usagePending {
		w.dropped.Add(1)
		return
	}
	note := new(Use) // not &u, which would be allocated for every exchange
	*note = u
	w.used[u.SecretID] = note
}

// Failed notes that an exchange with a known key was refused. The empty ID is
// nobody's: it takes the same time and is not written.
func (w *UsageWriter) Failed(id ID, at workspace.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.failed[id]; !known && len(w.failed) >= usagePending {
		w.dropped.Add(1)
		return
	}
	w.failed[id] = at
}

// Dropped counts the notes that were lost.
func (w *UsageWriter) Dropped() uint64 { return w.dropped.Load() }

// Run writes until ctx ends, and then once more.
func (w *UsageWriter) Run(ctx context.Context) {
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.Flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), usageTimeout)
			w.Flush(last)
			cancel()
			return
		}
	}
}

// Flush writes what is noted now. Notes that cannot be written are kept for the
// next time, unless newer ones have come.
func (w *UsageWriter) Flush(ctx context.Context) {
	w.mu.Lock()
	used, failed := w.used, w.failed
	w.used, w.failed = map[string]*Use{}, map[ID]workspace.Time{}
	w.mu.Unlock()
	delete(failed, "")

	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	var err error
	for batch := range slices.Chunk(slices.Collect(maps.Values(used)), usageBatch) {
		if err == nil {
			err = writeUses(ctx, w.writer, batch)
			workspace.GiveWay(0) // on a single processor exchanges wait behind the statement, and not behind all
		}
		if err != nil {
			w.keepUsed(batch)
		}
	}
	for batch := range slices.Chunk(slices.Collect(maps.Keys(failed)), usageBatch) {
		if err == nil {
			err = writeFailures(ctx, w.writer, batch, failed)
			workspace.GiveWay(0)
		}
		if err != nil {
			w.keepFailed(batch, failed)
		}
	}
	if err != nil {
		w.log.Warn("cannot write when keys were last used; trying again", "error", err)
	}
}

func (w *UsageWriter) keepUsed(batch []*Use) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range batch {
		keep(w, w.used, u.SecretID, u)
	}
}

func (w *UsageWriter) keepFailed(batch []ID, at map[ID]workspace.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range batch {
		keep(w, w.failed, id, at[id])
	}
}

// keep puts a note back unless a newer one has come or there is no room.
func keep[K comparable, V any](w *UsageWriter, notes map[K]V, key K, note V) {
	if _, newer := notes[key]; newer {
		return
	}
	if len(notes) >= usagePending {
		w.dropped.Add(1)
		return
	}
	notes[key] = note
}

// writeUses updates many rows in one statement. An older note never replaces a
// newer one of another replica.
func writeUses(ctx context.Context, writer sqlx.ExtContext, batch []*Use) error {
	// One order everywhere makes it unlikely that replicas block each other; if
	// they do, the database ends one statement and its notes go with the next.
	slices.SortFunc(batch, func(a, b *Use) int { return strings.Compare(a.SecretID, b.SecretID) })
	args := make([]any, 0, 4*len(batch))
	for _, u := range batch {
		args = append(args, u.SecretID, u.At, u.Address, u.Agent)
	}
	_, err := writer.ExecContext(ctx, `WITH note (id, at, address, agent) AS (VALUES `+
		typed(`(CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS TEXT))`, `(?, ?, ?, ?)`, len(batch))+`)
		UPDATE key_secrets SET last_used_at = note.at, last_used_address = note.address, last_used_agent = note.agent
		FROM note WHERE key_secrets.id = note.id AND (last_used_at IS NULL OR last_used_at < note.at)`, args...)
	return err
}

func writeFailures(ctx context.Context, writer sqlx.ExtContext, batch []ID, at map[ID]workspace.Time) error {
	slices.Sort(batch)
	args := make([]any, 0, 2*len(batch))
	for _, id := range batch {
		args = append(args, id, at[id])
	}
	_, err := writer.ExecContext(ctx, `WITH note (id, at) AS (VALUES `+typed(`(CAST(? AS TEXT), CAST(? AS BIGINT))`, `(?, ?)`, len(batch))+`)
		UPDATE keys SET last_failed_at = note.at
		FROM note WHERE keys.id = note.id AND (last_failed_at IS NULL OR last_failed_at < note.at)`, args...)
	return err
}

// typed is rows of which the first gives PostgreSQL the types of all; SQLite has the
// less to parse.
func typed(first, other string, rows int) string {
	return strings.TrimSuffix(first+", "+repeat(other, rows-1), ", ")
}

func repeat(row string, n int) string {
	return strings.TrimSuffix(strings.Repeat(row+", ", n), ", ")
}
