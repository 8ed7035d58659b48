package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// reply is an error that Redis sent.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestOutcome(t *testing.T) {
	alive := t.Context()
	gone, cancel := context.WithCancel(alive)
	cancel()
	late, cancel := context.WithDeadline(alive, time.Now().Add(-time.Second))
	defer cancel()
	const quick, slow = time.Millisecond, redisSlow
	for _, test := range []struct {
		name string
		ctx  context.Context
		took time.Duration
		err  error
		want outcome
	}{
		{"no error", alive, quick, nil, answered},
		{"no such key", alive, quick, redis.Nil, answered},
		{"wrong type", alive, quick, reply("WRONGTYPE Operation against a key"), answered},
		{"a script's error", alive, quick, reply("ERR user_script:1: oops"), answered},
		{"unknown script", alive, quick, redis.ErrNoScript, answered},
		{"a forbidden command", alive, quick, reply("NOPERM this user has no permissions"), answered},
		{"a moved slot", alive, quick, reply("MOVED 1 127.0.0.1:1"), answered},
		{"a slot that moves", alive, quick, reply("TRYAGAIN Multiple keys request during rehashing"), answered},
		{"a group that is there", alive, quick, reply("BUSYGROUP Consumer Group name already exists"), answered},
		{"loading", alive, quick, reply("LOADING Redis is loading the dataset in memory"), failed},
		{"a script that does not end", alive, quick, reply("BUSY Redis is busy running a script."), failed},
		{"a replica", alive, quick, reply("READONLY You can't write against a read only replica."), failed},
		{"a replica, in a script of Redis 6", alive, quick, reply("ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write"), failed},
		{"no memory", alive, quick, reply("OOM command not allowed when used memory > 'maxmemory'."), failed},
		{"no disk", alive, quick, reply("MISCONF Redis is configured to save RDB snapshots"), failed},
		{"no replicas", alive, quick, reply("NOREPLICAS Not enough good replicas to write."), failed},
		{"a cluster with a hole", alive, quick, reply("CLUSTERDOWN The cluster is down"), failed},
		{"no master", alive, quick, reply("MASTERDOWN Link with MASTER is down"), failed},
		{"too many clients", alive, quick, reply("ERR max number of clients reached"), failed},
		{"no password", alive, quick, reply("NOAUTH Authentication required."), failed},
		{"no connection, for a reply", alive, quick, fmt.Errorf("failed to authenticate: %w", reply("WRONGPASS x")), failed},
		{"no connection, for another reply", alive, quick, fmt.Errorf("failed to initialize: %w", reply("ERR DB index is out of range")), failed},
		{"no master at Sentinel", alive, quick, fmt.Errorf("unreachable: %w", redis.Nil), failed},
		{"connection closed", alive, quick, io.EOF, failed},
		{"connection refused", alive, quick, &net.OpError{Op: "dial", Err: os.ErrPermission}, failed},
		{"timeout", alive, slow, os.ErrDeadlineExceeded, failed},
		{"no free connection", alive, slow, redis.ErrPoolTimeout, failed},
		{"no answer in a cluster", alive, slow, unanswered{io.EOF}, failed},
		{"we have closed it", alive, quick, redis.ErrClosed, unclear},
		{"the caller left", gone, slow, context.Canceled, unclear},
		{"the caller left while reading", gone, slow, os.ErrDeadlineExceeded, unclear},
		{"the caller had no time", late, quick, context.DeadlineExceeded, unclear},
		{"the caller has waited", late, slow, os.ErrDeadlineExceeded, failed},
		{"a reply to a caller that left", gone, quick, reply("LOADING"), answered},
		{"a refusal to a caller that left", gone, quick, reply("LOADING x"), failed},
	} {
		if got := outcomeOf(test.ctx, test.took, test.err); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// scripted is a breaker before a Redis that fails as told, and counts.
type scripted struct {
	*breaker
	err   error
	calls int
	log   output
}

func newScripted() *scripted {
	s := new(scripted)
	s.breaker = newBreaker(logTo(&s.log))
	return s
}

func (s *scripted) call(ctx context.Context) error {
	return s.ProcessHook(func(context.Context, redis.Cmder) error { s.calls++; return s.err })(ctx, redis.NewCmd(ctx, "get", "x"))
}

func (s *scripted) pipeline(ctx context.Context, cmds ...redis.Cmder) error {
	return s.ProcessPipelineHook(func(_ context.Context, cmds []redis.Cmder) error {
		s.calls++
		cmds[len(cmds)-1].SetErr(s.err)
		return s.err
	})(ctx, cmds)
}

func TestBreakerOpensAfterThreeInARow(t *testing.T) {
	s := newScripted()
	ctx := t.Context()
	for i, err := range []error{io.EOF, io.EOF, nil, io.EOF, io.EOF, redis.Nil, io.EOF, io.EOF} {
		if s.err = err; !errors.Is(s.call(ctx), err) || s.open.Load() {
			t.Fatalf("call %d: open %t", i, s.open.Load())
		}
	}
	_ = s.call(ctx)
	before := s.calls
	for range 100 {
		if err := s.call(ctx); !errors.Is(err, errRedisAway) {
			t.Fatalf("open, and a call says %v", err)
		}
	}
	if s.calls != before || s.times.Load() != 1 {
		t.Errorf("%d calls went through, opened %d times", s.calls-before, s.times.Load())
	}
}

func TestBreakerClosesByTwoProbesInARow(t *testing.T) {
	s := newScripted()
	ctx := t.Context()
	s.trip(io.EOF)
	for i, err := range []error{nil, io.EOF, nil, io.EOF, io.EOF, nil} {
		if s.probed(err); !s.open.Load() {
			t.Fatalf("closed by probe %d", i)
		}
	}
	if s.err = nil; !errors.Is(s.call(ctx), errRedisAway) || s.calls != 0 {
		t.Fatal("a call went through")
	}
	if s.probed(nil); s.open.Load() {
		t.Fatal("two good probes in a row do not close it")
	}
	if err := s.call(ctx); err != nil || s.calls != 1 {
		t.Errorf("closed, and a call says %v", err)
	}
	// From the start again: no failure of before counts, and probes count as calls.
	s.probed(io.EOF)
	s.probed(io.EOF)
	if s.open.Load() {
		t.Fatal("open after two failures")
	}
	if s.probed(io.EOF); !s.open.Load() || s.times.Load() != 2 {
		t.Errorf("open %t, %d times", s.open.Load(), s.times.Load())
	}
}

func TestBreakerAndPipelines(t *testing.T) {
	s := newScripted()
	ctx := t.Context()
	for range breakerFailures {
		first, second := redis.NewCmd(ctx, "get", "a"), redis.NewCmd(ctx, "get", "b")
		first.SetErr(reply("WRONGTYPE a")) // hides the one that counts
		s.err = reply("OOM b")
		_ = s.pipeline(ctx, first, second)
	}
	if !s.open.Load() {
		t.Fatal("not open after three pipelines without memory")
	}
	first, second := redis.NewCmd(ctx, "get", "a"), redis.NewCmd(ctx, "get", "b")
	if err := s.pipeline(ctx, first, second); !errors.Is(err, errRedisAway) || !errors.Is(first.Err(), errRedisAway) || !errors.Is(second.Err(), errRedisAway) {
		t.Errorf("pipeline %v, its commands %v and %v", err, first.Err(), second.Err())
	}
	if s.calls != breakerFailures {
		t.Errorf("%d pipelines went through", s.calls)
	}
}
