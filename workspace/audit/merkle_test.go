package audit_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// root computes the root of some leaves as RFC 9162 section 2.1.1 says, in another
// way than the package: pairs, level by level, an odd one going up as it is.
func root(leaves [][]byte) string {
	for len(leaves) > 1 {
		var level [][]byte
		for i := 0; i < len(leaves); i += 2 {
			if i+1 == len(leaves) {
				level = append(level, leaves[i])
				continue
			}
			sum := sha256.Sum256(append(append([]byte{1}, leaves[i]...), leaves[i+1]...))
			level = append(level, sum[:])
		}
		leaves = level
	}
	return hex.EncodeToString(leaves[0])
}

// rootOf computes the root over a batch from what is documented of it.
func rootOf(t testing.TB, db *schema.DB, batch int64) string {
	t.Helper()
	var rows []struct {
		Batch    int64 `db:"batch"`
		Position int64 `db:"position"`
		audit.Exchange
	}
	check(t, sqlx.SelectContext(t.Context(), db.Reader(), &rows, `SELECT * FROM exchange_events WHERE batch = ? ORDER BY position`, batch))
	var leaves [][]byte
	for _, r := range rows {
		text, err := json.Marshal([]any{
			r.Batch, r.Position, r.ID, r.At.UnixMicro(), r.WorkspaceID, r.KeyID, r.OwnerID, r.SecretID,
			r.Action, r.Outcome, r.Address, r.Agent, r.RequestID, r.Detail, r.Count,
		})
		check(t, err)
		sum := sha256.Sum256(append([]byte{0}, text...))
		leaves = append(leaves, sum[:])
	}
	return root(leaves)
}

// Somebody else can compute the root from what is documented.
func TestRootOfABatch(t *testing.T) {
	db := schematest.SQLite(t)
	w := writer(db)
	for n := 1; n <= 9; n++ {
		for i := range n {
			e := use(fmt.Sprint("tbk_", i), i)
			e.Agent = `<ü> "x"`
			check(t, w.Record(t.Context(), e))
		}
		check(t, w.Flush(t.Context()))
		e := events(t, db, audit.Exchanges)[n-1]
		if want := fmt.Sprintf(`{"count":%d,"root":"%s"}`, n, rootOf(t, db, int64(n))); e.Detail != want || e.Action != "exchanges.batch" {
			t.Errorf("%s %s, want %s", e.Action, e.Detail, want)
		}
	}
}

// Whatever a client says of itself can be stored and read back.
func TestClientsTextIsMadeFit(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		e := use("tbk_1", 0)
		e.Agent, e.Address, e.RequestID = "a\x00b\xff"+strings.Repeat("ü", 300), "\xff\x00", "\x00"
		e.Detail = "{\"x\":\"\xff\"}"
		check(t, w.Record(t.Context(), e))
		check(t, w.Flush(t.Context()))
		var stored audit.Exchange
		check(t, sqlx.GetContext(t.Context(), db.Reader(), &stored, `SELECT agent, address, request_id, detail FROM exchange_events`))
		want := "ab?" + strings.Repeat("ü", 126)
		if stored.Agent != want || stored.Address != "?" || stored.RequestID != "" || stored.Detail != `{"x":"?"}` {
			t.Errorf("%+v", stored)
		}
		m := event("ws_1", "key.create")
		m.Agent = e.Agent
		appendEvents(t, db, m)
		wantFindings(t, verify(t, db))
		entries, err := audit.List(t.Context(), db.Reader(), audit.Filter{Chain: "ws_1", Action: "\xff\x00", OwnerID: "\xff"}, audit.Position{At: workspace.At(noon.Time), ID: "\x00"}, 5)
		if err != nil || len(entries) != 0 {
			t.Errorf("%v, %v", entries, err)
		}
	})
}
