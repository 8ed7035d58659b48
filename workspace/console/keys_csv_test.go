package console_test

import (
	"encoding/csv"
	"net/http"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// The export has what the list has, no secret, and nothing that a spreadsheet runs.
func TestExportOfKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	formula := s.key(s.ws, "formula", manage.NewKey{Description: `=HYPERLINK("http://evil.example","x")`})
	s.used(formula, s.now())
	gone := s.key(s.ws, "gone", manage.NewKey{})
	fatal(t, s.manager.RevokeKey(t.Context(), s.operator, s.ws.ID, gone.ID, ""))
	v := s.as(s.owner)
	a := v.get(s.list()+".csv").want(t, http.StatusOK).without(t, formula.Secret.Reveal(), "tbs_")
	if a.header.Get("Content-Type") != "text/csv; charset=utf-8" || a.header.Get("Content-Disposition") != `attachment; filename="keys-`+s.ws.Slug+`.csv"` || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", a.header)
	}
	table := readTable(t, a)
	if len(table) != 1 || table[0]["name"] != "formula" || table[0]["description"] != `'=HYPERLINK("http://evil.example","x")` || table[0]["client_id"] != string(formula.ID) ||
		table[0]["status"] != "active" || table[0]["permissions"] != "Read-only" || table[0]["scopes"] != "collectors:read pipelines:read" ||
		table[0]["last_used_address"] != "203.0.113.9" || table[0]["created_by"] != "operator:test" || table[0]["owner"] != "formula" {
		t.Errorf("%v", table)
	}
	if table := readTable(t, v.get(s.list()+".csv?status=revoked")); len(table) != 1 || table[0]["name"] != "gone" {
		t.Errorf("%v", table)
	}
	if table := readTable(t, v.get(s.list()+".csv?q=nothing")); len(table) != 0 {
		t.Errorf("%v", table)
	}
}

func readTable(t *testing.T, a answer) (table []map[string]string) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	fatal(t, err)
	for _, row := range rows[1:] {
		cells := map[string]string{}
		for i, name := range rows[0] {
			cells[name] = row[i]
		}
		table = append(table, cells)
	}
	return table
}
