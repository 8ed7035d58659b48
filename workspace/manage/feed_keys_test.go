package manage_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// There is always one key that signs the feed, and it goes through the same life as
// those of tokens, beside them.
func TestFeedKeyLife(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		tokens := h.tend(0)["ES256:active"]
		first := h.signingKeysFor(signing.Feed)["ES256:active"]
		if first == "" || first == tokens {
			t.Fatalf("%q signs the feed and %q tokens", first, tokens)
		}
		next, from, err := h.RotateSigningKey(t.Context(), operator, signing.FeedSlot())
		check(t, err)
		if next.Purpose != signing.Feed || !from.Equal(h.now.Add(h.Signing.PublishLead)) {
			t.Errorf("the next is %+v, from %s", next, from)
		}
		for _, step := range []struct {
			after time.Duration
			want  string
		}{
			{h.Signing.PublishLead - time.Second, "active pending"},
			{time.Second, "active retiring"},
			{h.Signing.Retain - time.Second, "active retiring"},
			{time.Second, "active"},
		} {
			if others := h.tend(step.after); states(others) != "active" || others["ES256:active"] != tokens {
				t.Errorf("the keys of tokens are %v", others)
			}
			if found := h.signingKeysFor(signing.Feed); states(found) != step.want {
				t.Errorf("the keys of the feed are %v, want %s", found, step.want)
			}
		}
		if found := h.signingKeysFor(signing.Feed); found["ES256:active"] != next.ID {
			t.Errorf("%v is left, want %s", found, next.ID)
		}
		h.wantPurpose(next.ID, signing.Feed)
		h.wantPurpose(tokens, signing.Tokens)
		// By itself it is rotated, too.
		h.tend(h.Signing.RotateEvery)
		if found := h.signingKeysFor(signing.Feed); states(found) != "active pending" {
			t.Errorf("after its time the keys of the feed are %v", found)
		}
	})
}

// wantPurpose checks that each event of a key names what it is for.
func (h *house) wantPurpose(kid string, purpose signing.Purpose) {
	h.t.Helper()
	events := 0
	for _, e := range h.events("instance") {
		if e.SubjectID != signing.Subject(kid) {
			continue
		}
		events++
		var detail struct {
			Purpose signing.Purpose `json:"purpose"`
		}
		if err := json.Unmarshal([]byte(e.Detail), &detail); err != nil || detail.Purpose != purpose {
			h.t.Errorf("%s of %s: the detail is %s, want the purpose %q", e.Action, kid, e.Detail, purpose)
		}
	}
	if events == 0 {
		h.t.Errorf("there is no event of %s", kid)
	}
}

// The key that signs the feed cannot be ended, and an algorithm that only tokens
// are signed with is none of the feed's.
func TestFeedKeyIsNeeded(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	h.tend(0)
	kid := h.signingKeysFor(signing.Feed)["ES256:active"]
	if _, err := h.RetireSigningKey(t.Context(), operator, kid); !errors.Is(err, manage.ErrNeeded) || !strings.Contains(err.Error(), "it signs the feed of revocations: rotate it instead") {
		t.Errorf("retire the active one: %v", err)
	}
	_, _, err := h.RotateSigningKey(t.Context(), operator, signing.Slot{Purpose: signing.Feed, Algorithm: jwk.RS256})
	if !errors.Is(err, workspace.ErrNotFound) || !strings.Contains(err.Error(), "no key signs with RS256 for the feed") {
		t.Errorf("rotate another algorithm: %v", err)
	}
}

// In an emergency the keys of the feed go alone: tokens stay good, and replicas
// sign the feed with the new one.
func TestReplaceFeedKeys(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.Timing = change.Timing{Lease: time.Hour, Renewal: 10 * time.Millisecond} // it acknowledges, or the test hangs
		tokens := h.tend(0)
		before := h.signingKeysFor(signing.Feed)["ES256:active"]
		ring := &signing.Ring{Purpose: signing.Feed, Reader: db.Reader(), Sealer: h.Sealer, Timing: h.Signing}
		defer h.replica(ring, h.Timing, nil)()
		old, fresh, err := h.ReplaceSigningKeys(t.Context(), operator, []signing.Slot{signing.FeedSlot()})
		check(t, err)
		if len(old) != 1 || old[0].ID != before || len(fresh) != 1 || fresh[0].Purpose != signing.Feed {
			t.Fatalf("distrusted %+v, made %+v", old, fresh)
		}
		set, err := ring.Published()
		if err != nil || len(set.Keys) != 1 || set.Keys[0].ID != fresh[0].ID {
			t.Errorf("a replica publishes %+v, %v", set, err)
		}
		if key, err := ring.Active(t.Context(), signing.FeedAlgorithm); err != nil || key.ID != fresh[0].ID {
			t.Errorf("it signs with %v, %v", key, err)
		}
		if after := h.signingKeys(); !maps.Equal(after, tokens) {
			t.Errorf("the keys of tokens are %v, and were %v", after, tokens)
		}
		if n := get[int](h, `SELECT count(*) FROM revocations WHERE kind = 'kid'`); n != 0 {
			t.Errorf("%d signing keys of tokens are revoked", n)
		}
	})
}

// A key of the feed does not sign before every replica reports to hold it.
func TestFeedKeyWaitsForReplicas(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	h.Timing = change.Timing{Lease: time.Second, Renewal: 10 * time.Millisecond} // not lost on a busy machine
	h.tend(0)
	// It holds the keys of tokens alone.
	stop := h.replica(&signing.Ring{Reader: h.Database.Reader(), Sealer: h.Sealer, Timing: h.Signing}, h.Timing, nil)
	next, _, err := h.RotateSigningKey(t.Context(), operator, signing.FeedSlot())
	check(t, err)
	h.now = h.now.Add(h.Signing.PublishLead)
	if err := h.TendSigningKeys(t.Context(), operator); !errors.Is(err, change.ErrNotHeld) || !strings.Contains(err.Error(), next.ID) {
		t.Errorf("tending: %v, want ErrNotHeld that names it", err)
	}
	stop()
	h.tend(0)
	if found := h.signingKeysFor(signing.Feed); found["ES256:active"] != next.ID {
		t.Errorf("the keys of the feed are %v, want %s to sign", found, next.ID)
	}
}
