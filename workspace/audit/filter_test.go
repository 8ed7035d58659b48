package audit_test

import (
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

func TestListByOutcome(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		timeline(t, db)
		outcome := list(t, db, audit.Filter{Chain: "ws_1", Action: audit.TokenIssue}, audit.Position{}, 1)[0].Outcome
		found := list(t, db, audit.Filter{Chain: "ws_1", Outcome: outcome}, audit.Position{}, 20)
		if len(found) != 5 {
			t.Errorf("%d entries are %s, want 5", len(found), outcome)
		}
		for _, e := range found {
			if e.Outcome != outcome {
				t.Errorf("%s is %q", e.Action, e.Outcome)
			}
		}
		if none := list(t, db, audit.Filter{Chain: "ws_1", Outcome: "expired"}, audit.Position{}, 20); len(none) > 0 {
			t.Errorf("found %v", none)
		}
	})
}

func TestConcerned(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		timeline(t, db)
		found, err := audit.Concerned(t.Context(), db.Reader(), "ws_1", []string{"tbk_0", "tbk_1", "tbk_2", "tbk_none"})
		check(t, err)
		if !found["tbk_0"] || found["tbk_1"] || !found["tbk_2"] || len(found) != 2 { // the odd ones are of exchanges
			t.Errorf("found %v", found)
		}
		if none, err := audit.Concerned(t.Context(), db.Reader(), "ws_1", nil); err != nil || len(none) > 0 {
			t.Errorf("of nothing: %v, %v", none, err)
		}
	})
}
