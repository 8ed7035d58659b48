package console_test

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// rotated makes a key with two secrets, and returns the ID of the old one.
func (s *site) rotated(n manage.NewKey, grace time.Duration) (key manage.Issued, old string) {
	s.t.Helper()
	key = s.key(s.ws, "ci", n)
	_, err := s.manager.RotateKey(s.t.Context(), s.operator, s.ws.ID, key.ID, manage.Rotation{Grace: grace})
	fatal(s.t, err)
	return key, s.look(key.ID).Secrets[1].ID
}

// A key that is being rotated says how far that is, and who still uses the old secret.
func TestPageOfARotatingKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key, old := s.rotated(manage.NewKey{}, 6*time.Hour)
	s.later(time.Hour)
	v := s.as(s.owner)
	v.get(s.keyPath(key.ID)).want(t, http.StatusOK, "Rotating: the old secret works until", "It ends", "in 5 hours", "It was never used", "The new secret was not used yet",
		`max="21600"`, s.keyPath(key.ID, "secrets", old, "end"), s.keyPath(key.ID, "secrets", old, "extend"), ">Old<", ">Current<")
	s.lastUsed(old, s.now().Add(-12*time.Minute), "curl/8.5")
	v.get(s.keyPath(key.ID)).want(t, http.StatusOK, "12 minutes ago", "from 203.0.113.9, curl/8.5", "somebody has not got the new one yet")
	s.later(6 * time.Hour)
	s.as(s.owner).get(s.keyPath(key.ID)).want(t, http.StatusOK, ">Ended<").without(t, "Rotating")
}

func TestTheOldSecretIsEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key, old := s.rotated(manage.NewKey{}, 6*time.Hour)
	v, path := s.as(s.owner), s.keyPath(key.ID, "secrets", old, "end")
	v.get(path).want(t, http.StatusOK, "It was never used.", "End the old secret")
	to := v.post(path, nil).location(t)
	if to != s.keyPath(key.ID)+"?notice=secret-ended" {
		t.Errorf("sent to %s", to)
	}
	v.get(to).want(t, http.StatusOK, "The old secret has ended").without(t, "Rotating")
	if end := s.look(key.ID).Secrets[1].ExpiresAt; end.After(s.now()) {
		t.Errorf("it ends at %s", end)
	}
	v.post(s.keyPath(key.ID, "secrets", s.look(key.ID).Secrets[0].ID, "end"), nil).want(t, http.StatusConflict, "newest secret")
	v.get(s.keyPath(key.ID, "secrets", "sec_none", "end")).want(t, http.StatusNotFound)
	viewer := s.user("vera@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	s.as(viewer).post(path, nil).want(t, http.StatusForbidden, "api-keys:update")
}

func TestTheOldSecretGetsMoreTime(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key, old := s.rotated(manage.NewKey{ExpiresAt: s.now().Add(3 * day)}, time.Hour)
	v, path, end := s.as(s.owner), s.keyPath(key.ID, "secrets", old, "extend"), s.look(key.ID).Secrets[1].ExpiresAt
	v.get(path).want(t, http.StatusOK, "1 hour more", "24 hours more", "7 days more: until", "not possible: the key ends then", "As long as possible")
	v.post(path, nil).want(t, http.StatusUnprocessableEntity, "Choose how much more time it gets.")
	until := end.Add(day).Unix()
	form := url.Values{"until": {strconv.FormatInt(until, 10)}}
	for range 2 { // sent again it means the same time
		if to := v.post(path, form).location(t); to != s.keyPath(key.ID)+"?notice=secret-extended" {
			t.Errorf("sent to %s", to)
		}
	}
	if got := s.look(key.ID).Secrets[1].ExpiresAt.Unix(); got != until {
		t.Errorf("it ends at %d, want %d", got, until)
	}
	form.Set("until", strconv.FormatInt(end.Add(5*day).Unix(), 10))
	v.post(path, form).want(t, http.StatusUnprocessableEntity, "the key ends then")
	seconds := int64(7200)
	s.rules(policy.Rules{MaxGraceSeconds: &seconds})
	v.get(path).want(t, http.StatusOK, "not possible: policy bounds the grace period").without(t, "As long as possible")
	viewer := s.user("vera@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	s.as(viewer).post(path, form).want(t, http.StatusForbidden)
	s.later(3 * day)
	s.as(s.owner).get(path).want(t, http.StatusConflict, "no old secret that works")
}
