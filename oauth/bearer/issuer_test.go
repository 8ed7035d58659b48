package bearer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

const (
	issuerName = "https://tokens.example.com"
	audience   = "https://api.example.com"
)

var now = time.Unix(1_772_366_400, 500_000_000)

// signer is one private key and how it is published.
type signer struct {
	private crypto.Signer
	public  jwk.Key
}

func newSigner(t *testing.T, private crypto.Signer, err error) signer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	public, err := jwk.New(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return signer{private, public}
}

func newES256(t *testing.T) signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return newSigner(t, private, err)
}

func newEdDSA(t *testing.T) signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return newSigner(t, private, err)
}

func newRS256(t *testing.T) signer {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	return newSigner(t, private, err)
}

// sign signs any two parts, however they are spelled.
func (s signer) sign(t *testing.T, head, body string) string {
	t.Helper()
	return signWith(t, s.public.Algorithm, s.private, head, body)
}

func signWith(t *testing.T, algorithm string, key any, head, body string) string {
	t.Helper()
	signature, err := jwt.GetSigningMethod(algorithm).Sign(head+"."+body, key)
	if err != nil {
		t.Fatal(err)
	}
	return head + "." + body + "." + encode(signature)
}

func encode[T ~string | ~[]byte](b T) string { return base64.RawURLEncoding.EncodeToString([]byte(b)) }

func encodeJSON(t *testing.T, v any) string {
	t.Helper()
	return encode(jsonText(t, v))
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

type object = map[string]any

// with returns a copy with some members changed; a nil value removes one.
func with(o, changes object) object {
	o = maps.Clone(o)
	for name, value := range changes {
		if o[name] = value; value == nil {
			delete(o, name)
		}
	}
	return o
}

func (s signer) header() object {
	return object{"alg": s.public.Algorithm, "kid": s.public.ID, "typ": "at+jwt"}
}

func goodClaims() object {
	return object{
		"iss": issuerName, "sub": "sa_1", "aud": audience, "client_id": "tbk_1", "jti": "hunter2",
		"iat": now.Unix(), "exp": now.Unix() + 600, "scope": "charts:read", "workspace_id": "ws_1", "key_gen": 3,
	}
}

// token signs good claims, with changes to them and to the header.
func (s signer) token(t *testing.T, header, claims object) string {
	t.Helper()
	return s.sign(t, encodeJSON(t, with(s.header(), header)), encodeJSON(t, with(goodClaims(), claims)))
}

// newVerifier trusts the signers' keys, and no clock but now.
func newVerifier(t *testing.T, change func(*bearer.Config), signers ...signer) *bearer.Verifier {
	t.Helper()
	c := bearer.Config{
		Issuer: issuerName, Audience: audience, Keys: keysOf(signers...),
		Now: func() time.Time { return now },
	}
	if change != nil {
		change(&c)
	}
	v, err := bearer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// keysOf is a set that takes what the signers say of their keys on trust.
func keysOf(signers ...signer) bearer.KeySetFunc {
	return func(_ context.Context, kid string) (bearer.Key, error) {
		for _, s := range signers {
			if s.public.ID == kid {
				return bearer.Key{ID: kid, Algorithm: s.public.Algorithm, Public: s.private.Public()}, nil
			}
		}
		return bearer.Key{}, bearer.ErrUnknownKey
	}
}
