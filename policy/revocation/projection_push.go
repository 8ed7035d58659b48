package revocation

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

const (
	// chunkSize is how many entries one script adds, so that it never keeps Redis from
	// others for long.
	chunkSize = 500
	// nextLife is for how long what is being built outlives who builds it.
	nextLife = 10 * time.Second
)

// flush pushes what is new, or looks what is wrong first.
func (p *Projection) flush(ctx context.Context) {
	p.mu.Lock()
	known, doubts := p.known, p.doubts
	p.mu.Unlock()
	if doubts != "" || !p.push(ctx, known) {
		p.round(ctx)
	}
}

// push brings Redis from where it is to where the List is. It reports whether Redis
// has everything then.
func (p *Projection) push(ctx context.Context, r report) bool {
	// What is owed comes before the List, which has what those changes denied.
	owed, newest := p.debt()
	at, items := p.o.List.Since(r.Sequence)
	for r.Epoch == at.Epoch && (r.Sequence < at.Sequence || r.Change < newest) {
		next, err := p.call(ctx, pushing, at.Epoch, p.pushed(r, at, items, owed)...)
		switch {
		case err != nil:
			p.failed(ctx, err)
			return false
		case next.word == stateGap && next.Sequence < r.Sequence: // a failover has lost it
			at, items = p.o.List.Since(next.Sequence)
		case next.word != stateWhole:
			p.doubt("it was lost a moment ago")
			return false
		}
		r = next
	}
	if r.Epoch != at.Epoch {
		return false
	}
	p.trust(r)
	return true
}

// debt is what Redis may lack of the changes, and the newest of them.
func (p *Projection) debt() (owed change.Batch, newest int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owed, p.newest // the subjects are only ever replaced
}

// pushed are the arguments of a push of the next entries, and with the last of them
// of the changes.
func (p *Projection) pushed(r report, at oauth.Position, items []Item, owed change.Batch) []any {
	first, _ := slices.BinarySearchFunc(items, r.Sequence+1, func(i Item, seq int64) int { return cmp.Compare(i.Seq, seq) })
	rest := items[first:]
	if len(rest) > chunkSize {
		rest = rest[:chunkSize]
		args := []any{r.Epoch, r.Sequence, rest[chunkSize-1].Seq, p.now(), "", "", chunkSize}
		return append(args, members(rest)...)
	}
	args := append([]any{r.Epoch, r.Sequence, at.Sequence, p.now(), owed.Since, owed.Seq, len(rest)}, members(rest)...)
	for subject := range owed.Subjects {
		args = append(args, subject)
	}
	return args
}

// members are items as arguments of a script: of each the number and the member.
func members(items []Item) []any {
	args := make([]any, 0, 2*len(items))
	for _, item := range items {
		args = append(args, item.Seq, memberOf(item))
	}
	return args
}

// rebuild makes the state of the List's epoch from nothing.
func (p *Projection) rebuild(ctx context.Context) {
	began := time.Now()
	_, newest := p.debt()
	at, items := p.o.List.Since(0)
	if !p.gather(ctx, at, items) {
		return
	}
	r, err := p.call(ctx, building, at.Epoch, at.Epoch, at.Sequence, len(items), newest, p.o.List.Issuer)
	switch {
	case err != nil:
		p.failed(ctx, err)
		return
	case r.word != stateWhole:
		p.doubt("it was lost while it was built")
		return
	}
	took := time.Since(began)
	p.count(func(s *ProjectionState) { s.Rebuilds, s.RebuildTook = s.Rebuilds+1, took })
	p.o.Log.Info("the revocations are in Redis anew", "epoch", at.Epoch, "seq", at.Sequence, "entries", len(items), "took", took.Round(time.Millisecond).String())
	p.round(ctx) // which takes it for what it is, and confirms it
}

// gather puts all items where the next state is made from.
func (p *Projection) gather(ctx context.Context, at oauth.Position, items []Item) bool {
	for first := true; first || len(items) > 0; first = false {
		n := min(len(items), chunkSize)
		r, err := p.call(ctx, gathering, at.Epoch, append([]any{first, nextLife.Milliseconds()}, members(items[:n])...)...)
		if err != nil {
			p.failed(ctx, err)
			return false
		}
		if r.word == stateGone {
			p.doubt("it was lost while it was built")
			return false
		}
		items = items[n:]
	}
	return true
}
