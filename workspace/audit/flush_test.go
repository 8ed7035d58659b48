package audit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// places are the keys or, of guesses, the addresses in the order of what is recorded.
func places(t *testing.T, db *schema.DB) (names []string) {
	t.Helper()
	check(t, sqlx.SelectContext(t.Context(), db.Reader(), &names,
		`SELECT CASE WHEN secret_id = '' THEN address ELSE key_id END FROM exchange_events ORDER BY batch, position`))
	return names
}

// What is recorded stands in the order in which it came, guesses at their first; and
// the IDs, which decide among those of one instant, say the same.
func TestRecordsStayInOrder(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		list := []audit.Exchange{guessed("tbk_1", "10.0.0.1"), use("tbk_2", 0), nobody("10.0.0.2"), guessed("tbk_1", "10.0.0.1"), use("tbk_3", 0), guessed("tbk_1", "10.0.0.3")}
		want := []string{"10.0.0.1", "tbk_2", "10.0.0.2", "tbk_3", "10.0.0.3"}
		for i := range 300 { // more than one statement
			list, want = append(list, use(fmt.Sprint("tbk_", i), 0)), append(want, fmt.Sprint("tbk_", i))
		}
		for _, e := range list {
			check(t, w.Record(t.Context(), e))
		}
		check(t, w.Flush(t.Context()))
		if got := places(t, db); !slices.Equal(got, want) {
			t.Errorf("recorded were %q, want %q", got, want)
		}
		wantCount(t, db, 2, `SELECT count FROM exchange_events WHERE address = '10.0.0.1' AND position = 0`)
		wantCount(t, db, int64(len(want)), `SELECT COUNT(DISTINCT id) FROM exchange_events WHERE LENGTH(id) = 30`)
		wantCount(t, db, 0, `SELECT COUNT(*) FROM exchange_events a JOIN exchange_events b ON b.batch = a.batch AND b.position = a.position + 1 WHERE b.id <= a.id`)
	})
}

// Whatever a client sends is stored as the hash over it says, also where it is not
// written as JSON without thought.
func TestAnyTextIsHashedAsStored(t *testing.T) {
	for name, open := range map[string]func(testing.TB) *schema.DB{"sqlite": schematest.SQLite, "postgres": schematest.Postgres} {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			w := writer(db)
			rapid.Check(t, func(r *rapid.T) {
				text := rapid.OneOf(rapid.String(), rapid.StringOfN(rapid.RuneFrom([]rune("a\"\\<>&\x00\x01\x1f\x7f\u2028\ufffdé")), 0, 400, -1),
					rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
				e := use("tbk_1", 0)
				e.Agent, e.RequestID, e.Detail = text.Draw(r, "agent"), text.Draw(r, "request"), text.Draw(r, "detail")
				if err := w.Record(t.Context(), e); err != nil {
					r.Fatal(err)
				}
			})
			check(t, w.Flush(t.Context()))
			wantFindings(t, verify(t, db))
			wantRoots(t, db)
		})
	}
}

// Recording allocates nothing, but for what the next flush's list grows.
func TestRecordAllocatesNothing(t *testing.T) {
	db := schematest.SQLite(t)
	w, e := writer(db), use("tbk_1", 0)
	for range 1000 {
		check(t, w.Record(t.Context(), e))
	}
	check(t, w.Flush(t.Context()))
	if n := testing.AllocsPerRun(900, func() { check(t, w.Record(t.Context(), e)) }); n != 0 {
		t.Errorf("%v allocations for each exchange", n)
	}
}

// When many are proven they do not wait for the interval; guesses do, or they would
// be more rows.
func TestManyAreWrittenSooner(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db) // its interval is an hour
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan struct{})
		go func() { w.Run(ctx); close(ran) }()
		check(t, w.Record(ctx, nobody("10.0.0.1")))
		for i := range w.Enough() {
			check(t, w.Record(ctx, use(fmt.Sprint("tbk_", i), 0)))
		}
		for count(t, db, `SELECT COUNT(*) FROM exchange_events`) < int64(w.Enough()) {
			runtime.Gosched()
		}
		wantCount(t, db, 0, `SELECT COUNT(*) FROM exchange_events WHERE workspace_id = ''`)
		check(t, w.Record(ctx, nobody("10.0.0.1")))
		stop()
		<-ran
		wantCount(t, db, 2, `SELECT count FROM exchange_events WHERE workspace_id = ''`)
		wantCount(t, db, int64(w.Enough()+1), `SELECT COUNT(*) FROM exchange_events`)
		wantFindings(t, verify(t, db))
	})
}

// A batch whose last statement fails leaves nothing of its first.
func TestFailedBatchLeavesNothing(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		exec(t, db, `CREATE UNIQUE INDEX once ON exchange_bundles (key_id)`)
		for i := range 500 {
			e := use(fmt.Sprint("tbk_", i%499), i/499)
			check(t, w.Record(t.Context(), e))
		}
		if err := w.Flush(t.Context()); err == nil {
			t.Fatal("no error")
		}
		wantCount(t, db, 0, `SELECT COUNT(*) FROM exchange_events`)
		wantCount(t, db, 0, `SELECT COUNT(*) FROM audit_events`)
		exec(t, db, `DROP INDEX once`)
		check(t, w.Flush(t.Context()))
		wantCount(t, db, 500, `SELECT COUNT(*) FROM exchange_events`)
		wantFindings(t, verify(t, db))
	})
}

// What comes while a flush fails is written behind what it kept.
func TestWhatComesDuringAFailureIsKept(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var w *audit.Writer
		tries := 0
		w = audit.NewWriter(db, audit.WriterOptions{Owners: func(ctx context.Context, _ sqlx.ExtContext, _ []string) (map[string]audit.Owner, error) {
			if tries++; tries > 1 {
				return nil, nil
			}
			check(t, w.Record(ctx, use("tbk_2", 0)))
			check(t, w.Record(ctx, nobody("10.0.0.1")))
			return nil, errors.New("away")
		}})
		named := nobody("10.0.0.2")
		named.KeyID = "tbk_9"
		for _, e := range []audit.Exchange{nobody("10.0.0.1"), use("tbk_1", 0), named} {
			check(t, w.Record(t.Context(), e))
		}
		if err := w.Flush(t.Context()); err == nil {
			t.Fatal("no error")
		}
		check(t, w.Flush(t.Context()))
		if got, want := places(t, db), []string{"10.0.0.1", "tbk_1", "10.0.0.2", "tbk_2"}; !slices.Equal(got, want) {
			t.Errorf("recorded were %q, want %q", got, want)
		}
		wantCount(t, db, 2, `SELECT count FROM exchange_events WHERE address = '10.0.0.1' AND secret_id = ''`)
	})
}

// wantRoots computes each batch's root from what the documentation says of it.
func wantRoots(t *testing.T, db *schema.DB) {
	t.Helper()
	for _, e := range events(t, db, audit.Exchanges) {
		if root := rootOf(t, db, e.Seq); !strings.Contains(e.Detail, root) {
			t.Errorf("batch %d has the root %s, its event says %s", e.Seq, root, e.Detail)
		}
	}
}
