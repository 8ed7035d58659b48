package jwk_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
)

func newKeys(t testing.TB) (es, ed jwk.Key) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if es, err = jwk.New(&private.PublicKey); err != nil {
		t.Fatal(err)
	}
	if ed, err = jwk.New(public); err != nil {
		t.Fatal(err)
	}
	return es, ed
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseSetLeavesOutWhatItCannotUse(t *testing.T) {
	es, ed := newKeys(t)
	es.ID = "any name"
	plain := ed
	plain.Algorithm, plain.Use = "", ""
	other := es
	other.ID, other.Use = "for encryption", "enc"
	mixed := es
	mixed.ID, mixed.Algorithm = "another algorithm", "RS256"
	off := es
	off.ID, off.X = "not on the curve", es.Y
	nameless := es
	nameless.ID = ""
	set, err := jwk.ParseSet([]byte(fmt.Sprintf(`{"keys":[{"kty":"AKP","kid":"new","alg":"ML-DSA-44","pub":"x"},{"kty":"oct","kid":"secret","k":"AQ"},`+
		`5,null,"x",{"kid":1},%s,%s,%s,%s,%s,%s],"more":true}`, text(t, other), text(t, mixed), text(t, off), text(t, nameless), text(t, es), text(t, plain))))
	if err != nil || len(set.Keys) != 2 || set.Keys[0] != es || set.Keys[1] != ed {
		t.Errorf("%+v, %v; want the two good keys", set, err)
	}
}

func TestParseSetRefuses(t *testing.T) {
	es, ed := newKeys(t)
	ed.ID = es.ID
	for _, c := range []struct{ name, text, says string }{
		{"nothing", "", "not a JSON object"},
		{"no object", "[]", "not a JSON object"},
		{"no array", `{"keys":{}}`, "not a JSON object"},
		{"no keys", `{}`, "none of its 0 keys"},
		{"empty", `{"keys":[]}`, "none of its 0 keys"},
		{"null", `null`, "none of its 0 keys"},
		{"none for us", `{"keys":[{"kty":"oct","k":"AQ","kid":"a"}]}`, "none of its 1 keys"},
		{"cut off", strings.TrimSuffix(text(t, jwk.Set{Keys: []jwk.Key{es}}), "}"), "not a JSON object"},
		{"two of one name", text(t, jwk.Set{Keys: []jwk.Key{es, ed}}), "two keys with the kid"},
	} {
		if set, err := jwk.ParseSet([]byte(c.text)); !errors.Is(err, jwk.ErrKey) || !strings.Contains(err.Error(), c.says) || set.Keys != nil {
			t.Errorf("%s: %+v, %v; want an error that says %q", c.name, set, err, c.says)
		}
	}
}

// Whatever the text, what comes out can verify, and reads as itself again.
func FuzzParseSet(f *testing.F) {
	es, ed := newKeys(f)
	f.Add(text(f, jwk.Set{Keys: []jwk.Key{es, ed}}))
	f.Add(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`)
	f.Add(`{"keys":[]}`)
	f.Fuzz(func(t *testing.T, document string) {
		set, err := jwk.ParseSet([]byte(document))
		if err != nil {
			return
		}
		for _, k := range set.Keys {
			if _, err := k.Public(); err != nil || k.ID == "" || k.Algorithm == "" {
				t.Errorf("%+v: %v", k, err)
			}
		}
		again, err := jwk.ParseSet([]byte(text(t, set)))
		if err != nil || len(again.Keys) != len(set.Keys) {
			t.Errorf("%+v does not read as itself: %v", set, err)
		}
	})
}
