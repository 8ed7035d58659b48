package signing

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// ErrNoKey means that there is no active signing key.
var ErrNoKey = errors.New("there is no active signing key")

// Ring holds the signing keys in memory: the active one signs, all that are not
// removed are published.
type Ring struct {
	reader  sqlx.ExtContext
	sealer  *Sealer
	current atomic.Pointer[contents]
}

type contents struct {
	active    *Key
	published jwk.Set
}

// Subject is how the change log and the audit log name a signing key.
func Subject(kid string) string { return subjectPrefix + kid }

const subjectPrefix = "signing_key:"

// NewRing makes a ring that reads from the database; Load fills it.
func NewRing(reader sqlx.ExtContext, sealer *Sealer) *Ring {
	r := &Ring{reader: reader, sealer: sealer}
	r.current.Store(&contents{})
	return r
}

// Load reads the keys anew. ErrNoKey: none is active. ErrSealed: the active one
// does not open. On an error the ring stays as it was.
func (r *Ring) Load(ctx context.Context) error {
	stored, err := Published(ctx, r.reader)
	if err != nil {
		return err
	}
	next := contents{published: jwk.Set{Keys: []jwk.Key{}}}
	for _, s := range stored {
		public, err := s.public()
		if err != nil {
			return err
		}
		next.published.Keys = append(next.published.Keys, public)
		if s.State != Active {
			continue
		}
		if next.active, err = open(s, r.sealer); err != nil {
			return err
		}
	}
	if next.active == nil {
		return ErrNoKey
	}
	r.current.Store(&next)
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

// Active is the key that signs. ErrNoKey until Load has succeeded.
func (r *Ring) Active() (*Key, error) {
	if k := r.current.Load().active; k != nil {
		return k, nil
	}
	return nil, ErrNoKey
}

// Published is the set for the JWKS document.
func (r *Ring) Published() jwk.Set { return r.current.Load().published }
