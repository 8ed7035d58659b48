package quota

import (
	"sync"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// account is what is known of one workspace. Its mutex guards its lanes too.
type account struct {
	mu      sync.Mutex
	version int64  // of the limits
	date    string // of the counts
	minute  meter
	day     tally
	month   tally
	// prepaid units were counted by the source for this day and month, and then not
	// used in time: the rates have lost them, calendar counts need not.
	prepaid int64
	lanes   int // of keys; guarded by the shelf
}

// lane is where demands queue that obey the same limits: those of one workspace,
// or of one key that has a limit of its own. Each lane has its own lease, so that
// a busy key takes nothing out of the lease of the others.
type lane struct {
	account *account
	gone    bool      // swept: whoever still holds it must look again
	used    time.Time // last

	terms *terms
	asked bool // the source has answered under these terms
	key   meter

	units int64     // of the lease, not used yet
	until time.Time // when those are lost
	pace  pace

	flight  *flight
	waiting int64 // demands that wait, until each is decided
}

// terms are the limits of a lane as they are counted. They do not change; a flight
// under other terms than its lane's is out of date.
type terms struct {
	workspace workspace.ID
	version   int64
	parts     int   // among how many replicas limits are divided
	perMinute int64 // of the key
	date      string
	soft      bool
	rates     []rate  // at most maxRates
	counts    []count // at most maxCounts
	policy    string  // see Decision.Policy
}

// How many limits there can be: the workspace's rate and the key's, a day's count and a
// month's.
const (
	maxRates  = 2
	maxCounts = 2
)

// rate is one limit on how fast.
type rate struct {
	Rate
	name    string
	subject keys.ID
	quota   int64
	meter   *meter
}

// count is one limit on how many.
type count struct {
	name   string
	period string
	limit  int64
	end    time.Time
	length time.Duration
	tally  *tally
}

// agree brings a lane up to date. What was leased under other limits is forgotten,
// and nothing is refused before the source has been asked under these: it may hold
// a debt which they do not allow, and must be told.
func (ln *lane) agree(d Demand, limits Limits, version int64, parts int, today *calendar) {
	if t := ln.terms; t != nil && t.version == version && t.parts == parts && t.perMinute == d.PerMinute && t.date == today.day {
		return
	}
	ln.account.agree(limits, version, today)
	ln.units, ln.asked = 0, false
	ln.terms = ln.draw(d, limits, version, parts, today)
	if n := len(ln.terms.rates); d.PerMinute > 0 {
		ln.key.cap(ln.terms.rates[n-1].Rate)
	}
}

// agree brings an account up to date. A debt that a smaller limit could never have
// led to is cut to what it could.
func (a *account) agree(limits Limits, version int64, today *calendar) {
	if a.version == version && a.date == today.day {
		return
	}
	a.version, a.date, a.prepaid = version, today.day, 0
	a.day.turn(today.day)
	a.month.turn(today.month)
	if r, limited := limits.Rate(); limited {
		a.minute.cap(r)
	}
}

// draw lists the limits that apply, in the order in which they are shown.
func (ln *lane) draw(d Demand, limits Limits, version int64, parts int, today *calendar) *terms {
	a := ln.account
	t := &terms{workspace: d.Workspace, version: version, parts: parts, perMinute: d.PerMinute, date: today.day, soft: limits.Mode == Soft}
	if r, limited := limits.Rate(); limited {
		t.rates = append(t.rates, rate{share(r, parts), "minute", "", *limits.PerMinute, &a.minute})
	}
	if d.PerMinute > 0 {
		r := PerMinute(int(d.PerMinute), int(d.PerMinute))
		t.rates = append(t.rates, rate{share(r, parts), "key", d.Key, d.PerMinute, &ln.key})
	}
	if limits.PerDay != nil {
		t.counts = append(t.counts, count{"day", today.day, *limits.PerDay, today.dayEnd, 24 * time.Hour, &a.day})
	}
	if limits.PerMonth != nil {
		t.counts = append(t.counts, count{"month", today.month, *limits.PerMonth, today.monthEnd, today.monthLength, &a.month})
	}
	t.policy = t.describe()
	return t
}

// idle reports whether nothing is lost when the lane is forgotten.
func (ln *lane) idle(now time.Time) bool {
	return ln.waiting == 0 && ln.flight == nil && now.Sub(ln.used) >= idleTime && ln.key.debt(now) == 0
}
