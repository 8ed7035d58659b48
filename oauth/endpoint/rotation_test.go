package endpoint_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// The life of a key in seconds, as short as its relations allow.
var shortLife = signing.Timing{
	TokenTTL: 10 * time.Second, Skew: time.Second, MaxAge: 10 * time.Second,
	PublishLead: 21 * time.Second, RotateEvery: 21 * time.Second, Retain: 22 * time.Second,
}

var fleetLeases = change.Timing{Lease: 6 * time.Second, Renewal: 2 * time.Second}

// fleet is several replicas over one database, with whoever uses them.
type fleet struct {
	*testing.T
	db       *schema.DB
	manager  *manage.Manager
	replicas []*replica
	next     atomic.Int64 // the replica that the load balancer takes next
	running  sync.WaitGroup
	stop     context.CancelFunc

	issued, alone, verified, kept atomic.Int64
}

type replica struct {
	*echo.Echo
	issuer   *grant.Issuer
	follower *change.Follower
}

// lagging is a database that takes its time.
type lagging struct {
	*schema.DB
	delay func() time.Duration
}

func (l lagging) Reader() sqlx.ExtContext {
	time.Sleep(l.delay()) //nolint:forbidigo // in a bubble
	return l.DB.Reader()
}

func newFleet(t *testing.T, delays ...func() time.Duration) *fleet {
	t.Helper()
	f := &fleet{T: t, db: schematest.SQLite(t)}
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	f.manager = &manage.Manager{
		Database: f.db, Format: must(keys.NewFormat("tb", nil, bytes.Repeat([]byte{7}, 32))), Peppers: must(keys.ParsePeppers("1:" + secret)),
		Sealer: must(signing.ParseSealer(secret)), Timing: fleetLeases, Signing: shortLife,
		Policy: &policy.Policy{
			Catalogue: must(policy.NewCatalogue(map[string][]string{"collectors": {"read"}}, nil)),
			Audiences: must(policy.NewAudiences(issuer, apiURL, []policy.Audience{{Name: apiURL}})), TokenTTL: shortLife.TokenTTL,
		},
	}
	if err := errors.Join(shortLife.Check(), f.manager.EnsureSigningKeys(t.Context(), operator)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	for _, delay := range delays {
		f.replicas = append(f.replicas, f.start(ctx, lagging{f.db, delay}))
	}
	return f
}

func (f *fleet) start(ctx context.Context, db change.Database) *replica {
	f.Helper()
	log := slog.New(slog.DiscardHandler)
	r := &replica{Echo: echo.New(), follower: &change.Follower{Database: db, Timing: fleetLeases, Log: log, Host: fmt.Sprint(len(f.replicas))}}
	ring := &signing.Ring{Reader: f.db.Reader(), Sealer: f.manager.Sealer, Timing: shortLife, Lease: r.follower}
	feedRing := &signing.Ring{Purpose: signing.Feed, Reader: f.db.Reader(), Sealer: f.manager.Sealer, Timing: shortLife, Lease: r.follower}
	directory := must(keys.NewDirectory(f.db.Reader(), r.follower.May, 100))
	r.follower.Holds = func() string { return ring.Holds() + " " + feedRing.Holds() }
	r.follower.OnChange = []func(context.Context, change.Batch) error{directory.Forget, ring.Follow, feedRing.Follow}
	r.issuer = grant.NewIssuer(issuer, &grant.Authenticator{
		Format: f.manager.Format, Peppers: f.manager.Peppers, Directory: directory,
		Usage: keys.NewUsageWriter(f.db.Writer(), time.Hour, log), Failures: quota.NewFailures(quota.PerMinute(1, 1), quota.PerMinute(1, 1)),
	}, f.manager.Policy, ring)
	h := &endpoint.Handler{
		Issuer: issuer, Grant: r.issuer, Policy: f.manager.Policy, Ring: ring, Log: log,
		Note: func(echo.Context, ...slog.Attr) {}, Count: func(string) {},
	}
	if err := errors.Join(h.Mount(r.Echo), r.follower.Start(ctx)); err != nil {
		f.Fatal(err)
	}
	f.running.Go(func() { r.follower.Run(ctx) })
	return r
}

// RoundTrip implements http.RoundTripper: it is the load balancer, which leaves
// replicas out that are not ready.
func (f *fleet) RoundTrip(r *http.Request) (*http.Response, error) {
	for range f.replicas {
		next := f.replicas[f.next.Add(1)%int64(len(f.replicas))]
		if next.follower.Held() {
			recorder := httptest.NewRecorder()
			next.ServeHTTP(recorder, r)
			return recorder.Result(), nil
		}
	}
	return nil, errors.New("no replica is ready")
}

// cache is a shared cache between the fleet and verifiers that does not tell how
// old its answers are: what it gives away may be max-age old.
type cache struct {
	http.RoundTripper
	mu      sync.Mutex
	answers map[string]cached
}

type cached struct {
	status int
	header http.Header
	body   []byte
	until  time.Time
}

func (c *cache) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.answers[r.URL.String()]
	if !ok || time.Now().After(a.until) {
		fresh := r.Clone(r.Context())
		fresh.Header.Del("If-None-Match")
		response, err := c.RoundTripper.RoundTrip(fresh)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return nil, err
		}
		a = cached{response.StatusCode, response.Header, body, time.Now().Add(shortLife.MaxAge)}
		if a.status == http.StatusOK {
			c.answers[r.URL.String()] = a
		}
	}
	return &http.Response{StatusCode: a.status, Header: a.header.Clone(), Body: io.NopCloser(bytes.NewReader(a.body)), Request: r}, nil
}

// patient is a verifier's key set that asks when max-age is over and at no other
// time, whatever kid it meets.
type patient struct {
	client http.Client
	mu     sync.Mutex
	keys   *bearer.StaticKeys
	until  time.Time
}

func (p *patient) Key(ctx context.Context, kid string) (bearer.Key, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().After(p.until) {
		if keys := p.fetch(ctx); keys != nil {
			p.keys, p.until = keys, time.Now().Add(shortLife.MaxAge)
		}
	}
	return p.keys.Key(ctx, kid)
}

func (p *patient) fetch(ctx context.Context) *bearer.StaticKeys {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+endpoint.JWKSPath, nil)
	if err != nil {
		return nil
	}
	response, err := p.client.Do(request)
	if err != nil {
		return nil
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return nil
	}
	keys, err := bearer.ParseKeys(body)
	if err != nil {
		return nil
	}
	return keys
}

// verifiers are of all kinds: direct, behind a shared cache, and patient.
func (f *fleet) verifiers() map[string]*bearer.Verifier {
	shared := &cache{RoundTripper: f, answers: map[string]cached{}}
	found := map[string]*bearer.Verifier{}
	for name, set := range map[string]bearer.KeySet{
		"direct":  must(bearer.NewRemote(bearer.RemoteConfig{Issuer: issuer, Client: &http.Client{Transport: f}})),
		"cached":  must(bearer.NewRemote(bearer.RemoteConfig{Issuer: issuer, Client: &http.Client{Transport: shared}})),
		"patient": &patient{client: http.Client{Transport: shared}},
	} {
		found[name] = must(bearer.New(bearer.Config{Issuer: issuer, Audience: apiURL, Keys: set}))
	}
	return found
}

// every does something again and again, give or take half, until ctx ends.
func (f *fleet) every(ctx context.Context, interval time.Duration, do func()) {
	f.running.Go(func() {
		for ctx.Err() == nil {
			do()
			select {
			case <-time.After(interval/2 + rand.N(interval)):
			case <-ctx.Done():
			}
		}
	})
}

// issue gets a token of one replica and lets everybody verify it, now and just
// before it expires.
func (f *fleet) issue(ctx context.Context, r *replica, k manage.Issued, verifiers map[string]*bearer.Verifier) {
	if !r.follower.Held() {
		f.alone.Add(1)
	}
	token, err := r.issuer.Issue(ctx, grant.Request{Credentials: grant.Credentials{ID: string(k.ID), Secret: k.Secret.Reveal()}})
	if err != nil {
		if ctx.Err() == nil {
			f.Errorf("a replica does not issue: %v", err)
		}
		return
	}
	f.issued.Add(1)
	f.verify(ctx, "new", token.AccessToken, verifiers)
	f.running.Go(func() {
		select {
		case <-time.After(token.ExpiresIn - time.Second):
			f.verify(ctx, "old", token.AccessToken, verifiers)
		case <-ctx.Done():
		}
	})
}

func (f *fleet) verify(ctx context.Context, age, token string, verifiers map[string]*bearer.Verifier) {
	for name, v := range verifiers {
		_, err := v.Verify(ctx, token)
		if err != nil && ctx.Err() == nil {
			f.Errorf("%s: the %s verifier refuses a token that is %s: %v", time.Now().Format(time.TimeOnly), name, age, err)
		}
		f.verified.Add(1)
	}
}

// removeEarly asks for every retiring key to be removed, all the time.
func (f *fleet) removeEarly(ctx context.Context) {
	published, err := signing.Published(ctx, f.db.Reader())
	for _, k := range published {
		if k.State != signing.Retiring {
			continue
		}
		if _, err = f.manager.RetireSigningKey(ctx, operator, k.ID); errors.Is(err, manage.ErrNeeded) {
			f.kept.Add(1)
			err = nil
		}
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, workspace.ErrNotFound) {
		f.Errorf("remove early: %v", err)
	}
}

// Two hundred rotations, as fast as their bounds allow, while three replicas
// issue, one of which keeps falling behind and losing its lease, and while
// somebody tries to remove keys too early: no verifier ever refuses a token.
func TestRotationsBreakNothing(t *testing.T) {
	const rotations = 200
	schematest.SQLite(t) // its template is made once, outside of the bubble
	synctest.Test(t, func(t *testing.T) {
		steady := func() time.Duration { return 0 }
		behind := func() time.Duration {
			switch rand.N(30) {
			case 0: // longer than the life of a key
				return 100*time.Second + rand.N(time.Minute)
			case 1, 2, 3:
				return fleetLeases.Lease + rand.N(10*time.Second)
			}
			return rand.N(2 * time.Second)
		}
		f := newFleet(t, steady, steady, behind)
		ws := must(f.manager.CreateWorkspace(t.Context(), operator, "Acme", ""))
		sa := must(f.manager.CreateServiceAccount(t.Context(), operator, ws.ID, manage.NewServiceAccount{Name: "ci", Role: "viewer"}))
		k := must(f.manager.CreateKey(t.Context(), operator, ws.ID, manage.NewKey{ServiceAccountID: sa.ID, Name: "ci"}))
		verifiers := f.verifiers()
		ctx, end := context.WithCancel(t.Context())
		for _, r := range f.replicas {
			f.every(ctx, 8*time.Second, func() { f.issue(ctx, r, k, verifiers) })
			f.every(ctx, 6*time.Second, func() {
				err := f.manager.TendSigningKeys(ctx, operator)
				if err != nil && ctx.Err() == nil && !errors.Is(err, change.ErrNotHeld) && !errors.Is(err, manage.ErrNeeded) {
					t.Errorf("tending: %v", err)
				}
			})
		}
		f.every(ctx, 10*time.Second, func() { f.removeEarly(ctx) })
		for f.rotations() < rotations && !t.Failed() {
			time.Sleep(10 * time.Second) //nolint:forbidigo // in a bubble
		}
		end()
		f.stop()
		f.running.Wait()
		t.Logf("%d rotations: %d tokens, %d verifications, %d of them without a lease, %d removals refused",
			f.rotations(), f.issued.Load(), f.verified.Load(), f.alone.Load(), f.kept.Load())
		if n := f.count(`SELECT count(*) FROM signing_keys WHERE state = 'removed' AND purpose = 'feed'`); n < rotations/3 || n > rotations*2/3 {
			t.Errorf("%d keys of the feed came and went, of %d", n, rotations)
		}
		if f.issued.Load() < rotations || f.alone.Load() == 0 || f.kept.Load() == 0 {
			t.Error("too little happened: no tokens, no replica that fell behind, or nobody who removed too early")
		}
		early := f.count(`SELECT count(*) FROM signing_keys WHERE created_at <> activated_at AND activated_at - published_at < ?`, shortLife.PublishLead.Microseconds()) +
			f.count(`SELECT count(*) FROM signing_keys WHERE removed_at < needed_until OR needed_until - retired_at < ?`, shortLife.MinRetain().Microseconds())
		if early > 0 {
			t.Errorf("%d steps came too early", early)
		}
	})
}

// rotations is how many keys came and went, those of tokens and of the feed.
func (f *fleet) rotations() int {
	return f.count(`SELECT count(*) FROM signing_keys WHERE state = 'removed'`)
}

func (f *fleet) count(query string, args ...any) (n int) {
	f.Helper()
	if err := sqlx.GetContext(context.Background(), f.db.Reader(), &n, query, args...); err != nil {
		f.Fatal(err)
	}
	return n
}

// What is published: a key that does not sign yet is in the set, tokens of one that
// is distrusted are not good any more.
func TestKeysOfEveryStateArePublished(t *testing.T) {
	b := newBooth(t, options{})
	old := b.token(b.active)
	next, _, err := b.manager.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256))
	b.check(err)
	b.check(b.ring.Load(t.Context()))
	if kids := b.kids(); len(kids) != 2 || part(t, strings.Split(b.token(b.active), ".")[0])["kid"] == next.ID {
		t.Errorf("published are %v; the next one, %s, must not sign yet", kids, next.ID)
	}
	_, fresh, err := b.manager.ReplaceSigningKeys(t.Context(), operator, []signing.Slot{signing.TokenSlot(jwk.ES256)})
	b.check(err)
	b.check(b.ring.Load(t.Context()))
	if kids := b.kids(); len(kids) != 1 || kids[0] != fresh[0].ID {
		t.Errorf("after an emergency %v are published, want %s", kids, fresh[0].ID)
	}
	if a := b.whoami("Bearer " + old); a.status != http.StatusUnauthorized {
		t.Errorf("a token of a distrusted key: %d", a.status)
	}
	if a := b.whoami("Bearer " + b.token(b.active)); a.status != http.StatusOK {
		t.Errorf("a new token: %d", a.status)
	}
}

func (b *booth) kids() (kids []string) {
	b.Helper()
	var set jwk.Set
	b.check(json.Unmarshal([]byte(b.get("/.well-known/jwks.json").body), &set))
	for _, k := range set.Keys {
		kids = append(kids, k.ID)
	}
	return kids
}

// ended is a lease that is not held any more.
type ended struct{ at time.Time }

func (e *ended) May(context.Context) bool { return false }
func (e *ended) Until() time.Time         { return e.at }

// A replica that cannot know whether its keys are all there is does not give
// them out; verifiers go on with those that they have.
func TestKeysThatMayNotBeAllAreWithheld(t *testing.T) {
	lease := &ended{}
	b := newBooth(t, options{lease: lease})
	for _, path := range []string{"/.well-known/jwks.json", "/.well-known/openid-configuration"} {
		lease.at = time.Now().Add(-signing.DefaultTiming.PublishLead + signing.DefaultTiming.MinLead() + time.Minute)
		if a := b.get(path); a.status != http.StatusOK {
			t.Errorf("%s while they are: %d", path, a.status)
		}
		lease.at = lease.at.Add(-2 * time.Minute)
		a := b.get(path)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v %s", path, a.status, a.header, a.body)
		}
	}
}
