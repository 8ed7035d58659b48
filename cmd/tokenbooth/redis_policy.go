package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// noEviction is the one maxmemory-policy that fits: every other one drops counters
// and revocations without a word when the memory is full.
const noEviction = "noeviction"

// policyUnknown stands for the policy of a Redis that does not tell it.
const policyUnknown = "unknown"

// evictionPolicy is the maxmemory-policy of one server.
func evictionPolicy(ctx context.Context, client *redis.Client) (string, error) {
	settings, err := client.ConfigGet(ctx, "maxmemory-policy").Result()
	if err != nil && !isReply(err) {
		return "", err
	}
	if policy := settings["maxmemory-policy"]; policy != "" {
		return policy, nil
	}
	// CONFIG is forbidden, or hidden as hosted servers do.
	info, err := client.Info(ctx, "memory").Result()
	if err != nil && !isReply(err) {
		return "", err
	}
	for line := range strings.Lines(info) {
		if policy, ok := strings.CutPrefix(line, "maxmemory_policy:"); ok {
			return strings.TrimSpace(policy), nil
		}
	}
	return policyUnknown, nil
}

// worstPolicy asks every master: one that evicts outweighs one that does not tell.
func (r *redisStatus) worstPolicy(ctx context.Context) (string, error) {
	var mu sync.Mutex
	worst := noEviction
	err := r.onMasters(ctx, func(ctx context.Context, client *redis.Client) error {
		policy, err := evictionPolicy(ctx, client)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && policy != noEviction && (worst == noEviction || worst == policyUnknown) {
			worst = policy
		}
		return err
	})
	return worst, err
}

// checkPolicy finds out whether Redis evicts, and logs what has changed.
func (r *redisStatus) checkPolicy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(passing(ctx), probeTimeout)
	defer cancel()
	policy, err := r.worstPolicy(ctx)
	if err != nil {
		return // asked again after the next probe
	}
	r.policyDue = policyProbes
	before := r.policy.Swap(policy)
	switch {
	case policy == before:
	case policy == policyUnknown:
		r.log.Warn("Redis does not tell its maxmemory-policy: see to it that it is noeviction, or permit CONFIG GET or INFO")
	case policy != noEviction:
		r.log.Error("Redis evicts keys: counters and revocations will be lost without a word when its memory is full", "maxmemory_policy", policy, "required", noEviction)
	case before != "":
		r.log.Info("Redis has the required maxmemory-policy now", "maxmemory_policy", policy)
	}
}

// evicts reports whether Redis is known to have a wrong maxmemory-policy.
func (r *redisStatus) evicts() bool {
	switch r.policy.Load() {
	case "", noEviction, policyUnknown:
		return false
	}
	return true
}

// policyMistake is the error of a start with a Redis that evicts.
func policyMistake(policy string) error {
	return exitWith(exitFailure,
		fmt.Errorf("the maxmemory-policy of Redis is %s, and noeviction is required: any other one drops counters and revocations without a word when its memory is full", policy),
		"set `maxmemory-policy noeviction` in redis.conf, and `redis-cli CONFIG SET maxmemory-policy noeviction` until it is restarted")
}
