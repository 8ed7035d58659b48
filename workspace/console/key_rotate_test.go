package console_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// A rotation shows the new secret once, and the old one goes on for as long as was
// chosen.
func TestAKeyIsRotated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	v, path := s.as(s.owner), s.keyPath(key.ID, "rotate")
	form := url.Values{"once": {v.get(path).want(t, http.StatusOK, `value="86400" checked`, "For 7 days, until").found(t, onceIn)}, "grace": {"86400"}}
	shown := v.post(path, form)
	secret := shown.want(t, http.StatusOK, string(key.ID)).found(t, secretIn)
	if secret == key.Secret.Reveal() {
		t.Error("it is the old secret")
	}
	k := s.look(key.ID)
	if left := k.Secrets[1].ExpiresAt.Sub(s.now()); len(k.Secrets) != 2 || left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("%d secrets, the old one for %s", len(k.Secrets), left)
	}
	v.post(path, form).want(t, http.StatusOK, "cannot be shown again").without(t, secret)
	if again := s.look(key.ID); len(again.Secrets) != 2 || again.UpdatedAt != k.UpdatedAt {
		t.Errorf("sent again, the key has %d secrets", len(again.Secrets))
	}
	form.Set("grace", "3600")
	v.post(path, form).want(t, http.StatusConflict, "sent before", `value="3600" checked`)
	v.get(path).want(t, http.StatusOK, "being rotated already", "its oldest one").without(t, secret)
}

func TestARotationThatStopsTheOldSecret(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	v, path := s.as(s.owner), s.keyPath(key.ID, "rotate")
	v.post(path, url.Values{"grace": {"3600"}, "revoke_tokens": {"yes"}}).want(t, http.StatusUnprocessableEntity, "only when the old secret stops immediately", `value="3600" checked`, `value="yes" checked`)
	v.post(path, nil).want(t, http.StatusUnprocessableEntity, "Choose for how long")
	v.post(path, url.Values{"grace": {"0"}, "revoke_tokens": {"yes"}}).want(t, http.StatusOK)
	k := s.look(key.ID)
	if len(k.Secrets) != 2 || k.Secrets[1].ExpiresAt.After(s.now()) {
		t.Errorf("the old secret: %+v", k.Secrets)
	}
	receipt, found, err := s.manager.KeyReceipt(t.Context(), s.operator, s.ws.ID, key.ID)
	fatal(t, err)
	if !found || receipt.Cause != revocation.Changed {
		t.Errorf("tokens are not denied: %+v", receipt)
	}
}

// What is not possible is not offered, and says why.
func TestWhatBoundsARotation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{ExpiresAt: s.now().Add(5 * time.Hour)})
	v, path := s.as(s.owner), s.keyPath(key.ID, "rotate")
	v.get(path).want(t, http.StatusOK, `value="3600" checked`, `value="86400" disabled`, "the key ends before that, in 5 hours")
	seconds := int64(1800)
	s.rules(policy.Rules{MaxGraceSeconds: &seconds})
	v.get(path).want(t, http.StatusOK, `value="0" checked`, `value="3600" disabled`, "policy allows at most 30 minutes")
	v.post(path, url.Values{"grace": {"3600"}}).want(t, http.StatusUnprocessableEntity, "policy allows at most 30m0s")
	days := int64(1)
	s.rules(policy.Rules{MaxLifetimeDays: &days})
	s.later(4 * time.Hour)
	long := s.key(s.ws, "long", manage.NewKey{ExpiresAt: s.now().Add(day)})
	s.later(2 * time.Hour)
	s.as(s.owner).get(s.keyPath(long.ID, "rotate")).want(t, http.StatusOK, `value="86400" disabled`)
}

func TestWhoMayRotate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	viewer := s.user("vera@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	path := s.keyPath(key.ID, "rotate")
	s.as(viewer).post(path, url.Values{"grace": {"0"}}).want(t, http.StatusForbidden, "api-keys:update")
	s.as(s.user("otto@example.com", false)).post(path, url.Values{"grace": {"0"}}).want(t, http.StatusNotFound)
	mine, err := s.manager.CreatePersonalKey(t.Context(), manage.User(viewer.ID), s.ws.ID, manage.NewKey{Name: "laptop"})
	fatal(t, err)
	s.as(s.owner).post(s.keyPath(mine.ID, "rotate"), url.Values{"grace": {"0"}}).want(t, http.StatusForbidden, "only they may have its secret")
	s.as(viewer).post(s.keyPath(mine.ID, "rotate"), url.Values{"grace": {"0"}}).want(t, http.StatusOK).found(t, secretIn)
	fatal(t, s.manager.RevokeKey(t.Context(), s.operator, s.ws.ID, key.ID, ""))
	s.as(s.owner).post(path, url.Values{"grace": {"0"}}).want(t, http.StatusConflict, "create a new one", "Copy as new key")
}
