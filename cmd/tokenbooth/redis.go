package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisStatus watches the configured Redis.
type redisStatus struct {
	client redis.UniversalClient // nil: none is configured
	status atomic.Value          // string
}

// newRedisStatus does not connect yet. The URL was checked with the
// configuration.
func newRedisStatus(url string) *redisStatus {
	r := &redisStatus{}
	r.status.Store("not configured")
	options, err := redis.ParseURL(url)
	if url == "" || err != nil {
		return r
	}
	options.DialTimeout, options.ReadTimeout, options.MaxRetries = time.Second, time.Second, -1
	options.ContextTimeoutEnabled = true
	r.client = redis.NewClient(options)
	r.status.Store("not asked yet")
	return r
}

func (r *redisStatus) text() string { return r.status.Load().(string) }

// ping asks once. The error is not shown: it may hold the address's password.
func (r *redisStatus) ping(ctx context.Context) bool {
	ok := r.client.Ping(ctx).Err() == nil
	r.status.Store(word(ok, "ok", "does not answer"))
	return ok
}

func (r *redisStatus) run(ctx context.Context) {
	if r.client == nil {
		return
	}
	defer func() { _ = r.client.Close() }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		r.ping(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
