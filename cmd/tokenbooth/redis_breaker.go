package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	breakerFailures = 3 // in a row; then it opens
	breakerGood     = 2 // probes in a row; then it closes
)

// errRedisAway is the answer to every call while the breaker is open.
var errRedisAway = errors.New("redis is away")

// breaker is a hook that fails calls at once while Redis is away. Calls open it and
// probes close it: were calls to try whether Redis is back, each try would make a
// request wait.
type breaker struct {
	log      *slog.Logger
	tripped  chan struct{} // has something when it opens, so that the probes make haste
	open     atomic.Bool
	failures atomic.Int32 // in a row
	times    atomic.Uint64
	since    atomic.Int64 // when it opened, in nanoseconds
	good     int          // probes in a row while open; only probed uses it
}

func newBreaker(log *slog.Logger) *breaker {
	return &breaker{log: log, tripped: make(chan struct{}, 1)}
}

// The calls of a probe pass the breaker, and so do those that a call makes itself
// to greet Redis on a new connection.
type passKey struct{}

func passing(ctx context.Context) context.Context {
	return context.WithValue(ctx, passKey{}, true)
}

func passes(ctx context.Context) bool { return ctx.Value(passKey{}) != nil }

func (b *breaker) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if passes(ctx) {
			return next(ctx, cmd)
		}
		if b.open.Load() {
			cmd.SetErr(errRedisAway)
			return errRedisAway
		}
		began := time.Now()
		err := next(passing(ctx), cmd)
		b.count(outcomeOf(ctx, time.Since(began), err), err)
		return err
	}
}

func (b *breaker) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if passes(ctx) {
			return next(ctx, cmds)
		}
		if b.open.Load() {
			for _, cmd := range cmds {
				cmd.SetErr(errRedisAway)
			}
			return errRedisAway
		}
		began := time.Now()
		err := next(passing(ctx), cmds)
		worst := worstOf(cmds, err)
		b.count(outcomeOf(ctx, time.Since(began), worst), worst)
		return err
	}
}

// DialHook leaves connections alone: none is made for a call that fails at once.
func (b *breaker) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *breaker) count(o outcome, err error) {
	switch {
	case o == failed && b.failures.Add(1) >= breakerFailures:
		b.trip(err)
	case o == answered && b.failures.Load() != 0:
		b.failures.Store(0)
	}
}

func (b *breaker) trip(err error) {
	if !b.open.CompareAndSwap(false, true) {
		return
	}
	b.since.Store(time.Now().UnixNano())
	b.times.Add(1)
	b.log.Warn("Redis is away: going on without it", "reason", redisReason(err))
	select {
	case b.tripped <- struct{}{}:
	default: // nobody has taken the last one yet
	}
}

// probed takes the end of a probe. One good probe is not enough to close, so that
// a Redis that comes and goes is not asked by requests each time.
func (b *breaker) probed(err error) {
	switch {
	case !b.open.Load() && err == nil:
		b.count(answered, nil)
	case !b.open.Load():
		b.count(failed, err)
	case err != nil:
		b.good = 0
	default:
		b.good++
	}
	if b.good >= breakerGood {
		b.good = 0
		b.failures.Store(0)
		b.open.Store(false)
		away := time.Since(time.Unix(0, b.since.Load()))
		b.log.Info("Redis is back", "away", away.Round(time.Millisecond).String())
	}
}
