package manage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// The rotation of signing keys: publish the next one, wait until every verifier
// can have it, sign with it, wait until no token needs the one before, remove
// that. Any replica may take any step, several may try at once, and each step
// stands in the database before it counts, so that whoever comes next goes on
// from there. Each slot goes through it on its own: the keys that sign tokens with an
// algorithm, and those that sign the feed of revocations.

// ErrNeeded means that a signing key cannot go: it signs, or something that it
// signed may still be good.
var ErrNeeded = errors.New("the signing key is still needed")

var tending = operation{need: "organization:update"}

// slots are what there has to be an active key for: the algorithms that some
// audience is configured with, and the feed.
func (m *Manager) slots() (wanted []signing.Slot) {
	for _, algorithm := range m.Policy.Audiences.Algorithms() {
		wanted = append(wanted, signing.TokenSlot(algorithm))
	}
	return append(wanted, signing.FeedSlot())
}

// EnsureSigningKeys makes an active key for each algorithm that some audience is
// configured with, and one for the feed, where there is none. Several replicas may
// call it at once: one key comes of it.
func (m *Manager) EnsureSigningKeys(ctx context.Context, by Caller) error {
	present, err := signing.Published(ctx, m.Database.Reader())
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(m.slots(), func(s signing.Slot) bool { return keyIn(present, s, signing.Active) != nil })
	return m.addSigningKeys(ctx, by, signing.Active, missing...)
}

// addSigningKeys makes a key for each slot that has none in that state.
func (m *Manager) addSigningKeys(ctx context.Context, by Caller, state signing.State, slots ...signing.Slot) error {
	made, err := m.generate(ctx, state, slots)
	if err != nil || len(made) == 0 {
		return err
	}
	return m.do(ctx, by, tending, func(ctx context.Context, u *unit) error {
		for _, key := range made {
			inserted, err := signing.Insert(ctx, u.tx, key)
			if err != nil {
				return err
			}
			if inserted {
				u.recordKey("create", key, nil)
			}
		}
		return nil
	})
}

// generate makes a key for each slot. What is sealed has to open on every server: one
// that cannot open an active key stops.
func (m *Manager) generate(ctx context.Context, state signing.State, slots []signing.Slot) (made []signing.Stored, err error) {
	if len(slots) > 0 && m.Sealer.Several() {
		if err := m.awaitSealer(ctx); err != nil {
			return nil, err
		}
	}
	for _, slot := range slots {
		key, err := signing.Generate(m.Sealer, slot, state, workspace.At(m.now()))
		if err != nil {
			return nil, err
		}
		made = append(made, key)
	}
	return made, nil
}

// SigningKeys lists every signing key there ever was, the oldest first, without
// their private parts.
func (m *Manager) SigningKeys(ctx context.Context, by Caller) (found []signing.Stored, err error) {
	err = m.view(ctx, by, operation{need: seeAll}, func(ctx context.Context, u *unit) error {
		found, err = signing.All(ctx, u.tx)
		for i := range found {
			found[i].Sealed = nil
		}
		return err
	})
	return found, err
}

// mayTend refuses those who may not change signing keys, before anything is read or
// generated for them.
func (m *Manager) mayTend(ctx context.Context, by Caller) error {
	return m.view(ctx, by, tending, func(context.Context, *unit) error { return nil })
}

// RotateSigningKey begins to replace the active key of a slot: its successor is
// published, and signs as soon as every verifier can have it. When one is pending
// already, that is the one. It returns the pending key and when it may sign.
func (m *Manager) RotateSigningKey(ctx context.Context, by Caller, slot signing.Slot) (next signing.Stored, from time.Time, err error) {
	if err := m.mayTend(ctx, by); err != nil {
		return next, from, err
	}
	present, err := signing.Published(ctx, m.Database.Reader())
	if err != nil {
		return next, from, err
	}
	active := keyIn(present, slot, signing.Active)
	if active == nil {
		return next, from, fmt.Errorf("%w: no key signs with %s, so there is none to replace", workspace.ErrNotFound, slot)
	}
	// What is sealed here has to open on every server, or all of them leave readiness.
	if err := active.Opens(m.Sealer); err != nil {
		return next, from, fmt.Errorf("the servers have another key-encryption key: %w", err)
	}
	if keyIn(present, slot, signing.Pending) == nil {
		if err := m.addSigningKeys(ctx, by, signing.Pending, slot); err != nil {
			return next, from, err
		}
	}
	if present, err = m.confirmSigningKeys(ctx, by); err != nil {
		return next, from, err
	}
	pending := keyIn(present, slot, signing.Pending)
	if pending == nil {
		return next, from, fmt.Errorf("%w: somebody else changed the signing keys of %s at the same moment: look at them again", workspace.ErrConflict, slot)
	}
	return *pending, pending.PublishedAt.Add(m.Signing.PublishLead), nil
}

// TendSigningKeys takes every step of rotation that is due. Call it now and then;
// an error, such as change.ErrNotHeld, means that some step has to wait, and
// calling again goes on from there.
func (m *Manager) TendSigningKeys(ctx context.Context, by Caller) error {
	if err := m.EnsureSigningKeys(ctx, by); err != nil {
		return err
	}
	present, err := m.confirmSigningKeys(ctx, by)
	if err != nil {
		return err
	}
	var mistakes []error
	for _, slot := range m.slots() {
		mistakes = append(mistakes, m.renewSigningKey(ctx, by, present, slot))
	}
	now := m.now()
	for _, key := range present {
		if key.State == signing.Retiring && !key.RetiredAt.Add(m.Signing.Retain).After(now) {
			mistakes = append(mistakes, m.removeSigningKey(ctx, by, key))
		}
	}
	return errors.Join(mistakes...)
}

// renewSigningKey publishes the next key of a slot, or makes it sign.
func (m *Manager) renewSigningKey(ctx context.Context, by Caller, present []signing.Stored, slot signing.Slot) error {
	now := m.now()
	active, pending := keyIn(present, slot, signing.Active), keyIn(present, slot, signing.Pending)
	switch {
	case pending != nil && !pending.PublishedAt.Add(m.Signing.PublishLead).After(now):
		return m.activateSigningKey(ctx, by, active, *pending)
	case pending == nil && active != nil && !active.ActivatedAt.Add(m.Signing.RotateEvery-m.Signing.PublishLead).After(now):
		if err := m.addSigningKeys(ctx, by, signing.Pending, slot); err != nil {
			return err
		}
		_, err := m.confirmSigningKeys(ctx, by)
		return err
	}
	return nil
}

// activateSigningKey makes the pending key sign in place of the active one, once
// every replica has opened it: one that cannot would have to stop.
func (m *Manager) activateSigningKey(ctx context.Context, by Caller, active *signing.Stored, pending signing.Stored) error {
	if err := change.AwaitHeld(ctx, m.Database, pending.ID, m.timing()); err != nil {
		return fmt.Errorf("signing key %s cannot sign yet: %w", pending.ID, err)
	}
	err := m.do(ctx, by, tending, func(ctx context.Context, u *unit) error {
		if active != nil {
			retired, err := signing.Retire(ctx, u.tx, active.ID, u.now)
			if err != nil || !retired {
				return err // somebody was faster, and did the rest too
			}
		}
		activated, err := signing.Activate(ctx, u.tx, pending.ID, u.now, workspace.At(u.now.Add(-m.Signing.PublishLead)))
		if err != nil {
			return err
		}
		if !activated {
			return errUnchanged
		}
		u.recordKey("activate", pending, nil)
		if active != nil {
			u.recordKey("retire", *active, nil)
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = m.confirmSigningKeys(ctx, by)
	return err
}

// confirmSigningKeys notes what is known once every replica has taken in the
// present state: which pending keys all of them publish, and until when tokens of
// the retiring keys can be good, since nobody signs with those any more. It
// returns the published keys as they are then.
func (m *Manager) confirmSigningKeys(ctx context.Context, by Caller) ([]signing.Stored, error) {
	present, err := signing.Published(ctx, m.Database.Reader())
	if err != nil || !slices.ContainsFunc(present, unconfirmed) {
		return present, err
	}
	seq, err := change.Newest(ctx, m.Database.Reader())
	if err != nil {
		return nil, err
	}
	if err := m.await(ctx, seq); err != nil {
		return nil, err
	}
	err = m.do(ctx, by, tending, func(ctx context.Context, u *unit) error {
		for _, key := range present {
			if err := u.confirmSigningKey(ctx, key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return signing.Published(ctx, m.Database.Reader())
}

// unconfirmed reports whether it is open what every replica does with a key.
func unconfirmed(key signing.Stored) bool {
	return (key.State == signing.Pending && key.PublishedAt.IsZero()) ||
		(key.State == signing.Retiring && key.NeededUntil.IsZero())
}

func (u *unit) confirmSigningKey(ctx context.Context, key signing.Stored) (err error) {
	var changed bool
	detail := map[string]any{}
	switch {
	case !unconfirmed(key):
		return nil
	case key.State == signing.Pending:
		detail["published_at"] = u.now
		changed, err = signing.MarkPublished(ctx, u.tx, key.ID, u.now)
	default:
		until := workspace.At(u.now.Add(u.Signing.MinRetain()))
		detail["needed_until"] = until
		changed, err = signing.MarkNeeded(ctx, u.tx, key.ID, until)
	}
	if changed {
		u.recordKey("confirm", key, detail)
	}
	return err
}

// RetireSigningKey ends a key as early as nobody is harmed: a pending one, which
// has never signed, at once; a retiring one when nothing that it signed can be good
// any more; an active one only when no audience is configured with its algorithm,
// and then it goes on to be published for that long. ErrNeeded otherwise, and for
// the one that signs the feed. It returns the key as it is then.
func (m *Manager) RetireSigningKey(ctx context.Context, by Caller, kid string) (signing.Stored, error) {
	if err := m.mayTend(ctx, by); err != nil {
		return signing.Stored{}, err
	}
	key, err := m.signingKey(ctx, kid)
	if err != nil {
		return key, err
	}
	switch key.State {
	case signing.Active:
		if slices.Contains(m.slots(), key.Slot()) {
			return key, fmt.Errorf("%w: %s: rotate it instead", ErrNeeded, signs(key))
		}
		err = m.retireSigningKey(ctx, by, key)
	case signing.Pending, signing.Retiring:
		err = m.removeSigningKey(ctx, by, key)
	}
	if err != nil {
		return key, err
	}
	return m.signingKey(ctx, kid)
}

// signs says what an active key is needed for.
func signs(key signing.Stored) string {
	if key.Purpose == signing.Feed {
		return "it signs the feed of revocations"
	}
	return "it signs the tokens of audiences with " + key.Algorithm
}

func (m *Manager) signingKey(ctx context.Context, kid string) (signing.Stored, error) {
	all, err := signing.All(ctx, m.Database.Reader())
	if err != nil {
		return signing.Stored{}, err
	}
	i := slices.IndexFunc(all, func(key signing.Stored) bool { return key.ID == kid })
	if i < 0 {
		return signing.Stored{}, fmt.Errorf("signing key %s: %w", kid, workspace.ErrNotFound)
	}
	return all[i], nil
}

func (m *Manager) retireSigningKey(ctx context.Context, by Caller, key signing.Stored) error {
	err := m.do(ctx, by, tending, func(ctx context.Context, u *unit) error {
		retired, err := signing.Retire(ctx, u.tx, key.ID, u.now)
		if retired {
			u.recordKey("retire", key, nil)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = m.confirmSigningKeys(ctx, by)
	return err
}

// removeSigningKey removes a key if that is proven to be safe, and ErrNeeded
// otherwise: the proof is a condition of the statement, not read before it.
func (m *Manager) removeSigningKey(ctx context.Context, by Caller, key signing.Stored) error {
	removed := false
	err := m.do(ctx, by, tending, func(ctx context.Context, u *unit) (err error) {
		removed, err = signing.Remove(ctx, u.tx, key.ID, u.now)
		if removed {
			u.recordKey("remove", key, nil)
		}
		return err
	})
	if err != nil || removed {
		return err
	}
	now, err := m.signingKey(ctx, key.ID)
	switch {
	case err != nil || now.State == signing.Removed: // by somebody else
		return err
	case now.NeededUntil.IsZero():
		return fmt.Errorf("%w: not every replica is known to have stopped signing with it", ErrNeeded)
	}
	signed := "tokens"
	if key.Purpose == signing.Feed {
		signed = "feeds of revocations"
	}
	return fmt.Errorf("%w: %s that it signed are good until %s", ErrNeeded, signed, now.NeededUntil.Format(time.RFC3339))
}

// ReplaceSigningKeys distrusts every key of the slots at once, whatever still needs
// them, and lets new ones sign. When it returns no replica signs with an old one or
// publishes it. It returns both.
//
// Tokens of a key that is distrusted are revoked. A feed cannot say that of the keys
// that sign feeds: verifiers drop them when they fetch the keys again.
func (m *Manager) ReplaceSigningKeys(ctx context.Context, by Caller, slots []signing.Slot) (old, fresh []signing.Stored, err error) {
	if err := m.mayTend(ctx, by); err != nil {
		return nil, nil, err
	}
	if fresh, err = m.generate(ctx, signing.Active, slots); err != nil {
		return nil, nil, err
	}
	err = m.do(ctx, by, tending, func(ctx context.Context, u *unit) error {
		present, err := signing.Published(ctx, u.tx)
		if err != nil {
			return err
		}
		old, u.denies = nil, true
		for _, key := range present {
			if !slices.Contains(slots, key.Slot()) {
				continue
			}
			if _, err := signing.Distrust(ctx, u.tx, key.ID, u.now); err != nil {
				return err
			}
			if key.Purpose == signing.Tokens {
				u.deny("", oauth.RevocableSigningKey, key.ID, 0, revocation.Revoked)
			}
			u.recordKey("distrust", key, nil)
			old = append(old, key)
		}
		for _, key := range fresh {
			if _, err := signing.Insert(ctx, u.tx, key); err != nil {
				return err
			}
			u.recordKey("create", key, nil)
		}
		return nil
	})
	return old, fresh, err
}

// keyIn finds the one key of a slot that is pending or active.
func keyIn(present []signing.Stored, slot signing.Slot, state signing.State) *signing.Stored {
	for i, key := range present {
		if key.Slot() == slot && key.State == state {
			return &present[i]
		}
	}
	return nil
}

// recordKey notes a step of a signing key's life.
func (u *unit) recordKey(step string, key signing.Stored, detail map[string]any) {
	all := map[string]any{"alg": key.Algorithm, "purpose": key.Purpose}
	for name, value := range detail {
		all[name] = value
	}
	u.record("signing_key."+step, "", signing.Subject(key.ID), all)
}
