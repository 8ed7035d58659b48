package console

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// functions are what templates can call.
func (h *Handler) functions() template.FuncMap {
	now := func() time.Time { return h.Manager.Time() }
	return template.FuncMap{
		"asset":    func(name string) string { return h.base + h.assets.byName[name].path },
		"ago":      func(t workspace.Time) moment { return newMoment(t, now()) },
		"now":      now,
		"date":     func(t workspace.Time) string { return t.Format("2 Jan 2006") },
		"duration": readDuration,
		"count":    count,
		"number":   number,
		"join":     strings.Join,
		"dict":     dict,
		"list":     func(items ...any) []any { return items },
	}
}

// moment is an instant as people read it.
type moment struct {
	Machine  string // RFC 3339
	Absolute string // for the tooltip
	Relative string
	Zero     bool
}

func newMoment(t workspace.Time, now time.Time) moment {
	if t.IsZero() {
		return moment{Zero: true}
	}
	return moment{
		Machine: t.UTC().Format(time.RFC3339), Absolute: t.UTC().Format("2 Jan 2006, 15:04:05 UTC"), Relative: relative(t.Time, now),
	}
}

// relative says how far an instant is away, in its largest unit: "in 3 days".
func relative(t, now time.Time) string {
	distance := t.Sub(now)
	past := distance <= 0
	if past {
		distance = -distance
	}
	if distance < 10*time.Second {
		return "just now"
	}
	if past {
		return readDuration(distance) + " ago"
	}
	return "in " + readDuration(distance)
}

const day = 24 * time.Hour

// readDuration says a duration in its largest unit, rounded.
func readDuration(d time.Duration) string {
	for _, unit := range []struct {
		size time.Duration
		from time.Duration
		name string
	}{
		{365 * day, 700 * day, "year"},
		{30 * day, 90 * day, "month"},
		{day, 36 * time.Hour, "day"},
		{time.Hour, 90 * time.Minute, "hour"},
		{time.Minute, 90 * time.Second, "minute"},
	} {
		if d >= unit.from {
			return count(int64((d+unit.size/2)/unit.size), unit.name)
		}
	}
	return count(int64((d+time.Second/2)/time.Second), "second")
}

// count is a number with its noun: "1 key", "2 keys".
func count(n int64, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "y") && !strings.HasSuffix(noun, "ey") && !strings.HasSuffix(noun, "day"):
		noun = strings.TrimSuffix(noun, "y") + "ies"
	default:
		noun += "s"
	}
	return number(n) + " " + noun
}

// number writes thousands apart: 12,345.
func number(n int64) string {
	text := fmt.Sprintf("%d", n)
	sign := ""
	if n < 0 {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// dict makes a map of its arguments, for parts that take more than one value.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict: %d arguments", len(pairs))
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}
