package change_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// witness is a voucher of which a test decides what it knows.
type witness struct {
	mu    sync.Mutex
	name  string
	seq   int64
	about []string
	gap   bool
	err   error
	asked []int64 // since which change
}

func (w *witness) Name() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.name
}

func (w *witness) Vouch(_ context.Context, name string, since int64) (change.Batch, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, since)
	batch := change.Batch{Since: since, Seq: max(w.seq, since), Subjects: map[string]bool{}, Complete: !w.gap}
	if w.seq > since {
		for _, subject := range w.about {
			batch.Subjects[subject] = true
		}
	}
	if name != w.name {
		return batch, errors.New("that is another server")
	}
	return batch, w.err
}

func (w *witness) set(f func(*witness)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

// lost is a follower that took one lease and has lost it.
func lost(t *testing.T, db change.Database, edit func(*change.Follower)) *change.Follower {
	t.Helper()
	f := &change.Follower{Database: db, Host: "lost", Timing: timing, Log: discard}
	edit(f)
	check(t, f.Start(t.Context()))
	eventually(t, "the lease is lost", func() bool { return !f.Held() })
	return f
}

// goesOn reports whether an exchange that begins now may go by what is in memory.
func goesOn(t *testing.T, f *change.Follower) bool {
	t.Helper()
	ctx := f.Stand(t.Context())
	if f.May(t.Context()) {
		t.Error("without asking it may go on")
	}
	return f.May(ctx)
}

// A replica that may go on without its lease is waited for once, and returned each
// time until it has taken the change in or that time is over.
func TestAwaitTellsOfTheLapsed(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := &witness{name: "redis-1"}
		f := lost(t, db, func(f *change.Follower) { f.Alone, f.Vouched, f.Voucher = time.Minute, time.Hour, w })
		seq := commit(t, db, "key")
		for range 2 {
			lapsed := await(t, db, seq, timing)
			if len(lapsed) != 1 || lapsed[0].Host != "lost" || lapsed[0].Alone != time.Minute || lapsed[0].Vouched != time.Hour || lapsed[0].Voucher != "redis-1" {
				t.Fatalf("lapsed: %+v", lapsed)
			}
			if age := time.Since(lapsed[0].At); age < 0 || age > 20*time.Second {
				t.Errorf("it was seen %s ago", age)
			}
		}
		long := change.Timing{Lease: time.Hour, Renewal: 10 * time.Millisecond}
		if lapsed := await(t, db, commit(t, db, "key"), long); len(lapsed) != 1 {
			t.Errorf("lapsed: %+v", lapsed) // and it was not waited for, which would take an hour
		}
		run(t, f)
		eventually(t, "it is back", f.Held)
		if lapsed := await(t, db, commit(t, db, "key"), patient); len(lapsed) != 0 {
			t.Errorf("it is back, and lapsed: %+v", lapsed)
		}
	})
}

// Also while it waits for others, it does not forget those that it cannot wait for.
func TestAwaitTellsOfTheLapsedBesidesOthers(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		lost(t, db, func(f *change.Follower) { f.Alone = time.Minute })
		await(t, db, commit(t, db, "key"), timing) // it is noted
		newFollower(t, db)                         // this one is waited for until its lease is over
		if lapsed := await(t, db, commit(t, db, "key"), timing); !slices.ContainsFunc(lapsed, func(l change.Lapsed) bool { return l.Alone == time.Minute }) {
			t.Errorf("lapsed: %+v", lapsed)
		}
	})
}

// Whoever cannot be waited for to the end is returned with what they may do, and
// unknown ones with the most that anybody may do.
func TestAwaitThatEndsEarly(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		f := &change.Follower{Database: db, Host: "slow", Timing: timing, Log: discard, Voucher: &witness{name: "redis-1"}, Vouched: time.Hour, Alone: time.Minute}
		check(t, f.Start(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		lapsed, err := change.Await(ctx, db, commit(t, db, "key"), change.Timing{Lease: time.Hour, Renewal: time.Millisecond})
		if err == nil || len(lapsed) != 1 || lapsed[0].Host != "slow" || lapsed[0].Alone != time.Minute || lapsed[0].Voucher != "redis-1" {
			t.Fatalf("%v, lapsed: %+v", err, lapsed)
		}
		if after := time.Until(lapsed[0].Until("redis-1")); after < time.Hour {
			t.Errorf("it stops in %v, and has its lease for an hour and goes on for a minute", after)
		}
		check(t, db.Close())
		lapsed, err = change.Await(t.Context(), db, 1, timing)
		if err == nil || len(lapsed) != 1 || lapsed[0].Alone != change.MaxAlone || lapsed[0].Vouched != change.MaxVouched || lapsed[0].Until("redis-1").IsZero() {
			t.Errorf("without a database: %v, lapsed: %+v", err, lapsed)
		}
	})
}

// A replica that comes back has no lease for what it read while nobody waited for it.
func TestLapsedReplicaReadsAgain(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		slow := change.Timing{Lease: time.Second, Renewal: 200 * time.Millisecond}
		var armed atomic.Bool
		reached, goOn := make(chan bool), make(chan bool)
		wire := tap{db, func(query string) {
			if strings.HasPrefix(query, "UPDATE replicas SET renewals") && armed.CompareAndSwap(true, false) {
				reached <- true
				<-goOn
			}
		}}
		f := &change.Follower{Database: wire, Host: "late", Timing: slow, Log: discard, Voucher: &witness{name: "redis-1"}, Vouched: time.Hour}
		check(t, f.Start(t.Context()))
		eventually(t, "the lease is lost", func() bool { return !f.Held() })
		if lapsed := await(t, db, commit(t, db, "key"), slow); len(lapsed) != 1 {
			t.Fatalf("lapsed: %+v", lapsed)
		}
		armed.Store(true)
		run(t, f)
		<-reached // it has read what changed, and is about to say so
		seq := commit(t, db, "key")
		for _, l := range await(t, db, seq, slow) {
			if !l.Until("redis-1").IsZero() {
				t.Errorf("whoever made the change was told to wait: %+v", l)
			}
		}
		goOn <- true
		eventually(t, "it is back", func() bool { mustNotServeOld(t, f, seq); return f.Applied() >= seq && f.Held() })
		if n := rows(t, db); n != 1 {
			t.Errorf("%d rows are left of one replica", n)
		}
	})
}

// While it comes back, the table goes on to say how long it goes on without a lease.
func TestBoundsOfAReplicaThatComesBack(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		wire := &severed{DB: db}
		f := lost(t, wire, func(f *change.Follower) {
			f.Voucher, f.Vouched, f.Alone = &witness{name: "redis-1"}, time.Hour, time.Minute
		})
		await(t, db, commit(t, db, "key"), timing) // it is noted
		wire.refuse = true                         // it gets as far as its new row
		if err := f.Start(t.Context()); err == nil {
			t.Fatal("it is back")
		}
		if !goesOn(t, f) {
			t.Fatal("it does not go on")
		}
		lapsed := await(t, db, commit(t, db, "key"), timing)
		if len(lapsed) != 1 || lapsed[0].Voucher != "redis-1" || lapsed[0].Vouched != time.Hour || lapsed[0].Alone != time.Minute {
			t.Errorf("lapsed: %+v", lapsed)
		}
	})
}

// One that renews in the very moment in which it is noted is none of them, and is
// waited for.
func TestAwaitNotesOnlyTheLapsed(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		exec(t, db, `INSERT INTO replicas (id, host, renewals, acked_seq, renewed_at, alone) VALUES ('late', 'late', 1, -1, 0, 60000000)`)
		seq := commit(t, db, "key")
		times := 0
		wire := tap{db, func(query string) {
			if times++; strings.HasPrefix(query, "UPDATE replicas SET lapsed") && times == 1 {
				exec(t, db, `UPDATE replicas SET renewals = renewals + 1`)
			} else if strings.HasPrefix(query, "UPDATE replicas SET lapsed") {
				exec(t, db, `UPDATE replicas SET renewals = renewals + 1, acked_seq = ?`, seq)
			}
		}}
		if lapsed := await(t, wire, seq, timing); len(lapsed) != 0 || times != 2 {
			t.Errorf("after %d looks for its end, lapsed: %+v", times, lapsed)
		}
	})
}

func TestLapsedRowsGoWhenTheirTimeIsOver(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		lost(t, db, func(f *change.Follower) { f.Alone = time.Minute })
		await(t, db, commit(t, db, "key"), timing)
		exec(t, db, `UPDATE replicas SET lapsed_at = ?`, workspace.At(time.Now().Add(-2*time.Minute)))
		await(t, db, commit(t, db, "key"), timing)
		if n := rows(t, db); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func TestUntil(t *testing.T) {
	at := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what  string
		l     change.Lapsed
		knows string
		want  time.Duration // after it was seen, with the clocks' difference; 0: it stops at once
	}{
		{"nothing", change.Lapsed{}, "", 0},
		{"alone", change.Lapsed{Alone: time.Minute}, "", 65 * time.Second},
		{"vouched for, and told", change.Lapsed{Vouched: time.Hour, Voucher: "a"}, "a", 0},
		{"vouched for by another one", change.Lapsed{Vouched: time.Hour, Voucher: "a"}, "b", time.Hour + 5*time.Second},
		{"vouched for, and nobody told", change.Lapsed{Vouched: time.Hour, Voucher: "a"}, "", time.Hour + 5*time.Second},
		{"nobody vouches", change.Lapsed{Vouched: time.Hour}, "", 0},
		{"told, and alone", change.Lapsed{Alone: time.Minute, Vouched: time.Hour, Voucher: "a"}, "a", 65 * time.Second},
	} {
		c.l.At = at
		want := time.Time{}
		if c.want > 0 {
			want = at.Add(c.want)
		}
		if got := c.l.Until(c.knows); !got.Equal(want) {
			t.Errorf("%s: until %v, want %v", c.what, got, want)
		}
	}
}

// While its voucher knows everything, a replica goes on, and forgets what the
// voucher tells it of.
func TestStandByAVoucher(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w, told, failing := &witness{name: "redis-1"}, &recorder{}, errors.New("this needs the database")
		var fails error
		f := lost(t, db, func(f *change.Follower) {
			f.Voucher, f.Vouched = w, time.Hour
			f.OnVouched = func(b change.Batch) error {
				if len(b.Subjects) > 0 {
					told.take(b)
				}
				return fails
			}
		})
		start := f.Applied()
		if !goesOn(t, f) {
			t.Fatal("its voucher knows everything, and it does not go on")
		}
		if len(told.all()) != 0 {
			t.Errorf("nothing has changed, and it was told %+v", told.all())
		}
		w.set(func(w *witness) { w.seq, w.about = start+5, []string{"tbk_1"} })
		if !goesOn(t, f) || !told.saw("tbk_1") {
			t.Errorf("after a change it was told %+v", told.all())
		}
		if !goesOn(t, f) || len(told.all()) != 1 {
			t.Errorf("it was told twice: %+v", told.all())
		}
		if since := w.asked[len(w.asked)-1]; since != start+5 {
			t.Errorf("asked since %d, want %d", since, start+5)
		}
		if f.Applied() != start {
			t.Error("what a voucher tells counts as acknowledged")
		}
		for what, edit := range map[string]func(*witness){
			"another server": func(w *witness) { w.name = "redis-2" },
			"it is away":     func(w *witness) { w.err = errors.New("no answer") },
			"it has a gap":   func(w *witness) { w.gap = true },
		} {
			w.set(edit)
			if goesOn(t, f) {
				t.Errorf("%s, and it goes on", what)
			}
			w.set(func(w *witness) { w.name, w.err, w.gap = "redis-1", nil, false })
		}
		if !goesOn(t, f) {
			t.Error("its voucher is back, and it does not go on")
		}
		// What it is told and cannot take in stops it, also alone, until it is back.
		f.Alone, fails = time.Hour, failing
		w.set(func(w *witness) { w.seq++ })
		if goesOn(t, f) {
			t.Error("a cache cannot take a change in, and it goes on")
		}
		fails = nil
		w.set(func(w *witness) { w.err = errors.New("no answer") })
		if goesOn(t, f) {
			t.Error("it knows that it lacks a change, and goes on alone")
		}
	})
}

func TestStandEnds(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		nobody := lost(t, db, func(*change.Follower) {})
		if goesOn(t, nobody) {
			t.Error("without a voucher and without time alone it goes on")
		}
		if goesOn(t, lost(t, db, func(f *change.Follower) { f.Voucher = &witness{name: "redis-1"} })) {
			t.Error("a voucher whose word counts for no time is believed")
		}
		if goesOn(t, lost(t, db, func(f *change.Follower) { f.Voucher, f.Vouched = &witness{}, time.Hour })) {
			t.Error("a voucher without a name is believed")
		}
		for what, edit := range map[string]func(*change.Follower){
			"alone":   func(f *change.Follower) { f.Alone = time.Second },
			"vouched": func(f *change.Follower) { f.Voucher, f.Vouched = &witness{name: "redis-1"}, time.Second },
		} {
			began := time.Now()
			f := lost(t, db, edit)
			if !goesOn(t, f) && time.Since(began) < time.Second {
				t.Errorf("%s: it does not go on", what)
			}
			eventually(t, what+": it stops", func() bool { return !goesOn(t, f) })
			if went := time.Since(began); went < time.Second {
				t.Errorf("%s: it stopped after %s", what, went)
			}
		}
		stopped := lost(t, db, func(f *change.Follower) { f.Alone = time.Hour })
		run(t, stopped)()
		if goesOn(t, stopped) {
			t.Error("a replica that has stopped goes on")
		}
	})
}

// A replica that reaches the database and cannot take a change in does not go on
// without it: the database knows better.
func TestStandIsNoWayAroundAChange(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var refuses error
		f := lost(t, db, func(f *change.Follower) {
			f.Alone = time.Hour
			f.OnChange = append(f.OnChange, func(context.Context, change.Batch) error { return refuses })
		})
		refuses = errors.New("the database went backwards")
		commit(t, db, "key")
		if err := f.Start(t.Context()); !errors.Is(err, refuses) {
			t.Fatal(err)
		}
		if goesOn(t, f) {
			t.Error("it goes on")
		}
	})
}

// One that loses the database in the middle of a change has only lost the database:
// whoever made the change waits for it, and its voucher tells of it.
func TestStandAfterHalfAChange(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var broken error
		w := &witness{name: "redis-1"}
		f := lost(t, db, func(f *change.Follower) {
			f.Voucher, f.Vouched = w, time.Hour
			f.OnChange = append(f.OnChange, func(context.Context, change.Batch) error { return broken })
		})
		broken = fmt.Errorf("read the rules: %w", io.ErrUnexpectedEOF)
		seq := commit(t, db, "key")
		if err := f.Start(t.Context()); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		w.set(func(w *witness) { w.seq = seq })
		if !goesOn(t, f) {
			t.Error("it does not go on")
		}
	})
}

// Whether the table has the voucher's new name is not known when the answer is
// lost, so neither name counts.
func TestVoucherOfALostAnswer(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w, wire := &witness{name: "redis-1"}, &severed{DB: db}
		f := lost(t, wire, func(f *change.Follower) { f.Voucher, f.Vouched = w, time.Hour })
		if !goesOn(t, f) {
			t.Fatal("it does not go on")
		}
		w.set(func(w *witness) { w.name = "redis-2" })
		wire.cut = true
		run(t, f)
		eventually(t, "the new name is in the table", func() bool { return get[string](t, db, `SELECT voucher FROM replicas`) == "redis-2" })
		if goesOn(t, f) {
			t.Error("it goes on by a name that it does not know to be in the table")
		}
		w.set(func(w *witness) { w.name = "redis-1" })
		if goesOn(t, f) {
			t.Error("it goes on by the old name, which the table has no more")
		}
	})
}

// severed is a database whose answers to renewals are lost.
type severed struct {
	*schema.DB
	cut    bool // answers are lost; set before anybody renews
	refuse bool // nothing is written beside: the row has been inserted
}

func (d *severed) Writer() sqlx.ExtContext { return severedWriter{d.DB.Writer(), d} }

type severedWriter struct {
	sqlx.ExtContext
	wire *severed
}

func (w severedWriter) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if w.wire.refuse && strings.HasPrefix(query, "UPDATE replicas SET renewals") && w.wire.inserted(ctx) {
		return nil, errors.New("the connection is gone")
	}
	result, err := w.ExtContext.ExecContext(ctx, query, args...)
	if err == nil && w.wire.cut && strings.HasPrefix(query, "UPDATE replicas") {
		err = errors.New("the connection is gone")
	}
	return result, err
}

// inserted reports whether the replica has a new row.
func (d *severed) inserted(ctx context.Context) bool {
	var n int
	err := d.Reader().QueryRowxContext(ctx, `SELECT count(*) FROM replicas WHERE renewals = 0`).Scan(&n)
	return err == nil && n > 0
}

func TestBehind(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		f := newFollower(t, db)
		run(t, f)
		release := make(chan struct{})
		slow := newFollower(t, db, func(b change.Batch) {
			if b.Complete {
				<-release
			}
		})
		run(t, slow)
		if f.Behind() != 0 {
			t.Errorf("nothing has changed, and some replica is %s behind", f.Behind())
		}
		commit(t, db, "key")
		eventually(t, "the slow one is seen to be behind", func() bool { return f.Behind() > 0 })
		close(release)
		eventually(t, "and to be back", func() bool { return f.Behind() == 0 })
	})
}
