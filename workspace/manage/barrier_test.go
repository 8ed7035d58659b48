package manage_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// gone registers a replica that never renews its lease, which may go on for a while
// without it, in seconds.
func (h *house) gone(alone, vouched int, voucher string) {
	h.t.Helper()
	_, err := h.Database.Writer().ExecContext(h.t.Context(),
		`INSERT INTO replicas (id, host, renewals, acked_seq, renewed_at, alone, vouched, voucher) VALUES ('gone', 'gone:1', 3, -1, 0, ?, ?, ?)`,
		alone*1e6, vouched*1e6, voucher)
	check(h.t, err)
}

// Whoever takes something away is told when it is in force, if it is not yet.
func TestPending(t *testing.T) {
	away := errors.New("redis is away")
	telling := func(name string, err error) func(context.Context, int64) (string, error) {
		return func(context.Context, int64) (string, error) { return name, err }
	}
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		for _, c := range []struct {
			what           string
			alone, vouched int
			voucher        string
			tell           func(context.Context, int64) (string, error)
			want           time.Duration // until it is in force; 0: at once
		}{
			{"a replica that stops with its lease", 0, 900, "", telling("", away), 0},
			{"one that goes on alone", 60, 900, "", telling("redis-1", nil), 65 * time.Second},
			{"one that Redis tells", 0, 900, "redis-1", telling("redis-1", nil), 0},
			{"one that another Redis tells", 0, 900, "redis-1", telling("redis-2", nil), 905 * time.Second},
			{"one that Redis would tell", 0, 900, "redis-1", telling("", away), 905 * time.Second},
			{"one that Redis tells, and nobody here has a Redis", 0, 900, "redis-1", nil, 905 * time.Second},
			{"one that Redis tells and that goes on alone", 60, 900, "redis-1", telling("redis-1", nil), 65 * time.Second},
		} {
			key := h.key(h.sa)
			h.gone(c.alone, c.vouched, c.voucher)
			h.Tell = c.tell
			began := time.Now()
			err := h.RevokeKey(t.Context(), operator, h.ws, key.ID, "")
			var pending *manage.PendingError
			switch {
			case c.want == 0 && err != nil:
				t.Errorf("%s: %v", c.what, err)
			case c.want != 0 && (!errors.As(err, &pending) || !errors.Is(err, manage.ErrPending)):
				t.Errorf("%s: %v, want ErrPending", c.what, err)
			case c.want != 0:
				if after := pending.Until.Sub(began); after < c.want || after > c.want+20*time.Second {
					t.Errorf("%s: in force after %v, want %v", c.what, after, c.want)
				}
				if !strings.Contains(err.Error(), "gone:1") {
					t.Errorf("%s: %v does not name the replica", c.what, err)
				}
			}
			if record, err := keys.Read(t.Context(), db.Reader(), key.ID); err != nil || record.RevokedAt.IsZero() {
				t.Errorf("%s: the key is not revoked: %v", c.what, err)
			}
			_, err = db.Writer().ExecContext(t.Context(), `DELETE FROM replicas`)
			check(t, err)
		}
	})
}

// What was pending is in force when its time is over, also while the row is there
// that says so.
func TestPendingIsOver(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.gone(60, 900, "redis-1")
		h.Tell = func(context.Context, int64) (string, error) { return "redis-1", nil }
		if err := h.RevokeKey(t.Context(), operator, h.ws, h.key(h.sa).ID, ""); !errors.Is(err, manage.ErrPending) {
			t.Fatalf("at once: %v, want ErrPending", err)
		}
		_, err := db.Writer().ExecContext(t.Context(), `UPDATE replicas SET lapsed_at = lapsed_at - 70000000`)
		check(t, err)
		if err := h.RevokeKey(t.Context(), operator, h.ws, h.key(h.sa).ID, ""); err != nil {
			t.Errorf("a minute later: %v", err)
		}
	})
}

// A caller who leaves, or a database that fails after the commit, is no reason to
// promise too much: those that were waited for may go on without their leases.
func TestPendingForThoseThatWereWaitedFor(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.Timing = change.Timing{Lease: time.Hour, Renewal: 10 * time.Millisecond}
		h.Tell = func(context.Context, int64) (string, error) { return "", errors.New("redis is away") }
		key := h.key(h.sa)
		h.gone(60, 900, "redis-1")
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		err := h.RevokeKey(ctx, operator, h.ws, key.ID, "")
		var pending *manage.PendingError
		if !errors.As(err, &pending) || time.Until(pending.Until) < time.Hour+14*time.Minute {
			t.Errorf("%v, want a time after its lease of an hour and its 15 minutes", err)
		}
	})
}

// Redis is told of the change itself, after it is committed.
func TestTellIsToldOfTheChange(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		var told int64
		h.Tell = func(ctx context.Context, seq int64) (string, error) {
			told = seq
			if record, err := keys.Read(ctx, db.Reader(), key.ID); err != nil || record.RevokedAt.IsZero() {
				t.Errorf("when Redis is told, the key is not revoked: %v", err)
			}
			return "redis-1", nil
		}
		check(t, h.RevokeKey(t.Context(), operator, h.ws, key.ID, ""))
		var newest int64
		check(t, db.Reader().QueryRowxContext(t.Context(), `SELECT seq FROM change_counter`).Scan(&newest))
		if told != newest || told == 0 {
			t.Errorf("told of %d, and the newest change is %d", told, newest)
		}
	})
}

// What is not in the journal could be lost with the database, and is not called
// done.
func TestPendingForTheJournal(t *testing.T) {
	db := schematest.SQLite(t)
	h := newHouse(t, db)
	journal, err := revocation.OpenJournal(filepath.Join(t.TempDir(), "journal"), "test", slog.New(slog.DiscardHandler))
	check(t, err)
	h.Journal = journal
	check(t, h.RevokeKey(t.Context(), operator, h.ws, h.key(h.sa).ID, ""))
	newest, err := revocation.Newest(t.Context(), db.Reader())
	check(t, err)
	if at, last := journal.Last(); last.Seq != newest.Sequence || at.Sequence != newest.Sequence {
		t.Errorf("the journal is at %+v, and the database at %+v", at, newest)
	}
	check(t, journal.Close())
	var denial manage.Denial
	err = h.RevokeKey(t.Context(), operator.Denying(&denial), h.ws, h.key(h.sa).ID, "")
	var pending *manage.PendingError
	if !errors.As(err, &pending) || pending.Until.Before(time.Now()) || denial.Sequence != newest.Sequence+1 {
		t.Errorf("without a journal: %v, %+v", err, denial)
	}
}

// A use case tells what it denied, and only when that is committed.
func TestDenying(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		var denial manage.Denial
		name := "other"
		_, err := h.UpdateKey(t.Context(), operator.Denying(&denial), h.ws, key.ID, manage.KeyChange{Name: &name})
		if err != nil || denial != (manage.Denial{}) {
			t.Errorf("a new name denies %+v, %v", denial, err)
		}
		if err := h.RevokeKey(t.Context(), manage.User(h.viewer).Denying(&denial), h.ws, key.ID, ""); err == nil || denial != (manage.Denial{}) {
			t.Errorf("who may not revoke denies %+v, %v", denial, err)
		}
		check(t, h.RevokeKey(t.Context(), operator.Denying(&denial), h.ws, key.ID, ""))
		entry, err := revocation.Find(t.Context(), db.Reader(), denial.Sequence)
		if err != nil || entry.SubjectID != string(key.ID) || !denial.DeadBy.Equal(entry.ExpiresAt.Time) || entry.WorkspaceID != h.ws || entry.Cause != revocation.Revoked {
			t.Errorf("denied %+v, which is %+v, %v", denial, entry, err)
		}
		if life := denial.DeadBy.Sub(h.now); life <= keys.MaxTokenTTL {
			t.Errorf("dead after %v, and tokens live for up to %v", life, keys.MaxTokenTTL)
		}
	})
}

// Who asks again waits for what is there, and for nothing that never comes.
func TestRevokingAgainBesideAReplica(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.Timing = change.Timing{Lease: time.Hour, Renewal: 10 * time.Millisecond} // it acknowledges, or the test hangs
		ring := &signing.Ring{Reader: db.Reader(), Sealer: h.Sealer, Timing: h.Signing}
		check(t, h.EnsureSigningKeys(t.Context(), operator))
		defer h.replica(ring, h.Timing, nil)()
		key := h.key(h.sa)
		var first, again manage.Denial
		check(t, h.RevokeKey(t.Context(), operator.Denying(&first), h.ws, key.ID, ""))
		check(t, h.RevokeKey(t.Context(), operator.Denying(&again), h.ws, key.ID, ""))
		if first.Sequence == 0 || again != first {
			t.Errorf("first %+v, again %+v", first, again)
		}
	})
}
