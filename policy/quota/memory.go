package quota

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Memory is the Source of a single process. It forgets what is over by itself, so
// it holds what was spent lately, of however many workspaces and keys.
type Memory struct {
	now    func() time.Time
	start  time.Time
	seed   maphash.Seed
	shards [64]memoryShard
}

// NewMemory makes a Source; nil: time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{now: now, start: now(), seed: maphash.MakeSeed()}
}

// A memoryShard is the limits of some workspaces, of each all, so that one lock
// does for an order. Times are microseconds since the Memory began: counted so,
// a clock that is set does not matter.
type memoryShard struct {
	mu       sync.Mutex
	arrivals map[memoryKey]int64 // theoretical ones
	counts   map[memoryKey]memoryCount

	added   int   // since the last sweep
	kept    int   // by the last sweep
	sweepAt int64 // at the latest
}

type memoryKey struct {
	workspace workspace.ID
	name      string // subject or period
}

type memoryCount struct{ n, until int64 }

// Take implements Source.
func (m *Memory) Take(ctx context.Context, o Order) (Answer, error) {
	if err := o.check(); err != nil {
		return Answer{}, err
	}
	if len(o.Rates)+len(o.Counts) == 0 {
		return Answer{Granted: o.Units}, nil
	}
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	answer := newAnswer(&o)
	s := &m.shards[maphash.String(m.seed, string(o.Workspace))%uint64(len(m.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	now := m.now().Sub(m.start).Microseconds() // under the lock, so that no order is decided by an instant before the last one's
	s.read(&o, now, &answer)
	s.spend(&o, now, &answer)
	s.sweep(now)
	return answer, nil
}

// newAnswer is the answer to an order before anything is known. The lists of the usual
// one are in one piece of memory.
func newAnswer(o *Order) Answer {
	room := new(struct {
		debts  [maxRates]time.Duration
		counts [maxCounts]int64
	})
	return Answer{
		Granted: o.Units,
		Debts:   slices.Grow(room.debts[:0:len(room.debts)], len(o.Rates))[:len(o.Rates)],
		Counts:  slices.Grow(room.counts[:0:len(room.counts)], len(o.Counts))[:len(o.Counts)],
	}
}

// read puts into the answer what is spent and how much of the order is left.
func (s *memoryShard) read(o *Order, now int64, a *Answer) {
	for i := range o.Rates {
		r := &o.Rates[i]
		debt := max(0, micros(min(r.Debt, r.Rate.Capacity())))
		if arrival, held := s.arrivals[memoryKey{o.Workspace, r.Subject}]; held {
			debt = max(debt, arrival-now)
		}
		a.Debts[i] = min(time.Duration(debt)*time.Microsecond, r.Rate.Capacity())
		if !o.Force {
			a.Granted = min(a.Granted, r.Rate.Left(a.Debts[i]))
		}
	}
	for i := range o.Counts {
		c := &o.Counts[i]
		a.Counts[i] = max(c.Floor, 0)
		if count, held := s.counts[memoryKey{o.Workspace, c.Period}]; held && count.until > now {
			a.Counts[i] = max(a.Counts[i], count.n)
		}
		if !o.Force {
			a.Granted = min(a.Granted, max(0, c.Limit-a.Counts[i]))
		}
	}
}

// spend takes what the answer grants, and remembers what it says.
func (s *memoryShard) spend(o *Order, now int64, a *Answer) {
	for i := range o.Rates {
		r := &o.Rates[i]
		if a.Granted > r.Rate.Left(a.Debts[i]) {
			a.Debts[i] = r.Rate.Capacity() // forced; the product might overflow
		} else {
			a.Debts[i] += time.Duration(a.Granted) * r.Rate.Interval
		}
		if a.Debts[i] > 0 {
			s.setArrival(memoryKey{o.Workspace, r.Subject}, now+a.Debts[i].Microseconds())
		}
	}
	for i := range o.Counts {
		c := &o.Counts[i]
		a.Counts[i] = min(maxCount, a.Counts[i]+a.Granted)
		if a.Counts[i] > 0 {
			s.setCount(memoryKey{o.Workspace, c.Period}, a.Counts[i], now, now+micros(c.Keep))
		}
	}
}

func (s *memoryShard) setArrival(key memoryKey, arrival int64) {
	if s.arrivals == nil {
		s.arrivals = map[memoryKey]int64{}
	}
	before := len(s.arrivals)
	s.arrivals[key] = arrival
	s.added += len(s.arrivals) - before
}

// setCount keeps an old count as long as was said of it first.
func (s *memoryShard) setCount(key memoryKey, n, now, until int64) {
	if s.counts == nil {
		s.counts = map[memoryKey]memoryCount{}
	}
	if count, held := s.counts[key]; held && count.until > now {
		until = count.until
	}
	before := len(s.counts)
	s.counts[key] = memoryCount{n, until}
	s.added += len(s.counts) - before
}

// A shard is swept when it has grown by as much as the last sweep left, so that
// sweeping costs each new entry a constant; by at least so many; and when it has
// grown at all, once in so many microseconds.
const (
	sweepAfter = 256
	sweepEvery = 60_000_000
)

// sweep forgets what is over. It moves the rest to new maps, as a map never gives
// memory back.
func (s *memoryShard) sweep(now int64) {
	if s.added == 0 || s.added < max(sweepAfter, s.kept) && now < s.sweepAt {
		return
	}
	arrivals, counts := map[memoryKey]int64{}, map[memoryKey]memoryCount{}
	for key, arrival := range s.arrivals {
		if arrival > now {
			arrivals[key] = arrival
		}
	}
	for key, count := range s.counts {
		if count.until > now {
			counts[key] = count
		}
	}
	s.arrivals, s.counts = arrivals, counts
	s.added, s.kept, s.sweepAt = 0, len(arrivals)+len(counts), now+sweepEvery
}
