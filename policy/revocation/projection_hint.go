package revocation

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// listen passes on the hints of other replicas' pushes until ctx ends. What gets lost
// on the way costs nothing but time: the follower of each replica looks by itself.
func (p *Projection) listen(ctx context.Context) {
	if p.o.Hint == nil {
		return
	}
	for {
		if err := p.subscribe(ctx); redis.IsPermissionError(err) {
			p.o.Log.Debug("Redis does not permit to subscribe to " + hintTopic + ": revocations are learnt of a moment later")
			return
		}
		select {
		case <-time.After(p.o.Interval):
		case <-ctx.Done():
			return
		}
	}
}

// subscribe listens for as long as it can be.
func (p *Projection) subscribe(ctx context.Context) error {
	topic := p.o.Client.Subscribe(ctx, hintTopic)
	defer topic.Close()
	// By itself the channel below would try again for ever, also what is not permitted.
	if _, err := topic.ReceiveTimeout(ctx, callTimeout); err != nil {
		return err
	}
	messages := topic.ChannelWithSubscriptions()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return nil
			}
			p.hinted(m)
		case <-ctx.Done():
			return nil
		}
	}
}

// hinted takes a message, or the news that the subscription was lost meanwhile.
func (p *Projection) hinted(message any) {
	if m, ok := message.(*redis.Message); ok {
		seq, err := strconv.ParseInt(m.Payload, 10, 64)
		if _, newest := p.debt(); err != nil || seq <= newest {
			return // known, or nothing of ours
		}
	}
	p.o.Hint()
}
