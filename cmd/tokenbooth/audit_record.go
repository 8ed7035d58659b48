package main

import (
	"context"
	"sync"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// How often the record is looked after.
const (
	headsInterval = time.Minute
	pruneInterval = time.Hour
	recordTimeout = 30 * time.Second
)

// record writes down how keys are used until ctx ends. It exports the heads of
// the audit chains now and then, and at the end once more, when everything is
// written.
func (s *server) record(ctx context.Context) {
	var writing sync.WaitGroup
	writing.Go(func() { s.exchanges.Run(ctx) })
	heads, prune := time.NewTicker(headsInterval), time.NewTicker(pruneInterval)
	defer heads.Stop()
	defer prune.Stop()
	exported := map[string]int64{}
	s.exportHeads(ctx, exported) // so that a path that cannot be written shows at once
	s.prune(ctx)
	for {
		select {
		case <-heads.C:
			s.exportHeads(ctx, exported)
			s.forgetReplays(ctx)
		case <-prune.C:
			s.prune(ctx)
		case <-ctx.Done():
			writing.Wait()
			s.exportHeads(context.WithoutCancel(ctx), exported)
			return
		}
	}
}

// forgetReplays ends answers that are kept for repeated requests, and sessions and
// links that are of no use any more, when their time is over. What it cannot do now it does the next time.
func (s *server) forgetReplays(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if err := s.manager.ForgetReplays(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("cannot forget old answers; trying again", "error", err)
	}
	if err := s.manager.ForgetSignIns(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("cannot forget sessions and links that have ended; trying again", "error", err)
	}
}

// exportHeads appends the heads that have moved since they were exported.
func (s *server) exportHeads(ctx context.Context, exported map[string]int64) {
	if s.config.Audit.Heads == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	heads, err := audit.Heads(ctx, s.db.Reader())
	var moved []audit.Head
	for _, h := range heads {
		if exported[h.Chain] != h.Seq {
			moved = append(moved, h)
		}
	}
	if err == nil {
		err = audit.AppendHeads(s.config.Audit.Heads, moved)
	}
	if err != nil {
		s.log.Error("cannot export the heads of the audit chains; trying again", "error", err)
		return
	}
	for _, h := range moved {
		exported[h.Chain] = h.Seq
	}
}

// prune removes what has been kept for long enough.
func (s *server) prune(ctx context.Context) {
	before := workspace.At(time.Now().Add(-s.config.Audit.ExchangeRetention))
	if err := s.exchanges.Prune(ctx, before); err != nil && ctx.Err() == nil {
		s.log.Warn("cannot remove old exchanges; trying again in an hour", "error", err)
	}
	if _, err := revocation.Prune(ctx, s.db.Writer(), time.Now()); err != nil && ctx.Err() == nil {
		s.log.Warn("cannot remove old revocations; trying again in an hour", "error", err)
	}
}
