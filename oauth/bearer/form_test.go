package bearer_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// refused checks that a token is refused with a reason that says so, and that
// the reason gives nothing of the token away.
func refused(t *testing.T, v *bearer.Verifier, token, reason string) {
	t.Helper()
	claims, err := v.Verify(t.Context(), token)
	switch {
	case err == nil || claims != nil:
		t.Errorf("accepted: %+v", claims)
	case !errors.Is(err, bearer.ErrInvalid) || !strings.Contains(err.Error(), reason):
		t.Errorf("error %v; want an ErrInvalid that says %q", err, reason)
	case strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 200:
		t.Errorf("the error gives the token away: %v", err)
	}
}

func accepted(t *testing.T, v *bearer.Verifier, token string) {
	t.Helper()
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("refused: %v", err)
	}
}

func TestVerifyEachAlgorithm(t *testing.T) {
	es, ed, rs := newES256(t), newEdDSA(t), newRS256(t)
	v := newVerifier(t, nil, es, ed, rs)
	for _, s := range []signer{es, ed, rs} {
		claims, err := v.Verify(t.Context(), s.token(t, nil, nil))
		if err != nil {
			t.Errorf("%s: %v", s.public.Algorithm, err)
		} else if claims.Subject != "sa_1" || claims.KeyGeneration != 3 || !claims.Scope.Has("charts:read") {
			t.Errorf("%s: %+v", s.public.Algorithm, claims)
		}
		for _, other := range []signer{es, ed, rs} {
			if other.public.ID == s.public.ID {
				continue
			}
			// Signed by one key in the name of another.
			refused(t, v, s.token(t, object{"kid": other.public.ID}, nil), "its alg is not the one of its key")
			head := encodeJSON(t, with(s.header(), object{"kid": other.public.ID, "alg": other.public.Algorithm}))
			refused(t, v, s.sign(t, head, encodeJSON(t, goodClaims())), "signature does not match")
		}
	}
}

func TestVerifyRefusesForeignAlgorithms(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, nil, s)
	claims := encodeJSON(t, goodClaims())
	for _, alg := range []string{"none", "None", "NONE", "nonE", "", "es256", "ES384", "ES512", "PS256", "EdDSA", "HS256"} {
		head := encodeJSON(t, with(s.header(), object{"alg": alg}))
		signed := s.sign(t, head, claims)
		reason := "its alg is not the one of its key"
		if alg == "" {
			reason = "no alg"
		}
		refused(t, v, signed, reason)
		refused(t, v, signed[:strings.LastIndexByte(signed, '.')+1], reason)
	}
	// The public key is no secret: it must not pass as that of an HMAC.
	der, err := x509.MarshalPKIXPublicKey(s.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	point, err := s.private.Public().(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s.public)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), point, text, []byte(s.public.X), {}} {
		refused(t, v, signWith(t, "HS256", key, encodeJSON(t, with(s.header(), object{"alg": "HS256"})), claims), "its alg is not the one of its key")
		refused(t, v, signWith(t, "HS256", key, encodeJSON(t, s.header()), claims), "signature does not match")
	}
}

// A set that names another algorithm for a key does not make it usable so.
func TestVerifyRefusesPoisonedSets(t *testing.T) {
	s, rs := newES256(t), newRS256(t)
	claims := encodeJSON(t, goodClaims())
	for _, alg := range []string{"none", "HS256", "ES384", "PS256", "unheard of"} {
		poisoned := rs
		poisoned.public.Algorithm = alg
		signed := rs.sign(t, encodeJSON(t, poisoned.header()), claims)
		if alg == "PS256" {
			signed = poisoned.sign(t, encodeJSON(t, poisoned.header()), claims)
		}
		refused(t, newVerifier(t, nil, poisoned), signed, "its alg is not the one of its key")
	}
	mixed := s
	mixed.public.Algorithm = jwk.EdDSA
	refused(t, newVerifier(t, nil, mixed), s.token(t, object{"alg": jwk.EdDSA}, nil), "signature does not match")
}

func TestVerifyRefusesHeaders(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, nil, s)
	for _, c := range []struct {
		name   string
		header object
		reason string
	}{
		{"typ JWT", object{"typ": "JWT"}, "its typ is not at+jwt"},
		{"typ of another kind", object{"typ": "revocation-feed+jwt"}, "its typ is not at+jwt"},
		{"typ with a parameter", object{"typ": "at+jwt;a=b"}, "its typ is not at+jwt"},
		{"typ nested", object{"typ": "application/application/at+jwt"}, "its typ is not at+jwt"},
		{"no typ", object{"typ": nil}, "no typ"},
		{"typ is a number", object{"typ": 1}, "no typ"},
		{"typ is an array", object{"typ": []string{"at+jwt"}}, "no typ"},
		{"no kid", object{"kid": nil}, "no kid"},
		{"empty kid", object{"kid": ""}, "no kid"},
		{"kid is a number", object{"kid": 1}, "no kid"},
		{"kid is null", object{"kid": json.RawMessage("null")}, "no kid"},
		{"unknown kid", object{"kid": "hunter2"}, "no key with its kid"},
		{"no alg", object{"alg": nil}, "no alg"},
		{"alg is a list", object{"alg": []string{"ES256"}}, "no alg"},
		{"crit", object{"crit": []string{"exp"}, "exp": 1}, "has crit, which is not understood"},
		{"crit, empty", object{"crit": []string{}}, "has crit"},
		{"crit, null", object{"crit": json.RawMessage("null")}, "has crit"},
		{"b64", object{"b64": false}, "has b64"},
		{"b64, true", object{"b64": true}, "has b64"},
		{"zip", object{"zip": "DEF"}, "has zip"},
		{"ALG for alg", object{"alg": nil, "ALG": "ES256"}, "no alg"},
		{"Kid for kid", object{"kid": nil, "Kid": s.public.ID}, "no kid"},
		{"TYP for typ", object{"typ": nil, "TYP": "at+jwt"}, "no typ"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, v, s.token(t, c.header, nil), c.reason) })
	}
	for name, header := range map[string]object{
		"typ in capitals":        {"typ": "AT+JWT"},
		"typ as a media type":    {"typ": "application/at+jwt"},
		"a member of other case": {"ALG": "none", "Crit": []string{"x"}},
		"keys of its own":        {"jwk": s.public, "jku": "https://evil.example.com", "x5u": "https://evil.example.com"},
	} {
		t.Run(name, func(t *testing.T) { accepted(t, v, s.token(t, header, nil)) })
	}
}

// A token brings no keys: what it says of jwk or jku counts for nothing.
func TestVerifyTakesNoKeyFromTheToken(t *testing.T) {
	s, thief := newES256(t), newES256(t)
	v := newVerifier(t, nil, s)
	refused(t, v, thief.token(t, object{"kid": s.public.ID, "jwk": thief.public}, nil), "signature does not match")
	refused(t, v, thief.token(t, object{"jwk": thief.public}, nil), "no key with its kid")
}

func TestVerifyRefusesDuplicates(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, nil, s)
	claims := encodeJSON(t, goodClaims())
	good, err := json.Marshal(s.header())
	if err != nil {
		t.Fatal(err)
	}
	for _, first := range []string{`{"alg":"none",`, `{"alg":"ES256",`, `{"\u0061lg":"none",`, `{"typ":"JWT",`, `{"kid":"x",`} {
		refused(t, v, s.sign(t, encode(first+string(good[1:])), claims), "a member appears twice")
	}
	for _, text := range []string{`[]`, `null`, `"x"`, ``, string(good) + "x", string(good[:len(good)-1])} {
		refused(t, v, s.sign(t, encode(text), claims), "its header is not a JSON object")
	}
	head := encodeJSON(t, s.header())
	body, err := json.Marshal(goodClaims())
	if err != nil {
		t.Fatal(err)
	}
	refused(t, v, s.sign(t, head, encode(`{"exp":1,`+string(body[1:]))), "a member appears twice")
	for _, text := range []string{`[]`, `null`, ``, string(body) + "{}"} {
		refused(t, v, s.sign(t, head, encode(text)), "not a JSON object")
	}
}

func TestVerifyRefusesForms(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, nil, s)
	token := s.token(t, nil, nil)
	parts := strings.Split(token, ".")
	head, body, signature := parts[0], parts[1], parts[2]
	der, err := ecdsa.SignASN1(rand.Reader, s.private.(*ecdsa.PrivateKey), digest(head+"."+body))
	if err != nil {
		t.Fatal(err)
	}
	flipped := "A" + signature[1:]
	if signature[0] == 'A' {
		flipped = "B" + signature[1:]
	}
	for _, c := range []struct{ name, token, reason string }{
		{"empty", "", "three parts"},
		{"one part", head, "three parts"},
		{"two parts", head + "." + body, "three parts"},
		{"four parts", token + ".", "three parts"},
		{"five parts, as of encryption", token + "." + head + "." + body, "three parts"},
		{"only dots", "..", "its header is"},
		{"many dots", strings.Repeat(".", bearer.MaxTokenLength), "three parts"},
		{"a million dots", strings.Repeat(".", 1_000_000), "longer than 8192 bytes"},
		{"long", head + "." + strings.Repeat("A", 1_000_000) + "." + signature, "longer than 8192 bytes"},
		{"no signature", head + "." + body + ".", "signature does not match"},
		{"short signature", head + "." + body + "." + signature[:84], "signature does not match"},
		{"signature twice", head + "." + body + "." + encode(strings.Repeat("\x00", 128)), "signature does not match"},
		{"signature of zeros", head + "." + body + "." + encode(strings.Repeat("\x00", 64)), "signature does not match"},
		{"ASN.1 signature", head + "." + body + "." + encode(der), "signature does not match"},
		{"signature changed", head + "." + body + "." + flipped, "signature does not match"},
		{"claims changed", head + "." + encodeJSON(t, with(goodClaims(), object{"sub": "sa_2"})) + "." + signature, "signature does not match"},
		{"header changed", encodeJSON(t, with(s.header(), object{"x": 1})) + "." + body + "." + signature, "signature does not match"},
		{"padded signature", token + "==", "not base64url"},
		{"stray bits in the signature", head + "." + body + "." + stray(signature), "not base64url"},
		{"line end in the signature", head + "." + body + "." + signature[:9] + "\n" + signature[9:], "not base64url"},
		{"line end behind", token + "\n", "not base64url"},
		{"space before", " " + token, "not base64url"},
		{"standard alphabet", head + "." + body + "." + "+/" + signature[2:], "not base64url"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, v, c.token, c.reason) })
	}
	accepted(t, v, token)
}

// Even if the issuer signed them, other spellings of the parts are refused: a
// token has one text only.
func TestVerifyRefusesOtherSpellings(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, nil, s)
	head, body := oddLength(t, s.header()), oddLength(t, goodClaims())
	accepted(t, v, s.sign(t, head, body))
	for name, spell := range map[string]func(string) string{
		"padding":       func(part string) string { return part + "=" },
		"stray bits":    stray,
		"\\n inside":    func(part string) string { return part[:8] + "\n" + part[8:] },
		"\\r inside":    func(part string) string { return part[:8] + "\r" + part[8:] },
		"\\r\\n behind": func(part string) string { return part + "\r\n" },
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, v, s.sign(t, spell(head), body), "not base64url")
			refused(t, v, s.sign(t, head, spell(body)), "not base64url")
		})
	}
}

// oddLength encodes an object so that its last character has bits to spare.
func oddLength(t *testing.T, o object) string {
	t.Helper()
	for pad := ""; ; pad += "x" {
		if part := encodeJSON(t, with(o, object{"pad": pad})); len(part)%4 == 3 {
			return part
		}
	}
}

// stray sets a bit of the last character that the decoded bytes do not show.
func stray(part string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, part[len(part)-1])
	return part[:len(part)-1] + alphabet[last|1:last|1+1]
}

func digest(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}
