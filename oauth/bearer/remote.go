package bearer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

// How a Remote behaves, where the issuer does not say.
const (
	// MaxStale is the longest for which keys are used that cannot be fetched again.
	MaxStale = 24 * time.Hour
	// Cooldown is the least time between two fetches that are not due: after one
	// that failed, and for kids that are not in the set.
	Cooldown = 10 * time.Second

	defaultMaxAge, minMaxAge, maxMaxAge = 5 * time.Minute, 10 * time.Second, 24 * time.Hour
	fetchTimeout                        = 5 * time.Second
)

// RemoteConfig says where an issuer's keys are.
type RemoteConfig struct {
	// Issuer is the exact iss. Its metadata (RFC 8414, OpenID Discovery) says where
	// the keys are, and has to name the same issuer. https is required, but for
	// loopback hosts.
	Issuer string
	// JWKSURI is where the keys are, if that is not to be discovered: for services
	// that reach the issuer by another name. It may be http on a network that you
	// trust: whoever can change the answer can forge tokens.
	JWKSURI string
	// Client fetches; nil: one with a timeout of 5 seconds. Redirects are refused
	// with any client, since the issuer never redirects.
	Client *http.Client
	// File keeps the keys for the next start of this process, so that it can verify
	// while the issuer is away. Whoever can write to it can forge tokens, so it is
	// ignored if it is neither this user's nor root's, if others can write to it, or
	// everybody to its directory. Empty: none.
	File string
	// MaxStale is for how long keys are used after they were fetched for the last
	// time; 0: the constant MaxStale, which is also the most.
	MaxStale time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Remote is the KeySet of a running issuer. It fetches keys when they are needed,
// and has no goroutine of its own to stop.
//
// Keys are used for the max-age that the issuer gives them. From half of that on,
// give or take a tenth, they are fetched again in the background while tokens go
// on to be verified with those that are there; from max-age on, which only a
// service that was idle sees, a call waits for that fetch. When the issuer is
// away, or answers with nothing usable, the keys that are there are used for
// MaxStale, and nobody waits; it is asked again every Cooldown. A kid that is not
// in the set causes one fetch within Cooldown, whoever and however many ask; all
// of them wait for the same one.
type Remote struct {
	config RemoteConfig
	client *http.Client

	mu      sync.Mutex
	set     *fetched      // nil: none yet
	running chan struct{} // closed when the fetch that runs now has ended; nil: none runs
	tried   time.Time     // when the last fetch began
	sought  time.Time     // when the last one began that an unknown kid caused
	failure error         // of the last fetch; nil: it succeeded
	file    error         // what is wrong with the file
}

// fetched is a key set as it was fetched. It is immutable.
type fetched struct {
	keys    *StaticKeys
	text    []byte
	uri     string
	tag     string // ETag
	at      time.Time
	maxAge  time.Duration
	refresh time.Duration // the age at which it is fetched again
}

// NewRemote checks the configuration and reads the file, if there is one. It
// fetches nothing: call Refresh to find out early whether the issuer answers.
func NewRemote(c RemoteConfig) (*Remote, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.MaxStale == 0 {
		c.MaxStale = MaxStale
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: fetchTimeout}
	}
	r := &Remote{config: c, client: unredirected(c.Client)}
	if c.File != "" {
		r.set, r.file = r.load()
	}
	return r, nil
}

func (c RemoteConfig) check() error {
	if c.Issuer == "" {
		return errors.New("bearer: Issuer is empty: set the exact iss of the tokens")
	}
	if c.MaxStale < 0 || c.MaxStale > MaxStale {
		return fmt.Errorf("bearer: MaxStale %s: use up to %s", c.MaxStale, MaxStale)
	}
	if c.JWKSURI != "" {
		if u, err := url.Parse(c.JWKSURI); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			return errors.New("bearer: JWKSURI is not a URL such as https://tokens.example.com/.well-known/jwks.json")
		}
		return nil
	}
	if !secure(c.Issuer) {
		return errors.New("bearer: Issuer is not an https URL (http only for a loopback host): keys that are fetched in the clear can be replaced on the way")
	}
	return nil
}

// secure reports whether what is fetched from a URL cannot be changed on the way.
func secure(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return false
	}
	address, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || (err == nil && address.IsLoopback())
	return u.Scheme == "https" || (u.Scheme == "http" && loopback)
}

// Key implements KeySet. ErrUnknownKey: the issuer publishes no such key.
// ErrUnavailable: its keys, or a newer set that may have this one, cannot be
// fetched now.
func (r *Remote) Key(ctx context.Context, kid string) (Key, error) {
	set, err := r.current(ctx)
	if err != nil {
		return Key{}, err
	}
	if k, err := set.keys.Key(ctx, kid); err == nil {
		return k, nil
	}
	return r.unknown(ctx, kid)
}

// current returns the keys that are there, and looks after their age.
func (r *Remote) current(ctx context.Context) (*fetched, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resting() || !r.due() {
		return r.usable()
	}
	done := r.fetch()
	if set, err := r.usable(); err == nil && (r.failure != nil || r.age() < set.maxAge) {
		return set, nil
	}
	r.mu.Unlock()
	err := wait(ctx, done)
	r.mu.Lock()
	if set, stale := r.usable(); stale == nil {
		return set, nil // what there is, even if ctx has ended
	}
	if err != nil {
		return nil, err
	}
	return r.usable()
}

// due reports whether the keys have to be fetched. Call it with mu held.
func (r *Remote) due() bool {
	age := r.age()
	return r.set == nil || age < 0 || age >= r.set.refresh
}

// unknown looks for a kid that was not in the set: in a newer one if there is
// one by now, or after one more fetch.
func (r *Remote) unknown(ctx context.Context, kid string) (Key, error) {
	r.mu.Lock()
	if r.resting() || (r.running == nil && r.config.Now().Sub(r.sought).Abs() < Cooldown) {
		defer r.mu.Unlock()
		return r.find(ctx, kid)
	}
	if r.running == nil {
		r.sought = r.config.Now()
	}
	done := r.fetch()
	r.mu.Unlock()
	if err := wait(ctx, done); err != nil {
		return Key{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(ctx, kid)
}

// find looks in the newest set. That a key is not in it means something only if
// the last fetch succeeded. Call it with mu held.
func (r *Remote) find(ctx context.Context, kid string) (Key, error) {
	set, err := r.usable()
	if err != nil {
		return Key{}, err
	}
	k, err := set.keys.Key(ctx, kid)
	if err != nil && r.failure != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrUnavailable, r.failure)
	}
	return k, err
}

// usable returns the keys unless they are too old. Call it with mu held.
func (r *Remote) usable() (*fetched, error) {
	if r.set != nil && r.age().Abs() <= r.config.MaxStale {
		return r.set, nil
	}
	err := ErrUnavailable
	if r.set != nil {
		err = fmt.Errorf("%w: they were fetched for the last time at %s", err, r.set.at.UTC().Format(time.RFC3339))
	}
	if r.failure != nil {
		err = fmt.Errorf("%w: %w", err, r.failure)
	}
	return nil, err
}

// age is that of the set, by the wall clock, which goes on while a machine
// sleeps; negative when that was set back. Call it with mu held.
func (r *Remote) age() time.Duration {
	if r.set == nil {
		return 0
	}
	return r.config.Now().Round(0).Sub(r.set.at)
}

// resting reports whether the last fetch failed just now. Call it with mu held.
func (r *Remote) resting() bool {
	return r.running == nil && r.failure != nil && r.config.Now().Sub(r.tried).Abs() < Cooldown
}

// Refresh fetches the keys now. Call it at start, to find out early when
// something is wrong.
func (r *Remote) Refresh(ctx context.Context) error {
	r.mu.Lock()
	done := r.fetch()
	r.mu.Unlock()
	if err := wait(ctx, done); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, r.failure)
	}
	return nil
}

// wait waits for a fetch; that goes on when ctx ends, for whoever else waits.
func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// fetch starts a fetch unless one runs, and returns what is closed at its end.
// Call it with mu held.
func (r *Remote) fetch() <-chan struct{} {
	if r.running != nil {
		return r.running
	}
	done := make(chan struct{})
	r.running, r.tried = done, r.config.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*fetchTimeout)
		defer cancel()
		set, err := r.download(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		defer close(done)
		r.running, r.failure = nil, err
		if err == nil {
			r.set = set
		}
	}()
	return done
}

// jitter is the age at which keys are fetched again: half of max-age, give or
// take a tenth, so that a fleet does not ask all at once.
func jitter(maxAge time.Duration) time.Duration {
	return maxAge*9/20 + rand.N(maxAge/10) //nolint:gosec // not a secret
}

// Status says how a Remote is, for health pages and metrics.
type Status struct {
	Keys      int       // how many there are; 0: none yet
	FetchedAt time.Time // when the issuer last confirmed them
	Failure   error     // of the last fetch; nil: it succeeded, or there was none
	File      error     // why the file was not read or written; nil: it was, or there is none
}

// Status says how the set is now.
func (r *Remote) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Failure: r.failure, File: r.file}
	if r.set != nil {
		s.Keys, s.FetchedAt = r.set.keys.Len(), r.set.at
	}
	return s
}
