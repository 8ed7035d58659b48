package quota

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Run writes what was counted until ctx ends, and then once more. Once a day it
// deletes what is older than 400 days.
func (c *Counters) Run(ctx context.Context) {
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			// A statement under way is not cut off: its outcome would be unknown.
			c.write(context.WithoutCancel(ctx))
			c.pruneDaily(ctx)
		case <-ctx.Done():
			c.write(context.WithoutCancel(ctx))
			return
		}
	}
}

func (c *Counters) write(ctx context.Context) {
	if err := c.Flush(ctx); err != nil {
		c.log.Warn("cannot write how many exchanges there were; trying again", "error", err)
	}
}

// Flush writes what is counted now and learns the totals of all replicas. What
// cannot be written is kept for the next time, unless it may have been written. It
// takes no longer than 5 s.
func (c *Counters) Flush(ctx context.Context) error {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	c.forget()
	rows := c.gather()
	if len(rows) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	// Asked first, a database that does not answer leaves nothing in doubt.
	err := probe(ctx, c.db.Writer())
	for batch := range slices.Chunk(rows, rowBatch) {
		if err != nil {
			c.giveBack(batch)
			continue
		}
		var totals []total
		if totals, err = c.send(ctx, batch); err != nil && !undone(err) {
			c.drop(batch)
		} else if err != nil {
			c.giveBack(batch)
		} else {
			c.settle(batch, totals)
		}
		workspace.GiveWay(0) // on a single processor exchanges wait behind the statement, and not behind all
	}
	return err
}

// gather takes what is to be written. Everywhere in one order, so that replicas do
// not block each other.
func (c *Counters) gather() []row {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending, c.pending = c.pending, map[row]int64{}
	return slices.SortedFunc(maps.Keys(c.sending), func(a, b row) int {
		return cmp.Or(cmp.Compare(a.workspace, b.workspace), cmp.Compare(a.period, b.period))
	})
}

// total is one row of SQL.
type total struct {
	Workspace workspace.ID `db:"workspace_id"`
	Period    string       `db:"period"`
	Exchanges int64        `db:"exchanges"`
}

// send adds a batch in one statement: all of it or nothing.
func (c *Counters) send(ctx context.Context, batch []row) (totals []total, err error) {
	args := make([]any, 0, 3*len(batch))
	c.mu.Lock()
	for _, r := range batch {
		args = append(args, r.workspace, r.period, c.sending[r])
	}
	c.mu.Unlock()
	marks := strings.TrimSuffix(strings.Repeat("(?, ?, ?), ", len(batch)), ", ")
	err = sqlx.SelectContext(ctx, c.db.Writer(), &totals, `INSERT INTO exchange_counts (workspace_id, period, exchanges) VALUES `+marks+`
		ON CONFLICT (workspace_id, period) DO UPDATE SET exchanges = exchange_counts.exchanges + excluded.exchanges
		RETURNING workspace_id, period, exchanges`, args...)
	return totals, err
}

func probe(ctx context.Context, db sqlx.ExtContext) error {
	var one []int
	return sqlx.SelectContext(ctx, db, &one, "SELECT 1")
}

// undone reports whether the database itself answered with the error, and so has
// undone the statement. A PostgreSQL that is told to stop may have committed it.
func undone(err error) bool {
	var postgres interface{ SQLState() string }
	var sqlite interface{ Code() int }
	if errors.As(err, &postgres) {
		return !strings.HasPrefix(postgres.SQLState(), "57P")
	}
	return errors.As(err, &sqlite)
}

// settle takes a batch that is written out of memory. The total may be less than
// what is known here: exchanges in doubt may be missing from it.
func (c *Counters) settle(batch []row, totals []total) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range batch {
		c.read[r] += c.sending[r]
		delete(c.sending, r)
	}
	for _, t := range totals {
		c.learn(row{t.Workspace, t.Period}, t.Exchanges)
	}
}

// giveBack merges a batch that is certainly not written into what has come since.
func (c *Counters) giveBack(batch []row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range batch {
		c.add(r, c.sending[r])
		delete(c.sending, r)
	}
}

// drop gives up a batch of which nobody knows whether it is written. Here the
// exchanges are known, and go on to count.
func (c *Counters) drop(batch []row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range batch {
		c.dropped.Add(uint64(c.sending[r]))
		c.read[r] += c.sending[r]
		delete(c.sending, r)
	}
}

// forget drops totals of periods that are over, and all of them if there are too
// many: they are read again.
func (c *Counters) forget() {
	today := c.calendars.at(c.now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.read) > maxRows {
		clear(c.read)
		clear(c.loaded)
	}
	if c.tidied == today.day {
		return
	}
	c.tidied = today.day
	maps.DeleteFunc(c.read, func(r row, _ int64) bool { return r.period != today.day && r.period != today.month })
	maps.DeleteFunc(c.loaded, func(in workspace.ID, _ time.Time) bool { return !c.isLoaded(in, today) })
}

// pruneDaily deletes what is older than keepTotals, at its first call of a day.
func (c *Counters) pruneDaily(ctx context.Context) {
	today := c.calendars.at(c.now())
	if c.pruned == today.day {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if _, err := c.Prune(ctx, Day(today.dayStart.Add(-keepTotals))); err != nil {
		c.log.Warn("cannot delete old counts of exchanges; trying again", "error", err)
		return
	}
	c.pruned = today.day
}

// Prune deletes the counts of days before a day, and of months that ended before
// its month or are it. It returns how many.
func (c *Counters) Prune(ctx context.Context, before string) (int64, error) {
	result, err := c.db.Writer().ExecContext(ctx, "DELETE FROM exchange_counts WHERE period < ?", before)
	if err != nil {
		return 0, fmt.Errorf("delete counts of exchanges before %s: %w", before, err)
	}
	return result.RowsAffected()
}
