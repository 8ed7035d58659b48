package audit_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

func verify(t testing.TB, db *schema.DB, heads ...audit.Head) audit.Report {
	t.Helper()
	report, err := audit.Verify(t.Context(), db.Reader(), heads)
	check(t, err)
	return report
}

// wantFindings compares findings, each "chain/seq: what" with what may be cut.
func wantFindings(t testing.TB, report audit.Report, want ...string) {
	t.Helper()
	var got []string
	for _, f := range report.Findings {
		got = append(got, fmt.Sprintf("%s/%d: %s", f.Chain, f.Seq, f.What))
	}
	same := slices.EqualFunc(got, want, strings.HasPrefix)
	if !same {
		t.Errorf("found:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func exec(t testing.TB, db *schema.DB, queries ...string) {
	t.Helper()
	for _, query := range queries {
		_, err := db.Writer().ExecContext(t.Context(), query)
		check(t, err)
	}
}

// recorded is a database with a chain of five events, another of two, and three
// batches of three exchanges.
func recorded(t testing.TB, db *schema.DB) {
	t.Helper()
	for range 5 {
		appendEvents(t, db, event("ws_1", "key.create"))
	}
	appendEvents(t, db, event(audit.Instance, "user.create"), event(audit.Instance, "user.create"))
	w := writer(db)
	for batch := range 3 {
		for i := range 3 {
			check(t, w.Record(t.Context(), use(fmt.Sprint("tbk_", i), batch)))
		}
		check(t, w.Flush(t.Context()))
	}
}

func writer(db *schema.DB) *audit.Writer {
	return audit.NewWriter(db, audit.WriterOptions{Interval: time.Hour})
}

// use is an exchange of a key, some hours after noon.
func use(key string, hours int) audit.Exchange {
	return audit.Exchange{
		At: workspace.At(noon.Add(time.Duration(hours) * time.Hour)), WorkspaceID: "ws_1", KeyID: key, OwnerID: "sa_1", SecretID: "sec_1",
		Action: audit.TokenIssue, Outcome: "issued", Address: "192.0.2.1", Agent: "curl/8", RequestID: "req_1", Detail: `{"jti":"x"}`,
	}
}

func TestVerifyWhole(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		wantFindings(t, verify(t, db))
		recorded(t, db)
		heads, err := audit.Heads(t.Context(), db.Reader())
		check(t, err)
		report := verify(t, db, heads...)
		wantFindings(t, report)
		if report.Chains != 3 || report.Events != 10 || report.Exchanges != 9 {
			t.Errorf("%+v", report)
		}
		appendEvents(t, db, event("ws_1", "key.create"))
		wantFindings(t, verify(t, db, heads...))
	})
}

// Chains that are longer than what is read at a time.
func TestVerifyLongChains(t *testing.T) {
	db := schematest.SQLite(t)
	list := make([]audit.Event, 2500)
	for i := range list {
		list[i] = event("ws_1", "key.create")
	}
	appendEvents(t, db, list...)
	w := writer(db)
	for range 2500 {
		check(t, w.Record(t.Context(), use("tbk_1", 0)))
	}
	check(t, w.Flush(t.Context()))
	wantFindings(t, verify(t, db))
	exec(t, db, `UPDATE audit_events SET subject_id = '' WHERE seq IN (1000, 1001, 2001)`, `UPDATE exchange_bundles SET records = REPLACE(records, 'curl/8', '') WHERE batch = 3 AND bundle = 400`)
	wantFindings(t, verify(t, db), "exchanges/3: exchanges of batch 3 were changed",
		"ws_1/1000: event 1000 was changed", "ws_1/1001: event 1001 was changed", "ws_1/2001: event 2001 was changed")
}

// Whatever is done to the record is named.
func TestVerifyNamesTampering(t *testing.T) {
	swap := func(a, b int) []string {
		return []string{
			`UPDATE audit_events SET seq = -1 WHERE chain = 'ws_1' AND seq = ` + fmt.Sprint(a),
			fmt.Sprintf(`UPDATE audit_events SET seq = %d WHERE chain = 'ws_1' AND seq = %d`, a, b),
			`UPDATE audit_events SET seq = ` + fmt.Sprint(b) + ` WHERE seq = -1`,
		}
	}
	const at3 = ` WHERE chain = 'ws_1' AND seq = 3`
	for name, test := range map[string]struct {
		queries []string
		want    []string
	}{
		"removed":   {[]string{`DELETE FROM audit_events` + at3}, []string{"ws_1/3: event 3 is missing"}},
		"the first": {[]string{`DELETE FROM audit_events WHERE chain = 'ws_1' AND seq = 1`}, []string{"ws_1/1: event 1 is missing"}},
		"two removed, one changed": {[]string{`DELETE FROM audit_events WHERE chain = 'ws_1' AND seq IN (2, 3)`, `UPDATE audit_events SET agent = '' WHERE chain = 'ws_1' AND seq = 5`},
			[]string{"ws_1/2: events 2 to 3 are missing", "ws_1/5: event 5 was changed"}},
		"swapped": {swap(2, 4), []string{"ws_1/2: the event in place 2 is out of order: it was event 4", "ws_1/4: the event in place 4 is out of order: it was event 2"}},
		"swapped neighbours": {swap(2, 3),
			[]string{"ws_1/2: the event in place 2 is out of order: it was event 3", "ws_1/3: the event in place 3 is out of order: it was event 2"}},
		"before the first": {[]string{`UPDATE audit_events SET seq = 0` + at3}, []string{"ws_1/0: event 0 is none", "ws_1/3: event 3 is missing"}},
		"the hash":         {[]string{`UPDATE audit_events SET hash = (SELECT hash FROM audit_heads WHERE chain = 'instance')` + at3}, []string{"ws_1/3: event 3 was changed"}},
		"the last hash":    {[]string{`UPDATE audit_events SET hash = (SELECT hash FROM audit_heads WHERE chain = 'instance') WHERE chain = 'ws_1' AND seq = 5`}, []string{"ws_1/5: event 5 was changed"}},
		"the tail":         {[]string{`DELETE FROM audit_events WHERE chain = 'ws_1' AND seq > 3`}, []string{"ws_1/4: the chain's end was cut off: its head is at event 5"}},
		"all of a chain":   {[]string{`DELETE FROM audit_events WHERE chain = 'ws_1'`}, []string{"ws_1/1: the chain's end was cut off"}},
		"the head":         {[]string{`DELETE FROM audit_heads WHERE chain = 'ws_1'`}, []string{"ws_1/5: the chain has events, but its head is gone"}},
		"a lower head":     {[]string{`UPDATE audit_heads SET seq = 3 WHERE chain = 'ws_1'`}, []string{"ws_1/4: events 4 to 5 are beyond the chain's head"}},
		"the head's hash":  {[]string{`UPDATE audit_heads SET hash = (SELECT hash FROM audit_events` + at3 + `) WHERE chain = 'ws_1'`}, []string{"ws_1/5: the chain's head holds another hash"}},
		"in several chains": {[]string{`UPDATE audit_events SET action = 'x' WHERE seq = 2`},
			[]string{"exchanges/2: event 2 was changed", "instance/2: event 2 was changed", "ws_1/2: event 2 was changed"}},
		"an exchange removed":       {[]string{`DELETE FROM exchange_bundles WHERE batch = 2 AND bundle = 1`}, []string{"exchanges/2: exchanges of batch 2 were removed: there are 2 of 3"}},
		"an exchange added":         {[]string{`UPDATE exchange_bundles SET batch = 3, bundle = 3 WHERE batch = 2 AND bundle = 2`}, []string{"exchanges/2: exchanges of batch 2 were removed", "exchanges/3: exchanges were added to batch 3: there are 4 instead of 3"}},
		"exchanges out of order":    {[]string{`UPDATE exchange_bundles SET bundle = -1, records = REPLACE(records, '[[1,', '[[-1,') WHERE batch = 1 AND bundle = 1`}, []string{"exchanges/1: exchanges of batch 1 were changed or moved"}},
		"a bundle emptied":          {[]string{`UPDATE exchange_bundles SET records = '[]' WHERE batch = 2 AND bundle = 1`}, []string{"exchanges/2: exchanges of batch 2 were removed: there are 2 of 3"}},
		"a bundle in another place": {[]string{`UPDATE exchange_bundles SET bundle = 7 WHERE batch = 2 AND bundle = 1`}, []string{"exchanges/2: exchanges of batch 2 were changed or moved"}},
		"what is no record":         {[]string{`UPDATE exchange_bundles SET records = '[{}]' WHERE batch = 2 AND bundle = 1`}, []string{"exchanges/2: exchanges of batch 2 were removed: there are 2 of 3"}},
		"a batch gone":              {[]string{`DELETE FROM exchange_bundles WHERE batch = 2`}, []string{"exchanges/2: batch 2 of 3 exchanges is gone"}},
		"a batch of nobody":         {[]string{`UPDATE exchange_bundles SET batch = 9 WHERE batch = 2`}, []string{"exchanges/2: batch 2 of 3 exchanges is gone", "exchanges/9: exchanges of batch 9 were added or moved"}},
		"an event of a batch gone": {[]string{`DELETE FROM audit_events WHERE chain = 'exchanges' AND seq = 2`},
			[]string{"exchanges/2: event 2 is missing", "exchanges/2: exchanges of batch 2 were added or moved"}},
	} {
		t.Run(name, func(t *testing.T) {
			schematest.Each(t, func(t *testing.T, db *schema.DB) {
				recorded(t, db)
				exec(t, db, test.queries...)
				wantFindings(t, verify(t, db), test.want...)
			})
		})
	}
}

// One byte of each column.
func TestVerifyCoversEveryColumn(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		recorded(t, db)
		for table, where := range map[string]string{"audit_events": `chain = 'ws_1' AND seq = 3`, "exchange_bundles": `batch = 2 AND bundle = 1`} {
			columns := columnsOf(t, db, table)
			if len(columns) < 11 {
				t.Fatalf("%s has %d columns", table, len(columns))
			}
			for _, column := range columns {
				changed := column + ` || 'x'`
				switch column {
				case "chain", "seq", "batch", "bundle", "hash":
					continue // see TestVerifyNamesTampering
				case "at", "since_at", "until_at", "count", "form":
					changed = column + ` + 1`
				}
				undo := keep(t, db, table, where)
				exec(t, db, fmt.Sprintf(`UPDATE %s SET %s = %s WHERE %s`, table, column, changed, where))
				if n := len(verify(t, db).Findings); n != 1 {
					t.Errorf("%s.%s: %d findings", table, column, n)
				}
				undo()
			}
		}
		wantFindings(t, verify(t, db))
	})
}

// Whatever a record of a bundle says is covered too, and it cannot say more.
func TestVerifyCoversEveryField(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		recorded(t, db)
		var records string
		check(t, sqlx.GetContext(t.Context(), db.Reader(), &records, `SELECT records FROM exchange_bundles WHERE batch = 2 AND bundle = 1`))
		change := func(name string, change func(fields []json.RawMessage) []json.RawMessage) {
			t.Helper()
			var list [][]json.RawMessage
			check(t, json.Unmarshal([]byte(records), &list))
			list[0] = change(list[0])
			text, err := json.Marshal(list)
			check(t, err)
			_, err = db.Writer().ExecContext(t.Context(), `UPDATE exchange_bundles SET records = ? WHERE batch = 2 AND bundle = 1`, string(text))
			check(t, err)
			if n := len(verify(t, db).Findings); n != 1 {
				t.Errorf("%s: %d findings in %s", name, n, text)
			}
		}
		for i := range 9 {
			change(fmt.Sprint("field ", i), func(fields []json.RawMessage) []json.RawMessage {
				fields[i] = append(fields[i][:len(fields[i])-1:len(fields[i])-1], map[bool]string{true: `x"`, false: "7"}[fields[i][0] == '"']...)
				return fields
			})
		}
		change("a field more", func(fields []json.RawMessage) []json.RawMessage { return append(fields, []byte(`"x"`)) })
		change("a field less", func(fields []json.RawMessage) []json.RawMessage { return fields[:8] })
	})
}

func columnsOf(t testing.TB, db *schema.DB, table string) []string {
	t.Helper()
	rows, err := db.Reader().QueryxContext(t.Context(), `SELECT * FROM `+table+` LIMIT 1`) //nolint:sqlclosecheck // closed below
	check(t, err)
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	check(t, err)
	return columns
}

// keep copies a row, and returns what puts it back.
func keep(t testing.TB, db *schema.DB, table, where string) (undo func()) {
	t.Helper()
	exec(t, db, `CREATE TABLE kept AS SELECT * FROM `+table+` WHERE `+where)
	return func() {
		exec(t, db, `DELETE FROM `+table+` WHERE `+where, `INSERT INTO `+table+` SELECT * FROM kept`, `DROP TABLE kept`)
	}
}

// What is cut off together with the head shows against a head that was exported,
// and so does a chain that was written anew.
func TestVerifyAgainstExportedHeads(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		recorded(t, db)
		first, err := audit.Heads(t.Context(), db.Reader())
		check(t, err)
		appendEvents(t, db, event("ws_1", "key.delete"))
		second, err := audit.Heads(t.Context(), db.Reader())
		check(t, err)
		exported := slices.Concat(first, second)

		exec(t, db, `DELETE FROM audit_events WHERE chain = 'ws_1' AND seq > 3`,
			`UPDATE audit_heads SET seq = 3, hash = (SELECT hash FROM audit_events WHERE chain = 'ws_1' AND seq = 3) WHERE chain = 'ws_1'`)
		wantFindings(t, verify(t, db))
		wantFindings(t, verify(t, db, exported...), "ws_1/4: the chain's end was cut off: the head that was exported at 2030-01-02T12:00:00Z is event 6")

		for range 3 {
			appendEvents(t, db, event("ws_1", "key.invented"))
		}
		wantFindings(t, verify(t, db))
		wantFindings(t, verify(t, db, exported...), "ws_1/5: event 5 is another than the one whose head was exported at 2030-01-02T12:00:00Z (as are those of 1 later heads)")

		exec(t, db, `DELETE FROM audit_events WHERE chain = 'instance'`, `DELETE FROM audit_heads WHERE chain = 'instance'`)
		wantFindings(t, verify(t, db, first...), "instance/1: the chain's end was cut off", "ws_1/5: event 5 is another")
	})
}

// appendForm1 appends as installations did before form 2.
func appendForm1(t testing.TB, db *schema.DB, chain string) {
	t.Helper()
	check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		var head struct {
			Seq  int64  `db:"seq"`
			Hash []byte `db:"hash"`
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO audit_heads (chain, seq, hash) VALUES (?, 0, ?) ON CONFLICT DO NOTHING`, chain, make([]byte, sha256.Size))
		check(t, err)
		check(t, sqlx.GetContext(ctx, tx, &head, `UPDATE audit_heads SET seq = seq + 1 WHERE chain = ? RETURNING seq, hash`, chain))
		e := event(chain, "key.create")
		id := fmt.Sprint("evt_", head.Seq)
		text, err := json.Marshal([]any{e.Chain, head.Seq, id, e.At.UnixMicro(), e.Action, e.ActorKind, e.ActorID, e.SubjectID, "{}"})
		check(t, err)
		hash := sha256.Sum256(append(head.Hash, text...))
		_, err = tx.ExecContext(ctx, `INSERT INTO audit_events (chain, seq, id, at, action, actor_kind, actor_id, subject_id, detail, hash)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, e.Chain, head.Seq, id, e.At, e.Action, e.ActorKind, e.ActorID, e.SubjectID, "{}", hash[:])
		check(t, err)
		_, err = tx.ExecContext(ctx, `UPDATE audit_heads SET hash = ? WHERE chain = ?`, hash[:], chain)
		return err
	}))
}

// Events of form 1 stay good, and go on as form 2; they say nothing in columns
// that are younger.
func TestForm1(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		appendForm1(t, db, "ws_1")
		appendForm1(t, db, "ws_1")
		appendEvents(t, db, event("ws_1", "key.delete"))
		if list := events(t, db, "ws_1"); list[1].Form != 1 || list[2].Form != 2 {
			t.Errorf("%+v", list)
		}
		wantFindings(t, verify(t, db))
		for _, column := range []string{"key_id", "owner_id", "address", "agent", "request_id"} {
			exec(t, db, `UPDATE audit_events SET `+column+` = 'x' WHERE seq = 2`)
			wantFindings(t, verify(t, db), "ws_1/2: event 2 was changed")
			exec(t, db, `UPDATE audit_events SET `+column+` = '' WHERE seq = 2`)
		}
		exec(t, db, `UPDATE audit_events SET form = 2 WHERE seq = 2`)
		wantFindings(t, verify(t, db), "ws_1/2: event 2 was changed")
		exec(t, db, `UPDATE audit_events SET form = 3 WHERE seq = 2`)
		wantFindings(t, verify(t, db), "ws_1/2: event 2 was changed")
	})
}

// A chain of which everything was changed is told event by event.
func TestVerifyManyChanges(t *testing.T) {
	db := schematest.SQLite(t)
	list := make([]audit.Event, 300)
	for i := range list {
		list[i] = event("ws_1", "key.create")
	}
	appendEvents(t, db, list...)
	exec(t, db, `UPDATE audit_events SET actor_id = 'usr_2'`)
	if report := verify(t, db); len(report.Findings) != 300 || report.Events != 300 {
		t.Errorf("%d findings in %d events", len(report.Findings), report.Events)
	}
}

func prune(t testing.TB, db *schema.DB, hours int) (removed int64) {
	t.Helper()
	check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) (err error) {
		removed, err = audit.Prune(ctx, tx, workspace.At(noon.Add(time.Duration(hours)*time.Hour)))
		return err
	}))
	return removed
}

// Only what Prune removed is not missed.
func TestPrune(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		if n := prune(t, db, 9); n != 0 {
			t.Errorf("%d removed of nothing", n)
		}
		recorded(t, db)
		for _, step := range []struct {
			hours   int
			removed int64
		}{{0, 0}, {1, 3}, {1, 0}, {2, 3}} {
			if n := prune(t, db, step.hours); n != step.removed {
				t.Errorf("%d removed before hour %d, want %d", n, step.hours, step.removed)
			}
			wantFindings(t, verify(t, db))
		}
		list := events(t, db, audit.Exchanges)
		if len(list) != 5 || list[3].Action != "exchanges.prune" || !strings.Contains(list[4].Detail, `"batches":[[2,2]]`) {
			t.Errorf("%+v", list)
		}
		exec(t, db, `DELETE FROM exchange_bundles`)
		wantFindings(t, verify(t, db), "exchanges/3: batch 3 of 3 exchanges is gone")
	})
}

// A batch with something young in it stays whole, also between others that go.
func TestPruneKeepsYoungBatches(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		for _, hours := range [][]int{{0, 1}, {0, 5}, {1, 1}, {1}} {
			for _, h := range hours {
				check(t, w.Record(t.Context(), use("tbk_1", h)))
			}
			check(t, w.Flush(t.Context()))
		}
		if n := prune(t, db, 2); n != 5 {
			t.Errorf("%d removed", n)
		}
		if list := events(t, db, audit.Exchanges); !strings.Contains(list[4].Detail, `"batches":[[1,1],[3,4]]`) {
			t.Errorf("%s", list[4].Detail)
		}
		report := verify(t, db)
		wantFindings(t, report)
		if report.Exchanges != 2 {
			t.Errorf("%+v", report)
		}
	})
}

// What takes several transactions goes too.
func TestPruneAll(t *testing.T) {
	db := schematest.SQLite(t)
	w := writer(db)
	for range 14_000 {
		check(t, w.Record(t.Context(), use("tbk_1", 0)))
	}
	check(t, w.Flush(t.Context()))
	check(t, w.Prune(t.Context(), workspace.At(noon.Add(time.Hour))))
	report := verify(t, db)
	wantFindings(t, report)
	if report.Exchanges != 0 || report.Events != 14+2 {
		t.Errorf("%+v", report)
	}
}
