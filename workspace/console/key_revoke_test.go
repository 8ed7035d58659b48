package console_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// Revoking a key that is in use says what stops, and asks for its name.
func TestABusyKeyIsRevoked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	s.exchanges(key, "issued", 312)
	s.exchanges(key, "wrong_credentials", 5)
	s.lastUsed(s.look(key.ID).Secrets[0].ID, s.now().Add(-3*time.Minute), "gitlab-runner-7")
	v, path := s.as(s.owner), s.keyPath(key.ID, "revoke")
	v.get(path).want(t, http.StatusOK, "Used 312 times in the last 24 hours", "3 minutes ago", "gitlab-runner-7", "203.0.113.9", "up to 10 minutes", "Type “ci” to confirm")
	v.post(path, url.Values{"reason": {hostile}, "confirm": {"cd"}}).want(t, http.StatusUnprocessableEntity, "Type “ci” exactly", hostileText).without(t, hostile)
	if !s.look(key.ID).RevokedAt.IsZero() {
		t.Fatal("it is revoked without its name")
	}
	to := v.post(path, url.Values{"reason": {hostile}, "confirm": {"ci"}}).location(t)
	v.get(to).want(t, http.StatusOK, "No replica issues tokens for it any more", "Dead everywhere by", "No verifier reports", hostileText, "/keys/new?from="+string(key.ID)).without(t, hostile, "data-announce")
	if k := s.look(key.ID); k.RevokedAt.IsZero() || k.RevokedReason != hostile {
		t.Errorf("%+v", k)
	}
	if again := v.post(path, url.Values{"confirm": {""}}).location(t); again != to {
		t.Errorf("sent again, it leads to %s", again)
	}
	if again := v.get(path).location(t); again != to {
		t.Errorf("asked again, it leads to %s", again)
	}
}

// A key that nobody uses is revoked without typing anything.
func TestAnIdleKeyIsRevoked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	v, path := s.as(s.owner), s.keyPath(key.ID, "revoke")
	v.get(path).want(t, http.StatusOK, "It was never used.").without(t, `name="confirm"`)
	v.post(path, url.Values{"reason": {"line\x00break"}}).want(t, http.StatusUnprocessableEntity, "reason")
	if to := v.post(path, nil).location(t); to != s.keyPath(key.ID, "revoked") {
		t.Errorf("sent to %s", to)
	}
	live := s.key(s.ws, "live", manage.NewKey{})
	if to := v.get(s.keyPath(live.ID, "revoked")).location(t); to != s.keyPath(live.ID) {
		t.Errorf("a live key leads to %s", to)
	}
}

// The page after a revocation follows the verifiers, with and without script.
func TestVerifiersThatTakeARevocationIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key, reporter := s.key(s.ws, "ci", manage.NewKey{}), s.key(s.ws, "reporter", manage.NewKey{}, "tokens:report")
	at, err := revocation.Newest(t.Context(), s.db.Reader())
	fatal(t, err)
	report := func(name string, at oauth.Position) {
		t.Helper()
		_, err := s.manager.ReportVerifier(t.Context(), manage.Bearer(reporter.Key, nil), name, at)
		fatal(t, err)
	}
	for _, name := range []string{"api-1", "api-2", "api-3"} {
		report(name, at)
	}
	fatal(t, s.manager.RevokeKey(t.Context(), s.operator, s.ws.ID, key.ID, ""))
	at, err = revocation.Newest(t.Context(), s.db.Reader())
	fatal(t, err)
	report("api-2", at)
	v := s.as(s.owner)
	v.get(s.keyPath(key.ID, "revoked")).want(t, http.StatusOK, "1 of 3 verifiers refuse its tokens.", "api-1", "Does not know of it yet", "Refuses its tokens", "data-progress=", "Look again")
	var p struct {
		Text      string `json:"text"`
		CaughtUp  int    `json:"caught_up"`
		Known     int    `json:"known"`
		Settled   bool   `json:"settled"`
		Verifiers []struct{ Name, Text string }
	}
	a := v.get(s.keyPath(key.ID, "revoked", "progress")).want(t, http.StatusOK)
	fatal(t, json.Unmarshal([]byte(a.body), &p))
	if p.CaughtUp != 1 || p.Known != 3 || p.Settled || len(p.Verifiers) != 3 || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s", a.body)
	}
	s.later(3 * time.Minute)
	report("api-3", at)
	v.get(s.keyPath(key.ID, "revoked")).want(t, http.StatusOK, "2 of 3 verifiers refuse its tokens. One has not reported for a while", "Silent: last heard of 3 minutes ago").without(t, "data-progress=")
	report("api-1", at)
	v.get(s.keyPath(key.ID, "revoked")).want(t, http.StatusOK, "3 of 3 verifiers refuse its tokens.").without(t, "Look again")
	s.later(2 * time.Hour)
	s.as(s.owner).get(s.keyPath(key.ID, "revoked")).want(t, http.StatusOK, "None of its tokens is good any more").without(t, "Dead everywhere by")
}

// A replica that has not confirmed it is told of, to who revoked the key and until it
// does not matter any more.
func TestARevocationThatIsPending(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.manager.Timing = change.Timing{Lease: 50 * time.Millisecond, Renewal: 10 * time.Millisecond}
	key := s.key(s.ws, "ci", manage.NewKey{})
	_, err := s.db.Writer().ExecContext(t.Context(), `INSERT INTO replicas (id, host, renewals, acked_seq, renewed_at, alone, vouched, voucher) VALUES ('gone', 'gone:1', 3, -1, 0, 60000000, 0, '')`)
	fatal(t, err)
	v := s.as(s.owner)
	to := v.post(s.keyPath(key.ID, "revoke"), nil).location(t)
	v.get(to).want(t, http.StatusOK, "One replica has not confirmed it yet", "may still issue tokens for it until").without(t, "No replica issues tokens")
	s.as(s.owner).get(to).want(t, http.StatusOK, "No replica issues tokens")
	s.later(2 * time.Minute)
	v.get(to).want(t, http.StatusOK, "No replica issues tokens").without(t, "has not confirmed")
}

func TestWhoMayRevoke(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	viewer := s.user("vera@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	for _, part := range []string{"revoke", "delete"} {
		s.as(s.user(part+"@example.com", false)).post(s.keyPath(key.ID, part), nil).want(t, http.StatusNotFound)
	}
	s.as(viewer).post(s.keyPath(key.ID, "revoke"), url.Values{"reason": {"because"}}).want(t, http.StatusForbidden, "api-keys:delete", "because")
	if !s.look(key.ID).RevokedAt.IsZero() {
		t.Error("a viewer revoked it")
	}
	fatal(t, s.manager.RevokeKey(t.Context(), s.operator, s.ws.ID, key.ID, ""))
	s.as(viewer).post(s.keyPath(key.ID, "delete"), nil).want(t, http.StatusForbidden)
	s.as(viewer).get(s.keyPath(key.ID, "revoked")).want(t, http.StatusOK).without(t, "Copy as new key")
}

// Deleting takes a key that has ended out of sight, and a live one has to be revoked
// first, which says what stops.
func TestAKeyIsDeleted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	v, path := s.as(s.owner), s.keyPath(key.ID, "delete")
	if to := v.post(path, nil).location(t); to != s.keyPath(key.ID, "revoke") || !s.look(key.ID).RevokedAt.IsZero() {
		t.Errorf("a live key: sent to %s", to)
	}
	fatal(t, s.manager.RevokeKey(t.Context(), s.operator, s.ws.ID, key.ID, ""))
	v.get(path).want(t, http.StatusOK, "Delete key", "stays in the audit log")
	if to := v.post(path, nil).location(t); to != "/w/"+s.ws.Slug+"/keys?notice=key-deleted" {
		t.Errorf("sent to %s", to)
	}
	v.get(s.keyPath(key.ID)).want(t, http.StatusNotFound)
}
