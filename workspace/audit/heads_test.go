package audit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

func TestHeadsThereAndBack(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		recorded(t, db)
		heads, err := audit.Heads(t.Context(), db.Reader())
		check(t, err)
		path := filepath.Join(t.TempDir(), "heads")
		check(t, audit.AppendHeads(path, nil))
		check(t, audit.AppendHeads(path, heads[:1]))
		check(t, audit.AppendHeads(path, heads[1:]))
		read, err := audit.ReadHeads(path)
		check(t, err)
		if diff := cmp.Diff(heads, read); diff != "" || len(heads) != 3 || heads[2].Chain != "ws_1" || heads[2].Seq != 5 || !heads[2].At.Equal(noon.Time) {
			t.Errorf("%v\n%s", heads, diff)
		}
		info, err := os.Stat(path)
		check(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %o", info.Mode().Perm())
		}
	})
}

// Half a line that a crash left is passed over, and does not spoil what follows.
func TestTornHeads(t *testing.T) {
	db := schematest.SQLite(t)
	recorded(t, db)
	heads, err := audit.Heads(t.Context(), db.Reader())
	check(t, err)
	path := filepath.Join(t.TempDir(), "heads")
	check(t, audit.AppendHeads(path, heads))
	text, err := os.ReadFile(path)
	check(t, err)
	for cut := range len(text) {
		check(t, os.WriteFile(path, text[:cut], 0o600))
		whole := strings.Count(string(text[:cut]), "\n")
		read, err := audit.ReadHeads(path)
		check(t, err)
		if n := len(read); n != whole && n != whole+1 || n == whole+1 && text[cut] != '\n' {
			t.Fatalf("%d heads in %q", n, text[:cut])
		}
		check(t, audit.AppendHeads(path, heads))
		read, err = audit.ReadHeads(path)
		check(t, err)
		if len(read) != whole+3 {
			t.Fatalf("%d heads after what was torn at %d, want %d", len(read), cut, whole+3)
		}
	}
}

func TestReadHeadsRefuses(t *testing.T) {
	const good = `{"chain":"ws_1","seq":1,"hash":"` + "00000000000000000000000000000000000000000000000000000000000000ff" + `","at":"2030-01-02T12:00:00Z"}` + "\n"
	for name, bad := range map[string]string{
		"no JSON":      "x",
		"an empty one": "",
		"no head":      "{}",
		"no chain":     strings.TrimSpace(strings.Replace(good, "ws_1", "", 1)),
		"no number":    strings.TrimSpace(strings.Replace(good, `"seq":1`, `"seq":0`, 1)),
		"a short hash": strings.TrimSpace(strings.Replace(good, `00ff`, ``, 1)),
		"no hash":      strings.TrimSpace(strings.Replace(good, `00ff`, `zz`, 1)),
	} {
		path := filepath.Join(t.TempDir(), "heads")
		check(t, os.WriteFile(path, []byte(good+bad+"\n"+good), 0o600))
		if _, err := audit.ReadHeads(path); err == nil || !strings.Contains(err.Error(), "heads:2: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := audit.ReadHeads(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) && err == nil {
		t.Error("a file that is not there is read")
	}
}
