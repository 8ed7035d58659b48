package admin_test

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

func TestCSVCell(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "gitlab-ci": "gitlab-ci", "a=1": "a=1", "12": "12", "'=1": "'=1", "ключ": "ключ", "\xff=1": "\xff=1",
		`=HYPERLINK("http://x";"y")`: `'=HYPERLINK("http://x";"y")`,
		"+1":                         "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t'=1", "a;=1;-2;b": "a;'=1;'-2;b", "\r=1": "'\r=1", "\n=1": "'\n=1",
		"＝1": "'＝1", "＋1": "'＋1", "－1": "'－1", "＠a": "'＠a",
	} {
		if got := admin.CSVCell(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// What a program reads from the file is what was written, but for the apostrophe.
func FuzzCSVCell(f *testing.F) {
	for _, seed := range []string{"", "=1", "a,\"b\"", "＝1", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cell := admin.CSVCell(text)
		if strings.ReplaceAll(cell, "'", "") != strings.ReplaceAll(text, "'", "") {
			t.Fatalf("%q becomes %q", text, cell)
		}
		for _, piece := range strings.FieldsFunc(cell, func(r rune) bool { return r == ';' }) {
			if strings.ContainsAny(piece[:1], "=+-@") {
				t.Fatalf("%q becomes %q, in which %q is a formula", text, cell, piece)
			}
		}
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		if err := w.Write([]string{"x", cell}); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		if _, err := csv.NewReader(&b).Read(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
