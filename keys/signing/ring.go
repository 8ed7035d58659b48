package signing

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// Errors of a Ring.
var (
	// ErrNoKey means that no key of an algorithm is active.
	ErrNoKey = errors.New("there is no active signing key")
	// ErrBehind means that the keys were read so long ago that one may be active
	// by now which is not in the set.
	ErrBehind = errors.New("the signing keys have not been read for too long")
)

// Ring holds the signing keys of one purpose in memory: the active ones sign, all
// that are not removed are published. It is safe for concurrent use.
type Ring struct {
	Purpose Purpose // empty: Tokens
	Reader  sqlx.ExtContext
	Sealer  *Sealer
	Timing  Timing

	// Lease says whether what was loaded last is all there is; nil: always.
	Lease Lease

	began   atomic.Uint64 // loads
	suspect atomic.Uint64 // the newest load when somebody said that the keys have changed
	current atomic.Pointer[contents]
}

// Lease is what a change.Follower holds while it keeps a ring up to date.
type Lease interface {
	May(context.Context) bool // whether this request may go by what was loaded last
	Until() time.Time         // when it ends or ended
}

type contents struct {
	load      uint64          // the how manieth it is that began
	active    map[string]*Key // by algorithm
	published jwk.Set
	public    []crypto.PublicKey // of the published ones, parsed
	holds     string
	fault     error
	slots     map[Slot]SlotState
}

// SlotState is how far the rotation of a slot is.
type SlotState struct {
	ActivatedAt time.Time // when the key that signs began to
	Next        bool      // its successor is published
}

// Subject is how the change log and the audit log name a signing key.
func Subject(kid string) string { return subjectPrefix + kid }

const subjectPrefix = "signing_key:"

// Load reads the keys anew. What an earlier load read does not replace what a later
// one has. ErrNoKey: none is active. ErrSealed: an active one
// does not open. On an error the ring stays as it was. A pending key that does
// not open is no error yet, but a Fault.
func (r *Ring) Load(ctx context.Context) error {
	load := r.began.Add(1)
	stored, err := Published(ctx, r.Reader)
	if err != nil {
		return err
	}
	next := &contents{load: load, active: map[string]*Key{}, published: jwk.Set{Keys: []jwk.Key{}}, slots: map[Slot]SlotState{}}
	var held []string
	for _, s := range stored {
		if s.Purpose != cmp.Or(r.Purpose, Tokens) {
			continue
		}
		if err := next.publish(s); err != nil {
			return err
		}
		if s.State == Retiring {
			continue
		}
		next.note(s)
		key, err := open(s, r.Sealer)
		if err != nil && s.State == Active {
			return err
		}
		if err != nil {
			next.fault = err
			continue
		}
		held = append(held, s.ID)
		if s.State == Active {
			next.active[s.Algorithm] = key
		}
	}
	if len(next.active) == 0 {
		return fmt.Errorf("%w for the purpose %q", ErrNoKey, cmp.Or(r.Purpose, Tokens))
	}
	next.holds = strings.Join(held, " ")
	r.replace(next)
	return nil
}

// Suspect says that the keys have changed, by the word of somebody else than the
// database. Until they are read again they are not published: one of them may be
// known to a thief.
func (r *Ring) Suspect() { r.suspect.Store(r.began.Add(1)) }

func (r *Ring) replace(next *contents) {
	for {
		current := r.current.Load()
		if (current != nil && current.load > next.load) || r.current.CompareAndSwap(current, next) {
			return
		}
	}
}

func (c *contents) note(s Stored) {
	state := c.slots[s.Slot()]
	if s.State == Active {
		state.ActivatedAt = s.ActivatedAt.Time
	} else {
		state.Next = true
	}
	c.slots[s.Slot()] = state
}

func (c *contents) publish(s Stored) error {
	described, err := s.public()
	if err != nil {
		return err
	}
	public, err := described.Public()
	if err != nil {
		return fmt.Errorf("signing key %s: %w", s.ID, err)
	}
	c.published.Keys = append(c.published.Keys, described)
	c.public = append(c.public, public)
	return nil
}

// Follow takes in a batch of changes: it loads the ring anew if signing keys are
// among them.
func (r *Ring) Follow(ctx context.Context, batch change.Batch) error {
	concerned := !batch.Complete
	for subject := range batch.Subjects {
		concerned = concerned || strings.HasPrefix(subject, subjectPrefix)
	}
	if !concerned {
		return nil
	}
	return r.Load(ctx)
}

// Active is the key that signs with an algorithm. Without the lease it is read
// from the database, since the one in memory may be retired by now: nobody waits
// for a replica without a lease to stop signing. Errors wrap ErrNoKey: there is
// none, or it cannot be had now.
func (r *Ring) Active(ctx context.Context, algorithm string) (*Key, error) {
	if r.Lease != nil && !r.Lease.May(ctx) {
		if err := r.Load(ctx); err != nil {
			return nil, fmt.Errorf("%w for %s that can be had: %w", ErrNoKey, algorithm, err)
		}
	}
	if k := r.loaded().active[algorithm]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("%w for %s", ErrNoKey, algorithm)
}

// Ready is nil when this replica can sign with the algorithms and will be able to
// when the next keys do. Otherwise it says what is wrong, and the replica should
// get no more work.
func (r *Ring) Ready(algorithms ...string) error {
	c := r.loaded()
	for _, algorithm := range algorithms {
		if c.active[algorithm] == nil {
			return fmt.Errorf("%w for %s", ErrNoKey, algorithm)
		}
	}
	if c.fault != nil {
		return fmt.Errorf("the next signing key does not open here: %w", c.fault)
	}
	return nil
}

// Published is the set that verifiers fetch. ErrBehind: it is not known to be
// all there is any more. Tokens may carry a key whose publication it lacks when
// the time for which keys are published before they sign has passed, less that
// for which verifiers keep what they fetched here.
func (r *Ring) Published() (jwk.Set, error) {
	if r.suspect.Load() > r.loaded().load {
		return jwk.Set{}, ErrBehind
	}
	if r.Lease != nil && time.Now().After(r.Lease.Until().Add(r.Timing.PublishLead-r.Timing.MinLead())) {
		return jwk.Set{}, ErrBehind
	}
	return r.loaded().published, nil
}

// Find returns a published key by its ID, parsed.
func (r *Ring) Find(kid string) (algorithm string, public crypto.PublicKey, ok bool) {
	c := r.loaded()
	i := slices.IndexFunc(c.published.Keys, func(k jwk.Key) bool { return k.ID == kid })
	if i < 0 {
		return "", nil, false
	}
	return c.published.Keys[i].Algorithm, c.public[i], true
}

// Holds names the keys that this replica could sign with if they were active,
// separated by spaces. A key is made active when every replica holds it.
func (r *Ring) Holds() string { return r.loaded().holds }

// Slot tells how far the rotation of a slot is, as of the last load; zero: no key of it
// is there.
func (r *Ring) Slot(slot Slot) SlotState { return r.loaded().slots[slot] }

func (r *Ring) loaded() *contents {
	if c := r.current.Load(); c != nil {
		return c
	}
	return &contents{}
}
