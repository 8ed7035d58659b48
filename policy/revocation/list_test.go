package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

const issuer = "https://login.example.com"

// appendTo commits entries.
func appendTo(t testing.TB, db *schema.DB, entries ...revocation.Entry) (last int64) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) (err error) {
		last, err = revocation.Append(ctx, tx, entries...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func load(t testing.TB, l *revocation.List) {
	t.Helper()
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// listAt is a list whose clock a test sets.
func listAt(db *schema.DB, now *time.Time) *revocation.List {
	return &revocation.List{Issuer: issuer, Reader: db.Reader(), Now: func() time.Time { return *now }}
}

func claimsOf(key string, generation int64) *oauth.Claims {
	return &oauth.Claims{
		Issuer: issuer, ID: "token-1", ClientID: key, Subject: "sa_1", WorkspaceID: "ws_1",
		KeyGeneration: generation, SubjectGeneration: 3, WorkspaceGeneration: 3,
	}
}

func TestListDeniesEachKind(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		for _, c := range []struct {
			kind       oauth.Revocable
			id         string
			generation int64
			denied     bool
		}{
			{oauth.RevocableToken, "token-1", 0, true},
			{oauth.RevocableToken, "token-2", 0, false},
			{oauth.RevocableKey, "tbk_1", 4, true},
			{oauth.RevocableKey, "tbk_1", 3, false},
			{oauth.RevocableKey, "tbk_2", 9, false},
			{oauth.RevocableSubject, "sa_1", 4, true},
			{oauth.RevocableSubject, "tbk_1", 4, false},
			{oauth.RevocableWorkspace, "ws_1", 4, true},
			{oauth.RevocableWorkspace, "ws_1", 2, false},
			{oauth.RevocableSigningKey, "kid-1", 0, true},
			{oauth.RevocableSigningKey, "kid-2", 0, false},
		} {
			now := noon.Time
			fresh := listAt(db, &now)
			load(t, fresh)
			before := fresh.Position()
			appendTo(t, db, revocation.Entry{Kind: c.kind, SubjectID: c.id, Generation: c.generation, At: noon})
			// A list of this entry alone.
			l := listAt(db, &now)
			l.Reader = since{db.Reader(), before.Sequence}
			load(t, l)
			err := l.Revoked(t.Context(), "kid-1", claimsOf("tbk_1", 3))
			if errors.Is(err, bearer.ErrRevoked) != c.denied {
				t.Errorf("%s %s of generation %d: %v, want denied: %v", c.kind, c.id, c.generation, err, c.denied)
			}
		}
	})
}

// since is a database without the entries up to a number.
type since struct {
	sqlx.ExtContext
	seq int64
}

func (s since) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	if len(args) > 0 { // the entries, not the counter
		args[0] = max(args[0].(int64), s.seq)
	}
	return s.ExtContext.QueryxContext(ctx, query, args...)
}

// The strictest of several entries counts, and for as long as the one that lasts
// longest; what has expired is out of the way.
func TestListMergesAndForgets(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		now := noon.Time
		l := listAt(db, &now)
		later := workspace.At(noon.Add(30 * time.Minute))
		appendTo(t, db,
			revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "tbk_1", Generation: 5, At: noon},
			revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "tbk_1", Generation: 2, At: later},
		)
		load(t, l)
		if _, items := l.Since(0); len(items) != 2 || items[0].Hash != items[1].Hash {
			t.Errorf("items: %+v", items)
		}
		if err := l.Revoked(t.Context(), "", claimsOf("tbk_1", 4)); !errors.Is(err, bearer.ErrRevoked) {
			t.Errorf("generation 4: %v", err)
		}
		if err := l.Revoked(t.Context(), "", claimsOf("tbk_1", 5)); err != nil {
			t.Errorf("generation 5: %v", err)
		}
		now = noon.Add(64 * time.Minute) // the first has expired alone
		if _, items := l.Since(0); len(items) != 1 || items[0].Seq != 2 {
			t.Errorf("items: %+v", items)
		}
		now = noon.Add(94 * time.Minute)
		if err := l.Revoked(t.Context(), "", claimsOf("tbk_1", 1)); err != nil {
			t.Errorf("after everything has expired: %v", err)
		}
		fresh := listAt(db, &now)
		load(t, fresh)
		if fresh.Len() != 0 || fresh.Position() != l.Position() {
			t.Errorf("a list that is loaded then has %d entries, and is at %+v", fresh.Len(), fresh.Position())
		}
	})
}

// An entry outlasts the longest token that can carry what it denies: one that a
// replica signed whose clock is 90 s ahead of that of the one which revokes, for a
// verifier with a minute's leeway whose clock is 30 s late.
func TestEntriesOutliveTheirTokens(t *testing.T) {
	db := schematest.SQLite(t)
	now := noon.Time
	l := listAt(db, &now)
	expiry := noon.Add(90*time.Second + time.Hour) // of a token that was signed at that moment
	appendTo(t, db,
		revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "tbk_1", Generation: 2, At: noon},
		revocation.Entry{Kind: oauth.RevocableToken, SubjectID: "token-1", At: noon, ExpiresAt: revocation.Good(expiry)},
	)
	load(t, l)
	now = expiry.Add(90 * time.Second)
	if _, items := l.Since(0); len(items) != 2 {
		t.Errorf("a verifier takes the token still, and there are %d entries", len(items))
	}
}

func TestListNeverGoesBackwards(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		now := noon.Time
		l := listAt(db, &now)
		appendTo(t, db, make([]revocation.Entry, 0)...)
		last := appendTo(t, db, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "tbk_1", Generation: 2, At: noon})
		load(t, l)
		at := l.Position()
		for what, query := range map[string]string{
			"sequence": `UPDATE revocation_counter SET seq = seq - 1`,
			"epoch":    `UPDATE revocation_counter SET epoch = epoch - 1, seq = seq + 5`,
			"a restored database in an epoch of its own": `UPDATE revocation_counter SET epoch = epoch + 5, seq = seq - 1`,
		} {
			if _, err := db.Writer().ExecContext(t.Context(), query); err != nil {
				t.Fatal(err)
			}
			if err := l.Load(t.Context()); !errors.Is(err, revocation.ErrBackwards) {
				t.Errorf("%s: %v, want ErrBackwards", what, err)
			}
			if _, err := db.Writer().ExecContext(t.Context(), `UPDATE revocation_counter SET epoch = ?, seq = ?`, at.Epoch, last); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Revoked(t.Context(), "", claimsOf("tbk_1", 1)); !errors.Is(err, bearer.ErrRevoked) {
			t.Errorf("what was known: %v", err)
		}
		begin := func(old int64) (begun bool) {
			err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) (err error) {
				begun, err = revocation.NextEpoch(ctx, tx, old, noon)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return begun
		}
		if !begin(at.Epoch) || begin(at.Epoch) {
			t.Error("an epoch does not begin just once")
		}
		load(t, l)
		if next := l.Position(); next.Epoch != noon.Unix() || next.Sequence != last {
			t.Errorf("the next epoch is %+v", next)
		}
		if !begin(noon.Unix()) {
			t.Fatal("no epoch begins")
		}
		load(t, l)
		if next := l.Position(); next.Epoch != noon.Unix()+1 {
			t.Errorf("two epochs in a second: %+v", next)
		}
	})
}

// Without the lease the database is asked, and when it does not answer nothing is
// said.
func TestListWithoutTheLease(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		now, held := noon.Time, true
		l := listAt(db, &now)
		l.Held = func() bool { return held }
		load(t, l)
		appendTo(t, db, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "tbk_1", Generation: 2, At: noon})
		if err := l.Revoked(t.Context(), "", claimsOf("tbk_1", 1)); err != nil {
			t.Errorf("under the lease it is what was loaded: %v", err)
		}
		held = false
		if err := l.Revoked(t.Context(), "", claimsOf("tbk_1", 1)); !errors.Is(err, bearer.ErrRevoked) {
			t.Errorf("without the lease: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Revoked(t.Context(), "", claimsOf("tbk_2", 1)); err == nil || errors.Is(err, bearer.ErrRevoked) {
			t.Errorf("without the database: %v, want an error that says nothing of the token", err)
		}
	})
}

// Whoever waits is woken, by whichever load brings something.
func TestMoved(t *testing.T) {
	db := schematest.SQLite(t)
	now := noon.Time
	l := listAt(db, &now)
	load(t, l)
	moved := l.Moved()
	load(t, l)
	select {
	case <-moved: // nothing is promised about a load that brings nothing
		moved = l.Moved()
	default:
	}
	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() { <-moved })
	}
	appendTo(t, db, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "tbk_1", Generation: 2, At: noon})
	load(t, l)
	waiting.Wait()
	if l.Position().Sequence != 1 {
		t.Errorf("woken at %+v", l.Position())
	}
}

// Lists that load at different moments, and prune at others, deny the same.
func TestListsAgree(t *testing.T) {
	db := schematest.SQLite(t)
	now := noon.Time
	steady := listAt(db, &now)
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(0, 5).Draw(rt, "rounds") {
			var entries []revocation.Entry
			for range rapid.IntRange(1, 40).Draw(rt, "entries") {
				entries = append(entries, revocation.Entry{
					Kind: oauth.RevocableKey, SubjectID: fmt.Sprint("tbk_", rapid.IntRange(0, 3).Draw(rt, "key")),
					Generation: rapid.Int64Range(1, 9).Draw(rt, "generation"), At: workspace.At(now),
				})
			}
			appendTo(t, db, entries...)
			load(t, steady)
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "minutes")) * time.Minute)
		}
		fresh := listAt(db, &now)
		load(t, fresh)
		load(t, steady)
		_, a := steady.Since(0)
		_, b := fresh.Since(0)
		if !maps.Equal(bySeq(a), bySeq(b)) {
			rt.Fatalf("%d items in a list that followed, %d in one that begins", len(a), len(b))
		}
		for key := range 4 {
			for generation := range int64(10) {
				claims := claimsOf(fmt.Sprint("tbk_", key), generation)
				if x, y := steady.Revoked(t.Context(), "", claims), fresh.Revoked(t.Context(), "", claims); (x == nil) != (y == nil) && y != nil {
					rt.Fatalf("key %d of generation %d: %v in a list that followed, %v in one that begins", key, generation, x, y)
				}
			}
		}
	})
}

// However many there are, those that have expired do not stay in memory.
func TestListPrunes(t *testing.T) {
	db := schematest.SQLite(t)
	now := noon.Time
	l := listAt(db, &now)
	for range 10 {
		var entries []revocation.Entry
		for i := range 600 {
			entries = append(entries, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: fmt.Sprint("tbk_", i), Generation: 2, At: workspace.At(now)})
		}
		appendTo(t, db, entries...)
		load(t, l)
		now = now.Add(42 * time.Minute)
	}
	if n := l.Len(); n > 3000 {
		t.Errorf("%d entries are in memory, and 1200 are not older than 84 minutes", n)
	}
	if _, items := l.Since(0); len(items) != 600 {
		t.Errorf("%d items count, want the last 600", len(items))
	}
	for i := range 600 {
		if err := l.Revoked(t.Context(), "", claimsOf(fmt.Sprint("tbk_", i), 1)); !errors.Is(err, bearer.ErrRevoked) {
			t.Fatalf("key %d: %v", i, err)
		}
	}
}

func bySeq(items []revocation.Item) map[int64]revocation.Item {
	m := map[int64]revocation.Item{}
	for _, item := range items {
		m[item.Seq] = item
	}
	return m
}
