package manage_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// sealerOf has a key-encryption key for each ID, the first seals. newManager's is "1".
func sealerOf(t testing.TB, ids ...byte) *signing.Sealer {
	t.Helper()
	var parts []string
	for _, id := range ids {
		parts = append(parts, fmt.Sprintf("%d:%s", id, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{id}, 32))))
	}
	sealer, err := signing.ParseSealer(strings.Join(parts, ","))
	check(t, err)
	return sealer
}

// sealedBy wants every private key to be sealed by that key-encryption key, and to open
// under it alone.
func (h *house) sealedBy(id byte) {
	h.t.Helper()
	stored, err := signing.Published(h.t.Context(), h.Database.Reader())
	check(h.t, err)
	for _, key := range stored {
		if err := key.Opens(sealerOf(h.t, id)); err != nil || key.SealerID != fmt.Sprint(id) {
			h.t.Errorf("%s %s is sealed by %s: %v", key.State, key.Slot(), key.SealerID, err)
		}
	}
	if len(stored) < 4 {
		h.t.Errorf("%d keys were looked at, want several", len(stored))
	}
}

// Every key is sealed anew or none, nothing else of it changes, and it is recorded.
func TestRewrap(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.tend(0)
		h.tend(h.Signing.RotateEvery - h.Signing.PublishLead)
		h.tend(h.Signing.PublishLead) // the first is retiring
		_, _, err := h.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256))
		check(t, err)
		life := states(h.signingKeys())
		h.sealedBy(1)

		h.Sealer = sealerOf(t, 2)
		_, err = h.RewrapSigningKeys(t.Context(), operator)
		want(t, "without the old one", signing.ErrSealed, err)
		h.sealedBy(1)

		h.Sealer = sealerOf(t, 2, 1)
		before, err := h.RewrapSigningKeys(t.Context(), operator)
		check(t, err)
		h.sealedBy(2)
		if got := states(h.signingKeys()); got != life || !strings.Contains(got, "retiring") || !strings.Contains(got, "pending") {
			t.Errorf("the keys were %s and are %s", life, got)
		}
		recorded := get[int](h, `SELECT COUNT(*) FROM audit_events WHERE action = 'signing_key.rewrap'`)
		if recorded != len(before) || len(before) < 4 {
			t.Errorf("%d keys were sealed anew and %d recorded", len(before), recorded)
		}
		if again, err := h.RewrapSigningKeys(t.Context(), operator); err != nil || len(again) != 0 {
			t.Errorf("again: %d keys, %v", len(again), err)
		}
	})
}

// Nothing is sealed by a key-encryption key that a server lacks, or has another one of
// that name in place of: neither what is there nor what is made.
func TestRewrapWaitsForEveryServer(t *testing.T) {
	db := schematest.SQLite(t)
	h := newHouse(t, db)
	h.tend(0)
	h.Timing = change.Timing{Lease: time.Second, Renewal: 10 * time.Millisecond} // not lost on a busy machine
	var holds atomic.Value
	holds.Store(sealerOf(t, 1).Holds())
	other := &change.Follower{
		Database: db, Timing: h.Timing, Host: "other:1", Log: slog.New(slog.DiscardHandler), Holds: func() string { return holds.Load().(string) },
	}
	check(t, other.Start(t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { other.Run(ctx) })
	defer func() { cancel(); running.Wait() }()

	h.Sealer = sealerOf(t, 2, 1)
	_, err := h.RewrapSigningKeys(t.Context(), operator)
	if want(t, "rewrap", change.ErrNotHeld, err); err != nil && !strings.Contains(err.Error(), "other:1") {
		t.Errorf("the server is not named: %v", err)
	}
	_, _, err = h.RotateSigningKey(t.Context(), operator, signing.TokenSlot(jwk.ES256))
	want(t, "a new key", change.ErrNotHeld, err)
	_, _, err = h.ReplaceSigningKeys(t.Context(), operator, []signing.Slot{signing.TokenSlot(jwk.ES256)})
	want(t, "an emergency", change.ErrNotHeld, err)
	holds.Store(strings.Replace(sealerOf(t, 3).Word(), ":3:", ":2:", 1))
	_, err = h.RewrapSigningKeys(t.Context(), operator)
	want(t, "rewrap beside another one of that name", change.ErrNotHeld, err)

	holds.Store(sealerOf(t, 1, 2).Holds())
	before, err := h.RewrapSigningKeys(t.Context(), operator)
	if check(t, err); len(before) == 0 {
		t.Error("nothing was sealed anew")
	}
}
