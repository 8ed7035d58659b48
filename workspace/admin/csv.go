package admin

import "strings"

// CSVCell makes text safe as a cell of a CSV file: a spreadsheet takes what begins
// with one of these characters for a formula, and runs it. An apostrophe makes it
// text (OWASP, CSV Injection). Separators and quotes are for encoding/csv.
func CSVCell(text string) string {
	if text != "" && strings.ContainsAny(firstRune(text), "=+-@\t\r\n＝＋－＠") {
		return "'" + text
	}
	return text
}

func firstRune(text string) string {
	for _, r := range text {
		return string(r)
	}
	return ""
}
