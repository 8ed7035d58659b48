package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (s *site) revoked(id keys.ID) bool {
	s.t.Helper()
	k, err := s.manager.Key(s.t.Context(), s.operator, s.ws.ID, id)
	fatal(s.t, err)
	return !k.RevokedAt.IsZero()
}

func TestRevokingKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two, three := s.key(s.ws, "one", manage.NewKey{}), s.key(s.ws, "two", manage.NewKey{}), s.key(s.ws, "three", manage.NewKey{})
	s.exchanged(one, s.now().Add(-time.Hour), "issued", 312)
	s.exchanged(one, s.now().Add(-25*time.Hour), "issued", 1_000)
	s.exchanged(one, s.now().Add(-time.Hour), "expired", 7)
	v := s.as(s.owner)
	form := url.Values{"key": {string(one.ID), string(two.ID), string(one.ID)}, "list": {"q=o&sort=name"}, "reason": {"Project ended"}}

	asked := v.post(s.list()+"/revoke", form).want(t, http.StatusOK, "Revoke 2 keys?", "312", "1 of these 2 keys was used in the last 24 hours", "Revoke 2 keys</button>",
		`action="`+s.list()+`/revoke/confirmed"`, `href="`+s.list()+`?q=o&amp;sort=name"`)
	asked.wantRows(t, "one", "two")
	if s.revoked(one.ID) || s.revoked(two.ID) {
		t.Fatal("asking has revoked a key")
	}
	for range 2 { // sent again, it does no harm and says the same
		v.post(s.list()+"/revoke/confirmed", form).want(t, http.StatusOK, "2 keys revoked").wantRows(t, "one", "two").without(t, "Not revoked")
	}
	if !s.revoked(one.ID) || !s.revoked(two.ID) || s.revoked(three.ID) {
		t.Error("not those keys were revoked")
	}
	k, err := s.manager.Key(t.Context(), s.operator, s.ws.ID, one.ID)
	fatal(t, err)
	if k.RevokedReason != "Project ended" {
		t.Errorf("the reason is %q", k.RevokedReason)
	}
}

// What keeps one key from being revoked does not keep the others.
func TestRevokingKeysInPart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := s.key(s.ws, "one", manage.NewKey{})
	elsewhere := s.workspace("Elsewhere", s.owner, workspace.Owner)
	other := s.key(elsewhere, "other", manage.NewKey{})
	v := s.as(s.owner)
	form := url.Values{"key": {string(other.ID), string(one.ID), "tbk_nothing"}}
	v.post(s.list()+"/revoke", form).want(t, http.StatusOK, "Revoke 1 key?").wantRows(t, "one").without(t, string(other.ID))
	v.post(s.list()+"/revoke/confirmed", form).want(t, http.StatusOK, "1 key revoked", "2 keys were not revoked", "Not revoked", string(other.ID))
	if !s.revoked(one.ID) {
		t.Error("the key is not revoked")
	}
	if k, err := s.manager.Key(t.Context(), s.operator, elsewhere.ID, other.ID); err != nil || !k.RevokedAt.IsZero() {
		t.Errorf("a key of another workspace: %v, %v", k.RevokedAt, err)
	}
	v.post(s.list()+"/revoke", url.Values{"key": {string(other.ID)}}).want(t, http.StatusNotFound)
}

// Forms that cannot be carried out are shown again, with why and with what was typed.
func TestRevokingKeysWithMistakes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := s.key(s.ws, "one", manage.NewKey{})
	v := s.as(s.owner)
	for _, path := range []string{"/revoke", "/revoke/confirmed"} {
		v.post(s.list()+path, url.Values{"list": {"q=on"}}).want(t, http.StatusUnprocessableEntity, "Tick the keys to revoke first", `value="on"`).wantRows(t, "one")
		many := url.Values{}
		for i := range 201 {
			many.Add("key", fmt.Sprint("tbk_", i))
		}
		v.post(s.list()+path, many).want(t, http.StatusUnprocessableEntity, "at most 200 keys at once: 201 are ticked")
	}
	reason := "no\x01t so " + strings.Repeat("long ", 100)
	v.post(s.list()+"/revoke/confirmed", url.Values{"key": {string(one.ID)}, "reason": {reason}}).
		want(t, http.StatusUnprocessableEntity, `href="#reason"`, `aria-invalid="true"`, "so long long").wantRows(t, "one")
	if s.revoked(one.ID) {
		t.Error("the key is revoked")
	}
	if to := v.get(s.list() + "/revoke").location(t); to != s.list() {
		t.Errorf("a look at the form's address leads to %s", to)
	}
	v.get(s.list()+"/revoke/confirmed?key="+string(one.ID)).want(t, http.StatusMethodNotAllowed)
	v.send(http.MethodPost, s.list()+"/revoke/confirmed", url.Values{"key": {string(one.ID)}}, http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}).
		want(t, http.StatusForbidden)
	if s.revoked(one.ID) {
		t.Error("the key is revoked")
	}
}

// A key that some replica may still exchange is revoked, and the page says so.
func TestRevokingKeysThatIsPending(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := s.key(s.ws, "one", manage.NewKey{})
	s.manager.Timing = change.Timing{Lease: 50 * time.Millisecond, Renewal: 10 * time.Millisecond}
	_, err := s.db.Writer().ExecContext(t.Context(), `INSERT INTO replicas (id, host, renewals, acked_seq, renewed_at, alone) VALUES ('gone', 'gone:1', 3, -1, 0, 60000000)`)
	fatal(t, err)
	s.as(s.owner).post(s.list()+"/revoke/confirmed", url.Values{"key": {string(one.ID)}}).
		want(t, http.StatusOK, "1 key revoked", "may not have taken it in yet", "not yet in force everywhere").without(t, "Not revoked")
	if !s.revoked(one.ID) {
		t.Error("the key is not revoked")
	}
}
