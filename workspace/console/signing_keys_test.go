package console_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// signingKeys are those that are published, the oldest first.
func (s *site) signingKeys() []signing.Stored {
	s.t.Helper()
	all, err := s.manager.SigningKeys(s.t.Context(), s.operator)
	fatal(s.t, err)
	return slices.DeleteFunc(all, func(k signing.Stored) bool { return k.State == signing.Removed })
}

func (s *site) tokenKeys() []signing.Stored {
	return slices.DeleteFunc(s.signingKeys(), func(k signing.Stored) bool { return k.Purpose != signing.Tokens })
}

const (
	signingPath = "/organization/signing-keys"
	tokenSlot   = "?purpose=token&alg=ES256"
)

// A key goes through its life, and the page says at each step what comes next.
func TestSigningKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.as(s.owner)
	ada.get(signingPath).want(t, http.StatusOK, "There are no signing keys yet")
	fatal(t, s.manager.EnsureSigningKeys(t.Context(), s.operator))
	first := s.tokenKeys()[0]
	ada.get(signingPath).want(t, http.StatusOK, first.ID, "Tokens, ES256", "Revocation feed, ES256", "Signs</span>", "Is replaced", "in 30 days", s.url+"/.well-known/jwks.json", "<rect", ">Published<").
		without(t, "retire?kid=", "Pending")

	before := s.eventCount()
	ada.get(signingPath+"/rotate"+tokenSlot).want(t, http.StatusOK, "24 hours", "Rotate now")
	if s.eventCount() != before {
		t.Fatal("asking has changed something")
	}
	if to := ada.post(signingPath+"/rotate"+tokenSlot, nil).location(t); to != signingPath+"?notice=signing-key-rotated" {
		t.Errorf("sent to %s", to)
	}
	next := s.tokenKeys()[1]
	ada.get(signingPath).want(t, http.StatusOK, "Pending</span>", "Begins to sign", "retire?kid="+next.ID)
	ada.get(signingPath+"/rotate"+tokenSlot).want(t, http.StatusOK, "rotating now changes nothing")
	ada.post(signingPath+"/rotate"+tokenSlot, nil).location(t)
	if n := len(s.tokenKeys()); n != 2 {
		t.Errorf("%d keys after a second rotation", n)
	}
	fatal(t, s.manager.TendSigningKeys(t.Context(), s.operator))
	s.later(signing.DefaultTiming.PublishLead + time.Minute)
	fatal(t, s.manager.TendSigningKeys(t.Context(), s.operator))
	ada = s.as(s.owner)
	ada.get(signingPath).want(t, http.StatusOK, "Retiring</span>", "Is removed")
	ada.post(signingPath+"/retire?kid="+first.ID, nil).want(t, http.StatusUnprocessableEntity, "are good until")
	s.later(2 * signing.DefaultTiming.Retain)
	ada = s.as(s.owner)
	ada.get(signingPath+"/retire?kid="+first.ID).want(t, http.StatusOK, "Remove the key")
	ada.post(signingPath+"/retire?kid="+first.ID, nil).location(t)
	ada.get(signingPath).want(t, http.StatusOK, "1 removed key", first.ID)
	if kept := s.tokenKeys(); len(kept) != 1 || kept[0].ID != next.ID {
		t.Errorf("left: %v", kept)
	}
}

// The key that signs is not removed, and a pending one may be.
func TestRetireSigningKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	fatal(t, s.manager.EnsureSigningKeys(t.Context(), s.operator))
	ada, active := s.as(s.owner), s.tokenKeys()[0]
	ada.post(signingPath+"/retire?kid="+active.ID, nil).want(t, http.StatusUnprocessableEntity, "rotate it instead")
	pending, _, err := s.manager.RotateSigningKey(t.Context(), s.operator, signing.TokenSlot("ES256"))
	fatal(t, err)
	ada.get(signingPath+"/retire?kid="+pending.ID).want(t, http.StatusOK, "It has never signed anything")
	ada.post(signingPath+"/retire?kid="+pending.ID, nil).location(t)
	if left := s.tokenKeys(); len(left) != 1 || left[0].ID != active.ID {
		t.Errorf("left: %v", left)
	}
	ada.get(signingPath+"/retire?kid=%3Cscript%3E").want(t, http.StatusNotFound)
	for _, slot := range []string{"", "?purpose=token&alg=none", "?purpose=feed&alg=RS256"} {
		ada.post(signingPath+"/rotate"+slot, nil).want(t, http.StatusNotFound)
		ada.post(signingPath+"/replace"+slot, url.Values{"confirm": {"distrust"}}).want(t, http.StatusNotFound)
	}
}

// An emergency wants a word typed, and then replaces the keys of that slot alone.
func TestReplaceSigningKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	fatal(t, s.manager.EnsureSigningKeys(t.Context(), s.operator))
	ada, before := s.as(s.owner), s.signingKeys()
	ada.get(signingPath+"/replace"+tokenSlot).want(t, http.StatusOK, "Every token that they signed is dead", "Type “distrust” to confirm")
	ada.post(signingPath+"/replace"+tokenSlot, url.Values{"confirm": {"Distrust"}}).want(t, http.StatusUnprocessableEntity, "Type “distrust” exactly")
	if after := s.signingKeys(); after[0].ID != before[0].ID || after[1].ID != before[1].ID {
		t.Fatal("the keys are others already")
	}
	ada.post(signingPath+"/replace"+tokenSlot, url.Values{"confirm": {"distrust"}}).location(t)
	for _, was := range before {
		kept := slices.ContainsFunc(s.signingKeys(), func(k signing.Stored) bool { return k.ID == was.ID })
		if kept != (was.Purpose == signing.Feed) {
			t.Errorf("the %s key is kept: %v", was.Purpose, kept)
		}
	}
	ada.get(signingPath+"/replace?purpose=feed&alg=ES256").want(t, http.StatusOK, "refuse the feed").without(t, "Every token")
}

// Nobody learns of signing keys, or makes the server generate any, who may not
// change them.
func TestSigningKeysAreAuthorisedFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	fatal(t, s.manager.EnsureSigningKeys(t.Context(), s.operator))
	pending, _, err := s.manager.RotateSigningKey(t.Context(), s.operator, signing.TokenSlot("ES256"))
	fatal(t, err)
	bob := manage.User(s.user("bob@example.com", false).ID)
	if k, _, err := s.manager.RotateSigningKey(t.Context(), bob, signing.TokenSlot("ES256")); err == nil || k.ID != "" {
		t.Errorf("rotating: %s, %v", k.ID, err)
	}
	if k, err := s.manager.RetireSigningKey(t.Context(), bob, pending.ID); err == nil || k.ID != "" {
		t.Errorf("retiring: %s, %v", k.ID, err)
	}
}
