package main

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// rotationInterval is how often a replica looks whether a step of the rotation
// of signing keys is due. It is short against the bounds of the rotation.
const rotationInterval = 30 * time.Second

// rotate takes the due steps of the rotation until ctx ends. Every replica does;
// jitter keeps them from doing so at once.
func (s *server) rotate(ctx context.Context) {
	for {
		select {
		case <-time.After(rotationInterval/2 + rand.N(rotationInterval)): //nolint:gosec // jitter, not a secret
		case <-ctx.Done():
			return
		}
		limited, cancel := context.WithTimeout(ctx, rotationInterval)
		err := s.manager.TendSigningKeys(limited, manage.Operator("rotation"))
		cancel()
		if err != nil && ctx.Err() == nil {
			s.rotationFailures.Add(1)
			s.log.Warn("the rotation of signing keys has to wait", "error", err)
		}
	}
}

// signingKeys is "ok" when this replica signs for every audience, and the feed of
// revocations, and will go on when the next keys do, or what is wrong instead.
func (s *server) signingKeys() string {
	if err := cmp.Or(s.ring.Ready(s.policy.Audiences.Algorithms()...), s.feedRing.Ready(signing.FeedAlgorithm)); err != nil {
		return err.Error()
	}
	return "ok"
}
