package schema_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// What a later release has added is no hindrance; what it has taken away is, and it says
// so.
func TestWindow(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		next := schema.Latest() + 1
		exec(t, db.Writer(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (?, ?)", next, db.Dialect() == schema.PostgreSQL)
		if oldest, err := db.Window(t.Context()); err != nil || oldest > schema.Latest() {
			t.Errorf("the window reaches back to %d, %v", oldest, err)
		}
		if pending, err := db.Pending(t.Context()); err != nil || len(pending) != 0 {
			t.Errorf("an older binary would run %v, %v", pending, err)
		}
		for name, err := range map[string]error{"Check": db.Check(t.Context()), "Migrate": db.Migrate(t.Context())} {
			if err != nil {
				t.Errorf("%s of a schema that has grown: %v", name, err)
			}
		}
		wantState(t, db, next, false)
		exec(t, db.Writer(), "UPDATE schema_window SET oldest = ?", next)
		for name, err := range map[string]error{"Check": db.Check(t.Context()), "Migrate": db.Migrate(t.Context())} {
			if !errors.Is(err, schema.ErrNewer) {
				t.Errorf("%s of a schema that has lost something: %v", name, err)
			}
		}
	})
}

// Before there were windows, a schema is for its own version only.
func TestPendingOfAnOldSchema(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		db := open(t, url)
		if err := db.MigrateTo(t.Context(), 6); err != nil {
			t.Fatal(err)
		}
		if oldest, err := db.Window(t.Context()); err != nil || oldest != 6 {
			t.Errorf("the window reaches back to %d, %v; want 6", oldest, err)
		}
		pending, err := db.Pending(t.Context())
		if err != nil || int64(len(pending)) != schema.Latest()-6 || pending[0] != "00007_records.sql" {
			t.Errorf("to run: %v, %v", pending, err)
		}
	})
}

// takesAway are statements after which an older binary may miss something, or write too
// little.
var takesAway = regexp.MustCompile(`(?is)\bDROP\s+(TABLE|COLUMN)|\bRENAME\b|\bSET\s+NOT\s+NULL|\bADD\b.*\bNOT\s+NULL`)

// narrows reports whether a migration takes something away and does not raise the window.
func narrows(migration string) bool {
	for statement := range strings.SplitSeq(migration, ";") {
		grows := strings.Contains(statement, "ADD") && strings.Contains(statement, "DEFAULT")
		if takesAway.MatchString(statement) && !grows {
			return !strings.Contains(migration, "UPDATE schema_window SET oldest")
		}
	}
	return false
}

// Servers are replaced one by one, so a migration that takes something away has to keep
// older ones from starting.
func TestMigrationsKeepTheWindow(t *testing.T) {
	for statement, want := range map[string]bool{
		"ALTER TABLE keys DROP COLUMN name;":                                                   true,
		"ALTER TABLE keys RENAME TO keys2;":                                                    true,
		"ALTER TABLE keys ADD COLUMN x TEXT NOT NULL;":                                         true,
		"ALTER TABLE keys ADD COLUMN x TEXT NOT NULL DEFAULT '';":                              false,
		"ALTER TABLE keys ADD COLUMN x TEXT;":                                                  false,
		"CREATE TABLE x (y TEXT NOT NULL);":                                                    false,
		"ALTER TABLE keys DROP COLUMN name;\nUPDATE schema_window SET oldest = 12;":            false,
		"ALTER TABLE keys ALTER COLUMN name SET NOT NULL;":                                     true,
		"ALTER TABLE keys ADD COLUMN x TEXT NOT NULL DEFAULT '';\nDROP TABLE service_windows;": true,
	} {
		if got := narrows(statement); got != want {
			t.Errorf("narrows(%q) = %t", statement, got)
		}
	}
	files, err := filepath.Glob("*/0*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) > "00008" && narrows(string(text)) {
			t.Errorf("%s takes something away: raise schema_window.oldest to its number in it", file)
		}
	}
}
