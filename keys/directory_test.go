package keys_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

func held(context.Context) bool { return true }

func lapsed(context.Context) bool { return false }

func newDirectory(t *testing.T, reader sqlx.ExtContext, lease func(context.Context) bool) *keys.Directory {
	t.Helper()
	directory, err := keys.NewDirectory(reader, lease, 100)
	return must(t, directory, err)
}

func lookup(t *testing.T, d *keys.Directory, id keys.ID) *keys.Record {
	t.Helper()
	record, err := d.Lookup(t.Context(), id)
	return must(t, record, err)
}

func TestKnownKeyCostsNoSQL(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		id, d := h.key().ID, newDirectory(t, db.Reader(), held)
		lookup(t, d, id)
		before := db.Queries()
		for range 1000 {
			if got := lookup(t, d, id); got.ID != id {
				t.Fatalf("found %s", got.ID)
			}
		}
		if n := db.Queries() - before; n != 0 {
			t.Errorf("1000 look-ups of a known key sent %d statements", n)
		}
		check(t, db.Close())
		lookup(t, d, id) // the lease is held: the database may be gone
	})
}

func TestColdKeyIsReadOnce(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	for range 20 {
		id, d := h.key().ID, newDirectory(t, h.Database.Reader(), held)
		var running sync.WaitGroup
		for range 64 {
			running.Go(func() {
				if record, err := d.Lookup(t.Context(), id); err != nil || record.ID != id {
					t.Errorf("Lookup: %v", err)
				}
			})
		}
		running.Wait()
		if n := d.Loads(); n != 1 {
			t.Fatalf("64 look-ups of one cold key read it %d times", n)
		}
	}
}

// A change of the key, of its owner or of its workspace is seen once the batch
// that has it was taken in; one of something else costs nothing.
func forget(t testing.TB, d *keys.Directory, b change.Batch) {
	t.Helper()
	check(t, d.Forget(t.Context(), b))
}

func TestForget(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		id, d := h.key().ID, newDirectory(t, db.Reader(), held)
		for _, test := range []struct {
			subject string
			change  func()
			seen    func(*keys.Record) bool
		}{
			{string(id), func() { h.bump(id) }, func(r *keys.Record) bool { return r.Generation == 2 }},
			{string(h.sa.ID), func() { check(t, h.DisableServiceAccount(t.Context(), operator, h.ws.ID, h.sa.ID)) },
				func(r *keys.Record) bool { return !r.OwnerDisabledAt.IsZero() && r.OwnerGeneration == 2 }},
			{string(h.ws.ID), func() { check(t, h.SuspendWorkspace(t.Context(), operator, h.ws.ID)) },
				func(r *keys.Record) bool { return !r.WorkspaceSuspendedAt.IsZero() && r.WorkspaceGeneration == 2 }},
		} {
			old := lookup(t, d, id)
			test.change()
			forget(t, d, batch(h.seq(), "sa_another"))
			if lookup(t, d, id) != old {
				t.Errorf("%s: a change of something else was enough to read the key anew", test.subject)
			}
			forget(t, d, batch(h.seq(), test.subject))
			if !test.seen(lookup(t, d, id)) {
				t.Errorf("the change of %s is not seen", test.subject)
			}
		}
	})
}

func batch(seq int64, subjects ...string) change.Batch {
	b := change.Batch{Seq: seq, Subjects: map[string]bool{}, Complete: true}
	for _, s := range subjects {
		b.Subjects[s] = true
	}
	return b
}

// When a batch is incomplete, or too many subjects changed to remember each,
// everything is forgotten.
func TestForgetEverything(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	many := func(name string, n int) (subjects []string) {
		for i := range n {
			subjects = append(subjects, fmt.Sprintf("%s_%d", name, i))
		}
		return subjects
	}
	for name, forget := range map[string]func(*keys.Directory){
		"incomplete": func(d *keys.Directory) { forget(t, d, change.Batch{Seq: h.seq()}) },
		"one large":  func(d *keys.Directory) { forget(t, d, batch(h.seq(), many("a", 40_000)...)) },
		"several large": func(d *keys.Directory) {
			forget(t, d, batch(h.seq(), many("a", 20_000)...))
			forget(t, d, batch(h.seq(), many("b", 20_000)...))
		},
	} {
		id, d := h.key().ID, newDirectory(t, h.Database.Reader(), held)
		if lookup(t, d, id).Generation != 1 {
			t.Fatal("the key is not new")
		}
		h.bump(id)
		forget(d)
		if got := lookup(t, d, id).Generation; got != 2 {
			t.Errorf("%s: generation %d after everything was forgotten, want 2", name, got)
		}
		before := d.Loads()
		lookup(t, d, id)
		if d.Loads() != before {
			t.Errorf("%s: the key is not kept any more", name)
		}
	}
}

// gate is a database connection that can be held up: it sends the query and
// withholds what comes back.
type gate struct {
	sqlx.ExtContext
	read chan struct{} // one for each query that has been answered
	open chan struct{} // closed: results pass
}

func newGate(reader sqlx.ExtContext) *gate {
	return &gate{ExtContext: reader, read: make(chan struct{}, 100), open: make(chan struct{})}
}

func (g *gate) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	rows, err := g.ExtContext.QueryxContext(ctx, query, args...)
	g.read <- struct{}{}
	<-g.open
	return rows, err
}

// A record that was read before a change and arrives after it is not used, by
// whoever asked first nor by anyone later.
func TestRecordOvertakenByAChange(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		id, g := h.key().ID, newGate(db.Reader())
		d := newDirectory(t, g, held)
		first := make(chan *keys.Record)
		go func() {
			record, err := d.Lookup(t.Context(), id)
			if err != nil {
				t.Errorf("Lookup: %v", err)
			}
			first <- record
		}()
		<-g.read
		h.bump(id)
		forget(t, d, batch(h.seq(), string(id)))
		close(g.open)
		for _, record := range []*keys.Record{<-first, lookup(t, d, id)} {
			if record.Generation != 2 {
				t.Errorf("generation %d is used after the change, want 2", record.Generation)
			}
		}
	})
}

// Whoever hangs up is answered at once; the read goes on for the others.
func TestHangingUpFailsNobodyElse(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	id, g := h.key().ID, newGate(h.Database.Reader())
	d := newDirectory(t, g, held)
	ctx, hangUp := context.WithCancel(t.Context())
	var impatient error
	var running, others sync.WaitGroup
	running.Go(func() { _, impatient = d.Lookup(ctx, id) })
	<-g.read
	for range 10 {
		others.Go(func() {
			if _, err := d.Lookup(t.Context(), id); err != nil {
				t.Errorf("another caller: %v", err)
			}
		})
	}
	hangUp()
	running.Wait()
	if !errors.Is(impatient, keys.ErrUnavailable) || !errors.Is(impatient, context.Canceled) {
		t.Errorf("the caller who hung up: %v, want ErrUnavailable and Canceled", impatient)
	}
	close(g.open)
	others.Wait()
	if n := d.Loads(); n != 1 {
		t.Errorf("the key was read %d times", n)
	}
}

// Once a change has returned, no look-up answers by what was before, on the
// replica's own lease, however the two race.
func TestNoLookupIsOlderThanAFinishedChange(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		id := h.key().ID
		follower := &change.Follower{Database: db, Timing: timing, Log: discard}
		d := newDirectory(t, db.Reader(), follower.May)
		follower.OnChange = []func(context.Context, change.Batch) error{d.Forget}
		check(t, follower.Start(t.Context()))
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { follower.Run(ctx) })
		var finished atomic.Int64
		finished.Store(1)
		for range 2 {
			running.Go(func() {
				for ctx.Err() == nil {
					least := finished.Load()
					record, err := d.Lookup(t.Context(), id)
					if err != nil || record.Generation < least {
						t.Errorf("generation %d (%v), after the change to %d had returned", record.Generation, err, least)
						return
					}
				}
			})
		}
		for range 20 {
			h.bump(id)
			finished.Add(1)
		}
		stop()
		running.Wait()
	})
}

func TestWithoutLeaseEveryLookupIsFresh(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		id, d := h.key().ID, newDirectory(t, db.Reader(), lapsed)
		for want := int64(1); want < 5; want++ {
			before := db.Queries()
			if got := lookup(t, d, id).Generation; got != want {
				t.Errorf("generation %d, want %d", got, want)
			}
			if n := db.Queries() - before; n != 1 {
				t.Errorf("a look-up without the lease sent %d statements, want 1", n)
			}
			h.bump(id)
		}
	})
}

func TestUnavailableIsNotNotFound(t *testing.T) {
	for name, lease := range map[string]func(context.Context) bool{"held": held, "lapsed": lapsed} {
		schematest.Each(t, func(t *testing.T, db *schema.DB) {
			h := newHouse(t, db)
			id, d := h.key().ID, newDirectory(t, db.Reader(), lease)
			check(t, db.Close())
			_, err := d.Lookup(t.Context(), id)
			if !errors.Is(err, keys.ErrUnavailable) || errors.Is(err, workspace.ErrNotFound) {
				t.Errorf("lease %s: %v, want ErrUnavailable", name, err)
			}
		})
	}
}

// A key that was asked for before it existed works as soon as it does, although
// nothing tells the directory of new keys.
func TestNotFoundIsNotRemembered(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		id, d := h.Format.NewID(), newDirectory(t, db.Reader(), held)
		for range 3 {
			if _, err := d.Lookup(t.Context(), id); !errors.Is(err, workspace.ErrNotFound) || errors.Is(err, keys.ErrUnavailable) {
				t.Fatalf("an unknown key: %v, want ErrNotFound", err)
			}
		}
		key := keys.Key{ID: id, WorkspaceID: h.ws.ID, ServiceAccountID: h.sa.ID, Name: "ci", Generation: 1, CreatedAt: noon, UpdatedAt: noon}
		h.inTx(func(tx sqlx.ExtContext) error { return keys.Insert(t.Context(), tx, key) })
		if got := lookup(t, d, id); got.ID != id {
			t.Errorf("found %s", got.ID)
		}
	})
}

func TestDirectoryIsBounded(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	d, err := keys.NewDirectory(h.Database.Reader(), held, 10)
	check(t, err)
	for range 100 {
		lookup(t, d, h.key().ID)
	}
	eventually(t, "at most 10 keys in memory", func() bool { return d.Len() <= 10 })
	if d.Len() == 0 {
		t.Error("nothing is kept")
	}
}

// What was taken in is not taken back by an older batch that comes later.
func TestForgetOutOfOrder(t *testing.T) {
	for what, early := range map[string]func(seq int64, id keys.ID) change.Batch{
		"one key":    func(seq int64, id keys.ID) change.Batch { return batch(seq, string(id)) },
		"everything": func(seq int64, _ keys.ID) change.Batch { return change.Batch{Seq: seq} },
	} {
		h := newHouse(t, schematest.SQLite(t))
		id, d := h.key().ID, newDirectory(t, h.Database.Reader(), held)
		h.bump(id)
		before := h.seq()
		if got := lookup(t, d, id); got.Generation != 2 {
			t.Fatal(got.Generation)
		}
		check(t, h.RevokeKey(t.Context(), operator, h.ws.ID, id, ""))
		forget(t, d, batch(h.seq(), string(id)))
		forget(t, d, early(before, id))
		if r := lookup(t, d, id); r.RevokedAt.IsZero() {
			t.Errorf("%s: the key is used though its revocation was taken in (its record is of %d, the newest change %d)", what, r.Seq(), h.seq())
		}
	}
}
