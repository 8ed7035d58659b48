package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// report keeps a report in a transaction of its own.
func report(t *testing.T, db *schema.DB, v revocation.Verifier) (kept bool) {
	t.Helper()
	err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) (err error) {
		kept, err = revocation.Report(ctx, tx, v)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func verifier(in workspace.ID, name string, seq int64, at workspace.Time) revocation.Verifier {
	return revocation.Verifier{WorkspaceID: in, Name: name, KeyID: "tbk_1", Epoch: 1, Seq: seq, ReportedAt: at}
}

func aWorkspace(t *testing.T, db *schema.DB, slug string) workspace.ID {
	t.Helper()
	ws := workspace.Workspace{ID: workspace.NewID(), Slug: slug, Name: slug, Generation: 1, CreatedAt: noon, UpdatedAt: noon}
	err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error { return workspace.Insert(ctx, tx, ws) })
	if err != nil {
		t.Fatal(err)
	}
	return ws.ID
}

func later(d time.Duration) workspace.Time { return workspace.At(noon.Add(d)) }

// A workspace has 200 verifiers, however many come at once; those that are known
// go on to report, others are not affected, and who is forgotten makes room.
func TestVerifiersAreBounded(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		in, other := aWorkspace(t, db, "acme"), aWorkspace(t, db, "other")
		for i := range revocation.MaxVerifiers - 5 {
			if !report(t, db, verifier(in, fmt.Sprint("v", i), 1, noon)) {
				t.Fatalf("verifier %d is not kept", i)
			}
		}
		var kept atomic.Int64
		var running sync.WaitGroup
		for i := range 16 {
			running.Go(func() {
				if report(t, db, verifier(in, fmt.Sprint("at-once", i), 1, noon)) {
					kept.Add(1)
				}
			})
		}
		running.Wait()
		if kept.Load() != 5 {
			t.Errorf("%d of 16 were kept, want 5", kept.Load())
		}
		if !report(t, db, verifier(in, "v0", 2, later(time.Minute))) || !report(t, db, verifier(other, "v0", 2, noon)) {
			t.Error("a verifier that is known, or of another workspace, is not kept")
		}
		forgotten := later(revocation.VerifierMemory + time.Second)
		if !report(t, db, verifier(in, "late", 3, forgotten)) {
			t.Error("nobody made room")
		}
		found, err := revocation.Verifiers(t.Context(), db.Reader(), "", revocation.Verifier{}, 1000, noon.Time)
		if err != nil || len(found) != 2 || found[0].Name != "late" && found[1].Name != "late" {
			t.Errorf("left are %+v, %v; want v0, which reported a minute later, and late", found, err)
		}
	})
}

// One that was forgotten comes back as a new one does: if there is room.
func TestForgottenVerifierComesBack(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		in := aWorkspace(t, db, "acme")
		report(t, db, verifier(in, "old", 1, noon))
		now := later(revocation.VerifierMemory + time.Second)
		if _, err := db.Writer().ExecContext(t.Context(), `UPDATE verifiers SET reported_at = ? WHERE name = 'old'`, now); err != nil {
			t.Fatal(err)
		}
		for i := range revocation.MaxVerifiers - 1 {
			report(t, db, verifier(in, fmt.Sprint("v", i), 1, now))
		}
		if _, err := db.Writer().ExecContext(t.Context(), `UPDATE verifiers SET reported_at = ? WHERE name = 'old'`, noon); err != nil {
			t.Fatal(err)
		}
		if !report(t, db, verifier(in, "old", 2, now)) || report(t, db, verifier(in, "one more", 1, now)) {
			t.Error("it is not the last of 200")
		}
		if _, err := db.Writer().ExecContext(t.Context(), `UPDATE verifiers SET reported_at = ? WHERE name = 'v0'`, noon); err != nil {
			t.Fatal(err)
		}
		if !report(t, db, verifier(in, "instead", 1, now)) || report(t, db, verifier(in, "v0", 2, now)) {
			t.Error("there was room for v0, in whose place another has come")
		}
	})
}

// What has not reported for 30 days is not shown, though the row is there.
func TestVerifiersAreForgotten(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		in := aWorkspace(t, db, "acme")
		report(t, db, verifier(in, "old", 1, noon))
		for after, want := range map[time.Duration]int{0: 1, revocation.VerifierMemory: 1, revocation.VerifierMemory + time.Second: 0} {
			now := noon.Add(after)
			found, err := revocation.Verifiers(t.Context(), db.Reader(), in, revocation.Verifier{}, 10, now)
			if err != nil || len(found) != want {
				t.Errorf("after %s: %d, %v; want %d", after, len(found), err, want)
			}
			r, err := revocation.ReceiptOf(t.Context(), db.Reader(), revocation.Entry{Seq: 1, WorkspaceID: in, ExpiresAt: later(time.Hour)}, now)
			if err != nil || len(r.Verifiers) != want || r.Own.Behind+r.Own.CaughtUp != int64(want) {
				t.Errorf("after %s: the receipt has %+v, %v", after, r, err)
			}
		}
	})
}

// Pages go through all verifiers in order, each once.
func TestVerifiersInPages(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		a, b := aWorkspace(t, db, "a"), aWorkspace(t, db, "b")
		if b < a {
			a, b = b, a
		}
		for _, name := range []string{"x", "a-b", "a_b", "a.b", "ab"} {
			report(t, db, verifier(a, name, 1, noon))
			report(t, db, verifier(b, name, 1, noon))
		}
		var names []string
		for after := (revocation.Verifier{}); ; {
			found, err := revocation.Verifiers(t.Context(), db.Reader(), "", after, 3, noon.Time)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 {
				break
			}
			for _, v := range found {
				names = append(names, strings.NewReplacer(string(a), "1", string(b), "2").Replace(string(v.WorkspaceID))+v.Name)
			}
			after = found[len(found)-1]
		}
		if got := strings.Join(names, " "); got != "1a-b 1a.b 1a_b 1ab 1x 2a-b 2a.b 2a_b 2ab 2x" {
			t.Errorf("the pages have %s", got)
		}
	})
}

// A receipt counts who has caught up in the present epoch, in its workspace and in
// others, and until when a token may be taken.
func TestReceipt(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		in, other := aWorkspace(t, db, "acme"), aWorkspace(t, db, "other")
		if other < in { // lists are in the order of IDs
			in, other = other, in
		}
		entries := []revocation.Entry{
			{Kind: oauth.RevocableKey, SubjectID: "tbk_1", Generation: 2, WorkspaceID: in, At: noon},
			{Kind: oauth.RevocableSigningKey, SubjectID: "kid", At: noon},
		}
		err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
			_, err := revocation.Append(ctx, tx, entries...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		now := noon.Add(10 * time.Minute)
		of := func(seq int64) revocation.Receipt {
			t.Helper()
			e, err := revocation.Find(t.Context(), db.Reader(), seq)
			if err != nil {
				t.Fatal(err)
			}
			r, err := revocation.ReceiptOf(t.Context(), db.Reader(), e, now)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		check := func(what string, r revocation.Receipt, own, others revocation.Tally, names string, settled, dead bool) {
			t.Helper()
			var listed []string
			for _, v := range r.Verifiers {
				listed = append(listed, v.Name)
			}
			if r.Own != own || r.Others != others || strings.Join(listed, " ") != names || r.Settled() != settled || r.AcceptsUntil().IsZero() != dead {
				t.Errorf("%s: own %+v, others %+v, %v, settled %v, until %v", what, r.Own, r.Others, listed, r.Settled(), r.AcceptsUntil())
			}
		}
		type tally = revocation.Tally
		check("nobody is known", of(1), tally{}, tally{}, "", true, false)
		if until := of(1).AcceptsUntil(); until != of(1).ExpiresAt {
			t.Errorf("tokens are taken until %v, want when they are dead", until)
		}
		recent := workspace.At(now.Add(-time.Second))
		report(t, db, verifier(in, "z-behind", 0, recent))
		report(t, db, verifier(in, "a-exact", 1, recent))
		report(t, db, verifier(other, "far", 2, recent))
		report(t, db, verifier(other, "gone", 0, noon))
		check("one is behind", of(1), tally{1, 1, 0}, tally{1, 1, 1}, "z-behind a-exact", false, false)
		check("the installation's", of(2), tally{1, 3, 1}, tally{}, "a-exact z-behind gone far", false, false)
		report(t, db, verifier(in, "z-behind", 1, recent))
		check("only a silent one is behind", of(1), tally{2, 0, 0}, tally{1, 1, 1}, "a-exact z-behind", true, false)
		report(t, db, verifier(other, "gone", 2, recent))
		check("all have caught up", of(1), tally{2, 0, 0}, tally{2, 0, 0}, "a-exact z-behind", true, true)
		err = db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
			_, err := revocation.NextEpoch(ctx, tx, 1, noon)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		check("a new epoch", of(1), tally{0, 2, 0}, tally{0, 2, 0}, "a-exact z-behind", false, false)
		now = of(1).ExpiresAt.Add(-time.Microsecond)
		check("the last moment", of(1), tally{0, 2, 2}, tally{0, 2, 2}, "a-exact z-behind", true, false)
		now = now.Add(time.Microsecond)
		check("no token is good", of(1), tally{0, 2, 2}, tally{0, 2, 2}, "a-exact z-behind", true, true)
	})
}

func TestVerifierValidate(t *testing.T) {
	for name, good := range map[string]bool{
		"a": true, "billing-api.eu_1": true, strings.Repeat("a", 63): true, "0": true,
		"": false, strings.Repeat("a", 64): false, "A": false, "-a": false, ".a": false, "_a": false, "a b": false, "a/b": false, "ä": false, "a\n": false,
	} {
		if err := verifier("ws_1", name, 0, noon).Validate(); (err == nil) != good || err != nil && !errors.Is(err, workspace.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, v := range []revocation.Verifier{{Name: "a", Epoch: -1}, {Name: "a", Seq: -1}} {
		if err := v.Validate(); !errors.Is(err, workspace.ErrInvalid) {
			t.Errorf("%+v: %v", v, err)
		}
	}
}

// A report that says the same is worth a write when the last one has grown old.
func TestReportsThatAddNothing(t *testing.T) {
	last := verifier("ws_1", "a", 5, noon)
	for d, adds := range map[time.Duration]bool{0: false, 9 * time.Second: false, 10 * time.Second: true} {
		if got := verifier("ws_1", "a", 5, later(d)).Adds(&last); got != adds {
			t.Errorf("after %s: %v", d, got)
		}
	}
	further, back, other := verifier("ws_1", "a", 6, noon), verifier("ws_1", "a", 4, noon), last
	other.KeyID = "tbk_2"
	for _, v := range []revocation.Verifier{further, back, other} {
		if !v.Adds(&last) || !v.Adds(nil) {
			t.Errorf("%+v is not written", v)
		}
	}
}

// A number of an earlier epoch says nothing about the present one, however high.
func TestKnows(t *testing.T) {
	v := revocation.Verifier{Epoch: 5, Seq: 10}
	for _, c := range []struct {
		epoch, seq int64
		want       bool
	}{{5, 9, true}, {5, 10, true}, {5, 11, false}, {6, 1, false}, {4, 1, false}} {
		if got := v.Knows(c.epoch, c.seq); got != c.want {
			t.Errorf("at 10 of epoch 5, %d of epoch %d: %v", c.seq, c.epoch, got)
		}
	}
}
