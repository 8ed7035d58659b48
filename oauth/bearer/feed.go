package bearer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// How a Feed behaves, where its configuration does not say.
const (
	// DefaultMaxStaleness is how old the list of revocations may be on routes that
	// have to know of the recent ones.
	DefaultMaxStaleness = time.Minute
	// MinMaxStaleness is the least FeedConfig.MaxStaleness: the issuer signs the feed
	// anew every 5 seconds.
	MinMaxStaleness = 5 * time.Second
	// MaxMaxStaleness is the most: most tokens have expired by then.
	MaxMaxStaleness = 10 * time.Minute
	// MaxWait bounds FeedConfig.Wait: the issuer holds no request for longer.
	MaxWait = 25 * time.Second

	defaultWait, defaultPoll, minPoll = 20 * time.Second, 5 * time.Second, time.Second
)

// FeedConfig says how the revocations of an issuer are followed. Only Issuer is
// required.
type FeedConfig struct {
	// Issuer is the exact iss of the tokens, which the feed has to name too. https is
	// required, but for loopback hosts and with Source or Keys.
	Issuer string
	// URI and KeysURI are where the feed and its keys are, for services that reach
	// the issuer by another name; empty: oauth.FeedPath and oauth.FeedKeysPath below
	// the issuer. KeysURI may be http on a network that you trust: whoever can change
	// that answer can forge the feed.
	URI, KeysURI string
	// Client fetches; nil: http.DefaultTransport. Redirects are refused with any
	// client. Its Timeout is not used, since the issuer holds requests on purpose: the
	// answer has to begin at most 10 seconds later than the issuer is asked to wait, and
	// then to come with 16 KiB/s, within 5 minutes. It may have 64 MiB, which are about
	// 900,000 revocations.
	Client *http.Client
	// Keys are those that sign the feed, which are never those that sign tokens; nil:
	// a Remote of KeysURI, with a file beside File that has ".keys" after its name.
	Keys KeySet
	// Source replaces all of the above, the Issuer excepted; nil: HTTP.
	Source FeedSource

	// File keeps the revocations for the next start of this process, so that it knows
	// them from its first request on: no position is told of before the file has it,
	// unless it cannot be written. Whoever can write to it can take revocations back, so
	// it is ignored if it is neither this user's nor root's, if others can write to it,
	// or everybody to its directory. Empty: none.
	File string
	// MaxStaleness is how old the list may be for Fresh; 0: DefaultMaxStaleness. With
	// less than about 10 s it is too old now and then although nothing is wrong.
	MaxStaleness time.Duration
	// Wait is for how long the issuer is asked to hold a request until there is
	// something new (long-polling); 0: 20 s. Negative: it is asked every Poll instead, as
	// for a minute whenever three such requests in a row do not get through. Neither is
	// ever longer than half of MaxStaleness.
	Wait time.Duration
	// Poll is the time between two fetches that do not wait; 0: 5 s.
	Poll time.Duration

	// Observe is told of each fetch, for metrics; nil: nobody is. It is called by
	// whoever fetches, so it must not block; it may be called concurrently.
	Observe func(FeedEvent)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Feed is the Revocations of an issuer that publishes a feed of them. What is
// denied is looked up in memory: no request to a service waits for the issuer,
// but for the first one when nothing is known yet.
//
//   - A revocation is never taken back: not by an older list, not by another epoch,
//     not by a restart with a File. It is forgotten when no token can be good any
//     more that it concerns, by the clocks of the issuer and of this machine.
//   - While nothing newer can be had, Revoked goes on with what is known, for as long
//     as it takes: every token ends by its own exp. Fresh fails meanwhile, when that
//     is older than MaxStaleness.
//   - A Feed that has never known anything answers with ErrRevocationsUnknown.
//
// Run follows the feed. Without it a Feed fetches for the first token only, and
// whenever Refresh is called.
type Feed struct {
	config FeedConfig
	began  time.Time // with the monotonic clock

	loaded atomic.Bool // whether there is a list at all; never becomes false again

	mu        sync.RWMutex
	list      denials
	confirmed time.Duration  // the time since began at which list.at was young; see age
	failure   error          // of the last fetch; nil: it succeeded, or there was none
	failedAt  time.Duration  // since began; if there was a failure
	told      oauth.Position // how far others may know that the list goes: as far as the file
	moved     chan struct{}  // closed when told changes; nil: nobody asked

	turn    chan struct{} // held by who fetches at once, that is without waiting for news
	fetches atomic.Int64  // how many of these have ended
	file    feedFile
}

// NewFeed checks the configuration and reads the file, if there is one. It fetches
// nothing: call Refresh to find out early whether the issuer answers.
func NewFeed(c FeedConfig) (*Feed, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.MaxStaleness = cmp.Or(c.MaxStaleness, DefaultMaxStaleness)
	c.Wait = min(cmp.Or(c.Wait, defaultWait), c.MaxStaleness/2)
	c.Poll = min(cmp.Or(c.Poll, defaultPoll), c.MaxStaleness/2)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Source == nil {
		source, err := newHTTPFeed(c)
		if err != nil {
			return nil, err
		}
		c.Source = source
	} else {
		c.Source = prompt{c.Source}
	}
	f := &Feed{config: c, began: time.Now(), turn: make(chan struct{}, 1)}
	f.file = feedFile{path: c.File, issuer: c.Issuer, turn: make(chan struct{}, 1)}
	f.load()
	return f, nil
}

func (c FeedConfig) check() error {
	switch {
	case c.Issuer == "":
		return errors.New("bearer: Issuer is empty: set the exact iss of the tokens")
	case c.MaxStaleness != 0 && (c.MaxStaleness < MinMaxStaleness || c.MaxStaleness > MaxMaxStaleness):
		return fmt.Errorf("bearer: MaxStaleness %s: use %s to %s", c.MaxStaleness, MinMaxStaleness, MaxMaxStaleness)
	case c.Wait > MaxWait || (c.Wait > 0 && c.Wait < time.Second):
		return fmt.Errorf("bearer: Wait %s: use 1s to %s, or a negative one to poll", c.Wait, MaxWait)
	case c.Poll != 0 && c.Poll < minPoll:
		return fmt.Errorf("bearer: Poll %s: use %s or more", c.Poll, minPoll)
	case c.Source != nil && (c.URI != "" || c.KeysURI != "" || c.Client != nil || c.Keys != nil):
		return errors.New("bearer: with Source, the feed is not fetched over HTTP: leave URI, KeysURI, Client and Keys out")
	case ofAnother(c.Source, c.Issuer):
		return errors.New("bearer: Source has the revocations of another issuer: give both the same, to the byte")
	case c.Source == nil && !secure(c.Issuer) && (c.URI == "" || (c.KeysURI == "" && c.Keys == nil)):
		return errors.New("bearer: Issuer is not an https URL (http only for a loopback host): set URI, and KeysURI or Keys")
	}
	for _, text := range []string{c.URI, c.KeysURI} {
		if u, err := url.Parse(text); text != "" && (err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http")) {
			return errors.New("bearer: URI and KeysURI are URLs such as https://tokens.example.com" + oauth.FeedPath)
		}
	}
	return nil
}

// ofAnother reports whether a source says that it is of another issuer. What it
// denies would be found under other names, and so nothing would be denied.
func ofAnother(source FeedSource, issuer string) bool {
	named, ok := source.(interface{ Issuer() string })
	return ok && named.Issuer() != issuer
}

// Revoked implements Revocations. ErrRevoked: the token is denied.
// ErrRevocationsUnknown: nothing was ever known; then the first call fetches, for
// at most 2 seconds, and those that come meanwhile wait for it.
func (f *Feed) Revoked(ctx context.Context, kid string, claims *oauth.Claims) error {
	if err := f.known(ctx); err != nil {
		return err
	}
	if claims.Issuer != f.config.Issuer {
		return fmt.Errorf("%w: the feed is that of the issuer %s", ErrRevocationsUnknown, f.config.Issuer)
	}
	f.mu.RLock()
	some := len(f.list.entries) > 0
	f.mu.RUnlock()
	if !some { // nothing has to be hashed then
		return nil
	}
	marks := oauth.Marks(kid, claims)
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.list.deny(&marks) {
		return ErrRevoked
	}
	return nil
}

// Fresh implements Revocations: nil while what is known is not older than
// MaxStaleness. That is counted from when the issuer signed it, and is never less
// than the time since it came, however the clock is set meanwhile. Else the error
// wraps ErrStale.
func (f *Feed) Fresh(ctx context.Context) error {
	if err := f.known(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	f.mu.RLock()
	age, failure := f.age(), f.failure
	f.mu.RUnlock()
	switch {
	case age <= f.config.MaxStaleness:
		return nil
	case failure != nil:
		return fmt.Errorf("%w: what is known is of %s ago, more than %s: %s", ErrStale, round(age), f.config.MaxStaleness, failure.Error())
	}
	return fmt.Errorf("%w: what is known is of %s ago, more than %s", ErrStale, round(age), f.config.MaxStaleness)
}

func round(age time.Duration) time.Duration { return age.Round(time.Second) }

// ageless is the age of a list when it is not known of when it is.
const ageless = time.Duration(math.MaxInt64)

// age is how long ago the list was complete. Call it with mu held.
func (f *Feed) age() time.Duration {
	if f.list.at.IsZero() {
		return ageless
	}
	return max(f.config.Now().Sub(f.list.at), f.elapsed()-f.confirmed)
}

// elapsed is monotonic, whatever Now is.
func (f *Feed) elapsed() time.Duration { return time.Since(f.began) }

// confirm notes since when the list of u.At is known. Call it with mu held.
func (f *Feed) confirm(now time.Time) {
	f.confirmed = f.elapsed() - max(0, now.Sub(f.list.at))
}

// Position is how far the feed was followed; zero: nothing is known yet. With a
// File it is how far one was that starts from the file, unless Status says that it
// cannot be written: what is denied may be a moment ahead.
func (f *Feed) Position() oauth.Position {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.told
}

// tell lets others know how far the list goes. Call it with mu held.
func (f *Feed) tell(p oauth.Position) {
	if !f.told.Before(p) {
		return
	}
	f.told = p
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
}

// Moved is closed when the position is not any more what it is now: ask for it
// before Position, to miss none.
func (f *Feed) Moved() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.moved == nil {
		f.moved = make(chan struct{})
	}
	return f.moved
}

// FeedStatus says how a Feed is, for health pages and metrics.
type FeedStatus struct {
	Loaded   bool           // whether anything is known
	Position oauth.Position // as of Feed.Position
	Entries  int            // that may deny a token
	IssuedAt time.Time      // when the list was complete, by the issuer's clock; zero: not known
	Age      time.Duration  // of the list: what Fresh compares with MaxStaleness; the longest there is if it is not known
	Fresh    bool
	Failure  error // of the last fetch; nil: it succeeded, or there was none
	File     error // why the file was not read or written; nil: it was, or there is none
}

// Status says how the feed is now.
func (f *Feed) Status() FeedStatus {
	file := f.file.status()
	f.mu.RLock()
	defer f.mu.RUnlock()
	age := f.age()
	return FeedStatus{
		Loaded: f.list.loaded, Position: f.told, Entries: len(f.list.entries), IssuedAt: f.list.at,
		Age: age, Fresh: age <= f.config.MaxStaleness, Failure: f.failure, File: file,
	}
}

// FeedEvent is what FeedConfig.Observe is told of one fetch, and how the feed is
// after it.
type FeedEvent struct {
	Failure FeedFailure // empty: it succeeded
	Err     error       // why it failed

	Full     bool // the whole list was fetched
	Moved    bool // the position is a new one, and in the file if there is one
	NewEpoch bool // so is its epoch

	Position oauth.Position
	Entries  int
	Age      time.Duration // of the list, as in FeedStatus
}

// at says where something is that is not named: at a fixed path below the issuer.
func (c FeedConfig) at(uri, path string) string {
	return cmp.Or(uri, strings.TrimSuffix(c.Issuer, "/")+path)
}
