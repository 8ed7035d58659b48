package signing_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
)

// exampleKey is the key of RFC 6979 appendix A.2.5.
func exampleKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), unhex(t, "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"))
	check(t, err)
	return key
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	check(t, err)
	return b
}

// The signatures of RFC 6979 appendix A.2.5 with SHA-256.
func TestKnownSignatures(t *testing.T) {
	for message, want := range map[string]string{
		"sample": "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716" +
			"F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
		"test": "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367" +
			"019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
	} {
		got, err := signing.SignES256(exampleKey(t), []byte(message))
		check(t, err)
		if !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%q: %X, want %s", message, got, want)
		}
	}
}

// About one r and one s in 256 begin with a zero byte, which stays (RFC 7518 §3.4).
// Nothing here is random, so the ones that are looked for are always found.
func TestScalarsKeepTheirZeros(t *testing.T) {
	key := exampleKey(t)
	short := map[string]int{}
	for i := 0; short["r"] < 2 || short["s"] < 2; i++ {
		if i == 5000 {
			t.Fatalf("in %d signatures: %v begin with a zero", i, short)
		}
		input := fmt.Sprint("message ", i)
		signature, err := signing.SignES256(key, []byte(input))
		check(t, err)
		if len(signature) != 64 {
			t.Fatalf("%s: %d bytes, want 64", input, len(signature))
		}
		if signature[0] == 0 {
			short["r"]++
		}
		if signature[32] == 0 {
			short["s"]++
		}
		if signature[0] != 0 && signature[32] != 0 && i > 0 {
			continue
		}
		digest := sha256.Sum256([]byte(input))
		if !ecdsa.Verify(&key.PublicKey, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
			t.Errorf("%s: %X does not verify", input, signature)
		}
		if err := jwt.SigningMethodES256.Verify(input, signature, &key.PublicKey); err != nil {
			t.Errorf("%s: %X: %v", input, signature, err)
		}
	}
}

// What is no signature on P-256 does not become one.
func TestScalarsOfOtherForms(t *testing.T) {
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	digest := sha256.Sum256(nil)
	other, err := ecdsa.SignASN1(rand.Reader, large, digest[:])
	check(t, err)
	right := unhex(t, "3006020101020102")
	if got, err := signing.AppendScalars([]byte{9}, right); err != nil || len(got) != 65 || got[0] != 9 || got[32] != 1 || got[64] != 2 {
		t.Errorf("%X, %v", got, err)
	}
	for name, der := range map[string][]byte{
		"none":           nil,
		"another curve":  other,
		"cut off":        right[:len(right)-1],
		"more after it":  append(bytes.Clone(right), 0),
		"three integers": unhex(t, "3009020101020102020103"),
		"one integer":    unhex(t, "3003020101"),
		"negative":       unhex(t, "30060201FF020102"),
		"not minimal":    unhex(t, "300702020001020102"),
	} {
		if got, err := signing.AppendScalars(nil, der); err == nil || got != nil {
			t.Errorf("%s: %X, %v", name, got, err)
		}
	}
}

// The same payload makes the same token with every algorithm, and another payload
// another signature.
func TestSignaturesAreDeterministic(t *testing.T) {
	ring := ringOfAll(t)
	for _, algorithm := range policy.Algorithms() {
		key, err := ring.Active(t.Context(), algorithm)
		check(t, err)
		sign := func(payload string) string {
			token, err := key.Sign(oauth.AccessTokenType, []byte(payload))
			check(t, err)
			return token
		}
		one, again, other := sign(`{"jti":"1"}`), sign(`{"jti":"1"}`), sign(`{"jti":"2"}`)
		if one != again {
			t.Errorf("%s: two signatures of one payload", algorithm)
		}
		if after(one) == after(other) || (algorithm == jwk.ES256 && after(one)[:43] == after(other)[:43]) {
			t.Errorf("%s: two payloads have one signature, or one nonce", algorithm)
		}
	}
}

// after is the signature of a token.
func after(token string) string { return token[strings.LastIndexByte(token, '.')+1:] }

// BenchmarkES256 tells what a signature costs as a share of one whose nonce is random
// as well. Both are made in turns, so that a busy machine slows both.
func BenchmarkES256(b *testing.B) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	input := []byte("a signing input")
	digest := sha256.Sum256(input)
	var ours, hedged time.Duration
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		_, err := signing.SignES256(private, input)
		signed := time.Now()
		_, errHedged := ecdsa.SignASN1(rand.Reader, private, digest[:])
		ours, hedged = ours+signed.Sub(began), hedged+time.Since(signed)
		if err != nil || errHedged != nil {
			b.Fatal(err, errHedged)
		}
	}
	b.ReportMetric(float64(ours)/float64(hedged), "hedged/signature")
}
