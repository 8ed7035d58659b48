package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// siege is three servers, each with wires of its own to one PostgreSQL and one
// Redis, the services that verify their tokens, and the clients and managers who go
// on while something is done to the wires. What they see is its history.
type siege struct {
	*history
	*backend
	t         *testing.T
	redis     *schematest.RedisServer
	env       []string
	replicas  []*besieged
	verifiers []*follower
	plain     *bearer.Verifier // knows the keys, and nothing of revocations
	owner     string           // a key's secret
	ws        workspace.ID
	keys      []credential

	mu     sync.Mutex
	next   int                 // the key that is revoked next
	tokens map[string][]string // of each key
}

// besieged is a replica with its wires.
type besieged struct {
	*replica
	sql, redis *proxy
	ahead      time.Duration // of its clock
}

// follower is a service that verifies tokens by the feed of one replica.
type follower struct {
	name     string
	feed     *bearer.Feed
	verifier *bearer.Verifier
}

// siegeStaleness is how old the revocations of a verifier may be that calls itself
// fresh.
const siegeStaleness = 5 * time.Second

func besiege(t *testing.T, keys int, settings ...string) *siege {
	t.Helper()
	browsing.RLock()
	t.Cleanup(browsing.RUnlock)
	s := &siege{history: &history{}, t: t, redis: schematest.PrivateRedis(t), tokens: map[string][]string{}}
	direct := schematest.PostgresURL(t)
	s.env = onPostgres(direct, settings...)
	made := bootstrapped(t, s.env, bootstrapArgs("Payments", "ci")...)
	s.owner = made.ownerKey().secret
	s.backend = participant(t, s.env)
	s.ws = workspace.ID(made.WorkspaceID)
	for range keys {
		s.keys = append(s.keys, s.newKey())
	}
	for range 3 {
		s.replicas = append(s.replicas, s.serve(direct))
	}
	eventually(t, "replicas for which Redis vouches", func() bool {
		return query[int](t, s.db, "SELECT COUNT(*) FROM replicas WHERE voucher <> ''") == len(s.replicas)
	})
	for i, r := range s.replicas {
		s.verifiers = append(s.verifiers, s.follow(fmt.Sprint("verifier-", i), r.url))
	}
	var err error
	if s.plain, err = bearer.New(bearer.Config{Issuer: s.config.Issuer, Audience: s.config.Issuer, Keys: s.keysOf(s.replicas[0].url)}); err != nil {
		t.Fatal(err)
	}
	return s
}

// serve starts a replica on wires of its own.
func (s *siege) serve(database string) *besieged {
	s.t.Helper()
	b := &besieged{}
	var databaseURL, redisURL string
	b.sql, databaseURL = proxied(s.t, database)
	b.redis, redisURL = proxied(s.t, "redis://"+s.redis.Address())
	b.replica = serveReady(s.t, append(append([]string{}, s.env...), "TOKENBOOTH_DATABASE_URL="+databaseURL, "TOKENBOOTH_REDIS_URL="+redisURL))
	return b
}

// serveAhead starts a replica within this process whose clock is wrong.
func (s *siege) serveAhead(ahead time.Duration) {
	s.t.Helper()
	b := participant(s.t, append(append([]string{}, s.env...), "TOKENBOOTH_REDIS_URL=redis://"+s.redis.Address(), "TOKENBOOTH_HTTP_SHUTDOWN_DELAY=0s"))
	b.now = func() time.Time { return time.Now().Add(ahead) }
	b.manager = b.managerAt(b.now)
	server, err := newServer(s.t.Context(), b, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	public, ops := localListener(s.t), localListener(s.t)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.run(ctx, public, ops); err != nil {
			s.t.Errorf("the server whose clock is wrong: %v", err)
		}
	})
	s.t.Cleanup(func() { cancel(); running.Wait() })
	s.replicas = append(s.replicas, &besieged{
		replica: &replica{url: "http://" + public.Addr().String(), ops: "http://" + ops.Addr().String()}, ahead: ahead,
	})
}

func (s *siege) newKey() credential { return newKeyOf(s.t, s.backend, s.ws) }

// newKeyOf makes a key of a service account of its own.
func newKeyOf(t *testing.T, b *backend, in workspace.ID) credential {
	t.Helper()
	issued, err := b.manager.CreateAccountWithKey(t.Context(), tester, in,
		manage.NewServiceAccount{Name: "robot-" + strings.ToLower(workspace.Unique()), Role: "admin"}, manage.NewKey{Name: "robot"})
	if err != nil {
		t.Fatal(err)
	}
	return credential{string(issued.ID), issued.Secret.Reveal()}
}

func (s *siege) keysOf(base string) bearer.KeySet {
	s.t.Helper()
	set, err := bearer.NewRemote(bearer.RemoteConfig{Issuer: s.config.Issuer, JWKSURI: base + "/.well-known/jwks.json"})
	if err != nil {
		s.t.Fatal(err)
	}
	return set
}

// follow makes a verifier that follows the feed of a replica until the test ends.
func (s *siege) follow(name, base string) *follower {
	s.t.Helper()
	v := s.newFollower(name, base)
	if err := v.feed.Refresh(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { v.feed.Run(ctx) })
	s.t.Cleanup(func() { cancel(); running.Wait() })
	return v
}

func (s *siege) newFollower(name, base string) *follower {
	s.t.Helper()
	v := &follower{name: name}
	var err error
	v.feed, err = bearer.NewFeed(bearer.FeedConfig{
		Issuer: s.config.Issuer, URI: base + "/.well-known/revocations", KeysURI: base + "/.well-known/revocations/keys", MaxStaleness: siegeStaleness,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	v.verifier, err = bearer.New(bearer.Config{Issuer: s.config.Issuer, Audience: s.config.Issuer, Keys: s.keysOf(base), Revocations: v.feed})
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// exchange exchanges a key at a replica, notes what came of it, and lets every
// verifier look at the token.
func (s *siege) exchange(ctx context.Context, r *besieged, key credential) int {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	seen := exchangeSeen{began: time.Now(), replica: r.url, key: key.id}
	var body struct {
		Token string `json:"access_token"`
		Says  string `json:"error_description"`
	}
	seen.status = s.call(ctx, http.MethodPost, r.url+"/api/login", "", key.form().Encode(), &body)
	seen.ended, seen.says = time.Now(), body.Says
	s.exchanged(seen)
	if seen.status != http.StatusOK {
		return seen.status
	}
	s.mu.Lock()
	s.tokens[key.id] = append(s.tokens[key.id], body.Token)
	s.mu.Unlock()
	_, err := s.plain.Verify(ctx, body.Token)
	if errors.Is(err, bearer.ErrInvalid) && r.ahead <= 0 { // one from the future is not good yet
		s.verified(verificationSeen{key: key.id, problem: err.Error()})
	}
	return seen.status
}

// verify lets every verifier look at a token.
func (s *siege) verify(ctx context.Context, key, token string) {
	for _, v := range s.verifiers {
		seen := verificationSeen{verifier: v.name, key: key, position: v.feed.Position().Sequence, fresh: v.feed.Fresh(ctx) == nil, began: time.Now()}
		_, err := v.verifier.Verify(ctx, token)
		switch {
		case err == nil:
			seen.accepted = true
		case !strings.Contains(err.Error(), bearer.ErrRevoked.Error()):
			continue // it cannot be known now
		}
		s.verified(seen)
	}
}

// revoke revokes a key over HTTP and notes what was promised.
func (s *siege) revoke(ctx context.Context, r *besieged, key credential) revocationSeen {
	seen := revocationSeen{began: time.Now(), key: key.id}
	var body struct {
		Sequence  int64     `json:"sequence"`
		Effective time.Time `json:"exchange_effective_by"`
	}
	seen.status = s.call(ctx, http.MethodPost, r.url+"/api/v1/workspaces/"+string(s.ws)+"/keys/"+key.id+"/revoke", s.owner, "", &body)
	seen.ended, seen.sequence, seen.effective = time.Now(), body.Sequence, body.Effective
	s.revoked(seen)
	return seen
}

// call sends a form, or with a credential an empty request; 0 means that there was
// no answer.
func (s *siege) call(ctx context.Context, method, address, secret, form string, into any) int {
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form))
	if err != nil {
		s.t.Error(err)
		return 0
	}
	if secret != "" {
		request.Header.Set("Authorization", "Bearer "+secret)
	} else {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	if json.NewDecoder(response.Body).Decode(into) != nil {
		return 0
	}
	return response.StatusCode
}

// take chooses the key that is revoked next; ok is false when a fifth is left.
func (s *siege) take() (key credential, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next >= len(s.keys)*4/5 {
		return key, false
	}
	s.next++
	return s.keys[s.next-1], true
}

// anyToken is a token of a key that was revoked, or is about to be.
func (s *siege) anyToken() (key, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key = s.keys[rand.IntN(min(s.next+2, len(s.keys)))].id
	if tokens := s.tokens[key]; len(tokens) > 0 {
		token = tokens[rand.IntN(len(tokens))]
	}
	return key, token
}

// until runs clients, verifiers and managers while a function lasts, and then until
// they have seen enough: what a busy machine gets done in a second is little.
func (s *siege) until(f func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	each := func(pause time.Duration, act func()) {
		running.Go(func() {
			for ctx.Err() == nil {
				act()
				wait(ctx, pause)
			}
		})
	}
	for _, r := range s.replicas {
		each(5*time.Millisecond, func() { s.exchange(ctx, r, s.keys[rand.IntN(len(s.keys))]) })
		each(5*time.Millisecond, func() { // of the keys that are revoked just now
			s.mu.Lock()
			key := s.keys[min(len(s.keys)-1, max(0, s.next-1+rand.IntN(3)-1))]
			s.mu.Unlock()
			s.exchange(ctx, r, key)
		})
	}
	each(5*time.Millisecond, func() {
		if key, token := s.anyToken(); token != "" {
			s.verify(ctx, key, token)
		}
	})
	for _, r := range s.replicas { // a manager each: a revocation may wait until a lease has run out
		each(450*time.Millisecond, func() {
			if key, ok := s.take(); ok {
				limited, cancel := context.WithTimeout(ctx, 20*time.Second) // a replica may be frozen
				s.revoke(limited, r, key)
				cancel()
			}
		})
	}
	f()
	for waited := 0; waited < 600 && !s.meaningful(); waited++ {
		wait(ctx, 100*time.Millisecond)
	}
	cancel()
	running.Wait()
}

// lasts lets a time pass under the siege.
func (s *siege) lasts(d time.Duration) { wait(s.t.Context(), d) }

// holds checks the history, and that there was one.
func (s *siege) holds() {
	s.t.Helper()
	for i, fault := range s.faults(siegeStaleness + 2*time.Second) {
		if i == 20 {
			s.t.Error("and more")
			break
		}
		s.t.Error(fault)
	}
	issued, unavailable, acknowledged, pending, accepted, refused := s.counts()
	s.t.Logf("%d tokens, %d times none was to be had; %d revocations in force at once, %d later; %d tokens accepted by verifiers, %d refused",
		issued, unavailable, acknowledged, pending, accepted, refused)
	if !s.meaningful() {
		s.t.Error("too little has happened for this to mean anything")
	}
}

// meaningful tells whether enough has happened for the history to mean anything.
func (s *siege) meaningful() bool {
	issued, _, acknowledged, pending, accepted, refused := s.counts()
	return issued >= 50 && acknowledged+pending >= 1 && accepted >= 20 && refused >= 5
}
