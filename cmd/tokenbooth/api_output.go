package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// outputFormat is how a command prints what it has found.
type outputFormat struct {
	name    string
	allowed []string
}

const (
	formatTable = "table"
	formatJSON  = "json"
	formatLines = "jsonl"
	formatCSV   = "csv"
	formatEnv   = "env"
)

// addFlag adds -o. More formats are those of the command alone.
func (f *outputFormat) addFlag(c *cobra.Command, more ...string) {
	f.add(c, formatTable, append([]string{formatTable, formatJSON, formatLines, formatCSV}, more...))
}

func (f *outputFormat) add(c *cobra.Command, usual string, allowed []string) {
	f.allowed = allowed
	c.Flags().StringVarP(&f.name, "output", "o", usual, "the `FORMAT`: "+strings.Join(allowed, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
}

func (f *outputFormat) check(c *cobra.Command) error {
	if f.allowed != nil && !slices.Contains(f.allowed, f.name) {
		return usagef(c, "-o: %q is none of %s", f.name, strings.Join(f.allowed, ", "))
	}
	return nil
}

// column is one property of what is listed. It has the name that it has in JSON.
type column[T any] struct {
	name   string
	text   func(T) string
	at     func(T) *time.Time // instead of text, for an instant; nil: none
	detail bool               // not in a table: there is no room for it
}

// exact is the property for programs.
func (c column[T]) exact(item T) string {
	if c.at == nil {
		return c.text(item)
	}
	if at := c.at(item); at != nil {
		return at.UTC().Format(time.RFC3339Nano)
	}
	return ""
}

// short is the property for people who look at many.
func (c column[T]) short(item T, now time.Time) string {
	switch {
	case c.at == nil:
		return orDash(safe(c.text(item)))
	case c.at(item) == nil:
		return "-"
	}
	return inTime(c.at(item).Sub(now))
}

// long is the property for people who look at one.
func (c column[T]) long(item T, now time.Time) string {
	if c.at == nil || c.at(item) == nil {
		return orDash(safe(c.exact(item)))
	}
	return fmt.Sprintf("%s (%s)", c.at(item).UTC().Format(time.RFC3339), inTime(c.at(item).Sub(now)))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// printList prints what was found, all of it or nothing.
func printList[T any](env *environment, f outputFormat, items []T, columns []column[T]) error {
	if f.name == formatJSON {
		if items == nil {
			items = []T{}
		}
		return printSafeJSON(env.stdout, items)
	}
	if f.name != formatTable {
		w := newRowWriter(env.stdout, f.name, columns)
		for _, item := range items {
			if err := w.write(item); err != nil {
				return err
			}
		}
		return w.flush()
	}
	if len(items) == 0 {
		fmt.Fprintln(env.stderr, "there are none")
		return nil
	}
	return printTable(env.stdout, items, columns)
}

func printTable[T any](out io.Writer, items []T, columns []column[T]) error {
	w, now := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0), time.Now()
	line := func(cell func(column[T]) string) {
		var cells []string
		for _, c := range columns {
			if !c.detail {
				cells = append(cells, cell(c))
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	line(func(c column[T]) string { return strings.ToUpper(strings.ReplaceAll(c.name, "_", " ")) })
	for _, item := range items {
		line(func(c column[T]) string { return c.short(item, now) })
	}
	return w.Flush()
}

// printOne prints one thing with all its properties.
func printOne[T any](env *environment, f outputFormat, item T, columns []column[T]) error {
	switch f.name {
	case formatJSON:
		return printSafeJSON(env.stdout, item)
	case formatLines, formatCSV:
		return printList(env, f, []T{item}, columns)
	}
	w, now := tabwriter.NewWriter(env.stdout, 0, 8, 2, ' ', 0), time.Now()
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t%s\n", strings.ReplaceAll(c.name, "_", " "), c.long(item, now))
	}
	return w.Flush()
}

// printSafeJSON prints one document, indented, that cannot drive a terminal.
func printSafeJSON(out io.Writer, v any) error {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(out, escapeJSON(b.String()))
	return err
}

// rowWriter writes items one by one, as lines of JSON or as CSV.
type rowWriter[T any] struct {
	out     io.Writer
	csv     *csv.Writer // nil: lines of JSON
	columns []column[T]
}

func newRowWriter[T any](out io.Writer, format string, columns []column[T]) *rowWriter[T] {
	w := &rowWriter[T]{out: out, columns: columns}
	if format == formatCSV {
		w.csv = csv.NewWriter(out)
		_ = w.csv.Write(w.cells(func(c column[T]) string { return c.name })) // flush tells
	}
	return w
}

func (w *rowWriter[T]) cells(cell func(column[T]) string) (cells []string) {
	for _, c := range w.columns {
		cells = append(cells, admin.CSVCell(cell(c)))
	}
	return cells
}

func (w *rowWriter[T]) write(item T) error {
	if w.csv != nil {
		return w.csv.Write(w.cells(func(c column[T]) string { return c.exact(item) }))
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(item); err != nil {
		return err
	}
	_, err := io.WriteString(w.out, escapeJSON(b.String()))
	return err
}

func (w *rowWriter[T]) flush() error {
	if w.csv == nil {
		return nil
	}
	w.csv.Flush()
	return w.csv.Error()
}

// What columns are made of.

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func words(list []string) string { return strings.Join(list, " ") }

func joinComma(list []string) string { return strings.Join(list, ", ") }

// textOr is the text, or a word for none.
func textOr(text *string, none string) string {
	if text == nil {
		return none
	}
	return *text
}

func count(n int64) string { return strconv.FormatInt(n, 10) }
