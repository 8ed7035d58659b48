package quota

import (
	"sync/atomic"
	"time"
)

// calendar is one day and its month in UTC. It does not change once made.
type calendar struct {
	day, month       string // the periods of counts, as Day and Month name them
	dayStart, dayEnd time.Time
	monthEnd         time.Time
	monthLength      time.Duration
}

func newCalendar(at time.Time) *calendar {
	year, month, day := at.UTC().Date()
	date := func(months, days int) time.Time {
		return time.Date(year, month+time.Month(months), days, 0, 0, 0, 0, time.UTC)
	}
	return &calendar{
		day: Day(at), month: Month(at),
		dayStart: date(0, day), dayEnd: date(0, day+1),
		monthEnd: date(1, 1), monthLength: date(1, 1).Sub(date(0, 1)),
	}
}

// calendars remembers today, which everybody asks for.
type calendars struct{ today atomic.Pointer[calendar] }

func (c *calendars) at(now time.Time) *calendar {
	today := c.today.Load()
	if today == nil || now.Before(today.dayStart) || !now.Before(today.dayEnd) {
		today = newCalendar(now)
		c.today.Store(today)
	}
	return today
}
