package endpoint_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// part decodes one part of a token into JSON.
func part(t *testing.T, text string) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		t.Fatalf("a part of the token is not base64url: %v", err)
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		t.Fatal(err)
	}
	return members
}

func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	return part(t, strings.Split(token, ".")[1])
}

// RFC 7515 §3.1, RFC 9068 §2.1, RFC 8725: form and header.
func TestTokenHeader(t *testing.T) {
	b := newBooth(t, options{})
	token := b.token(b.active)
	if !regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`).MatchString(token) {
		t.Errorf("the token is not a compact JWS: %s", token)
	}
	if len(token) >= 2048 {
		t.Errorf("the token has %d bytes", len(token))
	}
	header := part(t, strings.Split(token, ".")[0])
	published := must(b.ring.Published()).Keys
	if header["typ"] != "at+jwt" || header["alg"] != "ES256" || header["kid"] != published[0].ID || len(header) != 3 {
		t.Errorf("the header is %v", header)
	}
	var metadata struct {
		Algorithms []any `json:"id_token_signing_alg_values_supported"`
	}
	b.check(json.Unmarshal([]byte(b.get("/.well-known/openid-configuration").body), &metadata))
	if !slices.Contains(metadata.Algorithms, header["alg"]) {
		t.Errorf("the metadata lists %v", metadata.Algorithms)
	}
}

// RFC 9068 §2.2, RFC 7519 §2: the claims and their types.
func TestTokenClaims(t *testing.T) {
	b := newBooth(t, options{now: clock(noon)})
	token := b.token(b.active)
	claims := claimsOf(t, token)
	jti, _ := claims["jti"].(string)
	if len(jti) < 20 {
		t.Errorf("jti is %v", claims["jti"])
	}
	delete(claims, "jti")
	want := map[string]any{
		"iss": issuer, "sub": b.active.OwnerID(), "aud": apiURL, "client_id": string(b.active.ID),
		"iat": noon.Unix(), "exp": noon.Unix() + tokenTTL, "scope": editorScope,
		"workspace_id": string(b.workspace.ID), "workspace": "acme", "key_gen": 1, "sub_gen": 1, "ws_gen": 1,
	}
	if !equalJSON(claims, want) { // and nothing else: no secret, digest, address or e-mail
		t.Errorf("the claims are %v\nwant %v", claims, want)
	}
	raw := string(must(base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])))
	if !regexp.MustCompile(`"exp":\d+,"iat":\d+,`).MatchString(raw) {
		t.Errorf("exp and iat are not written as integers: %s", raw)
	}
}

// RFC 7515 §5.2: the signature is that of the published key, and of no other.
func TestTokenSignature(t *testing.T) {
	b, other := newBooth(t, options{}), newBooth(t, options{})
	token := b.token(b.active)
	verify := func(b *booth, token string) error {
		var set jwk.Set
		b.check(json.Unmarshal([]byte(b.get(endpoint.JWKSPath).body), &set))
		dot := strings.LastIndexByte(token, '.')
		signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
		b.check(err)
		return jwt.SigningMethodES256.Verify(token[:dot], signature, must(set.Keys[0].Public()))
	}
	if err := verify(b, token); err != nil {
		t.Errorf("the published key does not verify the token: %v", err)
	}
	if verify(other, token) == nil {
		t.Error("another key verifies the token")
	}
	parts := strings.Split(token, ".")
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"evil"}`))
	if verify(b, strings.Join(parts, ".")) == nil {
		t.Error("the signature holds for another payload")
	}
}

// A change that narrows raises the generations of the tokens that follow.
func TestTokenGenerations(t *testing.T) {
	b := newBooth(t, options{})
	k := b.key(nil)
	if claims := claimsOf(t, b.token(k)); claims["key_gen"] != 1.0 {
		t.Errorf("key_gen is %v", claims["key_gen"])
	}
	old := b.token(k)
	narrow := narrowed()
	b.check(b.manager.SetKeyScopes(b.Context(), operator, b.workspace.ID, k.ID, &narrow))
	claims := claimsOf(t, b.token(k))
	if claims["key_gen"] != 2.0 || claims["scope"] != narrow.String() {
		t.Errorf("after narrowing: key_gen %v, scope %v", claims["key_gen"], claims["scope"])
	}
	if a := b.get(endpoint.WhoamiPath, setHeader("Authorization", "Bearer "+old)); a.status != http.StatusUnauthorized {
		t.Errorf("the wider token still works: %d", a.status)
	}
}
