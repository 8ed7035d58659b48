package manage_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// signingKeys lists the kids of the published keys for tokens by state, "alg:state"
// each.
func (h *house) signingKeys() map[string]string {
	h.t.Helper()
	return h.signingKeysFor(signing.Tokens)
}

func (h *house) signingKeysFor(purpose signing.Purpose) map[string]string {
	h.t.Helper()
	stored, err := signing.Published(h.t.Context(), h.Database.Reader())
	check(h.t, err)
	found := map[string]string{}
	for _, k := range stored {
		if k.Purpose == purpose {
			found[k.Algorithm+":"+string(k.State)] = k.ID
		}
	}
	return found
}

// tend looks after the keys at a moment counted from the house's clock.
func (h *house) tend(after time.Duration) map[string]string {
	h.t.Helper()
	h.now = h.now.Add(after)
	check(h.t, h.TendSigningKeys(h.t.Context(), operator))
	return h.signingKeys()
}

func states(found map[string]string) string {
	var names []string
	for name := range found {
		names = append(names, strings.TrimPrefix(name, jwk.ES256+":"))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// A key goes through its life at the times that the bounds say, one step before
// them it does not, and tending in between changes nothing.
func TestSigningKeyLife(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		timing := h.Signing
		wants := func(after time.Duration, want string) map[string]string {
			t.Helper()
			found := h.tend(after)
			if states(found) != want {
				t.Fatalf("the keys are %s, want %s", states(found), want)
			}
			return found
		}
		first := wants(0, "active")["ES256:active"]
		wants(timing.RotateEvery-timing.PublishLead-time.Second, "active")
		next := wants(time.Second, "active pending")["ES256:pending"]
		wants(timing.PublishLead-time.Second, "active pending")
		after := wants(time.Second, "active retiring")
		if after["ES256:active"] != next || after["ES256:retiring"] != first {
			t.Errorf("after the change %v, want %s to sign and %s to retire", after, next, first)
		}
		wants(timing.Retain-time.Second, "active retiring")
		if last := wants(time.Second, "active"); last["ES256:active"] != next {
			t.Errorf("%v is left, want %s", last, next)
		}
		if left := get[int](h, `SELECT count(*) FROM signing_keys WHERE kid = ? AND state = 'removed' AND sealed IS NULL AND public_jwk <> ''`, first); left != 1 {
			t.Error("the removed key still has its private part, or lost its public one")
		}
		if n := get[int](h, `SELECT count(*) FROM audit_events WHERE subject_id = ?`, signing.Subject(first)); n != 4 {
			t.Errorf("the first key has %d events, want create, retire, confirm, remove", n)
		}
	})
}

// The remover relies on what is proven in the database, whatever it is asked.
func TestSigningKeyIsNotRemovedEarly(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	retire := func(kid string) (signing.State, error) {
		key, err := h.RetireSigningKey(t.Context(), operator, kid)
		return key.State, err
	}
	first := h.tend(0)["ES256:active"]
	if state, err := retire(first); !errors.Is(err, manage.ErrNeeded) || state != signing.Active {
		t.Errorf("the active key: %s, %v; want ErrNeeded", state, err)
	}
	_, from, err := h.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256))
	check(t, err)
	if want := h.now.Add(h.Signing.PublishLead); !from.Equal(want) {
		t.Errorf("it signs from %s, want %s", from, want)
	}
	h.tend(h.Signing.PublishLead)
	for _, after := range []time.Duration{0, h.Signing.TokenTTL, h.Signing.MinRetain() - h.Signing.TokenTTL - time.Microsecond} {
		h.now = h.now.Add(after)
		if _, err := retire(first); !errors.Is(err, manage.ErrNeeded) || !strings.Contains(err.Error(), "are good until") {
			t.Errorf("after %s: %v, want ErrNeeded", after, err)
		}
	}
	// Not even when nobody knows whether some replica still signs with it.
	until := get[int64](h, `SELECT needed_until FROM signing_keys WHERE kid = ?`, first)
	h.exec(`UPDATE signing_keys SET needed_until = NULL WHERE kid = ?`, first)
	h.now = h.now.Add(time.Hour)
	if _, err := retire(first); !errors.Is(err, manage.ErrNeeded) || !strings.Contains(err.Error(), "stopped signing") {
		t.Errorf("without proof: %v, want ErrNeeded", err)
	}
	h.exec(`UPDATE signing_keys SET needed_until = ? WHERE kid = ?`, until, first)
	for range 2 { // the second time it is gone already
		if state, err := retire(first); err != nil || state != signing.Removed {
			t.Errorf("when it is not needed: %s, %v; want removed", state, err)
		}
	}
	if _, err := retire("no such key"); !errors.Is(err, workspace.ErrNotFound) {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestPendingSigningKeyCanGo(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	h.tend(0)
	next, _, err := h.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256))
	check(t, err)
	again, _, err := h.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256))
	if check(t, err); again.ID != next.ID {
		t.Errorf("a second rotation makes %s, want the pending %s", again.ID, next.ID)
	}
	if key, err := h.RetireSigningKey(t.Context(), operator, next.ID); err != nil || key.State != signing.Removed {
		t.Errorf("the pending key: %s, %v", key.State, err)
	}
	if found := states(h.tend(0)); found != "active" {
		t.Errorf("the keys are %s", found)
	}
	if _, _, err := h.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.RS256)); !errors.Is(err, workspace.ErrNotFound) {
		t.Errorf("an algorithm without keys: %v", err)
	}
}

// An algorithm that audiences are configured with gets a key, is rotated, and can
// go when none is any more.
func TestSigningKeysOfSeveralAlgorithms(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	plain := h.Policy.Audiences
	form, err := policy.NewForm(policy.FormOptions{Algorithm: jwk.EdDSA})
	check(t, err)
	h.Policy.Audiences, err = policy.NewAudiences("https://booth.example.com", "", []policy.Audience{{Name: "https://api.example.com", Form: form}})
	check(t, err)
	if found := states(h.tend(0)); found != "EdDSA:active active" {
		t.Fatalf("the keys are %s", found)
	}
	h.tend(h.Signing.RotateEvery - h.Signing.PublishLead)
	found := h.tend(h.Signing.PublishLead)
	if states(found) != "EdDSA:active EdDSA:retiring active retiring" {
		t.Fatalf("after a rotation the keys are %s", states(found))
	}
	h.Policy.Audiences = plain
	key, err := h.RetireSigningKey(t.Context(), operator, found["EdDSA:active"])
	if err != nil || key.State != signing.Retiring || key.NeededUntil.IsZero() {
		t.Errorf("a key that no audience wants: %s until %s, %v", key.State, key.NeededUntil, err)
	}
	if found := states(h.tend(h.Signing.Retain)); found != "active" {
		t.Errorf("at the end the keys are %s", found)
	}
}

// When ReplaceSigningKeys returns, the old keys are gone and the new ones sign.
func TestReplaceSigningKeys(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.Timing = change.Timing{Lease: time.Hour, Renewal: 10 * time.Millisecond} // it acknowledges, or the test hangs
		before := h.tend(0)
		_, _, err := h.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256))
		check(t, err)
		ring := &signing.Ring{Reader: db.Reader(), Sealer: h.Sealer, Timing: h.Signing}
		stop := h.replica(ring, h.Timing, nil)
		defer stop()
		old, fresh, err := h.ReplaceSigningKeys(t.Context(), operator, []signing.Slot{signing.TokenSlot(jwk.ES256)})
		check(t, err)
		if len(old) != 2 || len(fresh) != 1 || !slices.ContainsFunc(old, func(k signing.Stored) bool { return k.ID == before["ES256:active"] }) {
			t.Fatalf("distrusted %d, made %d", len(old), len(fresh))
		}
		key, err := ring.Active(t.Context(), jwk.ES256)
		if set, _ := ring.Published(); err != nil || key.ID != fresh[0].ID || len(set.Keys) != 1 {
			t.Errorf("a replica signs with %v (%v) and publishes %d keys", key, err, len(set.Keys))
		}
		if n := get[int](h, `SELECT count(*) FROM signing_keys WHERE state = 'removed' AND sealed IS NULL`); n != 2 {
			t.Errorf("%d keys are destroyed, want 2", n)
		}
	})
}

// replica runs a follower with a ring until stop is called. Its renewals wait for
// gate, if there is one.
func (h *house) replica(ring *signing.Ring, timing change.Timing, gate func()) (stop func()) {
	h.t.Helper()
	follower := &change.Follower{
		Database: h.Database, Timing: timing, Host: "replica:1", Log: slog.New(slog.DiscardHandler), Holds: ring.Holds,
		OnChange: []func(context.Context, change.Batch) error{func(ctx context.Context, batch change.Batch) error {
			if gate != nil {
				gate()
			}
			return ring.Follow(ctx, batch)
		}},
	}
	check(h.t, follower.Start(h.t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { follower.Run(ctx) })
	return func() { cancel(); running.Wait() }
}

// A key does not sign before every replica that lives has opened it. One that
// cannot is named; when it is gone the rotation goes on.
func TestRotationWaitsForAReplicaThatCannotOpenTheKey(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.Timing = change.Timing{Lease: time.Second, Renewal: 10 * time.Millisecond} // not lost on a busy machine
		first := h.tend(0)["ES256:active"]
		good := &signing.Ring{Reader: db.Reader(), Sealer: h.Sealer, Timing: h.Signing}
		defer h.replica(good, h.Timing, nil)()
		sick := &signing.Ring{Reader: db.Reader(), Sealer: h.Sealer, Timing: h.Signing}
		stop := h.replica(sick, h.Timing, nil)

		// Nobody rotates on a machine where another key-encryption key is configured.
		other := *h.Manager
		other.Sealer = otherSealer(t)
		if _, _, err := other.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256)); !errors.Is(err, signing.ErrSealed) {
			t.Errorf("rotating with another key-encryption key: %v, want ErrSealed", err)
		}
		next := h.insertSigningKey(other.Sealer)
		_, _, err := h.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256)) // which confirms the one that is there
		check(t, err)
		h.now = h.now.Add(h.Signing.PublishLead)
		err = h.TendSigningKeys(t.Context(), operator)
		if !errors.Is(err, change.ErrNotHeld) || !strings.Contains(err.Error(), next.ID) || !strings.Contains(err.Error(), "replica:1") {
			t.Errorf("tending: %v, want ErrNotHeld that names key and replica", err)
		}
		if sick.Ready() == nil {
			t.Error("the replica does not know of its fault")
		}
		if key, err := sick.Active(t.Context(), jwk.ES256); err != nil || key.ID != first {
			t.Errorf("the replica signs with %v, %v; want the key before", key, err)
		}
		if found := h.signingKeys(); found["ES256:active"] != first || found["ES256:pending"] != next.ID {
			t.Errorf("the keys are %v", found)
		}
		// It is taken away, and the key with it.
		stop()
		_, err = h.RetireSigningKey(t.Context(), operator, next.ID)
		check(t, err)
		_, _, err = h.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256))
		check(t, err)
		if found := states(h.tend(h.Signing.PublishLead)); found != "active retiring" {
			t.Errorf("at the end the keys are %s", found)
		}
	})
}

// insertSigningKey puts a pending key into the database that somebody else sealed.
func (h *house) insertSigningKey(sealer *signing.Sealer) signing.Stored {
	h.t.Helper()
	key, err := signing.Generate(sealer, signing.TokenSlot(jwk.ES256), signing.Pending, workspace.At(h.now))
	check(h.t, err)
	check(h.t, h.Database.InTx(h.t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		seq, err := change.Lock(ctx, tx)
		if err != nil {
			return err
		}
		if _, err := signing.Insert(ctx, tx, key); err != nil {
			return err
		}
		return change.Record(ctx, tx, seq, workspace.At(h.now), signing.Subject(key.ID))
	}))
	return key
}

func otherSealer(t *testing.T) *signing.Sealer {
	t.Helper()
	s, err := signing.ParseSealer("other:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	check(t, err)
	return s
}

// A key counts as published only when every replica has taken it in: a replica
// that is slow is waited for, one that is stuck until it has lost its lease.
func TestPublicationIsConfirmedByEveryReplica(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	h.tend(0)
	stuck, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var started atomic.Bool
	ring := &signing.Ring{Reader: h.Database.Reader(), Sealer: h.Sealer, Timing: h.Signing}
	timing := change.Timing{Lease: time.Hour, Renewal: 10 * time.Millisecond}
	stop := h.replica(ring, timing, func() {
		if started.Load() {
			once.Do(func() { close(stuck) })
			<-free
		}
	})
	started.Store(true)
	slow := *h.Manager
	slow.Timing = timing
	done := make(chan error)
	go func() {
		_, _, err := slow.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256))
		done <- err
	}()
	<-stuck
	if n := get[int](h, `SELECT count(*) FROM signing_keys WHERE state = 'pending' AND published_at IS NULL`); n != 1 {
		t.Errorf("%d keys wait to be published, want 1", n)
	}
	select {
	case err := <-done:
		t.Errorf("the rotation did not wait: %v", err)
	default:
	}
	close(free)
	check(t, <-done)
	if set, err := ring.Published(); err != nil || len(set.Keys) != 2 {
		t.Errorf("the replica publishes %d keys, %v; want 2", len(set.Keys), err)
	}
	stop()
}

// Replicas that tend at once take each step once.
func TestTendingAtOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		for round := range 6 {
			var running sync.WaitGroup
			for range 4 {
				running.Go(func() {
					if err := h.TendSigningKeys(t.Context(), operator); err != nil && !errors.Is(err, manage.ErrNeeded) {
						t.Errorf("round %d: %v", round, err)
					}
				})
			}
			running.Wait()
			for alg, n := range h.counts() {
				if n > 1 {
					t.Errorf("round %d: %d keys are %s", round, n, alg)
				}
			}
			h.now = h.now.Add(h.Signing.RotateEvery - h.Signing.PublishLead/2)
		}
		if n := get[int](h, `SELECT count(*) FROM signing_keys WHERE state = 'removed'`); n < 2 {
			t.Errorf("%d keys were removed: the rotation stands still", n)
		}
	})
}

func (h *house) counts() map[string]int {
	h.t.Helper()
	stored, err := signing.Published(h.t.Context(), h.Database.Reader())
	check(h.t, err)
	found := map[string]int{}
	for _, k := range stored {
		if k.State != signing.Retiring {
			found[fmt.Sprintf("%s %s", k.Slot(), k.State)]++
		}
	}
	return found
}
