package quota

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Bounds of the memory of a Limiter.
const (
	maxLanes = 100_000     // about so many are remembered
	idleTime = time.Minute // after which one is forgotten that owes nothing
	shards   = 16
)

// subject names a lane: a workspace, or a key in it that has a limit of its own.
type subject struct {
	workspace workspace.ID
	key       keys.ID
}

// shelf keeps the lanes. A lane of a key stands beside the one of its workspace,
// whose account they share.
type shelf struct {
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	mu    sync.Mutex // never taken by who holds an account's
	lanes map[subject]*lane
	swept time.Time
}

func (s *shelf) init(now time.Time) {
	s.seed = maphash.MakeSeed()
	for i := range s.shards {
		s.shards[i].lanes, s.shards[i].swept = map[subject]*lane{}, now
	}
}

func (s *shelf) len() (n int) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += len(sh.lanes)
		sh.mu.Unlock()
	}
	return n
}

// open finds the lane of a demand or makes it. It returns with the mutex of the
// account locked and the lane marked as used now.
func (s *shelf) open(d Demand, clock func() time.Time) *lane {
	of := subject{workspace: d.Workspace}
	if d.PerMinute > 0 {
		of.key = d.Key
	}
	sh := &s.shards[maphash.String(s.seed, string(d.Workspace))%shards]
	for {
		ln := sh.find(of, clock())
		ln.account.mu.Lock()
		if !ln.gone {
			ln.used = clock()
			return ln
		}
		ln.account.mu.Unlock()
	}
}

func (sh *shard) find(of subject, now time.Time) *lane {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if now.Sub(sh.swept) >= idleTime {
		sh.sweep(now)
	}
	if ln := sh.lanes[of]; ln != nil {
		return ln
	}
	if len(sh.lanes) >= maxLanes/shards {
		sh.makeRoom(now)
	}
	if of.key == "" {
		return sh.add(of, &account{}, now)
	}
	whole := subject{workspace: of.workspace}
	base := sh.lanes[whole]
	if base == nil {
		base = sh.add(whole, &account{}, now)
	}
	base.account.lanes++
	return sh.add(of, base.account, now)
}

func (sh *shard) add(of subject, a *account, now time.Time) *lane {
	ln := &lane{account: a, used: now}
	sh.lanes[of] = ln
	return ln
}

// sweep forgets lanes that owe nothing and were not used for a while.
func (sh *shard) sweep(now time.Time) {
	sh.swept = now
	for of, ln := range sh.lanes {
		sh.drop(of, ln, func() bool {
			return ln.idle(now) && (of.key != "" || ln.account.minute.debt(now) == 0)
		})
	}
}

// makeRoom forgets idle lanes, and if that frees little, others: so many at once
// are past what can be remembered. The source still knows them.
func (sh *shard) makeRoom(now time.Time) {
	sh.sweep(now)
	for of, ln := range sh.lanes {
		if len(sh.lanes) <= maxLanes/shards*3/4 {
			return
		}
		sh.drop(of, ln, func() bool { return ln.waiting == 0 && ln.flight == nil })
	}
}

// drop forgets a lane if it may. One whose account others use stays.
func (sh *shard) drop(of subject, ln *lane, may func() bool) {
	a := ln.account
	a.mu.Lock()
	defer a.mu.Unlock()
	if of.key == "" && a.lanes > 0 || !may() {
		return
	}
	if of.key != "" {
		a.lanes--
	}
	ln.gone = true
	delete(sh.lanes, of)
}
