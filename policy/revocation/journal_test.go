package revocation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
)

// openedJournal is a journal that is closed when the test ends.
func openedJournal(t testing.TB, path string) *revocation.Journal {
	t.Helper()
	j, err := revocation.OpenJournal(path, "house", slog.New(slog.DiscardHandler))
	check(t, err)
	t.Cleanup(func() { _ = j.Close() }) // it may be closed already
	return j
}

func journalPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "revocations.jsonl")
}

// revokeKeys commits revocations of keys of these names.
func revokeKeys(t testing.TB, db *schema.DB, names ...string) {
	t.Helper()
	var entries []revocation.Entry
	for _, name := range names {
		entries = append(entries, revocation.Entry{
			Kind: oauth.RevocableKey, SubjectID: name, Generation: 2, WorkspaceID: "ws_1", Cause: revocation.Revoked, At: noon,
		})
	}
	check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		_, err := revocation.Append(ctx, tx, entries...)
		return err
	}))
}

func alter(t testing.TB, db *schema.DB, query string, args ...any) {
	t.Helper()
	_, err := db.Writer().ExecContext(t.Context(), query, args...)
	check(t, err)
}

// inDatabase is what the database has.
func inDatabase(t testing.TB, db *schema.DB) []revocation.Entry {
	t.Helper()
	entries, err := revocation.Since(t.Context(), db.Reader(), 0, 10_000)
	check(t, err)
	return entries
}

// inFile is what a file has.
func inFile(t testing.TB, path string) []revocation.Entry {
	t.Helper()
	r, err := revocation.ReadJournal(path)
	check(t, err)
	return r.Entries()
}

// subjectsOf are the subjects of entries, in order.
func subjectsOf(entries []revocation.Entry) string {
	var found []string
	for _, e := range entries {
		found = append(found, e.SubjectID)
	}
	return strings.Join(found, " ")
}

// The file has what the database has, also over a restart, and nothing is written
// twice. Numbers whose rows are pruned are passed over.
func TestJournalHasEveryRevocation(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		path := journalPath(t)
		j := openedJournal(t, path)
		if at, last := j.Last(); at != (oauth.Position{}) || last != (revocation.Entry{}) {
			t.Errorf("a new one is at %v with %v", at, last)
		}
		revokeKeys(t, db, "a", "b")
		check(t, j.CatchUp(t.Context(), db.Reader()))
		if got, want := inFile(t, path), inDatabase(t, db); !slices.Equal(got, want) {
			t.Errorf("the file has\n%v, the database\n%v", got, want)
		}
		check(t, j.CatchUp(t.Context(), db.Reader()))
		if at, last := j.Last(); at != (oauth.Position{Epoch: 1, Sequence: 2}) || last.SubjectID != "b" || j.Syncs() != 1 || j.Failures() != 0 {
			t.Errorf("it is at %v with %v, after %d syncs and %d failures", at, last, j.Syncs(), j.Failures())
		}
		info, err := os.Stat(path)
		check(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("the mode is %o", info.Mode().Perm())
		}

		check(t, j.Close())
		if err := j.CatchUp(t.Context(), db.Reader()); !errors.Is(err, revocation.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		revokeKeys(t, db, "c", "d")
		alter(t, db, `DELETE FROM revocations WHERE seq <= 3`)
		j = openedJournal(t, path)
		if at, last := j.Last(); at != (oauth.Position{Epoch: 1, Sequence: 2}) || last.SubjectID != "b" {
			t.Errorf("opened again it is at %v with %v", at, last)
		}
		check(t, j.Check(t.Context(), db.Reader()))
		check(t, j.CatchUp(t.Context(), db.Reader()))
		if got := subjectsOf(inFile(t, path)); got != "a b d" {
			t.Errorf("the file has %s", got)
		}
		alter(t, db, `UPDATE revocation_counter SET seq = 9`)
		check(t, j.CatchUp(t.Context(), db.Reader()))
		if at, _ := j.Last(); at.Sequence != 9 {
			t.Errorf("it is at %v, although all up to 9 is pruned", at)
		}
	})
}

// Of a new epoch the file gets what it lacks, also what has a number that it knows,
// and nothing else.
func TestJournalFollowsEpochs(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		path := journalPath(t)
		j := openedJournal(t, path)
		revokeKeys(t, db, "a", "b", "c")
		check(t, j.CatchUp(t.Context(), db.Reader()))
		alter(t, db, `UPDATE revocations SET subject_id = 'other' WHERE seq = 2`)
		revokeKeys(t, db, "d")
		alter(t, db, `UPDATE revocation_counter SET epoch = 7`)
		check(t, j.CatchUp(t.Context(), db.Reader()))
		if got := subjectsOf(inFile(t, path)); got != "a b c other d" {
			t.Errorf("the file has %s", got)
		}
		alter(t, db, `UPDATE revocation_counter SET epoch = 8`)
		check(t, j.CatchUp(t.Context(), db.Reader()))
		check(t, j.Close())
		j = openedJournal(t, path)
		if at, last := j.Last(); at != (oauth.Position{Epoch: 8, Sequence: 4}) || last.SubjectID != "d" {
			t.Errorf("opened again it is at %v with %v", at, last)
		}
		if got := subjectsOf(inFile(t, path)); got != "a b c other d" {
			t.Errorf("the file has %s", got)
		}
	})
}

// A database that knows less than the journal is found, and nothing is written.
func TestJournalFindsARestoredDatabase(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		path := journalPath(t)
		j := openedJournal(t, path)
		revokeKeys(t, db, "a", "b")
		alter(t, db, `UPDATE revocation_counter SET epoch = 5`)
		check(t, j.CatchUp(t.Context(), db.Reader()))
		before, err := os.ReadFile(path)
		check(t, err)
		for _, c := range []struct{ name, query, says string }{
			{"fewer", `UPDATE revocation_counter SET seq = 1`, "the database is at revocation 1 of epoch 5, and the journal " + path + " at 2 of epoch 5"},
			{"fewer in a new epoch", `UPDATE revocation_counter SET epoch = 9`, "the database is at revocation 1 of epoch 9"},
			{"an older epoch", `UPDATE revocation_counter SET seq = 2, epoch = 4`, "the database is at revocation 2 of epoch 4"},
		} {
			alter(t, db, c.query)
			for what, err := range map[string]error{"check": j.Check(t.Context(), db.Reader()), "catch up": j.CatchUp(t.Context(), db.Reader())} {
				if !errors.Is(err, revocation.ErrBackwards) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s, %s: %v", c.name, what, err)
				}
			}
		}
		if j.Failures() != 3 {
			t.Errorf("%d failures", j.Failures())
		}
		alter(t, db, `UPDATE revocation_counter SET seq = 5, epoch = 5`)
		alter(t, db, `UPDATE revocations SET subject_id = 'other' WHERE seq = 2`)
		if err := j.Check(t.Context(), db.Reader()); !errors.Is(err, revocation.ErrBackwards) || !strings.Contains(err.Error(), "revocation 2 is that of key other to generation 2 at 2030-01-02T12:00:00Z in the database, and that of key b") {
			t.Errorf("another at the number of the last: %v", err)
		}
		alter(t, db, `INSERT INTO revocations (seq, kind, subject_id, generation, workspace_id, cause, at, expires_at)
			VALUES (4, 'key', 'b', 2, 'ws_1', 'revoked', ?, ?)`, noon, noon)
		if err := j.Check(t.Context(), db.Reader()); err != nil {
			t.Errorf("it is there under another number: %v", err)
		}
		alter(t, db, `DELETE FROM revocations`)
		if err := j.Check(t.Context(), db.Reader()); err != nil {
			t.Errorf("all are pruned: %v", err)
		}
		after, err := os.ReadFile(path)
		check(t, err)
		if !bytes.Equal(before, after) {
			t.Errorf("the file was changed:\n%s", after)
		}
	})
}

// Wherever a crash ends what was being written, the file opens, has a beginning of
// it, and is completed from the database.
func TestJournalAfterACrash(t *testing.T) {
	db := schematest.SQLite(t)
	path := journalPath(t)
	j := openedJournal(t, path)
	revokeKeys(t, db, "a", "b")
	check(t, j.CatchUp(t.Context(), db.Reader()))
	safe, err := os.Stat(path)
	check(t, err)
	revokeKeys(t, db, "c", "d", "e")
	check(t, j.CatchUp(t.Context(), db.Reader()))
	check(t, j.Close())
	whole, err := os.ReadFile(path)
	check(t, err)
	want, begun := inDatabase(t, db), bytes.IndexByte(whole, '\n')
	crash := func(t interface{ Fatalf(string, ...any) }, cut int) {
		check := func(err error) {
			if err != nil {
				t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
			}
		}
		check(os.WriteFile(path, whole[:cut], 0o600))
		var log bytes.Buffer
		j, err := revocation.OpenJournal(path, "house", slog.New(slog.NewTextHandler(&log, nil)))
		check(err)
		defer func() { check(j.Close()) }()
		got, err := j.Entries()
		check(err)
		if len(got) < 2 && int64(cut) >= safe.Size() || !slices.Equal(got, want[:len(got)]) {
			t.Fatalf("cut at %d: the file has %v", cut, got)
		}
		if cut > begun && cut < len(whole) && whole[cut-1] != '\n' && whole[cut] != '\n' && !strings.Contains(log.String(), "cut off") {
			t.Fatalf("cut at %d without a word: %s", cut, log.String())
		}
		check(j.CatchUp(context.Background(), db.Reader()))
		got, err = j.Entries()
		check(err)
		if !slices.Equal(got, want) {
			t.Fatalf("cut at %d: completed it has %v", cut, got)
		}
	}
	last := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for cut := last; cut <= len(whole); cut++ {
		crash(t, cut)
	}
	rapid.Check(t, func(t *rapid.T) { crash(t, rapid.IntRange(0, len(whole)).Draw(t, "cut")) })
}

// While the disk is waited for, all who come share the next wait.
func TestJournalSharesTheDisk(t *testing.T) {
	const callers = 100
	db := schematest.SQLite(t)
	path := journalPath(t)
	j := openedJournal(t, path)
	begins, ends := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	held.Store(true)
	j.Fail(func() error { return nil }, func() error {
		if held.Load() {
			begins <- struct{}{}
			<-ends
		}
		return nil
	}, 0, time.Hour)
	revokeKeys(t, db, "first")
	var running sync.WaitGroup
	running.Go(func() {
		if err := j.CatchUp(t.Context(), db.Reader()); err != nil {
			t.Error(err)
		}
	})
	<-begins
	held.Store(false)
	var waiting atomic.Int64
	for i := range callers {
		name := fmt.Sprintf("k%02d", i)
		running.Go(func() {
			revokeKeys(t, db, name)
			if err := j.CatchUp(&countedContext{Context: t.Context(), waiting: &waiting}, db.Reader()); err != nil {
				t.Error(err)
			}
			if entries, err := j.Entries(); err != nil || !slices.ContainsFunc(entries, func(e revocation.Entry) bool { return e.SubjectID == name }) {
				t.Errorf("%s is not in the file when CatchUp returns (%v)", name, err)
			}
		})
	}
	eventually(t, "callers that wait", func() bool { return waiting.Load() == callers })
	// One that gives up is not answered before its time, and stops nothing.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.CatchUp(gone, db.Reader()); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up: %v", err)
	}
	close(ends)
	running.Wait()
	if got := inFile(t, path); !slices.Equal(got, inDatabase(t, db)) || len(got) != callers+1 {
		t.Errorf("%d entries are in the file", len(got))
	}
	if j.Syncs() != 2 {
		t.Errorf("%d callers waited for the disk %d times, want 2", callers+1, j.Syncs())
	}
}

// countedContext is a context that counts who waits for it.
type countedContext struct {
	context.Context
	waiting *atomic.Int64
}

func (c *countedContext) Done() <-chan struct{} {
	c.waiting.Add(1)
	return c.Context.Done()
}

// A write that fails leaves nothing behind, is counted, and is made up for, also
// when nobody asks again.
func TestJournalFailures(t *testing.T) {
	errDisk := errors.New("no space left")
	for name, writing := range map[string]bool{"write": true, "sync": false} {
		t.Run(name, func(t *testing.T) {
			db := schematest.SQLite(t)
			path := journalPath(t)
			j := openedJournal(t, path)
			revokeKeys(t, db, "a")
			check(t, j.CatchUp(t.Context(), db.Reader()))
			var broken atomic.Bool
			broken.Store(true)
			fail := func(mine bool) func() error {
				return func() error {
					if mine && broken.Load() {
						return errDisk
					}
					return nil
				}
			}
			j.Fail(fail(writing), fail(!writing), 20, 10*time.Millisecond)
			revokeKeys(t, db, "b")
			if err := j.CatchUp(t.Context(), db.Reader()); !errors.Is(err, errDisk) {
				t.Errorf("it fails with %v", err)
			}
			if at, last := j.Last(); at.Sequence != 1 || last.SubjectID != "a" || j.Failures() == 0 {
				t.Errorf("it is at %v with %v after %d failures", at, last, j.Failures())
			}
			if got := subjectsOf(inFile(t, path)); got != "a" {
				t.Errorf("the file has %s", got)
			}
			broken.Store(false)
			eventually(t, "the journal to be complete", func() bool { at, _ := j.Last(); return at.Sequence == 2 })
			if got := inFile(t, path); !slices.Equal(got, inDatabase(t, db)) {
				t.Errorf("the file has %v", got)
			}
		})
	}
	t.Run("database", func(t *testing.T) {
		j := openedJournal(t, journalPath(t))
		db := schematest.SQLite(t)
		alter(t, db, `DROP TABLE revocation_counter`)
		if err := j.CatchUp(t.Context(), db.Reader()); err == nil || j.Failures() != 1 {
			t.Errorf("%v, %d failures", err, j.Failures())
		}
	})
	t.Run("file", func(t *testing.T) {
		db := schematest.SQLite(t)
		path := journalPath(t)
		j := openedJournal(t, path)
		revokeKeys(t, db, "a")
		check(t, os.Rename(path, path+".1"))
		if err := j.CatchUp(t.Context(), db.Reader()); err == nil || !strings.Contains(err.Error(), "moved, replaced or deleted") {
			t.Errorf("the file is gone: %v", err)
		}
		check(t, os.Rename(path+".1", path))
		check(t, j.CatchUp(t.Context(), db.Reader()))
	})
}
