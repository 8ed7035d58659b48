package manage_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// An old secret gets more time, to the moment that is asked for and no other secret
// with it.
func TestAnOldSecretGetsMoreTime(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		old := h.key(h.sa)
		_, err := h.RotateKey(t.Context(), operator, h.ws, old.ID, manage.Rotation{Grace: time.Hour})
		check(t, err)
		secrets := h.read(old.ID).Secrets
		until := h.now.Add(3 * time.Hour)
		check(t, h.ExtendSecret(t.Context(), manage.User(h.manager), h.ws, old.ID, secrets[1].ID, until))
		h.now = until.Add(-time.Second)
		if !h.works(old) {
			t.Error("the old secret ended before its time")
		}
		events := h.events(string(h.ws))
		if last := events[len(events)-1]; last.Action != "key.extend_secret" || last.SubjectID != string(old.ID) || !strings.Contains(last.Detail, secrets[1].ID) {
			t.Errorf("the last event is %+v", last)
		}
		before := h.dump()
		check(t, h.ExtendSecret(t.Context(), manage.User(h.manager), h.ws, old.ID, secrets[1].ID, until))
		if h.dump() != before {
			t.Error("doing it again changes something")
		}
		h.now = until
		if h.works(old) {
			t.Error("the old secret goes on")
		}
		want(t, "an ended secret", workspace.ErrConflict, h.ExtendSecret(t.Context(), operator, h.ws, old.ID, secrets[1].ID, until.Add(time.Hour)))
		if now := h.read(old.ID).Secrets[0]; !now.ExpiresAt.IsZero() {
			t.Errorf("the newest secret ends at %s", now.ExpiresAt)
		}
	})
}

// Nobody gives an old secret more than policy, the key and their own rights allow.
func TestHowMuchTimeAnOldSecretGets(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	key, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "ci", ExpiresAt: h.now.Add(5 * day)})
	check(t, err)
	_, err = h.RotateKey(t.Context(), operator, h.ws, key.ID, manage.Rotation{Grace: time.Hour})
	check(t, err)
	secrets := h.read(key.ID).Secrets
	extend := func(by manage.Caller, secret string, d time.Duration) error {
		return h.ExtendSecret(t.Context(), by, h.ws, key.ID, secret, h.now.Add(d))
	}
	want(t, "a viewer", workspace.ErrForbidden, extend(manage.User(h.viewer), secrets[1].ID, 2*time.Hour))
	want(t, "an outsider", workspace.ErrNotFound, extend(manage.User(h.outsider), secrets[1].ID, 2*time.Hour))
	want(t, "the newest", workspace.ErrConflict, extend(operator, secrets[0].ID, 2*time.Hour))
	want(t, "none", workspace.ErrNotFound, extend(operator, "sec_none", 2*time.Hour))
	want(t, "less time", workspace.ErrInvalid, extend(operator, secrets[1].ID, time.Minute))
	want(t, "beyond the key", policy.ErrPolicy, extend(operator, secrets[1].ID, 6*day))
	_, _, err = h.SetKeyPolicy(t.Context(), operator, h.ws, policy.Rules{MaxGraceSeconds: ptr[int64](7200)})
	check(t, err)
	h.now = h.now.Add(30 * time.Minute) // the time counts from the rotation
	want(t, "beyond the grace period", policy.ErrPolicy, extend(operator, secrets[1].ID, 91*time.Minute))
	check(t, extend(operator, secrets[1].ID, 90*time.Minute))
	check(t, h.RevokeKey(t.Context(), operator, h.ws, key.ID, ""))
	want(t, "a revoked key", manage.ErrNotLive, extend(operator, secrets[1].ID, 91*time.Minute))
}

// More time for an old secret of a personal key gives only its user.
func TestOldSecretsOfPersonalKeys(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	key, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{UserID: h.viewer, Name: "mine"})
	check(t, err)
	_, err = h.RotateKey(t.Context(), operator, h.ws, key.ID, manage.Rotation{Grace: time.Hour})
	check(t, err)
	secret, until := h.read(key.ID).Secrets[1].ID, h.now.Add(2*time.Hour)
	want(t, "an owner", workspace.ErrForbidden, h.ExtendSecret(t.Context(), manage.User(h.owner), h.ws, key.ID, secret, until))
	want(t, "its user", nil, h.ExtendSecret(t.Context(), manage.User(h.viewer), h.ws, key.ID, secret, until))
}

// A credential goes on only by those who hold all that it can obtain.
func TestOldSecretsThatCanDoMore(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	key := h.key(h.account("boss", manage.NewServiceAccount{Scopes: oauth.NewScope("members:delete")}))
	_, err := h.RotateKey(t.Context(), operator, h.ws, key.ID, manage.Rotation{Grace: time.Hour})
	check(t, err)
	secret, until := h.read(key.ID).Secrets[1].ID, h.now.Add(2*time.Hour)
	want(t, "a manager", workspace.ErrForbidden, h.ExtendSecret(t.Context(), manage.User(h.manager), h.ws, key.ID, secret, until))
	want(t, "an owner", nil, h.ExtendSecret(t.Context(), manage.User(h.owner), h.ws, key.ID, secret, until))
}
