package main

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// newRevocations makes what tells others of what is denied: the list in memory, the
// feed that is signed of it, and its projection in Redis, by whose word exchanges go
// on without the database.
func (s *server) newRevocations() {
	s.denied = &revocation.List{Issuer: s.config.Issuer, Reader: s.db.Reader(), Held: s.follower.Held, Now: s.now}
	s.feedRing = &signing.Ring{Purpose: signing.Feed, Reader: s.db.Reader(), Sealer: s.sealer, Timing: s.manager.Signing, Lease: s.follower}
	s.feed = &revocation.Publisher{List: s.denied, Keys: s.feedRing, Now: s.now}
	s.follower.OnVouched = s.forget
	s.follower.OnChange = followers{
		s.rules.Follow, s.quotas.Follow, s.directory.Forget, s.ring.Follow, s.feedRing.Follow, s.denied.Follow, s.followJournal,
	}
	if s.redis.client == nil {
		return
	}
	s.projection = revocation.NewProjection(revocation.ProjectionOptions{
		Client: s.redis.client, List: s.denied, Renew: s.renewEpoch, Evicts: s.redis.evicts, Hint: s.follower.Hurry, Log: s.log, Now: s.now,
	})
	s.manager.Tell = s.projection.Tell
	s.follower.Voucher = s.projection
	s.follower.OnChange = append(s.follower.OnChange, s.projection.Follow)
}

// errNeedsDatabase means that something has changed by which every exchange goes.
var errNeedsDatabase = errors.New("a policy or a signing key has changed, which has to be read from the database")

// forget takes in what Redis tells has changed while the database is away: the keys
// that are concerned are not exchanged any more. Quotas go on as they were.
func (s *server) forget(batch change.Batch) error {
	var err error
	for subject := range batch.Subjects {
		switch {
		case strings.HasPrefix(subject, signing.Subject("")):
			s.ring.Suspect()
			s.feedRing.Suspect()
			err = errNeedsDatabase
		case strings.HasPrefix(subject, policy.KindKeys.Subject("")):
			err = errNeedsDatabase
		}
	}
	if err == nil {
		s.rules.Advance(batch.Seq) // or keys that were read lately would be newer than the rules
	}
	if len(batch.Subjects) > 0 {
		err = cmp.Or(err, s.directory.Forget(context.Background(), batch))
	}
	return err
}

// followers are told of each batch of changes, in turn.
type followers = []func(context.Context, change.Batch) error

// renewEpoch lets this replica take its own change in at once: what it reads meanwhile
// is newer than what it has in memory.
func (s *server) renewEpoch(ctx context.Context, old int64) (int64, error) {
	epoch, err := s.manager.RenewEpoch(ctx, manage.Operator("projection"), old)
	s.follower.Hurry()
	return epoch, err
}

// holds names the keys that this replica could sign with, of both purposes, and the
// key-encryption keys that it opens them with.
func (s *server) holds() string {
	return s.ring.Holds() + " " + s.feedRing.Holds() + " " + s.sealer.Holds()
}

// project looks after the projection until ctx ends.
func (s *server) project(ctx context.Context) {
	if s.projection != nil {
		s.projection.Run(ctx)
	}
}

// projected is the state of the projection; zero without Redis.
func (s *server) projected() revocation.ProjectionState {
	if s.projection == nil {
		return revocation.ProjectionState{}
	}
	return s.projection.State()
}

// journalFailures is how often what was revoked could not be written down.
func (s *server) journalFailures() uint64 {
	if s.manager.Journal == nil {
		return 0
	}
	return s.manager.Journal.Failures()
}

// journalLag is how many revocations are not in the journal.
func (s *server) journalLag() float64 {
	if s.manager.Journal == nil {
		return 0
	}
	at, _ := s.manager.Journal.Last()
	return float64(max(0, s.denied.Position().Sequence-at.Sequence))
}
