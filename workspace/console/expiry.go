package console

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// The expiry of a form is a number of days in the field expires_in, or custom with a
// date in expires_on, or never.
const (
	fieldExpiresIn = "expires_in"
	fieldExpiresOn = "expires_on"
	expiryCustom   = "custom"
	expiryNever    = "never"
)

// usualDays are the lifetimes that are offered.
var usualDays = []int64{7, 30, 60, 90, 180, 365}

// expiry is the part in which it is chosen when a key ends.
type expiry struct {
	Choices   []expiryChoice
	On        string // the chosen date
	Min, Max  string // of dates; an empty Max: any
	Hint      string // of policy
	Never     bool   // it may be chosen
	Wrong     string
	WrongDate string
}

type expiryChoice struct {
	Value, Text       string
	Chosen, Forbidden bool
}

// newExpiry makes the part for a form. A secret that is made now ends by the bounds.
func newExpiry(form url.Values, p *problem, b policy.Bounds, now time.Time) expiry {
	e := expiry{
		On: form.Get(fieldExpiresOn), Min: now.UTC().Format(time.DateOnly), Never: b.AllowNever,
		Wrong: p.In(fieldExpiresIn), WrongDate: p.In(fieldExpiresOn),
	}
	chosen := cmp.Or(form.Get(fieldExpiresIn), defaultExpiry(b))
	for _, days := range offeredDays(chosen, b) {
		end := now.Add(time.Duration(days) * day)
		e.add(strconv.FormatInt(days, 10), count(days, "day")+" – "+end.UTC().Format("2 Jan 2006, 15:04 UTC"), chosen, !allows(b, end, now))
	}
	e.add(expiryCustom, "Until a date of your choice", chosen, false)
	e.add(expiryNever, "No expiration", chosen, !b.AllowNever)
	if b.MaxLifetime > 0 {
		e.Max = lastDay(b, now)
		e.Hint = "Policy allows at most " + count(int64(b.MaxLifetime/day), "day") + "."
	} else if !b.AllowNever {
		e.Hint = "Policy wants every key to end."
	}
	return e
}

func (e *expiry) add(value, text, chosen string, forbidden bool) {
	e.Choices = append(e.Choices, expiryChoice{value, text, value == chosen, forbidden})
}

// defaultExpiry is what is chosen before anybody does.
func defaultExpiry(b policy.Bounds) string {
	return strconv.FormatInt(int64(b.DefaultLifetime/day), 10)
}

// offeredDays are the usual lifetimes with the one that is chosen and that of policy.
func offeredDays(chosen string, b policy.Bounds) []int64 {
	offered := append(slices.Clone(usualDays), int64(b.DefaultLifetime/day))
	if days, err := readDays(chosen); err == nil {
		offered = append(offered, days)
	}
	slices.Sort(offered)
	return slices.Compact(offered)
}

// readDays reads a number of days.
func readDays(text string) (int64, error) {
	days, err := strconv.ParseInt(text, 10, 64)
	if err == nil && (days < 1 || days > policy.MaxDays) {
		err = strconv.ErrRange
	}
	return days, err
}

// allows reports whether a key that is made now may end then.
func allows(b policy.Bounds, end, now time.Time) bool {
	return b.AdmitsBy(&keys.Key{ExpiresAt: workspace.At(end)}, now, policy.RuleMaxLifetime, policy.RuleAllowNever) == nil
}

// lastDay is the last date at whose end a key may end that is made now.
func lastDay(b policy.Bounds, now time.Time) string {
	last := now.UTC().Add(b.MaxLifetime)
	if !allows(b, endOf(last), now) {
		last = last.Add(-day)
	}
	return last.Format(time.DateOnly)
}

// endOf is the last second of a day in UTC.
func endOf(t time.Time) time.Time { return t.UTC().Truncate(day).Add(day - time.Second) }

// expiryFrom reads when a key ends that is made now; the zero time is never. The
// error is mistakes.
func expiryFrom(form url.Values, b policy.Bounds, now time.Time) (end time.Time, err error) {
	var m mistakes
	field, chosen := fieldExpiresIn, cmp.Or(form.Get(fieldExpiresIn), defaultExpiry(b))
	switch chosen {
	case expiryNever:
	case expiryCustom:
		field = fieldExpiresOn
		date, err := time.Parse(time.DateOnly, form.Get(fieldExpiresOn))
		if end = endOf(date); err != nil || !end.After(now) {
			m.add(field, "Choose a date from today on, such as "+now.UTC().Add(90*day).Format(time.DateOnly)+".")
			return end, m
		}
	default:
		days, err := readDays(chosen)
		if err != nil {
			m.add(field, fmt.Sprintf("Choose how long the key lives: 1 to %d days, or a date.", policy.MaxDays))
			return end, m
		}
		end = now.Add(time.Duration(days) * day).Truncate(time.Second)
	}
	switch {
	case allows(b, end, now):
	case b.MaxLifetime > 0:
		m.add(field, "Policy allows at most "+count(int64(b.MaxLifetime/day), "day")+": choose "+date(now.Add(b.MaxLifetime))+" or earlier.")
	default:
		m.add(field, "Policy wants every key to end: choose when.")
	}
	return end, m.err()
}

// date is a day as people write it, in UTC.
func date(t time.Time) string { return t.UTC().Format("2 Jan 2006") }
