package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

var noon = workspace.At(time.Date(2030, 1, 2, 12, 0, 0, 123456789, time.UTC))

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func event(chain, action string) audit.Event {
	return audit.Event{
		Chain: chain, At: noon, Action: action, ActorKind: "user", ActorID: "usr_1", KeyID: "tbk_2", SubjectID: "tbk_1", OwnerID: "sa_1",
		Address: "192.0.2.1", Agent: "curl/8", RequestID: "req_1",
	}
}

func appendEvents(t testing.TB, db *schema.DB, events ...audit.Event) {
	t.Helper()
	check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		for _, e := range events {
			if err := audit.Append(ctx, tx, e, map[string]any{"name": "<ci> & ü", "n": 1}); err != nil {
				return err
			}
		}
		return nil
	}))
}

func events(t testing.TB, db *schema.DB, chain string) []audit.Event {
	t.Helper()
	list, err := audit.Events(t.Context(), db.Reader(), chain)
	check(t, err)
	return list
}

// broken returns the number of the first event at which a chain breaks, or 0.
// It knows only what the package documents: events are numbered from 1, and each
// hash is SHA-256 over the hash before it, at first 32 zero bytes, and the event
// as a JSON array of its columns, in form 2 with all of them.
func broken(list []audit.Event) int64 {
	previous := make([]byte, sha256.Size)
	for i, e := range list {
		text, err := json.Marshal([]any{
			e.Form, e.Chain, e.Seq, e.ID, e.At.UnixMicro(), e.Action, e.ActorKind, e.ActorID, e.SubjectID, e.Detail,
			e.KeyID, e.OwnerID, e.Address, e.Agent, e.RequestID,
		})
		if err != nil {
			return int64(i + 1)
		}
		sum := sha256.Sum256(append(bytes.Clone(previous), text...))
		if e.Seq != int64(i+1) || !bytes.Equal(sum[:], e.Hash) {
			return int64(i + 1)
		}
		previous = e.Hash
	}
	return 0
}

func TestChainVerifies(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		for i := range 5 {
			appendEvents(t, db, event("ws_1", fmt.Sprint("key.", i)), event(audit.Instance, "user.create"))
		}
		for _, chain := range []string{"ws_1", audit.Instance} {
			list := events(t, db, chain)
			if n := broken(list); len(list) != 5 || n != 0 {
				t.Errorf("%s: %d events, broken at %d", chain, len(list), n)
			}
			var head []byte
			check(t, sqlx.GetContext(t.Context(), db.Reader(), &head, `SELECT hash FROM audit_heads WHERE chain = ?`, chain))
			if !bytes.Equal(head, list[4].Hash) {
				t.Errorf("%s: the head is not the last event's hash", chain)
			}
			if got := list[0].Detail; got != `{"n":1,"name":"\u003cci\u003e \u0026 ü"}` || !list[0].At.Equal(noon.Time) {
				t.Errorf("%s: stored is %s at %s", chain, got, list[0].At)
			}
		}
		if list := events(t, db, "ws_unknown"); len(list) != 0 {
			t.Errorf("an unknown chain has %d events", len(list))
		}
	})
}

// Whatever is changed, removed, exchanged or slipped in breaks the chain at that
// place.
func TestTamperingShows(t *testing.T) {
	swap := func(column string) []string {
		return []string{
			`UPDATE audit_events SET seq = -1 WHERE seq = 2`,
			`UPDATE audit_events SET seq = 2 WHERE seq = ` + column,
			`UPDATE audit_events SET seq = ` + column + ` WHERE seq = -1`,
		}
	}
	for name, test := range map[string]struct {
		queries []string
		at      int64
	}{
		"another action":      {[]string{`UPDATE audit_events SET action = 'key.x' WHERE seq = 3`}, 3},
		"another actor":       {[]string{`UPDATE audit_events SET actor_id = 'usr_2' WHERE seq = 3`}, 3},
		"another kind":        {[]string{`UPDATE audit_events SET actor_kind = 'operator' WHERE seq = 3`}, 3},
		"another subject":     {[]string{`UPDATE audit_events SET subject_id = 'tbk_2' WHERE seq = 1`}, 1},
		"a microsecond later": {[]string{`UPDATE audit_events SET at = at + 1 WHERE seq = 5`}, 5},
		"another key":         {[]string{`UPDATE audit_events SET key_id = 'tbk_3' WHERE seq = 3`}, 3},
		"another owner":       {[]string{`UPDATE audit_events SET owner_id = 'sa_2' WHERE seq = 3`}, 3},
		"another address":     {[]string{`UPDATE audit_events SET address = '192.0.2.2' WHERE seq = 3`}, 3},
		"another agent":       {[]string{`UPDATE audit_events SET agent = '' WHERE seq = 3`}, 3},
		"another request":     {[]string{`UPDATE audit_events SET request_id = '' WHERE seq = 3`}, 3},
		"another form":        {[]string{`UPDATE audit_events SET form = 1 WHERE seq = 3`}, 3},
		"another ID":          {[]string{`UPDATE audit_events SET id = 'evt_x' WHERE seq = 3`}, 3},
		"another detail":      {[]string{`UPDATE audit_events SET detail = '{}' WHERE seq = 3`}, 3},
		"a space more":        {[]string{`UPDATE audit_events SET detail = detail || ' ' WHERE seq = 3`}, 3},
		"another hash":        {[]string{`UPDATE audit_events SET hash = (SELECT hash FROM audit_heads) WHERE seq = 3`}, 3},
		"one removed":         {[]string{`DELETE FROM audit_events WHERE seq = 3`}, 3},
		"one removed, the rest renumbered": {[]string{
			`DELETE FROM audit_events WHERE seq = 3`,
			`UPDATE audit_events SET seq = 3 WHERE seq = 4`, `UPDATE audit_events SET seq = 4 WHERE seq = 5`,
		}, 3},
		"the first removed": {[]string{`DELETE FROM audit_events WHERE seq = 1`}, 1},
		"two exchanged":     {swap("4"), 2},
		"of another chain":  {[]string{`UPDATE audit_events SET chain = 'ws_2'`, `UPDATE audit_events SET chain = 'ws_1' WHERE seq < 0`}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			db := schematest.SQLite(t)
			for range 5 {
				appendEvents(t, db, event("ws_1", "key.create"))
			}
			for _, query := range test.queries {
				_, err := db.Writer().ExecContext(t.Context(), query)
				check(t, err)
			}
			list := append(events(t, db, "ws_1"), events(t, db, "ws_2")...)
			if got := broken(list); got != test.at {
				t.Errorf("the chain of %d events breaks at %d, want %d", len(list), got, test.at)
			}
		})
	}
}

// What is cut off at the end shows against the head.
func TestHeadShowsARemovedEnd(t *testing.T) {
	db := schematest.SQLite(t)
	appendEvents(t, db, event("ws_1", "a"), event("ws_1", "b"))
	_, err := db.Writer().ExecContext(t.Context(), `DELETE FROM audit_events WHERE seq = 2`)
	check(t, err)
	var seq int64
	check(t, sqlx.GetContext(t.Context(), db.Reader(), &seq, `SELECT seq FROM audit_heads`))
	if list := events(t, db, "ws_1"); int64(len(list)) == seq || broken(list) != 0 {
		t.Errorf("%d events, head at %d", len(list), seq)
	}
}

// An event that is rolled back leaves no trace and no gap.
func TestRolledBackEvent(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		giveUp := errors.New("given up")
		appendEvents(t, db, event("ws_1", "a"))
		err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
			check(t, audit.Append(ctx, tx, event("ws_1", "b"), nil))
			return giveUp
		})
		if !errors.Is(err, giveUp) {
			t.Fatal(err)
		}
		appendEvents(t, db, event("ws_1", "c"))
		list := events(t, db, "ws_1")
		if len(list) != 2 || list[1].Action != "c" || broken(list) != 0 {
			t.Errorf("the chain is %+v, broken at %d", list, broken(list))
		}
	})
}

// Detail is a JSON object, also when there is nothing to tell.
func TestDetailIsAnObject(t *testing.T) {
	db := schematest.SQLite(t)
	check(t, audit.Append(t.Context(), db.Writer(), event("ws_1", "a"), nil))
	if got := events(t, db, "ws_1")[0].Detail; got != "{}" {
		t.Errorf("the detail is %s, want {}", got)
	}
	if err := audit.Append(t.Context(), db.Writer(), event("ws_1", "b"), map[string]any{"f": func() {}}); err == nil {
		t.Error("a detail that is no JSON is accepted")
	}
}

func TestConcurrentAppendsOnTwoChains(t *testing.T) {
	const writers, each = 6, 10
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var running sync.WaitGroup
		for writer := range writers {
			running.Go(func() {
				for i := range each {
					err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
						return audit.Append(ctx, tx, event(fmt.Sprint("ws_", writer%2), fmt.Sprint(writer, ".", i)), nil)
					})
					if err != nil {
						t.Errorf("append: %v", err)
					}
				}
			})
		}
		running.Wait()
		for _, chain := range []string{"ws_0", "ws_1"} {
			list := events(t, db, chain)
			if n := broken(list); len(list) != writers*each/2 || n != 0 {
				t.Errorf("%s: %d events, broken at %d", chain, len(list), n)
			}
		}
	})
}
