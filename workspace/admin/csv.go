package admin

import (
	"strings"
	"unicode/utf8"
)

// CSVCell makes text safe as a cell of a CSV file: a spreadsheet takes what begins
// with one of these characters for a formula, and runs it. An apostrophe makes it
// text (OWASP, CSV Injection). So does one after a semicolon or a tab, at which some
// spreadsheets begin another cell. Commas and quotes are for encoding/csv.
func CSVCell(text string) string {
	var b strings.Builder
	begins, rest := true, text
	for rest != "" {
		r, size := utf8.DecodeRuneInString(rest)
		if begins && strings.ContainsRune("=+-@\t\r\n＝＋－＠", r) {
			b.WriteByte('\'')
		}
		b.WriteString(rest[:size]) // as it is, also if it is no character
		begins, rest = r == ';' || r == '\t', rest[size:]
	}
	return b.String()
}
