// Package redisfeed is a source of revocations for services beside the issuer, which
// reach its Redis: they learn of a revocation within a second, without an HTTP
// request. It is optional, and all that links Redis into a service.
//
//	source := redisfeed.New(client, "https://tokens.example.com")
//	feed, err := bearer.NewFeed(bearer.FeedConfig{Issuer: "https://tokens.example.com", Source: source})
//
// What is in Redis is not signed: whoever may write there can take revocations back.
// Give the service a user that can only read them. A line for the ACL file of Redis:
//
//	user SERVICE on >PASSWORD resetkeys ~tokenbooth:{revocation}:* resetchannels -@all +eval +evalsha +hmget +zcard +zrangebyscore +time
//
// with +cluster|slots in addition for a cluster, and +select for another database
// than 0. Set timeouts and ContextTimeoutEnabled in the client: by its defaults a Redis
// that is frozen is waited for five seconds and longer.
//
// The package owns nothing: the keys are written by package revocation.
package redisfeed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// ErrUnknown means that Redis answers, and cannot prove that it has all revocations:
// it was emptied, has evicted some, or is being filled. What was known goes on to be
// denied meanwhile.
var ErrUnknown = errors.New("the revocations in Redis are not known to be complete")

// poll is the time between two looks while a Fetch waits.
const poll = time.Second

// Source implements bearer.FeedSource. It is safe for concurrent use.
type Source struct {
	client redis.Scripter
	issuer string
}

// New makes a source of the Redis, or the Redis Cluster, of an issuer. issuer is the
// exact iss of its tokens: what is in Redis for another one is refused.
func New(client redis.Scripter, issuer string) *Source { return &Source{client, issuer} }

// Issuer is whose revocations these are; bearer.NewFeed compares it with its own.
func (s *Source) Issuer() string { return s.issuer }

// Fetch implements bearer.FeedSource. It looks each second while it waits. At is as
// old as the newest word of an instance of the issuer that Redis has everything, so
// that a Redis which nobody feeds grows stale. The clocks of Redis and of this machine
// may differ.
func (s *Source) Fetch(ctx context.Context, since oauth.Position, wait time.Duration) (bearer.FeedUpdate, error) {
	end := time.Now().Add(wait)
	for {
		update, err := s.fetch(ctx, since)
		rest := time.Until(end)
		if err != nil || since.Before(update.Position) || rest <= 0 {
			return update, err
		}
		select {
		case <-time.After(min(poll, rest)):
		case <-ctx.Done():
			return bearer.FeedUpdate{}, ctx.Err()
		}
	}
}

// The keys, and what is behind them, are those of package revocation.
var keys = []string{"tokenbooth:{revocation}:state", "tokenbooth:{revocation}:denied"}

// script returns the state, the time and the members after a position: all that are
// there when its epoch, ARGV[1], is another. A member is <seq>:<hash>:<generation>:<expiry>.
var script = redis.NewScript(`
local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'confirmed', 'issuer', 'count')
for i = 1, 5 do
	if not state[i] then
		return {'none'}
	end
end
if tonumber(state[5]) ~= redis.call('ZCARD', KEYS[2]) then
	return {'broken'}
end
local time, after = redis.call('TIME'), '-inf'
if state[1] == ARGV[1] then
	after = '(' .. ARGV[2]
end
local answer = {'whole', state[1], state[2], state[3], state[4], time[1] .. string.format('%06d', time[2])}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], after, '+inf')) do
	answer[#answer + 1] = member
end
return answer
`)

// stateWords is how many elements of the answer come before the members.
const stateWords = 6

// fetch looks once.
func (s *Source) fetch(ctx context.Context, since oauth.Position) (u bearer.FeedUpdate, err error) {
	asked := time.Now()
	words, err := script.Run(ctx, s.client, keys, since.Epoch, since.Sequence).StringSlice()
	switch {
	case err != nil:
		return u, fmt.Errorf("ask Redis for the revocations: %w", err)
	case len(words) > 0 && words[0] == "none":
		return u, fmt.Errorf("%w: there is nothing in it, or it is being filled", ErrUnknown)
	case len(words) < stateWords:
		return u, fmt.Errorf("%w: something is missing", ErrUnknown)
	case words[4] != s.issuer:
		return u, &bearer.FeedError{Kind: bearer.FeedRefused, Err: fmt.Errorf("the revocations in Redis are those of the issuer %q, not of %q: the two have to be equal to the byte", words[4], s.issuer)}
	}
	numbers, err := parse(words[1], words[2], words[3], words[5])
	if err != nil {
		return u, err
	}
	u.Position = oauth.Position{Epoch: numbers[0], Sequence: numbers[1]}
	if u.Before(since) {
		return bearer.FeedUpdate{}, &bearer.FeedError{Kind: bearer.FeedBackwards, Err: fmt.Errorf("it is at %d of epoch %d in Redis, and %d of epoch %d is known", u.Sequence, u.Epoch, since.Sequence, since.Epoch)}
	}
	if u.Epoch == since.Epoch {
		u.From = since.Sequence
	}
	u.At = at(asked, numbers[2], numbers[3])
	u.Entries, err = entries(words[stateWords:])
	return u, err
}

// future is how far ahead of the clock of Redis a confirmation may be: another server
// wrote it, which has failed over to this one.
const future = 5 * time.Second

// at is when, by the clock of this machine, Redis was found to have everything; both
// numbers are microseconds by the clock of Redis. Zero: it was not yet, or it cannot
// be known.
func at(asked time.Time, confirmed, now int64) time.Time {
	age := time.Duration(now-confirmed) * time.Microsecond
	if confirmed == 0 || age < -future {
		return time.Time{}
	}
	return asked.Add(-max(0, age))
}

// entries reads members.
func entries(members []string) ([]oauth.FeedEntry, error) {
	found := make([]oauth.FeedEntry, 0, len(members))
	for _, member := range members {
		parts := strings.Split(member, ":")
		if len(parts) != 4 {
			return nil, fmt.Errorf("%w: it has something else than revocations", ErrUnknown)
		}
		numbers, err := parse(parts[2], parts[3])
		if err != nil {
			return nil, err
		}
		found = append(found, oauth.FeedEntry{Hash: parts[1], Generation: numbers[0], Expiry: numbers[1]})
	}
	return found, nil
}

func parse(texts ...string) ([]int64, error) {
	numbers := make([]int64, len(texts))
	for i, text := range texts {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: it has something else than numbers", ErrUnknown)
		}
		numbers[i] = n
	}
	return numbers, nil
}
