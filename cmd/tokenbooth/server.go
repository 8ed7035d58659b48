package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace/adminhttp"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
	"github.com/tokenbooth/tokenbooth/workspace/webhook"
)

// usageInterval is how often last-used notes are written.
const usageInterval = time.Second

// clockSkew is how far the clocks of replicas may differ for whoami.
const clockSkew = 5 * time.Second

// server is one running replica.
type server struct {
	*backend
	log        *slog.Logger
	ring       *signing.Ring
	follower   *change.Follower
	directory  *keys.Directory
	rules      *policy.Rulebook
	quotas     *quota.Book
	counters   *quota.Counters
	limiter    *quota.Limiter
	denied     *revocation.List
	feedRing   *signing.Ring
	feed       *revocation.Publisher
	projection *revocation.Projection // nil without Redis
	usage      *keys.UsageWriter
	exchanges  *audit.Writer
	webhook    *webhook.Sender // runs only with a URL
	metrics    *metrics
	tracing    *tracing                      // nil: nothing is traced
	expiring   atomic.Pointer[keys.Expiring] // nil while that is not known
	feedSeen   atomic.Int64                  // when the newest feed was signed that this replica could sign, in Unix time
	redis      *redisStatus
	systemd    *systemd // nil without
	public     *http.Server
	door       *door // its listener
	ops        *http.Server
	draining   atomic.Bool
	closing    chan struct{} // closed when it drains

	rotationFailures atomic.Uint64
}

// newServer builds every part in the order in which they depend on each other.
// Nothing runs yet, but when it returns the first lease is taken.
func newServer(ctx context.Context, b *backend, log *slog.Logger) (*server, error) {
	s := &server{backend: b, log: log, closing: make(chan struct{})}
	if err := b.manager.EnsureSigningKeys(ctx, manage.Operator("setup")); err != nil {
		return nil, err
	}
	if err := b.noteIssuer(ctx, log); err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // only for people who look at the table
	s.follower = &change.Follower{
		Database: b.db, Host: fmt.Sprintf("%s:%d", host, os.Getpid()), Log: log, Now: b.now,
		Vouched: b.config.Exchange.Vouched, Alone: b.config.Exchange.Alone,
	}
	s.ring = &signing.Ring{Reader: b.db.Reader(), Sealer: b.sealer, Timing: b.manager.Signing, Lease: s.follower}
	s.follower.Holds = s.holds
	b.manager.Hurry = s.follower.Hurry
	var err error
	if s.redis, err = newRedisStatus(b.config, log); err != nil {
		return nil, err
	}
	if s.directory, err = keys.NewDirectory(b.db.Reader(), s.follower.May, b.config.Keys.CacheSize); err != nil {
		return nil, err
	}
	if err := s.redis.ready(ctx); err != nil {
		s.redis.close()
		return nil, err
	}
	s.newLimits()
	s.newRevocations()
	s.usage = keys.NewUsageWriter(b.db.Writer(), usageInterval, log)
	s.exchanges = audit.NewWriter(b.db, audit.WriterOptions{Strict: b.config.Audit.Strict, Log: log, Owners: keys.Owners})
	if s.webhook, err = newWebhook(b, log); err != nil {
		return nil, err
	}
	if err := s.watch(ctx); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(s)
	if err := s.mount(); err != nil {
		return nil, err
	}
	// Last, since from here on changes wait for this replica. It loads the rings.
	return s, s.follower.Start(ctx)
}

// watch has what happens in requests traced, if that is configured.
func (s *server) watch(ctx context.Context) (err error) {
	if s.tracing, err = newTracing(ctx, s.config, s.db.Dialect(), s.log); s.tracing == nil {
		return err
	}
	s.db.Trace = s.tracing.statement
	if s.redis.client != nil {
		s.redis.client.AddHook(redisTracing{s.tracing})
	}
	return nil
}

// mount makes the two HTTP servers.
func (s *server) mount() error {
	failures := s.config.Exchange.Failures
	issuer := grant.NewIssuer(s.config.Issuer, &grant.Authenticator{
		Format:    s.format,
		Peppers:   s.peppers,
		Directory: s.directory,
		Usage:     s.usage,
		Failures: quota.NewFailures(
			quota.PerMinute(failures.PerMinute, failures.Burst), quota.PerMinute(failures.KeyPerMinute, failures.KeyBurst)),
		Uses:      s.db.Writer(),
		Exchanges: s.exchanges,
		Rules:     s.rules,
		Quota:     s.limiter,
		Stand:     s.follower.Stand,
		Trace:     s.tracing.watching(s.tracing.step),
		Now:       s.now,
	}, s.policy, s.ring)
	verifiers, err := s.verifiers()
	if err != nil {
		return err
	}
	gateway, err := s.gateway()
	if err != nil {
		return err
	}
	e := newEcho(s.config, s.log, s.metrics, s.lastAnswers)
	if s.tracing != nil {
		e.Pre(s.tracing.requests)
	}
	oauth := &endpoint.Handler{
		Issuer: s.config.Issuer, Grant: issuer, Policy: s.policy, Ring: s.ring, Verifiers: verifiers,
		Keys: bearer.KeySetFunc(s.publicKey), Manager: s.manager, Revocations: s.denied, Feed: s.feed, FeedRing: s.feedRing, Closing: s.closing,
		Gateway: gateway, JSON: s.config.Exchange.JSON, Log: s.log, Note: s.tracing.note, Count: s.metrics.countExchange,
	}
	if err := oauth.Mount(e); err != nil {
		return err
	}
	if err := s.mountManagement(e, issuer.Authenticator); err != nil {
		return err
	}
	if err := s.newConsole().Mount(e); err != nil {
		return err
	}
	s.public = newHTTPServer(e, s.log)
	s.public.ConnState = noteState
	s.ops = newHTTPServer(s.operations(), s.log)
	return nil
}

// mountManagement adds the management API. It takes tokens for the issuer alone.
func (s *server) mountManagement(e *echo.Echo, a *grant.Authenticator) error {
	verifier, err := bearer.New(bearer.Config{
		Issuer: s.config.Issuer, Audience: s.config.Issuer, Keys: bearer.KeySetFunc(s.publicKey), Leeway: clockSkew,
		Revocations: s.denied,
	})
	if err != nil {
		return err
	}
	management := &adminhttp.Handler{
		Issuer: s.config.Issuer, Manager: s.manager, Grant: a, Verifier: verifier, Log: s.log, Note: s.tracing.note, Draining: s.draining.Load,
	}
	return management.Mount(e)
}

// verifiers are for our own tokens, whatever their audience. What is denied the
// endpoints ask apart.
func (s *server) verifiers() (map[string]*bearer.Verifier, error) {
	found := map[string]*bearer.Verifier{}
	for _, typ := range policy.Types() {
		audiences := s.policy.Audiences.OfType(typ)
		if len(audiences) == 0 {
			continue
		}
		verifier, err := bearer.New(bearer.Config{
			Issuer: s.config.Issuer, Audience: audiences[0], OtherAudiences: audiences[1:], Type: typ,
			Keys: bearer.KeySetFunc(s.publicKey), Leeway: clockSkew,
		})
		if err != nil {
			return nil, err
		}
		found[typ] = verifier
	}
	return found, nil
}

// gateway is what gateways may ask; nil without configuration: nothing.
func (s *server) gateway() (*endpoint.Gateway, error) {
	audience := s.config.Gateway.Audience
	if audience == "" {
		return nil, nil
	}
	form, err := s.policy.Audiences.Form([]string{audience})
	if err != nil {
		return nil, err
	}
	verifier, err := bearer.New(bearer.Config{
		Issuer: s.config.Issuer, Audience: audience, Type: form.Type, Keys: bearer.KeySetFunc(s.publicKey), Leeway: clockSkew,
		Revocations: s.denied,
	})
	if err != nil {
		return nil, err
	}
	return &endpoint.Gateway{Audience: audience, Trusted: s.config.HTTP.TrustedProxies, Verifier: verifier}, nil
}

// publicKey finds a key that we publish.
func (s *server) publicKey(_ context.Context, kid string) (bearer.Key, error) {
	algorithm, public, ok := s.ring.Find(kid)
	if !ok {
		return bearer.Key{}, bearer.ErrUnknownKey
	}
	return bearer.Key{ID: kid, Algorithm: algorithm, Public: public}, nil
}

// run serves on the listeners until ctx ends, then drains: it leaves readiness
// at once, goes on serving for the shutdown delay so that load balancers notice,
// lets running requests finish, and writes what is still in memory.
func (s *server) run(ctx context.Context, public, ops net.Listener) error {
	defer roomyHeap()()
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	loops := []func(context.Context){s.follower.Run, s.usage.Run, s.redis.run, s.project, s.rotate, s.record, s.counters.Run, s.lookAhead}
	if s.config.Webhook.URL != "" {
		loops = append(loops, s.webhook.Run)
	}
	for _, loop := range loops {
		running.Go(func() { loop(background) })
	}
	failed := make(chan error, 2)
	s.door = newDoor(public)
	for server, listener := range map[*http.Server]net.Listener{s.public: s.door, s.ops: ops} {
		running.Go(func() {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	running.Go(func() { s.systemd.watch(background, ops.Addr().String()) })
	s.systemd.ready(public.Addr().String())
	var err error
	select {
	case <-ctx.Done():
		s.drain()
	case err = <-failed:
	}
	err = errors.Join(err, s.shutdown())
	stop()
	running.Wait()
	return err
}

func (s *server) drain() {
	s.draining.Store(true)
	close(s.closing)
	s.systemd.stopping(s.config.HTTP.ShutdownDelay)
	s.log.Info("shutting down: not ready any more, still serving", "delay", s.config.HTTP.ShutdownDelay.String())
	time.Sleep(s.config.HTTP.ShutdownDelay)
}

// shutdown waits for running requests; those that outlast the drain timeout are
// cut off.
func (s *server) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.HTTP.DrainTimeout)
	defer cancel()
	s.door.shut(ctx)
	err := s.public.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("requests still ran after %s and were cut off: %w", s.config.HTTP.DrainTimeout, err)
		err = errors.Join(err, s.public.Close())
	}
	s.tracing.close(ctx)
	return errors.Join(err, s.ops.Shutdown(ctx))
}
