package policy_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// library is a database with a rulebook over it.
type library struct {
	*policy.Rulebook
	t    *testing.T
	db   *schema.DB
	held bool
	seq  int64
}

func newLibrary(t *testing.T, db *schema.DB) *library {
	l := &library{t: t, db: db, held: true}
	l.Rulebook = policy.NewRulebook(db.Reader(), func(context.Context) bool { return l.held }, slog.New(slog.DiscardHandler))
	l.follow(change.Batch{})
	return l
}

func (l *library) follow(batch change.Batch) {
	l.t.Helper()
	if err := l.Follow(l.t.Context(), batch); err != nil {
		l.t.Fatal(err)
	}
}

// write stores a version, whatever its text is.
func (l *library) write(subject string, version int64, text string) {
	l.t.Helper()
	err := policy.InsertDocument(l.t.Context(), l.db.Writer(), policy.Stored{
		Kind: policy.KindKeys, Subject: subject, Version: version, Text: text, CreatedAt: workspace.At(start), CreatedBy: "user:usr_1",
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// tell is what the follower does when a document was changed.
func (l *library) tell(subject string) {
	l.seq++
	l.follow(change.Batch{Seq: l.seq, Complete: true, Subjects: map[string]bool{policy.KindKeys.Subject(subject): true, "tbk_1": true}})
}

func (l *library) longest(in workspace.ID) int64 {
	l.t.Helper()
	b, err := l.Bounds(l.t.Context(), in, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	return int64(b.MaxLifetime / day)
}

func TestRulebook(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		l := newLibrary(t, db)
		if got := l.longest("ws_1"); got != 0 {
			t.Fatalf("nobody says anything, and the longest lifetime is %d days", got)
		}
		l.write(policy.Organization, 1, `{"max_lifetime_days": 90}`)
		if got := l.longest("ws_1"); got != 0 {
			t.Error("a change is in force before it was taken in")
		}
		l.tell(policy.Organization)
		l.write("ws_1", 1, `{"max_lifetime_days": 30}`)
		l.tell("ws_1")
		if one, other := l.longest("ws_1"), l.longest("ws_2"); one != 30 || other != 90 {
			t.Errorf("%d and %d days", one, other)
		}
		l.write("ws_1", 2, `{}`)
		l.held = false // then the database is asked
		if got := l.longest("ws_1"); got != 90 {
			t.Errorf("without the lease: %d days", got)
		}
		l.held = true
		if got := newLibrary(t, db).longest("ws_1"); got != 90 {
			t.Errorf("after a restart: %d days", got)
		}
	})
}

// Whoever has read something as of a change gets the rules as of that change.
func TestRulesAreNoOlderThanWhatTheyMeet(t *testing.T) {
	l := newLibrary(t, schematest.SQLite(t))
	l.write("ws_1", 1, `{"max_lifetime_days": 60}`)
	l.tell("ws_1")
	l.write("ws_1", 2, `{"max_lifetime_days": 30}`) // change 2, not taken in yet
	for since, want := range map[int64]int64{0: 60, 1: 60, 2: 30} {
		b, err := l.Bounds(t.Context(), "ws_1", since)
		if err != nil || int64(b.MaxLifetime/day) != want {
			t.Errorf("as of change %d: %d days, %v; want %d", since, b.MaxLifetime/day, err, want)
		}
	}
	l.follow(change.Batch{Seq: 2, Complete: true, Subjects: map[string]bool{"tbk_1": true}})
	if b, _ := l.Bounds(t.Context(), "ws_1", 2); b.MaxLifetime != 60*day {
		t.Error("a change of something else is not taken in: the database was asked")
	}
}

func TestABrokenDocumentIsPassedOver(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		l := newLibrary(t, db)
		l.write("ws_1", 1, `{"max_lifetime_days": 90}`)
		l.write("ws_1", 2, `{"max_lifetime_days": 60}`)
		l.tell("ws_1")
		for i, broken := range []string{
			``, `null`, `{`, `{"max_lifetime_days": 0}`, `{"max_lifetime_days": -60}`, `{"max_lifetime_days": 99999999999999999999999}`,
			`{"max_lifetime_days": "60"}`, `{"max_lifetime_weeks": 8}`, `{"max_lifetime_days": 60, "x": 1}`, "\xff", strings.Repeat("[", 100_000),
		} {
			if broken == "\xff" && db.Dialect() == schema.PostgreSQL {
				continue // it takes no such text
			}
			l.write("ws_1", int64(3+i), broken)
			l.tell("ws_1")
			if got := l.longest("ws_1"); got != 60 {
				t.Errorf("%.40q: %d days are in force", broken, got)
			}
			if l.Faults() != 1 {
				t.Errorf("%.40q: %d faults are counted", broken, l.Faults())
			}
			if got := newLibrary(t, db).longest("ws_1"); got != 60 {
				t.Errorf("%.40q: after a restart %d days are in force", broken, got)
			}
			l.held = false
			if got := l.longest("ws_1"); got != 60 {
				t.Errorf("%.40q: without the lease %d days are in force", broken, got)
			}
			l.held = true
		}
		l.write("ws_1", 100, `{"max_lifetime_days": 45}`)
		l.tell("ws_1")
		if l.longest("ws_1") != 45 || l.Faults() != 0 {
			t.Errorf("mended: %d days, %d faults", l.longest("ws_1"), l.Faults())
		}
	})
}

// A document that is broken in place, in every version, leaves in force what was.
func TestADocumentThatIsBrokenInPlace(t *testing.T) {
	l := newLibrary(t, schematest.SQLite(t))
	l.write(policy.Organization, 1, `{"max_lifetime_days": 60}`)
	l.tell(policy.Organization)
	if _, err := l.db.Writer().ExecContext(t.Context(), `UPDATE policies SET document = 'rubbish'`); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l.tell(policy.Organization)
		if l.longest("ws_1") != 60 || l.Faults() != 1 {
			t.Errorf("%d days, %d faults", l.longest("ws_1"), l.Faults())
		}
	}
	l.follow(change.Batch{}) // everything anew
	if l.longest("ws_1") != 60 || l.Faults() != 1 {
		t.Errorf("everything read anew: %d days, %d faults", l.longest("ws_1"), l.Faults())
	}
	fresh := newLibrary(t, l.db)
	if fresh.longest("ws_1") != 0 || fresh.Faults() != 1 {
		t.Errorf("a new process: %d days, %d faults; nothing good is left, so nothing is said", fresh.longest("ws_1"), fresh.Faults())
	}
}

// A column of SQLite holds whatever somebody writes to it.
func TestOtherKindsInColumns(t *testing.T) {
	l := newLibrary(t, schematest.SQLite(t))
	l.write("ws_1", 1, `{"max_lifetime_days": 60}`)
	for i, row := range []string{
		`'keys', 'ws_1', 'newest', 'x', 0, ''`, `'keys', 'ws_1', 2.5, 'x', 0, ''`, `'keys', 'ws_1', 3, x'00ff', 0, ''`, `'keys', 'ws_1', 4, 17, 0, ''`,
		`'keys', 'ws_1', 5, 'x', 'yesterday', 12`, `'keys', 'ws_1', 6, 'x', 1e300, x'01'`, `'keys', 'ws_1', x'07', 'x', x'08', 0.5`, `'keys', 'ws_1', -8, 'x', -1, ''`,
		`'keys', 'ws_1', 9223372036854775807, 'x', 9223372036854775807, ''`, `'keys', 'ws_1', 1e300, 'x', 0, ''`, `'keys', 'organization', 'a', 'x', 'b', ''`,
	} {
		if _, err := l.db.Writer().ExecContext(t.Context(), `INSERT INTO policies (kind, subject_id, version, document, created_at, created_by) VALUES (`+row+`)`); err != nil {
			t.Fatalf("row %d: %v", i, err)
		}
		l.tell("ws_1")
		l.tell(policy.Organization)
		fresh := newLibrary(t, l.db)
		l.held = false
		unheld := l.longest("ws_1")
		l.held = true
		if l.longest("ws_1") != 60 || fresh.longest("ws_1") != 60 || unheld != 60 {
			t.Errorf("after %s: %d days, in a new process %d, without the lease %d", row, l.longest("ws_1"), fresh.longest("ws_1"), unheld)
		}
	}
}

// Random bytes over a good document: there is always an answer, the good one or one
// that the bytes happen to say.
func TestRandomDocuments(t *testing.T) {
	l := newLibrary(t, schematest.SQLite(t))
	good := `{"max_lifetime_days": 60, "allow_never_expiring": false, "allowed_scopes": ["collectors:*"]}`
	l.write("ws_1", 1, good)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	refused := 0
	for i := range 500 {
		text := []byte(good)
		for range 1 + random.IntN(3) {
			text[random.IntN(len(text))] = byte(32 + random.IntN(95))
		}
		_, err := policy.ParseRules(string(text))
		l.write("ws_1", int64(2*i+2), string(text))
		l.tell("ws_1")
		if err != nil {
			refused++
			if l.longest("ws_1") != 60 || l.Faults() != 1 {
				t.Fatalf("%s: %d days, %d faults", text, l.longest("ws_1"), l.Faults())
			}
		}
		l.write("ws_1", int64(2*i+3), good)
	}
	if refused < 300 {
		t.Errorf("only %d of 500 documents were refused: the test shows little", refused)
	}
}

func TestRulebookWithoutADatabase(t *testing.T) {
	db := schematest.SQLite(t)
	l := newLibrary(t, db)
	l.write("ws_1", 1, `{"max_lifetime_days": 60}`)
	l.tell("ws_1")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := l.longest("ws_1"); got != 60 {
		t.Errorf("with the lease: %d days", got)
	}
	l.held = false
	if _, err := l.Bounds(context.Background(), "ws_1", 0); err == nil {
		t.Error("without the lease and the database there is an answer")
	}
}
