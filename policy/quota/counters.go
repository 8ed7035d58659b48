package quota

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/singleflight"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Bounds of Counters.
const (
	maxRows       = 200_000 // counts remembered between two flushes: a day and a month of each workspace
	rowBatch      = 200     // rows of one statement: three parameters each
	flushTimeout  = 5 * time.Second
	loadTimeout   = time.Second
	loadPause     = time.Second          // after a failure, before totals are read again
	keepTotals    = 400 * 24 * time.Hour // in SQL
	flushInterval = 5 * time.Second
)

// errJustFailed stands for a reading that is not tried again yet.
var errJustFailed = errors.New("the totals of exchanges could not be read a moment ago")

// Database is where Counters keep their totals.
type Database interface {
	Reader() sqlx.ExtContext
	Writer() sqlx.ExtContext
}

// Counters count the exchanges of each workspace by UTC day and month. They write
// behind: an exchange only leaves a note in memory, and each interval what has come
// is added to the totals in SQL, which are those of all replicas.
//
// No exchange is ever counted twice. Some may be missing: those of the last
// interval when the process dies, those of one statement when the database fails so
// that nobody can know whether it was executed, and those that found the memory
// full. The latter two are counted by Dropped.
type Counters struct {
	db        Database
	interval  time.Duration
	log       *slog.Logger
	now       func() time.Time
	calendars calendars
	loads     singleflight.Group
	flushing  sync.Mutex // one flush at a time
	pruned    string     // the day on which old rows were deleted last; Run's own
	tidied    string     // the day on which totals were forgotten last; the flush's own

	mu        sync.Mutex
	pending   map[row]int64              // not written yet
	sending   map[row]int64              // being written
	read      map[row]int64              // totals as they were last read
	loaded    map[workspace.ID]time.Time // when totals were read last
	loadAgain time.Time                  // not before

	dropped atomic.Uint64
}

// row is one count.
type row struct {
	workspace workspace.ID
	period    string
}

// NewCounters makes counters that write once per interval; zero: every 5 s. Run
// must be running for anything to be written. nil: slog.Default and time.Now.
func NewCounters(db Database, interval time.Duration, log *slog.Logger, now func() time.Time) *Counters {
	if interval <= 0 {
		interval = flushInterval
	}
	if log == nil {
		log = slog.Default()
	}
	if now == nil {
		now = time.Now
	}
	return &Counters{
		db: db, interval: interval, log: log, now: now,
		pending: map[row]int64{}, read: map[row]int64{}, loaded: map[workspace.ID]time.Time{},
	}
}

// Add counts one exchange.
func (c *Counters) Add(in workspace.ID, at time.Time) {
	today := c.calendars.at(at)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(row{in, today.day}, 1)
	c.add(row{in, today.month}, 1)
}

// add keeps a note unless there is no room.
func (c *Counters) add(r row, n int64) {
	if len(c.pending) >= maxRows { // asked first: the common case is one look-up
		if _, known := c.pending[r]; !known {
			c.dropped.Add(uint64(n))
			return
		}
	}
	c.pending[r] += n
}

// Total is how many exchanges a workspace had in a period that Day or Month names:
// those of all replicas as last read, and what this one has counted since. Before
// Load has succeeded the former are unknown.
func (c *Counters) Total(in workspace.ID, period string) int64 {
	r := row{in, period}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read[r] + c.sending[r] + c.pending[r]
}

// Dropped counts the notes that are missing from the totals; an exchange leaves
// two, for its day and its month.
func (c *Counters) Dropped() uint64 { return c.dropped.Load() }

// Load reads the totals of a workspace for today and this month, unless they are
// known. After an error it does not try again for a second.
func (c *Counters) Load(ctx context.Context, in workspace.ID) error {
	now := c.now()
	today := c.calendars.at(now)
	c.mu.Lock()
	known, wait := c.isLoaded(in, today), c.loadAgain.Sub(now)
	c.mu.Unlock()
	if known {
		return nil
	}
	if wait > 0 {
		return errJustFailed
	}
	return c.loadOnce(ctx, in, today)
}

func (c *Counters) isLoaded(in workspace.ID, today *calendar) bool {
	at, loaded := c.loaded[in]
	return loaded && !at.Before(today.dayStart)
}

// Refresh begins to read the totals of a workspace anew if they are older than one
// interval, and does not wait: for who has to know what other replicas have counted.
func (c *Counters) Refresh(in workspace.ID) {
	now := c.now()
	c.mu.Lock()
	due := now.Sub(c.loaded[in]) >= c.interval && !now.Before(c.loadAgain)
	c.mu.Unlock()
	if due {
		c.loads.DoChan(string(in), func() (any, error) {
			return nil, c.load(context.Background(), in, c.calendars.at(now))
		})
	}
}

// loadOnce shares one reading among all who need it. Whoever leaves must not spoil
// it for the others.
func (c *Counters) loadOnce(ctx context.Context, in workspace.ID, today *calendar) error {
	done := c.loads.DoChan(string(in), func() (any, error) {
		return nil, c.load(context.WithoutCancel(ctx), in, today)
	})
	select {
	case result := <-done:
		return result.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Counters) load(ctx context.Context, in workspace.ID, today *calendar) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	totals, err := Totals(ctx, c.db.Reader(), in, today.day, today.month)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.loadAgain = c.now().Add(loadPause)
		c.log.Warn("cannot read how many exchanges there were; going on with what is known", "error", err)
		return err
	}
	for i, period := range []string{today.day, today.month} {
		r := row{in, period}
		// What is just being written may be in the total already.
		c.learn(r, totals[i]-c.sending[r])
	}
	if len(c.loaded) >= maxRows/2 {
		clear(c.loaded) // they are read again when they are asked for
	}
	c.loaded[in] = c.now()
	return nil
}

// learn takes in a total. It never falls: reads may overtake each other.
func (c *Counters) learn(r row, total int64) {
	if old := c.read[r]; total > old {
		c.read[r] = total
	}
}
