package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the pages that are made from the code")

// TestConfigurationPage keeps the page of settings what the code says.
func TestConfigurationPage(t *testing.T) { wantPage(t, "configuration.md", configurationPage()) }

// wantPage checks a page of deploy/docs that is made from the code, or with -update
// writes it.
func wantPage(t *testing.T, name, want string) {
	t.Helper()
	path := "../../deploy/docs/" + name
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the code says: run `go test ./cmd/tokenbooth -run %s -update`", path, t.Name())
	}
}

func configurationPage() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Flags win over the environment, the environment over one YAML file (` + "`--config FILE` or `TOKENBOOTH_CONFIG`" + `), the file
over the default. Unknown keys in the file refuse to start, with a suggestion; unknown variables warn. ` + "`tokenbooth config check`" + `
reports every problem at once, ` + "`tokenbooth config print`" + ` shows each value with where it came from.

Secrets are marked with *. They may be in a file whose path is in the variable with ` + "`_FILE`" + ` added, and cannot be given by
flag. Any other setting can be: ` + "`--set KEY=VALUE`" + `; lists in the environment are separated by commas.

| key | variable | accepts | default |
|---|---|---|---|
`)
	for _, s := range settings(new(Config)) {
		mark := ""
		if s.secret {
			mark = " *"
		}
		initial := s.derived
		if s.initial != "" {
			initial = "`" + s.initial + "`"
		}
		accepts := strings.ReplaceAll(s.accepts, "|", `\|`)
		fmt.Fprintf(&b, "| `%s`%s | `%s` | %s | %s |\n", s.key, mark, s.variable(), accepts, initial)
	}
	return b.String()
}
