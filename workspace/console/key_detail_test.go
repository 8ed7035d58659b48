package console_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// hostileText is hostile as a page has to show it.
const hostileText = `&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;`

// keyPath is an address of a key in the site's workspace.
func (s *site) keyPath(id keys.ID, parts ...string) string {
	return strings.Join(append([]string{"/w", s.ws.Slug, "keys", string(id)}, parts...), "/")
}

// lastUsed notes that the newest or, of a rotated key, another secret was used.
func (s *site) lastUsed(secret string, at time.Time, agent string) {
	s.t.Helper()
	_, err := s.db.Writer().ExecContext(s.t.Context(), `UPDATE key_secrets SET last_used_at = ?, last_used_address = '203.0.113.9', last_used_agent = ? WHERE id = ?`,
		workspace.At(at), agent, secret)
	fatal(s.t, err)
}

// look reads a key as it is now.
func (s *site) look(id keys.ID) keys.Listed {
	s.t.Helper()
	k, err := s.manager.Key(s.t.Context(), s.operator, s.ws.ID, id)
	fatal(s.t, err)
	return k
}

// changes counts the changes in the site's workspace.
func (s *site) changes() int {
	s.t.Helper()
	found, err := audit.Events(s.t.Context(), s.db.Reader(), string(s.ws.ID))
	fatal(s.t, err)
	return len(found)
}

func TestKeyPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	scopes := oauth.NewScope("collectors:read", "pipelines:create")
	key := s.key(s.ws, "ci", manage.NewKey{
		Description: hostile, Scopes: &scopes, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, TokenTTL: 15 * time.Minute,
		PerMinute: 60, MaxUses: 500, Audiences: []string{"https://api.example.com"}, ExpiresAt: s.now().Add(40 * day),
	}, "collectors:read", "pipelines:read")
	s.exchanges(key, "issued", 12)
	s.exchanges(key, "wrong_credentials", 3)
	s.lastUsed(s.look(key.ID).Secrets[0].ID, s.now().Add(-12*time.Minute), hostile)
	page := s.as(s.owner).get(s.keyPath(key.ID)).want(t, http.StatusOK,
		string(key.ID), keys.Start(key.ID, keys.ServiceKey, key.Secret.Hint()), "12 minutes ago", "203.0.113.9", hostileText,
		">collectors<", ">pipelines<", `class="tag void">create`, "192.0.2.0/24", "https://api.example.com", "15 minutes", "60 a minute", "0 of 500", "in 40 days",
		"Wrong secret", "×3", "req_7", "Exchanges per ", "12 issued", "Key created", "Operator",
		s.keyPath(key.ID, "rotate"), s.keyPath(key.ID, "edit"), s.keyPath(key.ID, "revoke"), "/service-accounts/"+string(key.ServiceAccountID))
	page.without(t, hostile, key.Secret.Reveal(), "no tokens are issued", "Copy as new key")
	s.as(s.owner).get(s.keyPath(key.ID)+"?range=30d").want(t, http.StatusOK, "Exchanges per day")
	s.as(s.owner).get(s.keyPath(key.ID)+"?range=nonsense").want(t, http.StatusOK, "12 issued").without(t, "Exchanges per day")
}

func TestMarkupInTheNameOfAKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	name := hostile
	_, err := s.manager.UpdateKey(t.Context(), s.operator, s.ws.ID, key.ID, manage.KeyChange{Name: &name})
	fatal(t, err)
	v := s.as(s.owner)
	for _, part := range []string{"", "edit", "rotate", "revoke"} {
		v.get(strings.TrimSuffix(s.keyPath(key.ID, part), "/")).want(t, http.StatusOK, hostileText).without(t, hostile)
	}
	_, err = s.manager.EndKey(t.Context(), s.operator, s.ws.ID, key.ID, hostile)
	fatal(t, err)
	for _, part := range []string{"", "revoked", "rotate", "delete"} {
		v.get(strings.TrimSuffix(s.keyPath(key.ID, part), "/")).want(t, http.StatusOK, hostileText).without(t, hostile)
	}
}

// Who only reads sees the key and nothing to do with it; others see nothing.
func TestKeyPageForOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	viewer := s.user("vera@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	s.as(viewer).get(s.keyPath(key.ID)).want(t, http.StatusOK, string(key.ID), "Key created").
		without(t, s.keyPath(key.ID, "rotate"), s.keyPath(key.ID, "edit"), s.keyPath(key.ID, "revoke"))
	for _, part := range []string{"edit", "rotate", "revoke"} {
		s.as(viewer).get(s.keyPath(key.ID, part)).want(t, http.StatusForbidden, "This needs api-keys:")
	}
	outsider := s.user("otto@example.com", false)
	s.workspace("Elsewhere", outsider, workspace.Owner)
	for _, part := range []string{"", "/edit", "/rotate", "/revoke", "/revoked", "/revoked/progress", "/delete"} {
		s.as(outsider).get(s.keyPath(key.ID)+part).want(t, http.StatusNotFound).without(t, string(key.ID)+"<")
	}
	s.as(s.owner).get(s.keyPath("tbk_none")).want(t, http.StatusNotFound)
}

// What shows a key or asks about it changes nothing.
func TestLookingAtAKeyChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{})
	_, err := s.manager.RotateKey(t.Context(), s.operator, s.ws.ID, key.ID, manage.Rotation{Grace: time.Hour})
	fatal(t, err)
	before, events := s.look(key.ID), s.changes()
	v, old := s.as(s.owner), before.Secrets[1].ID
	for _, part := range []string{"", "/edit", "/rotate?grace=0", "/revoke?confirm=ci", "/revoked", "/revoked/progress", "/delete", "/secrets/" + old + "/end", "/secrets/" + old + "/extend"} {
		v.get(s.keyPath(key.ID) + part)
	}
	if after := s.look(key.ID); after.UpdatedAt != before.UpdatedAt || after.Secrets[1] != before.Secrets[1] || s.changes() != events {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// A key that is refused says by what, and what to do; one that ends soon says so.
func TestKeyPageSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	soon := s.key(s.ws, "soon", manage.NewKey{ExpiresAt: s.now().Add(5 * day)})
	v.get(s.keyPath(soon.ID)).want(t, http.StatusOK, "The key expires", "in 5 days", "Expiring soon").without(t, "No tokens are issued")
	never := s.key(s.ws, "never", manage.NewKey{})
	no, yes := false, true
	s.rules(policy.Rules{AllowNever: &no, RequireNetworks: &yes})
	v.get(s.keyPath(never.ID)).want(t, http.StatusOK, "No tokens are issued", "which policy does not allow", "Edit it and give it an end", "from which networks", "Blocked")
	_, err := s.manager.UpdateServiceAccount(t.Context(), s.operator, s.ws.ID, never.ServiceAccountID, manage.ServiceAccountChange{Enabled: &no})
	fatal(t, err)
	v.get(s.keyPath(never.ID)).want(t, http.StatusOK, "Its service account is disabled", "Disabled")
	s.rules(policy.Rules{Enabled: &no})
	v.get(s.keyPath(soon.ID)).want(t, http.StatusOK, "Ask an organization admin to switch API keys on again")
}

// A key that has ended offers a copy, and nothing that would need it to live.
func TestPageOfAKeyThatEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "ci", manage.NewKey{ExpiresAt: s.now().Add(day)})
	s.later(2 * day)
	v := s.as(s.owner)
	v.get(s.keyPath(key.ID)).want(t, http.StatusOK, "The key has expired", "/keys/new?from="+string(key.ID), "Ended").
		without(t, s.keyPath(key.ID, "rotate"), s.keyPath(key.ID, "edit"), s.keyPath(key.ID, "revoke")+`"`)
	v.get(s.keyPath(key.ID, "rotate")).want(t, http.StatusOK, "/keys/new?from="+string(key.ID)).without(t, `name="grace"`)
	if to := v.get(s.keyPath(key.ID, "edit")).location(t); to != s.keyPath(key.ID) {
		t.Errorf("editing it leads to %s", to)
	}
}

// One's own personal key is for oneself, whatever one's role; others may only end it.
func TestPageOfAPersonalKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	viewer := s.user("vera@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	key, err := s.manager.CreatePersonalKey(t.Context(), manage.User(viewer.ID), s.ws.ID, manage.NewKey{Name: "laptop"})
	fatal(t, err)
	s.as(viewer).get(s.keyPath(key.ID)).want(t, http.StatusOK, "vera@example.com", "Personal", "by you", s.keyPath(key.ID, "rotate"), s.keyPath(key.ID, "edit"), "← My personal keys")
	s.as(s.owner).get(s.keyPath(key.ID)).want(t, http.StatusOK, s.keyPath(key.ID, "revoke")).without(t, s.keyPath(key.ID, "rotate"))
	s.as(s.owner).get(s.keyPath(key.ID, "rotate")).want(t, http.StatusForbidden, "only they may rotate it")
	s.as(s.owner).get(s.keyPath(key.ID, "revoke")).want(t, http.StatusOK)
}
