package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// redisStatus watches the configured Redis.
type redisStatus struct {
	client redis.UniversalClient // nil: none is configured
	status atomic.Value          // string
}

// newRedisStatus does not connect yet. An empty URL means that there is none.
func newRedisStatus(url string) (*redisStatus, error) {
	r := &redisStatus{}
	if url == "" {
		r.status.Store("not configured")
		return r, nil
	}
	options, err := redis.ParseURL(url)
	if err != nil { // not shown: it may hold the URL's password
		return nil, errors.New("redis.url is not understood: write redis://user:password@host:6379/0, or rediss:// with TLS")
	}
	logging.Disable() // the library writes lines of its own to standard error; its errors come back anyway
	options.DialTimeout, options.ReadTimeout = time.Second, time.Second
	options.MaxRetries, options.DialerRetries = -1, 1
	options.ContextTimeoutEnabled = true
	r.client = redis.NewClient(options)
	r.status.Store("not asked yet")
	return r, nil
}

func (r *redisStatus) text() string { return r.status.Load().(string) }

// ping asks once. The error is not shown: it may hold the address's password.
func (r *redisStatus) ping(ctx context.Context) bool {
	ok := r.client.Ping(ctx).Err() == nil
	r.status.Store(word(ok, "does not answer"))
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
