package jwk_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The example keys of the standards, private ones with their private members.
const (
	// RFC 7638 §3.1.
	rfc7638 = `{
		"kty": "RSA",
		"n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
		"e": "AQAB", "alg": "RS256", "kid": "2011-04-29"
	}`
	// RFC 8037 appendix A.1, the public part in A.2.
	rfc8037 = `{
		"kty": "OKP", "crv": "Ed25519",
		"d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
		"x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	}`
	// RFC 7515 appendix A.3.
	rfc7515 = `{
		"kty": "EC", "crv": "P-256",
		"x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
		"y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
		"d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
	}`
	// RFC 7517 appendix A.2, the elliptic curve key.
	rfc7517 = `{
		"kty": "EC", "crv": "P-256",
		"x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
		"y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
		"d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE",
		"use": "enc", "kid": "1"
	}`
)

func parse(t *testing.T, text string) jwk.Key {
	t.Helper()
	var k jwk.Key
	check(t, json.Unmarshal([]byte(text), &k))
	return k
}

func TestThumbprintsOfTheStandards(t *testing.T) {
	for _, test := range []struct{ name, key, want string }{
		{"RFC 7638 §3.1", rfc7638, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		{"RFC 8037 appendix A.3", rfc8037, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
	} {
		if got := parse(t, test.key).Thumbprint(); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// The members that RFC 7638 does not list change nothing.
func TestThumbprintCoversTheRequiredMembersOnly(t *testing.T) {
	k := parse(t, rfc7515)
	want := k.Thumbprint()
	k.ID, k.Use, k.Algorithm = "x", "sig", "ES256"
	if got := k.Thumbprint(); got != want {
		t.Errorf("the thumbprint went from %s to %s", want, got)
	}
	k.X, k.Y = k.Y, k.X
	if k.Thumbprint() == want {
		t.Error("another point has the same thumbprint")
	}
}

// The published form of the examples is what went in, and nothing private.
func TestExamplesOfTheStandardsRoundTrip(t *testing.T) {
	for name, text := range map[string]string{"RFC 7638": rfc7638, "RFC 8037": rfc8037, "RFC 7515": rfc7515, "RFC 7517": rfc7517} {
		k := parse(t, text)
		public, err := k.Public()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := jwk.New(public)
		check(t, err)
		k.Use, k.ID, k.Algorithm = "sig", k.Thumbprint(), again.Algorithm
		if diff := cmp.Diff(k, again); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		noPrivateMember(t, name, k)
	}
}

func noPrivateMember(t *testing.T, name string, k jwk.Key) {
	t.Helper()
	text, err := json.Marshal(jwk.Set{Keys: []jwk.Key{k}})
	check(t, err)
	var set struct{ Keys []map[string]any }
	check(t, json.Unmarshal(text, &set))
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, has := set.Keys[0][private]; has {
			t.Errorf("%s: the published form has the member %q", name, private)
		}
	}
}

// equaler is what every public key of the standard library is.
type equaler interface{ Equal(x crypto.PublicKey) bool }

func TestNewKeysRoundTrip(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	okp, _, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	for alg, public := range map[string]equaler{jwk.ES256: &ec.PublicKey, jwk.EdDSA: okp, jwk.RS256: &r.PublicKey} {
		k, err := jwk.New(public)
		check(t, err)
		if k.Algorithm != alg || k.Use != "sig" || k.ID != k.Thumbprint() {
			t.Errorf("%s: described as %+v", alg, k)
		}
		text, err := json.Marshal(k)
		check(t, err)
		got, err := parse(t, string(text)).Public()
		if err != nil || !public.Equal(got) {
			t.Errorf("%s: another key comes back: %v", alg, err)
		}
		noPrivateMember(t, alg, k)
	}
}

// Coordinates are 32 bytes even when they begin with zeros (RFC 7518 §6.2.1.2).
func TestCoordinatesKeepTheirLength(t *testing.T) {
	for range 2000 {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(t, err)
		k, err := jwk.New(&private.PublicKey)
		check(t, err)
		if len(k.X) != 43 || len(k.Y) != 43 {
			t.Fatalf("the coordinates %s and %s are not 32 bytes long", k.X, k.Y)
		}
		if x, _ := base64.RawURLEncoding.DecodeString(k.X); x[0] == 0 {
			return // one in 256 begins so
		}
	}
	t.Error("no coordinate began with a zero byte")
}

func TestUnusableKeysAreRefused(t *testing.T) {
	small := base64.RawURLEncoding.EncodeToString(new(big.Int).Lsh(big.NewInt(1), 2046).Bytes())
	for name, change := range map[string]struct {
		of     string
		change func(*jwk.Key)
	}{
		"a point off the curve":        {rfc7515, func(k *jwk.Key) { k.X = k.Y }},
		"the point at infinity":        {rfc7515, func(k *jwk.Key) { k.X = strings.Repeat("A", 43); k.Y = k.X }},
		"no y":                         {rfc7515, func(k *jwk.Key) { k.Y = "" }},
		"a short x":                    {rfc7515, func(k *jwk.Key) { k.X = k.X[:40] }},
		"another curve":                {rfc7515, func(k *jwk.Key) { k.Curve = "P-384" }},
		"padding":                      {rfc7515, func(k *jwk.Key) { k.X += "=" }},
		"standard base64":              {rfc7515, func(k *jwk.Key) { k.X = strings.ReplaceAll(k.X, "J", "+") }},
		"bits after the last byte":     {rfc7515, func(k *jwk.Key) { k.X = k.X[:42] + "V" }},
		"an Ed25519 key of 31 bytes":   {rfc8037, func(k *jwk.Key) { k.X = k.X[:42] }},
		"Ed448":                        {rfc8037, func(k *jwk.Key) { k.Curve = "Ed448" }},
		"an Ed25519 key said to be EC": {rfc8037, func(k *jwk.Key) { k.KeyType = "EC" }},
		"RSA with 2047 bits":           {rfc7638, func(k *jwk.Key) { k.N = small }},
		"RSA without a modulus":        {rfc7638, func(k *jwk.Key) { k.N = "" }},
		"RSA with the exponent 1":      {rfc7638, func(k *jwk.Key) { k.E = "AQ" }},
		"RSA with the exponent 0":      {rfc7638, func(k *jwk.Key) { k.E = "AA" }},
		"RSA with an even exponent":    {rfc7638, func(k *jwk.Key) { k.E = "AQAA" }},
		"RSA with a huge exponent":     {rfc7638, func(k *jwk.Key) { k.E = "AQAAAAAAAAAB" }},
		"a symmetric key":              {rfc7515, func(k *jwk.Key) { k.KeyType = "oct" }},
		"nothing":                      {rfc7515, func(k *jwk.Key) { *k = jwk.Key{} }},
	} {
		k := parse(t, change.of)
		change.change(&k)
		if public, err := k.Public(); !errors.Is(err, jwk.ErrKey) {
			t.Errorf("%s: %v, %v; want ErrKey", name, public, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	short := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	for name, public := range map[string]crypto.PublicKey{
		"P-384": &p384.PublicKey, "RSA with 1024 bits": short, "an empty Ed25519 key": ed25519.PublicKey(nil),
		"a private key": p384, "nothing": nil, "text": "key",
	} {
		if k, err := jwk.New(public); !errors.Is(err, jwk.ErrKey) {
			t.Errorf("%s: %+v, %v; want ErrKey", name, k, err)
		}
	}
}
