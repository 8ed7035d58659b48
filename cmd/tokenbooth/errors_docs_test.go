package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// TestErrorsPage keeps the page of errors what the table says.
func TestErrorsPage(t *testing.T) { wantPage(t, "errors.md", errorsMarkdown()) }

func errorsMarkdown() string {
	var b strings.Builder
	b.WriteString(`# Errors

Every error names the page that explains it: at the token endpoint in ` + "`error_uri`" + `
([RFC 6749 §5.2](https://www.rfc-editor.org/rfc/rfc6749#section-5.2)), elsewhere in ` + "`type`" + `, with its name alone in
` + "`code`" + ` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)). The server has these pages itself, at
` + "`/docs/errors`" + ` below its issuer, as HTML or with ` + "`Accept: application/json`" + ` as JSON; ` + "`tokenbooth help errors`" + `
lists them too.
`)
	for _, row := range oauth.Topics() {
		fmt.Fprintf(&b, "\n## %s\n\n`%s`, status %d\n\n%s\n\n**What to do:** %s\n", row.Title, row.Topic, row.Status, row.Cause, row.Fix)
	}
	return b.String()
}

// The topic lists what the table says, in lines that fit a terminal.
func TestHelpErrors(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"help", "errors"}, nil, strings.NewReader(""), &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	text := out.String()
	words := strings.Join(strings.Fields(text), " ")
	for _, row := range oauth.Topics() {
		if want := fmt.Sprintf("%s (%d) %s. %s", row.Topic, row.Status, row.Title, row.Fix); !strings.Contains(words, want) {
			t.Errorf("it does not say: %s", want)
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 81 { // with its end
			t.Errorf("the line is longer than 80 columns: %s", line)
		}
	}
}
