package revocation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// watch is what Run knows from one round to the next.
type watch struct {
	rounds   uint64
	last     report // that was weighed last
	runID    string // at the last round
	evicted  int64  // keys, at the last round
	lost     bool   // some were, in this epoch
	mine     int64  // the epoch that this replica began and has not tried to build
	epoch    int64  // the List's
	since    time.Time
	tried    bool      // somebody has built that epoch, or this replica has failed to
	unbuilt  int       // how many epochs in a row nobody has built
	renewed  time.Time // when a new epoch was asked for last
	renewing bool      // it is being asked for
	refused  string    // why none was begun
	warm     string    // the server that knows the script of Vouch
}

const (
	// noEviction is the one maxmemory-policy with which nothing is lost silently.
	noEviction = "noeviction"
	// minPatience is for how many intervals others wait for who began an epoch to build it;
	// twice as long for each epoch in a row that was not, up to maxPatience: were everybody
	// slow, each would take away from the other what it is about to build.
	minPatience, maxPatience = 3, 100
)

// round looks at Redis, and mends what is wrong.
func (p *Projection) round(ctx context.Context) {
	r, err := p.look(ctx)
	if foreign(err) {
		// Nothing of ours can be read beside it, or be made.
		_ = p.o.Client.Del(ctx, stateKey, deniedKey, changedKey).Err() // the next round tells
	}
	if err != nil {
		p.failed(ctx, err)
		return
	}
	p.countEvicted(r)
	switch {
	case r.role != "master":
		p.doubt("the server is a replica")
	case r.evicts || p.o.Evicts != nil && p.o.Evicts():
		p.condemn(ctx, r.report, "Redis evicts keys: its maxmemory-policy has to be "+noEviction)
	default:
		p.judge(ctx, r)
	}
}

// foreign recognises what Redis says of a key that holds another type than ours do.
func foreign(err error) bool { return err != nil && strings.Contains(err.Error(), "WRONGTYPE") }

// countEvicted counts what was evicted since the round before.
func (p *Projection) countEvicted(r look) {
	w := &p.watch
	if r.runID == w.runID && r.evicted > w.evicted {
		p.count(func(s *ProjectionState) { s.Evicted += uint64(r.evicted - w.evicted) })
		w.lost = true
	}
	w.runID, w.evicted = r.runID, r.evicted
}

// judge decides what to do about a state.
func (p *Projection) judge(ctx context.Context, r look) {
	at := p.o.List.Position()
	if at.Before(r.Position) { // another replica was faster, or the database has less
		if err := p.o.List.Load(ctx); err != nil {
			p.unsure(r, at)
			return
		}
		at = p.o.List.Position()
	}
	p.observe(at)
	if at.Before(r.Position) {
		p.diverged()
		p.condemn(ctx, r.report, fmt.Sprintf("it is at %d of epoch %d, further than the database", r.Sequence, r.Epoch))
		p.renew(ctx, at.Epoch)
		return
	}
	if r.word == stateWhole && r.Epoch == at.Epoch {
		p.watch.tried, p.watch.unbuilt = true, 0
	}
	why := p.damage(ctx, r, at)
	switch {
	case why != "":
		p.condemn(ctx, r.report, why)
		p.restore(ctx, r, at)
	case r.word == stateNone, r.Epoch != at.Epoch:
		p.doubt("it is not built yet")
		p.restore(ctx, r, at)
	case p.push(ctx, r.report):
		p.confirm(ctx, r)
	}
}

// unsure decides about a state that is further than the List, while the database
// cannot be asked: what is whole and of this epoch is others' work.
func (p *Projection) unsure(r look, at oauth.Position) {
	if r.word == stateWhole && r.Epoch == at.Epoch {
		p.trust(r.report)
		return
	}
	p.doubt("the database cannot be asked whether it is right")
}

// damage says what is wrong with a state that is there; empty: nothing.
func (p *Projection) damage(ctx context.Context, r look, at oauth.Position) string {
	w := &p.watch
	last := w.last
	w.last = r.report
	switch {
	case r.word == stateNone:
		return ""
	case r.word == stateBroken:
		return "members are missing"
	case r.Epoch != at.Epoch:
		return ""
	case r.issuer != p.o.List.Issuer:
		return "it is of the issuer " + r.issuer + ": two installations need a Redis or a database number each"
	case w.lost:
		return "Redis has evicted keys"
	case r.Epoch == last.Epoch && r.name() == last.name() && r.Before(last.Position):
		return "its sequence number has gone back"
	case !p.due(r.Count):
		return ""
	}
	if !p.compare(ctx, r.report, at) {
		p.diverged()
		return "it has something else than the database"
	}
	return ""
}

// look is what a round sees.
type look struct {
	report
	time    int64 // of Redis, in microseconds
	evicts  bool
	evicted int64 // keys, since the server was started
	begun   bool  // somebody builds the List's epoch
	issuer  string
}

func (p *Projection) look(ctx context.Context) (look, error) {
	r, err := p.call(ctx, checking, p.o.List.Position().Epoch)
	if err != nil {
		return look{}, err
	}
	if len(r.more) != 5 {
		return look{}, fmt.Errorf("an answer of Redis about itself has %d words instead of 5", len(r.more))
	}
	l := look{report: r, evicts: r.more[1] != noEviction && r.more[1] != "", begun: r.more[3] == "1", issuer: r.more[4]}
	l.evicted, _ = strconv.ParseInt(r.more[2], 10, 64) // hidden: the count of members tells
	l.time, err = strconv.ParseInt(r.more[0], 10, 64)
	return l, err
}

// observe notes the List's epoch, and since when it is that.
func (p *Projection) observe(at oauth.Position) {
	w := &p.watch
	if w.epoch != at.Epoch {
		w.tried = w.epoch == 0 // at the start nobody is known to be about to
		w.epoch, w.since, w.lost = at.Epoch, time.Now(), false
		w.unbuilt++
	}
}

// condemn makes sure that nobody relies on a state.
func (p *Projection) condemn(ctx context.Context, r report, why string) {
	p.doubt(why)
	if r.word == stateNone {
		return
	}
	if _, err := p.call(ctx, condemning, r.Epoch, r.Epoch); err != nil {
		p.failed(ctx, err)
	}
}

// restore builds the epoch that this replica began, leaves another's to it for a
// while, or begins one.
func (p *Projection) restore(ctx context.Context, r look, at oauth.Position) {
	p.mu.Lock()
	followed := p.followed
	p.mu.Unlock()
	w := &p.watch
	switch {
	case w.mine > at.Epoch, w.mine == at.Epoch && followed.Epoch != at.Epoch:
		// The change that began it has not come yet.
	case w.mine == at.Epoch:
		// If it fails again and again it is another's turn.
		w.mine, w.tried = 0, w.unbuilt < 2
		p.rebuild(ctx)
	case !w.tried && (r.begun || time.Since(w.since) < p.patience()):
	default:
		p.renew(ctx, at.Epoch)
	}
}

// patience is for how long to wait for another to build the present epoch.
func (p *Projection) patience() time.Duration {
	return rand.N(p.o.Interval) + time.Duration(min(minPatience<<min(max(0, p.watch.unbuilt-1), 10), maxPatience))*p.o.Interval
}

// renewal is what became of an attempt to begin an epoch.
type renewal struct {
	epoch int64 // 0: somebody else was faster
	err   error
}

// renew begins a new epoch, at most once an interval. Run goes on meanwhile.
func (p *Projection) renew(ctx context.Context, old int64) {
	w := &p.watch
	if w.renewing || time.Since(w.renewed) < p.o.Interval/2 {
		return
	}
	w.renewing, w.renewed = true, time.Now()
	p.beside.Go(func() {
		epoch, err := p.o.Renew(ctx, old)
		p.begun <- renewal{epoch, err}
	})
}

// began takes in what became of renew.
func (p *Projection) began(ctx context.Context, r renewal) {
	p.watch.renewing = false
	switch {
	case r.err != nil && ctx.Err() == nil && p.watch.refused != r.err.Error():
		p.watch.refused = r.err.Error()
		p.o.Log.Warn("cannot begin a new epoch of the revocations", "error", r.err)
	case r.err == nil && r.epoch != 0:
		p.watch.mine, p.watch.refused = r.epoch, ""
		p.count(func(s *ProjectionState) { s.EpochChanges++ })
		p.round(ctx)
	}
}

// confirm notes in Redis that its state was the database's when the round looked at
// it: the lease, or a look at the database, says so afterwards.
func (p *Projection) confirm(ctx context.Context, l look) {
	if err := p.o.List.Fresh(ctx); err != nil {
		return // not for this replica to say
	}
	at := p.o.List.Position()
	r, err := p.call(ctx, confirming, at.Epoch, at.Epoch, at.Sequence, l.time, p.now())
	switch {
	case err != nil:
		p.failed(ctx, err)
	case r.word == stateWhole:
		p.trust(r)
		p.warm(ctx, r, at)
	case r.word != stateGap: // what came meanwhile is about to be pushed
		p.doubt("it was lost a moment ago")
	}
}

// warm lets the server know the script of Vouch, which costs one round trip then.
func (p *Projection) warm(ctx context.Context, r report, at oauth.Position) {
	if p.watch.warm == r.name() {
		return
	}
	if _, err := p.call(ctx, vouching, at.Epoch, r.Change); err == nil {
		p.watch.warm = r.name()
	}
}

func (p *Projection) diverged() { p.count(func(s *ProjectionState) { s.Diverged++ }) }

func (p *Projection) count(add func(*ProjectionState)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	add(&p.stats)
}

const (
	smallCount   = 1000 // members, which are compared in each round
	compareEvery = 150  // rounds, if there are more: each 5 minutes
	comparePage  = 1000
	compareSkew  = 60 // seconds by which the clocks may differ that decide what has expired
)

// due reports whether this round compares.
func (p *Projection) due(members int64) bool {
	p.watch.rounds++
	return members <= smallCount || p.watch.rounds%compareEvery == 0
}

// compare reports whether Redis has the members that the List has, up to where both
// are. What has expired does not matter. When it cannot be known it is true.
func (p *Projection) compare(ctx context.Context, r report, at oauth.Position) bool {
	end := min(at.Sequence, r.Sequence)
	_, items := p.o.List.Since(0)
	want := make(map[string]bool, len(items))
	for _, item := range items {
		if item.Seq <= end {
			want[memberOf(item)] = true
		}
	}
	same, err := p.holds(ctx, want, end)
	if err != nil || same {
		return true
	}
	// Something may have happened meanwhile that is for the next round.
	again, err := p.look(ctx)
	return err != nil || again.word != stateWhole || again.Epoch != r.Epoch || again.name() != r.name() || again.Sequence < end
}

// holds reads all members up to a number and reports whether they are those.
func (p *Projection) holds(ctx context.Context, want map[string]bool, end int64) (bool, error) {
	now := p.now()
	for from := "-inf"; ; {
		members, err := p.o.Client.ZRangeByScoreWithScores(ctx, deniedKey, &redis.ZRangeBy{
			Min: from, Max: strconv.FormatInt(end, 10), Count: comparePage,
		}).Result()
		if err != nil {
			return false, err
		}
		for _, m := range members {
			text, _ := m.Member.(string)
			switch {
			case want[text] && strings.HasPrefix(text, strconv.FormatFloat(m.Score, 'f', -1, 64)+":"):
				delete(want, text)
			case expiryOf(text) > now+compareSkew:
				return false, nil
			}
		}
		if len(members) < comparePage {
			break
		}
		from = "(" + strconv.FormatFloat(members[len(members)-1].Score, 'f', -1, 64)
	}
	for text := range want {
		if expiryOf(text) > now+compareSkew {
			return false, nil
		}
	}
	return true, nil
}

// memberOf is how an item is written in Redis.
func memberOf(i Item) string {
	return fmt.Sprintf("%d:%s:%d:%d", i.Seq, i.Hash, i.Generation, i.Expiry)
}

// expiryOf is when a member expires, in seconds since 1970; of what is none, never.
func expiryOf(member string) int64 {
	n, err := strconv.ParseInt(member[strings.LastIndexByte(member, ':')+1:], 10, 64)
	if err != nil {
		return 1<<63 - 1 - compareSkew
	}
	return n
}
