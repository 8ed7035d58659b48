package console

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// Guessing passwords is slowed down, and nobody is locked out: attempts count by
// where they come from, by that and the account, and at a much higher rate by the
// account alone. A browser in which somebody has signed in to the account before has
// a budget of its own, so that strangers who guess cannot keep its owner out.

// attempts counts attempts to sign in with a password. It is this replica's own.
type attempts struct {
	mu       sync.Mutex
	arrivals map[string]time.Time // of quota.Rate, by subject
}

// maxAttempts bounds the memory of attempts, in subjects.
const maxAttempts = 65_536

// The rates of attempts.
var (
	perSource  = quota.PerMinute(30, 60)
	perPair    = quota.PerMinute(4, 8)
	perAccount = quota.PerMinute(20, 200)
	perDevice  = quota.PerMinute(6, 12)
)

// limited is one budget that an attempt spends of.
type limited struct {
	subject string
	rate    quota.Rate
}

// spend counts an attempt, or says how long until it may be made; then it counts
// nothing. It counts before the password is looked at, so that attempts at the same
// time do not slip through together.
func (a *attempts) spend(of []limited, now time.Time) (wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.arrivals) >= maxAttempts {
		a.forget(now)
	}
	next := map[string]time.Time{}
	for _, l := range of {
		arrival, longer := l.rate.Spend(a.arrivals[l.subject], now)
		next[l.subject], wait = arrival, max(wait, longer)
	}
	if wait > 0 {
		return wait
	}
	if a.arrivals == nil {
		a.arrivals = map[string]time.Time{}
	}
	for subject, arrival := range next {
		a.arrivals[subject] = arrival
	}
	return 0
}

// forget drops subjects whose budget is whole again, and if that frees little, the
// half of them that owes least: a flood from many sources must not give those who
// guess at one account their budget back.
func (a *attempts) forget(now time.Time) {
	maps.DeleteFunc(a.arrivals, func(_ string, arrival time.Time) bool { return !arrival.After(now) })
	if len(a.arrivals) <= maxAttempts/2 {
		return
	}
	debts := slices.SortedFunc(maps.Values(a.arrivals), time.Time.Compare)
	least := debts[len(debts)/2]
	maps.DeleteFunc(a.arrivals, func(_ string, arrival time.Time) bool { return !arrival.After(least) })
}

// device is what is kept in a browser in which people have signed in with passwords.
type device struct {
	ID       string
	Accounts []string // addresses, those used last at the end
}

const (
	deviceCookie = "device"
	deviceLasts  = 365 * 24 * time.Hour
	maxAccounts  = 5 // of one browser
)

// budgets are what an attempt at an account spends of.
func (r *request) budgets(account string) []limited {
	var d device
	if r.kept(deviceCookie, &d) && slices.Contains(d.Accounts, account) {
		r.ctx = identity.Expected(r.ctx)
		return []limited{{"device " + d.ID + " " + account, perDevice}}
	}
	source := sourceOf(r.RealIP())
	return []limited{{"source " + source, perSource}, {"pair " + source + " " + account, perPair}, {"account " + account, perAccount}}
}

// sourceOf is what counts as one source: an address, in IPv6 its /64.
func sourceOf(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// rememberDevice notes that somebody has signed in to an account in this browser.
func (r *request) rememberDevice(account, id string) error {
	var d device
	if !r.kept(deviceCookie, &d) {
		d.ID = id
	}
	d.Accounts = append(slices.DeleteFunc(d.Accounts, func(known string) bool { return known == account }), account)
	d.Accounts = d.Accounts[max(0, len(d.Accounts)-maxAccounts):]
	return r.keep(deviceCookie, d, deviceLasts)
}

// typedAccount is how an account is counted: what was typed, however it is written.
// It is bounded, since anything may have been typed.
func typedAccount(typed string) string {
	if address, err := workspace.NormalEmail(typed); err == nil {
		return address
	}
	return "not " + typed[:min(len(typed), 254)] // anything, and nobody's
}
