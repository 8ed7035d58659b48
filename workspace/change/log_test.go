package change_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// Numbers have no gaps and no doubles, although transactions run at once and
// some are given up.
func TestNumbersAreGapless(t *testing.T) {
	const writers, each = 8, 15
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var mu sync.Mutex
		committed := map[int64]string{}
		giveUp := errors.New("given up")
		one := func(writer, i int) error {
			var seq int64
			subject := fmt.Sprint(writer, "/", i)
			err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) (err error) {
				if seq, err = change.Lock(ctx, tx); err != nil {
					return err
				}
				if i%3 == 0 {
					return giveUp
				}
				return change.Record(ctx, tx, seq, noon, subject)
			})
			if errors.Is(err, giveUp) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			committed[seq] = subject
			return err
		}
		var running sync.WaitGroup
		for writer := range writers {
			running.Go(func() {
				for i := range each {
					if err := one(writer, i); err != nil {
						t.Errorf("change: %v", err)
					}
				}
			})
		}
		running.Wait()
		const want = writers * each * 2 / 3
		for seq := range int64(want) {
			if committed[seq+1] == "" {
				t.Errorf("number %d is missing", seq+1)
			}
		}
		if len(committed) != want {
			t.Errorf("%d numbers were given, want %d", len(committed), want)
		}
		if logged := changeLog(t, db); !maps.Equal(logged, committed) {
			t.Errorf("logged is %v, want %v", logged, committed)
		}
	})
}

func changeLog(t *testing.T, db *schema.DB) map[int64]string {
	t.Helper()
	var rows []struct {
		Seq     int64  `db:"seq"`
		Subject string `db:"subject_id"`
	}
	check(t, sqlx.SelectContext(t.Context(), db.Reader(), &rows, `SELECT seq, subject_id FROM changes`))
	logged := map[int64]string{}
	for _, r := range rows {
		logged[r.Seq] = r.Subject
	}
	return logged
}

func TestRecordKeepsOneRowPerSubjectAndTrims(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		first := commit(t, db, "a", "b", "a")
		if n := get[int](t, db, `SELECT count(*) FROM changes`); n != 2 {
			t.Errorf("two subjects of one change are %d rows", n)
		}
		exec(t, db, `UPDATE change_counter SET seq = ?`, first+change.Retention-2)
		commit(t, db, "c")
		if n := get[int](t, db, `SELECT count(*) FROM changes WHERE seq = ?`, first); n != 2 {
			t.Errorf("%d rows are left of a change within the retention, want 2", n)
		}
		commit(t, db, "d")
		if n := get[int](t, db, `SELECT count(*) FROM changes WHERE seq = ?`, first); n != 0 {
			t.Errorf("%d rows are left of a change beyond the retention", n)
		}
	})
}
