package endpoint_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/policy"
)

// An audience gets tokens of its form, which its verifiers and whoami take, and
// the others' do not change.
func TestFormsOfAudiences(t *testing.T) {
	b := newBooth(t, options{forms: map[string]policy.FormOptions{
		"urn:spring": {Profile: "spring"}, "urn:rest": {Profile: "postgrest", Claims: map[string]any{"groups": []string{"a\"b"}}},
		"urn:hasura": {Profile: "hasura"}, "urn:ed": {Algorithm: "EdDSA", Type: "JWT"}, "urn:aws": {Profile: "aws"}, "urn:boot": {Profile: "spring"},
	}})
	automation := map[string]any{"x-hasura-default-role": "automation", "x-hasura-allowed-roles": []any{"automation"}}
	for audience, want := range map[string]struct {
		alg, typ string
		claims   map[string]any
	}{
		apiURL:       {"ES256", "at+jwt", nil},
		"urn:spring": {"RS256", "JWT", nil},
		"urn:aws":    {"RS256", "at+jwt", nil},
		"urn:ed":     {"EdDSA", "JWT", nil},
		"urn:rest":   {"ES256", "at+jwt", map[string]any{"role": "automation", "groups": []any{`a"b`}}},
		"urn:hasura": {"ES256", "at+jwt", map[string]any{"https://hasura.io/jwt/claims": automation}},
	} {
		token := b.token(b.active, "audience", audience)
		parts := strings.Split(token, ".")
		header, payload := part(t, parts[0]), part(t, parts[1])
		if header["alg"] != want.alg || header["typ"] != want.typ || len(header) != 3 {
			t.Errorf("%s: the header is %v", audience, header)
		}
		for name, value := range want.claims {
			if !reflect.DeepEqual(payload[name], value) {
				t.Errorf("%s: the claim %s is %v, want %v", audience, name, payload[name], value)
			}
		}
		if n := len(want.claims) + len(part(t, strings.Split(b.token(b.active), ".")[1])); payload["aud"] != audience || len(payload) != n {
			t.Errorf("%s: the claims are %v, want %d", audience, payload, n)
		}
		if a := b.whoami("Bearer " + token); a.status != http.StatusOK {
			t.Errorf("%s: whoami answers %d %s", audience, a.status, a.body)
		}
		v := must(bearer.New(bearer.Config{Issuer: issuer, Audience: audience, Type: want.typ, Keys: must(bearer.ParseKeys([]byte(b.get("/.well-known/jwks.json").body)))}))
		if claims, err := v.Verify(t.Context(), token); err != nil || claims.ClientID != string(b.active.ID) {
			t.Errorf("%s: a verifier says %v", audience, err)
		}
	}

	// The typ of another audience makes a token no good.
	b.verifies("urn:spring", "at+jwt", b.token(b.active, "audience", "urn:spring"), "its typ is not at+jwt")
	b.verifies(apiURL, "JWT", b.token(b.active), "its typ is not JWT")

	var metadata struct {
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	b.check(json.Unmarshal([]byte(b.get("/.well-known/openid-configuration").body), &metadata))
	if !reflect.DeepEqual(metadata.Algorithms, []string{"ES256", "EdDSA", "RS256"}) {
		t.Errorf("the metadata names %v", metadata.Algorithms)
	}

	// One token for several audiences has one form.
	both := strings.Split(b.token(b.active, "audience", "urn:spring", "audience", "urn:boot"), ".")
	if part(t, both[0])["typ"] != "JWT" {
		t.Errorf("for two audiences of one form: %v", part(t, both[0]))
	}
	request := formOf(b.active)
	request["audience"] = []string{"urn:spring", apiURL}
	a := b.login(request).want(b, http.StatusBadRequest, "invalid_target")
	if !strings.Contains(a.body, "ask for one of them at a time") {
		t.Errorf("for two forms: %s", a.body)
	}
}

// verifies checks why a verifier of an audience refuses a token.
func (b *booth) verifies(audience, typ, token, reason string) {
	b.Helper()
	v := must(bearer.New(bearer.Config{Issuer: issuer, Audience: audience, Type: typ, Keys: must(bearer.ParseKeys([]byte(b.get("/.well-known/jwks.json").body)))}))
	if _, err := v.Verify(b.Context(), token); err == nil || !strings.Contains(err.Error(), reason) {
		b.Errorf("%s: %v, want %s", audience, err, reason)
	}
}
