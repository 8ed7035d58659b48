package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// newErrorsTopic is what `tokenbooth help errors` prints.
func newErrorsTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString(`Every error of a server has a name: the last part of error_uri at the token
endpoint, and code elsewhere. Its page, with the cause, is at that address.
`)
	for _, row := range oauth.Topics() {
		fmt.Fprintf(&b, "\n%s (%d)\n    %s\n", row.Topic, row.Status, strings.Join(wrap(row.Title+". "+row.Fix), "\n    "))
	}
	return &cobra.Command{Use: "errors", Short: "What the errors of a server mean, and what to do", Long: b.String()}
}

// wrap breaks a text into lines that fit a terminal of 80 columns, indented.
func wrap(text string) (lines []string) {
	const width = 76
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
