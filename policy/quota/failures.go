package quota

import (
	"net/netip"
	"sync"
	"time"
)

// maxSources bounds the memory of Failures.
const maxSources = 65_536

// Failures is a budget of failed authentications per source address (per /64 in
// IPv6). It exists for the cost of failures, not for secrecy: secrets of 256
// bits cannot be guessed. So a right secret never asks it, nobody can be locked
// out, and the key that was aimed at plays no part.
type Failures struct {
	rate Rate

	mu      sync.Mutex
	sources map[netip.Addr]time.Time // theoretical arrival times
}

// NewFailures makes a budget.
func NewFailures(rate Rate) *Failures {
	return &Failures{rate: rate, sources: map[netip.Addr]time.Time{}}
}

// Spend counts one failure from an address. When the budget is spent it returns
// how long until another failure would be answered normally.
func (f *Failures) Spend(address netip.Addr, now time.Time) (wait time.Duration) {
	source := network(address)
	f.mu.Lock()
	defer f.mu.Unlock()
	stored, known := f.sources[source]
	if !known && len(f.sources) >= maxSources {
		f.sweep(now)
	}
	f.sources[source], wait = f.rate.Spend(stored, now)
	return wait
}

// sweep forgets sources whose budget is whole again, and if that frees little,
// everything: a flood from that many addresses is past what a budget per address
// can do.
func (f *Failures) sweep(now time.Time) {
	for source, arrival := range f.sources {
		if !arrival.After(now) {
			delete(f.sources, source)
		}
	}
	if len(f.sources) > maxSources*3/4 {
		clear(f.sources)
	}
}

// network is what counts as one source.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
