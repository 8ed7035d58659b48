package main

import (
	"time"

	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
)

// countsInterval is how often exchanges are added to their counts in the database.
const countsInterval = 5 * time.Second

// newLimits makes what bounds exchanges: the rules of keys, and the quotas, which
// replicas share through Redis.
func (s *server) newLimits() {
	s.rules = policy.NewRulebook(s.db.Reader(), s.follower.May, s.log)
	s.quotas = quota.NewBook(s.db.Reader(), s.follower.May, s.log)
	s.counters = quota.NewCounters(s.db, countsInterval, s.log, nil)
	options := quota.Options{
		Limits: s.quotas.Limits, Source: quota.NewMemory(nil), Replicas: s.follower.Replicas, Counters: s.counters, Log: s.log,
	}
	if s.redis.client != nil {
		options.Source, options.Shared = quota.NewRedis(s.redis.client), true
	}
	s.limiter = quota.NewLimiter(options)
}

// documentFaults is how many policies and quotas have a newer version that cannot
// be understood.
func (s *server) documentFaults() float64 { return float64(s.rules.Faults() + s.quotas.Faults()) }

// degraded reports whether Redis is configured and quotas go by this replica's share.
func (s *server) degraded() bool { return s.redis.client != nil && s.limiter.Degraded() }
