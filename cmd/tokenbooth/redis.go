package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	probeTimeout  = time.Second            // of one probe; it can afford more than a request
	probeInterval = 5 * time.Second        // while Redis answers
	probeHaste    = 250 * time.Millisecond // while it does not
	policyProbes  = 12                     // so many probes share one check of the maxmemory-policy
)

// redisStatus watches the configured Redis, and keeps the breaker that stands
// before every call to it.
type redisStatus struct {
	client  redis.UniversalClient // nil: none is configured
	breaker *breaker
	log     *slog.Logger
	problem atomic.Value // string: what the last probe found; "" if it was good
	policy  atomic.Value // string: the maxmemory-policy; "" until it was asked

	// Only ready and then run use these.
	asked     bool
	policyDue int // probes until the policy is checked again
}

// newRedisStatus does not connect yet. An empty URL means that there is none.
func newRedisStatus(c *Config, log *slog.Logger) (*redisStatus, error) {
	r := &redisStatus{log: log, breaker: newBreaker(log)}
	r.problem.Store("not asked yet")
	r.policy.Store("")
	if c.Redis.URL == "" {
		return r, nil
	}
	client, err := newRedisClient(c)
	if err != nil {
		return nil, err
	}
	client.AddHook(r.breaker)
	r.client = client
	return r, nil
}

// text is the state for /readyz.
func (r *redisStatus) text() string {
	problem := r.problem.Load().(string)
	switch {
	case r.client == nil:
		return "not configured"
	case problem != "":
		return problem
	case r.breaker.open.Load(): // requests have noticed before the probes, or one probe was good
		return "does not answer"
	case r.evicts():
		return "evicts keys: its maxmemory-policy is " + r.policy.Load().(string) + ", not " + noEviction
	}
	return "ok"
}

// ready asks for the first time. A Redis that is away is no error, since it is not
// needed; one that does not fit is: it would go unnoticed until it does harm.
func (r *redisStatus) ready(ctx context.Context) error {
	if r.client == nil {
		return nil
	}
	err := r.insist(ctx)
	if mistake := cmp.Or(r.wrongForm(ctx, err), redisMistake(err)); mistake != nil {
		return mistake
	}
	r.learn(ctx, err)
	r.askInfo(ctx, err)
	if r.evicts() {
		return policyMistake(r.policy.Load().(string))
	}
	return nil
}

// insist probes until there is an answer, though not for long: on a busy machine one
// that is a little late would hide for now that Redis does not fit.
func (r *redisStatus) insist(ctx context.Context) (err error) {
	for range breakerFailures {
		if err = r.probe(ctx); err == nil || redisMistake(err) != nil {
			break
		}
	}
	return err
}

// run asks until ctx ends, in haste while Redis is away.
func (r *redisStatus) run(ctx context.Context) {
	if r.client == nil {
		return
	}
	defer r.close()
	for ctx.Err() == nil {
		r.learn(ctx, r.probe(ctx))
		select {
		case <-time.After(r.pause()):
		case <-r.breaker.tripped: // just now, so a probe at once would say little
			wait(ctx, probeHaste)
		case <-ctx.Done():
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (r *redisStatus) close() {
	if r.client != nil {
		_ = r.client.Close() // it may be closed already
	}
}

func (r *redisStatus) pause() time.Duration {
	if r.problem.Load().(string) != "" || r.breaker.open.Load() {
		return probeHaste
	}
	return probeInterval
}

// learn passes on what a probe found.
func (r *redisStatus) learn(ctx context.Context, err error) {
	if err != nil && ctx.Err() != nil {
		return // it is us who leave
	}
	if err != nil && !r.asked {
		r.breaker.trip(err) // requests need not find out
	}
	r.asked = true
	r.breaker.probed(err)
	r.problem.Store(problemOf(err))
	switch r.policyDue--; {
	case err != nil:
		r.policyDue = 0 // it may come back as another one
	case r.policyDue < 0:
		r.checkPolicy(ctx)
	}
}

func problemOf(err error) string {
	var reply redis.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &reply):
		return "does not work: " + redisReason(err)
	}
	return "does not answer"
}

// probeScript does what requests do: a Redis that answers PING may still be a
// replica, have no memory, or not permit scripts.
var probeScript = redis.NewScript(`return redis.call("SET", KEYS[1], redis.call("TIME")[1], "PX", 60000)`)

// probe asks every master past the breaker, and one to write.
func (r *redisStatus) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(passing(ctx), probeTimeout)
	defer cancel()
	if err := r.onMasters(ctx, func(ctx context.Context, client *redis.Client) error { return client.Ping(ctx).Err() }); err != nil {
		return err
	}
	return probeScript.Run(ctx, r.client, []string{"tokenbooth:probe"}).Err()
}

// infoScript is what the scripts of the revocations ask in the same way: which server
// it is that answers.
var infoScript = redis.NewScript(`return #redis.call("INFO", "server") + #KEYS`)

// askInfo warns of a Redis that does not say that. Quotas need no more than a Redis
// that counts, but nobody would ever know by it what is revoked.
func (r *redisStatus) askInfo(ctx context.Context, probed error) {
	if probed != nil {
		return // a replica that has no memory, say, has nothing to tell of rights
	}
	ctx, cancel := context.WithTimeout(passing(ctx), probeTimeout)
	defer cancel()
	err := infoScript.Run(ctx, r.client, []string{"tokenbooth:probe"}).Err()
	if reply := redis.Error(nil); errors.As(err, &reply) {
		r.log.Warn("Redis does not permit INFO: it cannot vouch for what is revoked, neither to servers nor to services; permit it with +info", "reason", redisReason(err))
	}
}

// onMasters runs f on every master, in a cluster at the same time.
func (r *redisStatus) onMasters(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, f)
	}
	return f(ctx, r.client.(*redis.Client))
}

// wrongForm recognises a server that is not what redis.url takes it for. HELLO is
// open to every user; a server without it is asked no further.
func (r *redisStatus) wrongForm(ctx context.Context, probed error) error {
	client, ok := r.client.(*redis.Client)
	if !ok || probed != nil && !isReply(probed) {
		return nil
	}
	ctx, cancel := context.WithTimeout(passing(ctx), probeTimeout)
	defer cancel()
	hello := redis.NewMapStringInterfaceCmd(ctx, "hello")
	_ = client.Process(ctx, hello)
	switch hello.Val()["mode"] {
	case "sentinel":
		return errSentinel
	case "cluster":
		return errOneOfCluster
	}
	return nil
}

// outages is how often the breaker has opened.
func (r *redisStatus) outages() uint64 { return r.breaker.times.Load() }
