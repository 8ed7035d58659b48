package keys_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/keys"
)

// The stored form is HMAC-SHA-256(pepper, "v1" ‖ key ID ‖ 0x00 ‖ secret): it may
// not change, or every stored key is lost.
func TestDigestIsAsDocumented(t *testing.T) {
	format := newFormat(t, "tb")
	id := format.NewID()
	secret := format.NewSecret(id, keys.ServiceKey)
	peppers, err := keys.ParsePeppers(pepper(3, 9))
	check(t, err)
	h := hmac.New(sha256.New, []byte(strings.Repeat("\x09", 32)))
	h.Write([]byte("v1" + string(id) + "\x00" + secret.Reveal()))
	want := keys.Digest{Pepper: 3, Sum: h.Sum(nil)}
	if diff := cmp.Diff(want, peppers.Digest(id, secret)); diff != "" {
		t.Error(diff)
	}
}

func TestDigestMatchesItsSecretOnly(t *testing.T) {
	format := newFormat(t, "tb")
	id := format.NewID()
	secret := format.NewSecret(id, keys.ServiceKey)
	peppers, err := keys.ParsePeppers(pepper(1, 1))
	check(t, err)
	digest := peppers.Digest(id, secret)
	for _, test := range []struct {
		name   string
		id     keys.ID
		secret keys.Secret
		want   bool
	}{
		{"itself", id, secret, true},
		{"another secret of the key", id, format.NewSecret(id, keys.ServiceKey), false},
		{"the secret under another ID", format.NewID(), secret, false},
		{"no secret", id, keys.Secret{}, false},
	} {
		if got, err := peppers.Matches(test.id, test.secret, digest); err != nil || got != test.want {
			t.Errorf("%s: Matches is %v, %v; want %v", test.name, got, err, test.want)
		}
	}
}

// A new pepper comes first; secrets stored under the older one go on working
// while it is configured.
func TestPepperRotation(t *testing.T) {
	format := newFormat(t, "tb")
	id := format.NewID()
	secret := format.NewSecret(id, keys.ServiceKey)
	old, err := keys.ParsePeppers(pepper(1, 1))
	check(t, err)
	both, err := keys.ParsePeppers(pepper(2, 2) + ", " + pepper(1, 1))
	check(t, err)
	alone, err := keys.ParsePeppers(pepper(2, 2))
	check(t, err)

	before, after := old.Digest(id, secret), both.Digest(id, secret)
	if before.Pepper != 1 || after.Pepper != 2 {
		t.Errorf("digests are under peppers %d and %d, want 1 and 2", before.Pepper, after.Pepper)
	}
	for _, digest := range []keys.Digest{before, after} {
		if ok, err := both.Matches(id, secret, digest); !ok || err != nil {
			t.Errorf("under pepper %d: %v, %v", digest.Pepper, ok, err)
		}
	}
	ok, err := alone.Matches(id, secret, before)
	if ok || !errors.Is(err, keys.ErrPepper) || !strings.Contains(err.Error(), string(id)) {
		t.Errorf("without its pepper: %v, %v; want ErrPepper that names the key", ok, err)
	}
}

func TestParsePeppersRefuses(t *testing.T) {
	value := strings.TrimPrefix(pepper(1, 1), "1:")
	short := base64.StdEncoding.EncodeToString(make([]byte, 31))
	for name, text := range map[string]string{
		"empty":             "",
		"no version":        value,
		"version 0":         "0:" + value,
		"negative":          "-1:" + value,
		"not a number":      "one:" + value,
		"too large":         "4294967296:" + value,
		"short":             "1:" + short,
		"not base64":        "1:" + strings.Repeat("!", 44),
		"twice":             pepper(1, 1) + "," + pepper(1, 2),
		"a comma at an end": pepper(1, 1) + ",",
	} {
		_, err := keys.ParsePeppers(text)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, part := range []string{value, short, "!!!", "4294967296"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error quotes the input: %v", name, err)
			}
		}
	}
}
