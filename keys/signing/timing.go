package signing

import (
	"errors"
	"fmt"
	"time"
)

// Timing bounds the life of signing keys, so that no verifier that keeps to the
// published max-age ever meets a token whose key it cannot have.
//
// A key is pending for PublishLead, active for RotateEvery, and retiring for
// Retain. What a verifier may do is fixed by the first three: a token lives for
// TokenTTL at most, clocks differ by Skew at most, and a key set that was fetched
// is used for MaxAge before it is asked for again.
type Timing struct {
	TokenTTL time.Duration // the longest life of any token
	Skew     time.Duration // the most by which two clocks differ
	MaxAge   time.Duration // of the published key set (RFC 9111 §5.2.2.1)

	PublishLead time.Duration // how long a key is published before it signs
	RotateEvery time.Duration // how long a key signs
	Retain      time.Duration // how long a key stays published after it has signed
}

// DefaultTiming covers verifiers that keep keys for as long as a day, whatever
// max-age says.
var DefaultTiming = Timing{
	TokenTTL: time.Hour, Skew: time.Minute, MaxAge: 5 * time.Minute,
	PublishLead: 24 * time.Hour, RotateEvery: 30 * 24 * time.Hour, Retain: 24 * time.Hour,
}

// MinLead is the least PublishLead: a set that a shared cache got just before
// the key was published goes to a verifier when it is MaxAge old, and is used for
// MaxAge there.
func (t Timing) MinLead() time.Duration { return 2*t.MaxAge + t.Skew }

// MinRetain is the least time for which a key has to stay published after it has
// signed for the last time: the life of its last token, by the clock of whoever
// signed that and by the clock of whoever verifies it, and MaxAge to be safe.
func (t Timing) MinRetain() time.Duration { return t.TokenTTL + 2*t.Skew + t.MaxAge }

// Check checks how the bounds relate; the error joins everything that is wrong.
// What is sensible in absolute terms is for the configuration to say.
func (t Timing) Check() error {
	var mistakes []error
	if min(t.TokenTTL, t.MaxAge) <= 0 || t.Skew < 0 {
		mistakes = append(mistakes, errors.New("the life of tokens and max-age have to be positive, and the skew of clocks not negative"))
	}
	if t.PublishLead < t.MinLead() {
		mistakes = append(mistakes, fmt.Errorf("a key is published %s before it signs, and %s are needed until every verifier has fetched it: twice max-age and the skew of clocks", t.PublishLead, t.MinLead()))
	}
	if t.Retain < t.MinRetain() {
		mistakes = append(mistakes, fmt.Errorf("a key stays published for %s after it has signed, and its last token may need it for %s: the longest life of a token, the skew of both clocks and max-age", t.Retain, t.MinRetain()))
	}
	if t.RotateEvery < t.PublishLead {
		mistakes = append(mistakes, fmt.Errorf("a key signs for %s, in which its successor cannot be published for %s", t.RotateEvery, t.PublishLead))
	}
	return errors.Join(mistakes...)
}
