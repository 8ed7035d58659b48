package keys_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

var discard = slog.New(slog.DiscardHandler)

type usage struct {
	At      workspace.Time `db:"last_used_at"`
	Address string         `db:"last_used_address"`
	Agent   string         `db:"last_used_agent"`
}

func (h *house) usage(secret string) (u usage) {
	h.t.Helper()
	check(h.t, sqlx.GetContext(h.t.Context(), h.Database.Reader(), &u,
		`SELECT last_used_at, last_used_address, last_used_agent FROM key_secrets WHERE id = ?`, secret))
	return u
}

// secrets adds that many to a key and returns their IDs.
func (h *house) secrets(n int) (ids []string) {
	h.t.Helper()
	id := h.key().ID
	h.inTx(func(tx sqlx.ExtContext) error {
		for range n {
			s := keys.StoredSecret{ID: workspace.Unique(), Digest: keys.Digest{Sum: []byte{1}}, CreatedAt: noon}
			if err := keys.InsertSecret(h.t.Context(), tx, id, s); err != nil {
				return err
			}
			ids = append(ids, s.ID)
		}
		return nil
	})
	return ids
}

func at(seconds int) workspace.Time {
	return workspace.At(noon.Add(time.Duration(seconds) * time.Second))
}

func TestUsesAreCoalesced(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		secret, w := h.secrets(1)[0], keys.NewUsageWriter(db.Writer(), time.Hour, discard)
		for i := range 1000 {
			w.Used(keys.Use{SecretID: secret, At: at(i), Address: fmt.Sprint("192.0.2.", i%256), Agent: fmt.Sprint("curl/", i)})
		}
		before := db.Queries()
		w.Flush(t.Context())
		w.Flush(t.Context())
		if n := db.Queries() - before; n != 1 {
			t.Errorf("1000 uses of a secret were written in %d statements, want 1", n)
		}
		got := h.usage(secret)
		if !got.At.Equal(at(999).Time) || got.Address != "192.0.2.231" || got.Agent != "curl/999" {
			t.Errorf("written was %+v, want the last use", got)
		}
	})
}

func TestUsesAreWrittenInBatches(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		ids, w := h.secrets(450), keys.NewUsageWriter(db.Writer(), time.Hour, discard)
		for i, id := range ids {
			w.Used(keys.Use{SecretID: id, At: at(i)})
		}
		before := db.Queries()
		w.Flush(t.Context())
		if n := db.Queries() - before; n != 3 {
			t.Errorf("450 secrets were written in %d statements, want 3", n)
		}
		for i, id := range ids {
			if got := h.usage(id); !got.At.Equal(at(i).Time) {
				t.Fatalf("secret %d: %s, want %s", i, got.At, at(i))
			}
		}
	})
}

// Two replicas write in any order: the newest use stays.
func TestNewerUseOfAnotherReplicaStays(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		secret := h.secrets(1)[0]
		for _, second := range []int{5, 9, 2} {
			w := keys.NewUsageWriter(db.Writer(), time.Hour, discard)
			w.Used(keys.Use{SecretID: secret, At: at(second), Address: fmt.Sprint(second)})
			w.Flush(t.Context())
		}
		if got := h.usage(secret); !got.At.Equal(at(9).Time) || got.Address != "9" {
			t.Errorf("stored is %+v, want the use of second 9", got)
		}
	})
}

func TestFailuresAreWritten(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		id := h.key().ID
		for _, seconds := range [][]int{{1, 5}, {3}} {
			w := keys.NewUsageWriter(db.Writer(), time.Hour, discard)
			for _, s := range seconds {
				w.Failed(id, at(s))
			}
			w.Flush(t.Context())
		}
		var got workspace.Time
		check(t, sqlx.GetContext(t.Context(), db.Reader(), &got, `SELECT last_failed_at FROM keys WHERE id = ?`, id))
		if !got.Equal(at(5).Time) {
			t.Errorf("last refused at %s, want %s", got, at(5))
		}
	})
}

// breaker is a database connection that can be cut.
type breaker struct {
	sqlx.ExtContext
	onExec func() // called before a statement is refused; nil: it is sent
}

var errCut = errors.New("the line is cut")

func (b *breaker) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if b.onExec == nil {
		return b.ExtContext.ExecContext(ctx, query, args...)
	}
	b.onExec()
	return nil, errCut
}

func TestNotesOutliveAnOutage(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		ids, line := h.secrets(300), &breaker{ExtContext: db.Writer()}
		w := keys.NewUsageWriter(line, time.Hour, discard)
		for _, id := range ids {
			w.Used(keys.Use{SecretID: id, At: at(1)})
		}
		line.onExec = func() { w.Used(keys.Use{SecretID: ids[0], At: at(2)}) } // during the attempt
		w.Flush(t.Context())
		if !h.usage(ids[0]).At.IsZero() {
			t.Fatal("written although the line was cut")
		}
		line.onExec = nil
		w.Flush(t.Context())
		for i, id := range ids {
			want := at(1)
			if i == 0 {
				want = at(2)
			}
			if got := h.usage(id); !got.At.Equal(want.Time) {
				t.Fatalf("secret %d: %s, want %s", i, got.At, want)
			}
		}
		if w.Dropped() != 0 {
			t.Errorf("%d notes were dropped", w.Dropped())
		}
	})
}

// The memory for notes is bounded; what does not fit is counted.
func TestNotesBeyondTheBoundAreCounted(t *testing.T) {
	const bound = 100_000
	line := &breaker{}
	w := keys.NewUsageWriter(line, time.Hour, discard)
	for i := range bound + 3 {
		w.Used(keys.Use{SecretID: fmt.Sprint(i)})
		w.Failed(keys.ID(fmt.Sprint(i)), at(i))
	}
	w.Used(keys.Use{SecretID: "0"}) // known: it needs no room
	if got := w.Dropped(); got != 6 {
		t.Errorf("%d notes were dropped, want 6", got)
	}
	more := sync.OnceFunc(func() {
		for i := range 5 {
			w.Used(keys.Use{SecretID: fmt.Sprint("new", i)})
		}
	})
	line.onExec = more // no room is left for five of those that cannot be written
	w.Flush(t.Context())
	if got := w.Dropped(); got != 6+5 {
		t.Errorf("%d notes were dropped, want five more and no refusal", got)
	}
}

// What a client sends as its name is stored in a form that both databases take.
func TestAgentIsCutAndCleaned(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		agents := []string{strings.Repeat("ü", 200), "a\x00b", "\xff\xfe", "a" + strings.Repeat("€", 100), ""}
		ids, w := h.secrets(len(agents)), keys.NewUsageWriter(db.Writer(), time.Hour, discard)
		for i, agent := range agents {
			w.Used(keys.Use{SecretID: ids[i], At: at(1), Agent: agent})
		}
		w.Flush(t.Context())
		for i := range agents {
			got := h.usage(ids[i])
			if got.At.IsZero() || !utf8.ValidString(got.Agent) || len(got.Agent) > 256 || strings.Contains(got.Agent, "\x00") {
				t.Errorf("agent %d is stored as %q at %s", i, got.Agent, got.At)
			}
		}
	})
}

func TestRunWritesAndEnds(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		ids := h.secrets(2)
		leak := goleak.IgnoreCurrent()
		ctx, stop := context.WithCancel(t.Context())
		w := keys.NewUsageWriter(db.Writer(), time.Millisecond, discard)
		var running sync.WaitGroup
		running.Go(func() { w.Run(ctx) })
		w.Used(keys.Use{SecretID: ids[0], At: at(1)})
		eventually(t, "the use is written", func() bool { return !h.usage(ids[0]).At.IsZero() })
		stop()
		running.Wait()

		ended, end := context.WithCancel(t.Context())
		end()
		last := keys.NewUsageWriter(db.Writer(), time.Hour, discard)
		last.Used(keys.Use{SecretID: ids[1], At: at(2)})
		last.Run(ended)
		if got := h.usage(ids[1]); !got.At.Equal(at(2).Time) {
			t.Errorf("at the end %s is stored, want %s", got.At, at(2))
		}
		goleak.VerifyNone(t, leak)
	})
}

// A failure of a key that does not exist is noted to take the time, and is not
// written.
func TestFailureOfNobodyIsNotWritten(t *testing.T) {
	db := schematest.SQLite(t)
	w := keys.NewUsageWriter(db.Writer(), time.Hour, discard)
	w.Failed("", at(1))
	before := db.Queries()
	w.Flush(t.Context())
	if sent := db.Queries() - before; sent != 0 {
		t.Errorf("%d statements were sent", sent)
	}
}
