package main

import (
	"errors"
	"fmt"
	"iter"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// largestPage is what the API gives at once.
const largestPage = 200

// listFlags is the flags of a command that lists.
type listFlags struct {
	limit      int
	parameters map[string]string // the parameter of the query for each flag
}

// add adds --limit; 0 is no limit.
func (l *listFlags) add(c *cobra.Command, limit int) {
	c.Flags().IntVar(&l.limit, "limit", limit, "show `N` at most; 0 is all of them")
}

// text adds a flag that is a parameter of the query.
func (l *listFlags) text(c *cobra.Command, flag, name, usage string) {
	c.Flags().String(flag, "", usage)
	l.is(flag, name)
}

// yes adds a flag that is true, false or left out.
func (l *listFlags) yes(c *cobra.Command, flag, name, usage string) {
	c.Flags().Bool(flag, false, usage)
	l.is(flag, name)
}

// days adds a flag with a number of days.
func (l *listFlags) days(c *cobra.Command, flag, name, usage string) {
	c.Flags().Uint16(flag, 0, usage)
	l.is(flag, name)
}

// moment adds a flag with an instant, or how long ago that was.
func (l *listFlags) moment(c *cobra.Command, flag, usage string) {
	c.Flags().Var(&ago{}, flag, usage)
	l.is(flag, flag)
}

func (l *listFlags) is(flag, name string) {
	if l.parameters == nil {
		l.parameters = map[string]string{}
	}
	l.parameters[flag] = name
}

// query is the parameters of the flags that were given.
func (l *listFlags) query(c *cobra.Command) (url.Values, error) {
	query := url.Values{}
	if l.limit < 0 {
		return nil, usagef(c, "--limit: give a number, or 0 for all of them")
	}
	if l.limit > 0 { // one more tells whether there is more
		query.Set("limit", strconv.Itoa(min(l.limit+1, largestPage)))
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		if name, ok := l.parameters[f.Name]; ok {
			query.Set(name, f.Value.String())
		}
	})
	return query, nil
}

// collect reads a list to its limit, and tells whether there is more.
func collect[T any](list iter.Seq2[T, error], limit int) (items []T, more bool, err error) {
	for item, err := range list {
		if err != nil {
			return nil, false, err
		}
		if limit > 0 && len(items) == limit {
			return items, true, nil
		}
		items = append(items, item)
	}
	return items, false, nil
}

// printPages reads a list and prints it. On a failure it prints nothing.
func printPages[T any](r *apiRun, list iter.Seq2[T, error], l listFlags, columns []column[T]) error {
	items, more, err := collect(list, l.limit)
	if err != nil {
		return err
	}
	if err := printList(r.env, r.o.format, items, columns); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(r.env.stderr, "there are more: --limit %d ended the list\n", l.limit)
	}
	return nil
}

// ago is the value of a flag: an instant, given as such or as how long ago it was.
type ago struct{ at time.Time }

func (a *ago) Type() string { return "TIME" }

// String is the instant (RFC 3339); empty if there is none.
func (a *ago) String() string {
	if a.at.IsZero() {
		return ""
	}
	return a.at.UTC().Format(time.RFC3339)
}

// Set reads what was given.
func (a *ago) Set(text string) error {
	if d, err := parseSpan(text); err == nil {
		a.at = time.Now().Add(-d)
		return nil
	}
	at, err := parseInstant(text)
	if err != nil {
		return errors.New("give how long ago, such as 24h or 7d, or an instant such as 2027-01-31T00:00:00Z")
	}
	a.at = at
	return nil
}

// span is a number of days, weeks or years.
var span = regexp.MustCompile(`^([0-9]{1,4})([dwy])$`)

// parseSpan reads a length of time: 24h and 10m as Go does, 7d, 2w, 1y. A year has 365
// days, as where policy bounds how long a key may live.
func parseSpan(text string) (time.Duration, error) {
	parts := span.FindStringSubmatch(text)
	if parts == nil {
		d, err := time.ParseDuration(text)
		if err == nil && d <= 0 {
			err = fmt.Errorf("%s is not later", d)
		}
		return d, err
	}
	const longest = 290 * 365      // days; a Duration holds no more
	n, _ := strconv.Atoi(parts[1]) // it has digits, and few
	days := n * map[string]int{"d": 1, "w": 7, "y": 365}[parts[2]]
	if days == 0 || days > longest {
		return 0, fmt.Errorf("%s is out of range", text)
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// parseInstant reads RFC 3339, or a date, which is its beginning in UTC.
func parseInstant(text string) (time.Time, error) {
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return at, nil
	}
	return time.Parse(time.RFC3339, strings.ToUpper(text))
}
