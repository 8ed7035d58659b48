package quota

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// maxSources bounds the memory of each budget in Failures.
const maxSources = 65_536

// Failures are two budgets of failed authentications: one per source address (per
// /64 in IPv6), and a smaller one per key that is presented from it, so that one
// client with a wrong secret slows down before the address does behind which
// others are. They exist for the cost of failures, not for secrecy: secrets of 256
// bits cannot be guessed. So a right secret never asks them and nobody can be
// locked out. What is presented counts as a text: an invented key and a genuine
// one are treated alike.
type Failures struct {
	seed maphash.Seed

	mu      sync.Mutex
	sources budget[netip.Addr]
	pairs   budget[uint64] // by the hash of both: texts of any length are not kept
}

// NewFailures makes the budgets of a source, and of a presented key from it.
func NewFailures(source, pair Rate) *Failures {
	return &Failures{
		seed:    maphash.MakeSeed(),
		sources: budget[netip.Addr]{source, map[netip.Addr]time.Time{}},
		pairs:   budget[uint64]{pair, map[uint64]time.Time{}},
	}
}

// Spend counts one failure from an address. presented is the client_id as it came,
// whatever it is; empty: only the address counts. When a budget is spent it
// returns how long until another such failure would be answered normally.
func (f *Failures) Spend(address netip.Addr, presented string, now time.Time) (wait time.Duration) {
	source := network(address)
	f.mu.Lock()
	defer f.mu.Unlock()
	wait = f.sources.spend(source, now)
	pair := f.pair(source, presented)
	// Who is over the budget of its address cannot crowd out the pairs of others
	// by inventing new ones.
	if presented == "" || wait > 0 && f.pairs.arrivals[pair].IsZero() {
		return wait
	}
	return max(wait, f.pairs.spend(pair, now))
}

// pair names a source and a text. Nobody outside can find two with the same hash,
// for the seed is this process's own.
func (f *Failures) pair(source netip.Addr, presented string) uint64 {
	var h maphash.Hash
	h.SetSeed(f.seed)
	address := source.As16()
	_, _ = h.Write(address[:]) // never fails; as in IPv6, so that the text begins at one place
	_, _ = h.WriteString(presented)
	return h.Sum64()
}

// budget is one rate for each of many subjects.
type budget[K comparable] struct {
	rate     Rate
	arrivals map[K]time.Time // theoretical arrival times
}

func (b *budget[K]) spend(subject K, now time.Time) (wait time.Duration) {
	stored, known := b.arrivals[subject]
	if !known && len(b.arrivals) >= maxSources {
		b.sweep(now)
	}
	b.arrivals[subject], wait = b.rate.Spend(stored, now)
	return wait
}

// sweep forgets subjects whose budget is whole again, and if that frees little,
// everything: a flood from that many addresses is past what a budget per address
// can do.
func (b *budget[K]) sweep(now time.Time) {
	for subject, arrival := range b.arrivals {
		if !arrival.After(now) {
			delete(b.arrivals, subject)
		}
	}
	if len(b.arrivals) > maxSources*3/4 {
		clear(b.arrivals)
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
