package signing_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
)

// A token is a JWS that anyone verifies with the published key and the standard
// library alone (RFC 7515 §3.1, RFC 7518 §3.4, RFC 9068 §2.1).
func TestTokenVerifiesWithThePublishedKey(t *testing.T) {
	db, s := schematest.SQLite(t), sealer(t, kek(1))
	add(t, db, s, signing.Active)
	ring := loaded(t, db, s)
	key, err := ring.Active(t.Context(), jwk.ES256)
	check(t, err)
	published := publishedBy(t, ring)[0]
	public, err := published.Public()
	check(t, err)
	for _, payload := range []string{"", "{}", `{"sub":"sa_1"}`, strings.Repeat("ü", 5000)} {
		token, err := key.Sign(oauth.AccessTokenType, []byte(payload))
		check(t, err)
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			t.Fatalf("the token has %d parts", len(parts))
		}
		var header map[string]string
		check(t, json.Unmarshal(decode(t, parts[0]), &header))
		if diff := cmp.Diff(map[string]string{"alg": "ES256", "kid": published.ID, "typ": "at+jwt"}, header); diff != "" {
			t.Errorf("header: %s", diff)
		}
		if got := string(decode(t, parts[1])); got != payload {
			t.Errorf("the payload is %q, want %q", got, payload)
		}
		signature := decode(t, parts[2])
		if len(signature) != 64 {
			t.Fatalf("the signature has %d bytes, want 64", len(signature))
		}
		r, v := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		if !ecdsa.Verify(public.(*ecdsa.PublicKey), sum[:], r, v) {
			t.Error("the signature does not verify")
		}
		sum[0] ^= 1
		if ecdsa.Verify(public.(*ecdsa.PublicKey), sum[:], r, v) {
			t.Error("the signature verifies for another token")
		}
	}
}

func decode(t *testing.T, part string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	check(t, err)
	return b
}

// ringOfAll has an active key of every algorithm.
func ringOfAll(t *testing.T) *signing.Ring {
	t.Helper()
	db, s := schematest.SQLite(t), sealer(t, kek(1))
	for _, algorithm := range policy.Algorithms() {
		addOf(t, db, s, algorithm, signing.Active)
	}
	return loaded(t, db, s)
}

// Every algorithm and typ makes tokens that verify under the published key.
func TestEachAlgorithmAndType(t *testing.T) {
	ring := ringOfAll(t)
	for _, algorithm := range policy.Algorithms() {
		key, err := ring.Active(t.Context(), algorithm)
		check(t, err)
		_, public, _ := ring.Find(key.ID)
		for _, typ := range policy.Types() {
			token, err := key.Sign(typ, []byte(`{"sub":"sa_1"}`))
			check(t, err)
			parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{algorithm})).Parse(token, func(*jwt.Token) (any, error) { return public, nil })
			if err != nil {
				t.Errorf("%s: %v", algorithm, err)
				continue
			}
			want := map[string]any{"alg": algorithm, "kid": key.ID, "typ": typ}
			if !maps.Equal(parsed.Header, want) {
				t.Errorf("header %v, want %v", parsed.Header, want)
			}
		}
		if _, err := key.Sign("logout+jwt", []byte("{}")); err == nil {
			t.Error("a token of another type was signed")
		}
	}
}
