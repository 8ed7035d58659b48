package keys_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
)

// turnstile is a database connection that lets queries pass one by one. It counts how
// many are at it or beyond at the same time.
type turnstile struct {
	sqlx.ExtContext
	arrived chan struct{} // one for each query that came
	pass    chan struct{} // one for each that may pass; closed: all may

	within, most atomic.Int64
}

func (g *turnstile) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	within := g.within.Add(1)
	for most := g.most.Load(); within > most && !g.most.CompareAndSwap(most, within); most = g.most.Load() {
	}
	g.arrived <- struct{}{}
	<-g.pass // in front of the pool, whose connections are for all replicas
	rows, err := g.ExtContext.QueryxContext(ctx, query, args...)
	g.within.Add(-1)
	return rows, err
}

// Replicas that start together, under load and with nothing in memory, read each key
// once, a replica, eight at a time; and nobody who asks is turned away.
func TestColdStartOfManyReplicas(t *testing.T) {
	const replicas, cold, callers, atOnce = 8, 25, 4, 8
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		var ids []keys.ID
		for range cold {
			ids = append(ids, h.key().ID)
		}
		before := db.Queries()
		var running sync.WaitGroup
		var gates []*turnstile
		var directories []*keys.Directory
		for range replicas {
			g := &turnstile{ExtContext: db.Reader(), arrived: make(chan struct{}, replicas*cold*callers), pass: make(chan struct{})}
			d := newDirectory(t, g, held)
			running.Go(func() { oneByOne(g, atOnce, cold) })
			running.Go(func() { stampede(t, d, ids, callers) })
			gates, directories = append(gates, g), append(directories, d)
		}
		running.Wait()
		for i, d := range directories {
			if most, loads := gates[i].most.Load(), d.Loads(); most != atOnce || loads != cold {
				t.Errorf("a cold replica sent %d reads at once and %d in all, want %d and %d", most, loads, atOnce, cold)
			}
		}
		if n := db.Queries() - before; n != replicas*cold {
			t.Errorf("%d replicas with %d keys in use sent %d statements, want one for each key of each", replicas, cold, n)
		}
	})
}

// oneByOne waits until as many queries as may be have come, and lets one pass for each
// further one that comes, so that there is always one more than would be right if one
// could come too early.
func oneByOne(g *turnstile, atOnce, all int) {
	for range atOnce {
		<-g.arrived
	}
	for range all - atOnce {
		g.pass <- struct{}{}
		<-g.arrived
	}
	close(g.pass)
}

// stampede has several callers ask for every key at the same time.
func stampede(t *testing.T, d *keys.Directory, ids []keys.ID, callers int) {
	var running sync.WaitGroup
	for _, id := range ids {
		for range callers {
			running.Go(func() {
				if record, err := d.Lookup(t.Context(), id); err != nil || record.ID != id {
					t.Errorf("Lookup(%s): %v", id, err)
				}
			})
		}
	}
	running.Wait()
}
