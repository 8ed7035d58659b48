package adminhttp_test

import (
	"net/http"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Organization admins hold the right to look into the tokens of all workspaces, and
// can give it to a service account; an owner of the workspace neither.
func TestWhoGrantsIntrospection(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		const all = "organization:introspect"
		account := map[string]any{"name": "gateway", "scopes": []string{all}}
		plain := h.person("plain", workspace.Owner, false)
		if a := h.call(plain.secret, http.MethodPost, h.in("/service-accounts"), account); a.status != http.StatusForbidden {
			t.Errorf("an owner grants it: %d %s", a.status, a.body)
		}
		id := h.want(http.StatusCreated, h.owner.secret, http.MethodPost, h.in("/service-accounts"), account).text("id")
		key := map[string]any{"name": "gateway", "service_account": id}
		if a := h.call(plain.secret, http.MethodPost, h.in("/keys"), key); a.status != http.StatusForbidden {
			t.Errorf("an owner gets a secret that holds it: %d %s", a.status, a.body)
		}
		secret := h.want(http.StatusCreated, h.owner.secret, http.MethodPost, h.in("/keys"), key).text("client_secret")
		token := must(h.exchange(secret, issuer))
		if !token.Scope.Has(all) {
			t.Errorf("the token carries %s", token.Scope)
		}
		if other, err := h.exchange(secret, apiURL); err == nil && other.Scope.Has(all) {
			t.Errorf("a token for a service carries %s", other.Scope)
		}
		if held := must(h.exchange(h.owner.secret, issuer)).Scope; !held.Has(all) {
			t.Errorf("the organization admin holds %s", held)
		}
		if held := must(h.exchange(plain.secret, issuer)).Scope; held.Has(all) || len(held.Intersect(oauth.NewScope("tokens:revoke"))) == 0 {
			t.Errorf("an owner holds %s", held)
		}
	})
}
