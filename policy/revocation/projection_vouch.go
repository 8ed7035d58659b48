package revocation

import (
	"context"
	"errors"
	"fmt"

	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// ErrNotVouched means that Redis cannot say what has changed.
var ErrNotVouched = errors.New("nobody vouches for what has changed")

// Vouch implements change.Voucher, with one round trip. An error wraps ErrNotVouched
// when Redis answers, and not with what proves that nothing is missing.
func (p *Projection) Vouch(ctx context.Context, name string, since int64) (change.Batch, error) {
	p.mu.Lock()
	least := p.seen
	p.mu.Unlock()
	at := p.o.List.Position()
	if least.Before(at) {
		least = at
	}
	r, err := p.call(ctx, vouching, at.Epoch, since)
	if err != nil {
		return change.Batch{}, fmt.Errorf("%w: %s", ErrNotVouched, redisReason(err))
	}
	var why string
	switch {
	case r.name() == "":
		why = "the server is a replica"
	case r.name() != name:
		why = "it is another server, or was a replica meanwhile"
	case r.word == stateNone:
		why = "it is empty"
	case r.word != stateWhole:
		why = "members are missing"
	case r.Epoch != at.Epoch:
		why = fmt.Sprintf("it is of epoch %d, and %d is known", r.Epoch, at.Epoch)
	case r.Before(least):
		why = fmt.Sprintf("it is at %d of epoch %d, and was at %d", r.Sequence, r.Epoch, least.Sequence)
	case r.Change < since:
		why = fmt.Sprintf("it has the changes up to %d, and %d is known", r.Change, since)
	case r.Floor > since:
		why = fmt.Sprintf("it has the changes after %d only, and those after %d are asked for", r.Floor, since)
	}
	if why != "" {
		return change.Batch{}, fmt.Errorf("%w: %s", ErrNotVouched, why)
	}
	p.mu.Lock()
	p.notice(r)
	p.mu.Unlock()
	b := change.Batch{Since: since, Seq: r.Change, Subjects: make(map[string]bool, len(r.more)), Complete: true}
	for _, subject := range r.more {
		b.Subjects[subject] = true
	}
	return b, nil
}
