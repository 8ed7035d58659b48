package bearer

import (
	"context"
	"fmt"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// FeedSource is where a Feed has revocations from. What it says is trusted: it is
// the source that checks who says it. It has to be safe for concurrent use. If it has
// a method Issuer() string, NewFeed checks that it is of the same issuer.
type FeedSource interface {
	// Fetch returns what was added after a position, or everything if that is zero or
	// the source cannot tell what was added. It returns as soon as there is anything
	// newer, and after wait at the latest, then without entries; with wait 0 at once.
	// A source that cannot vouch that nothing is missing fails, best with a FeedError,
	// or returns the last state that it can vouch for, with the time of that. ctx ends
	// 10 seconds after wait.
	Fetch(ctx context.Context, since oauth.Position, wait time.Duration) (FeedUpdate, error)
}

// prompt gives up on a source that takes longer than it was asked to wait.
type prompt struct{ FeedSource }

// Fetch implements FeedSource.
func (p prompt) Fetch(ctx context.Context, since oauth.Position, wait time.Duration) (FeedUpdate, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+feedTimeout)
	defer cancel()
	return p.FeedSource.Fetch(ctx, since, wait)
}

// FeedUpdate is what a source knows that may be new. It is fine to deliver
// anything again.
type FeedUpdate struct {
	// Position is that of the last entry: with those before, nothing is missing.
	oauth.Position
	// From is the sequence number of the same epoch after which the entries are; 0:
	// they are all that still matter. The Feed refuses an update that does not
	// continue what it has, and then fetches everything.
	From int64
	// At is when that was complete, by the issuer's clock. Zero: it cannot be known,
	// so the update denies tokens and is never fresh.
	At      time.Time
	Entries []oauth.FeedEntry
}

// FeedFailure is a kind of failure, fit for the label of a metric.
type FeedFailure string

// The kinds.
const (
	FeedUnreachable FeedFailure = "unreachable" // no answer, or one with another status than 200
	FeedNoKeys      FeedFailure = "no_keys"     // the keys of the feed cannot be fetched
	FeedRefused     FeedFailure = "refused"     // the answer is not a good feed: forged, malformed, of another issuer, of another time
	FeedBackwards   FeedFailure = "backwards"   // it is older than what is known
	FeedGap         FeedFailure = "gap"         // something is missing between it and what is known
)

// FeedError is why a fetch failed. Any other error of a source counts as
// FeedUnreachable.
type FeedError struct {
	Kind       FeedFailure
	RetryAfter time.Duration // for how long the source asks to be left alone; 0: it does not say
	Err        error
}

func (e *FeedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *FeedError) Unwrap() error { return e.Err }

func feedError(kind FeedFailure, format string, args ...any) *FeedError {
	return &FeedError{Kind: kind, Err: fmt.Errorf(format, args...)}
}
