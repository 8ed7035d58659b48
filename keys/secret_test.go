package keys_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/keys"
)

func TestSecretForm(t *testing.T) {
	format := newFormat(t, "acme_live_")
	id := format.NewID()
	for kind, letter := range map[keys.Kind]string{keys.ServiceKey: "s", keys.PersonalKey: "p"} {
		secret := format.NewSecret(id, kind)
		form := regexp.MustCompile(`^acme_live_` + letter + `_([0-9a-z]{26})_[0-9A-Za-z]{49}$`)
		match := form.FindStringSubmatch(secret.Reveal())
		if match == nil {
			t.Fatal("a new secret has another form")
		}
		if match[1] != string(id[len(id)-26:]) {
			t.Error("the secret does not hold the 26 characters of its key's ID")
		}
		text := secret.Reveal()
		if want := text[len(text)-49 : len(text)-45]; secret.Hint() != want {
			t.Errorf("the hint is %q, want %q", secret.Hint(), want)
		}
	}
}

// A secret of any brand, new or accepted, is recognised, and names its own key
// and no other. So does a new secret of an old key, after the brand changed.
func TestSecretRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix, accepted := prefixes(t)
		format := newFormat(t, prefix, accepted...)
		kind := rapid.SampledFrom([]keys.Kind{keys.ServiceKey, keys.PersonalKey}).Draw(t, "kind")
		for _, p := range append(accepted, prefix) {
			older := newFormat(t, p)
			id := older.NewID()
			for _, secret := range []keys.Secret{older.NewSecret(id, kind), format.NewSecret(id, kind)} {
				text := secret.Reveal()
				parsed, err := format.ParseSecret(text)
				if err != nil || parsed.Reveal() != text || parsed.Kind() != kind {
					t.Fatalf("ParseSecret(%s) = kind %c, %v", text, parsed.Kind(), err)
				}
				if got, err := format.ID(parsed); err != nil || got != id {
					t.Fatalf("%s names %s, %v; want %s", text, got, err, id)
				}
				if !parsed.Names(id) || parsed.Names(older.NewID()) {
					t.Fatalf("%s does not name its key alone", text)
				}
			}
		}
	})
}

// A changed secret is never taken for another one.
func TestEveryChangedCharacterIsRefused(t *testing.T) {
	format := newFormat(t, "tb", "tc", "tb_")
	text := format.NewSecret(format.NewID(), keys.ServiceKey).Reveal()
	for i := range len(text) {
		for _, c := range alphabet + "- \n" {
			if c != rune(text[i]) {
				refuseSecret(t, format, text[:i]+string(c)+text[i+1:])
			}
		}
		refuseSecret(t, format, text[:i])
		refuseSecret(t, format, text[:i]+text[i+1:])
		refuseSecret(t, format, text[:i]+"0"+text[i:])
		if i > 0 && text[i] != text[i-1] {
			refuseSecret(t, format, text[:i-1]+text[i:i+1]+text[i-1:i]+text[i+1:])
		}
	}
	refuseSecret(t, format, text+"0")
	refuseSecret(t, format, " "+text)
}

func refuseSecret(t *testing.T, format *keys.Format, text string) {
	t.Helper()
	secret, err := format.ParseSecret(text)
	if !errors.Is(err, keys.ErrForeignSecret) && !errors.Is(err, keys.ErrMalformedSecret) {
		t.Fatalf("ParseSecret(%q): %v, want a refusal", text, err)
	}
	if secret != (keys.Secret{}) {
		t.Fatalf("ParseSecret(%q) returns a secret with the error", text)
	}
}

// Whoever sent a malformed secret is told what is wrong with it.
func TestMalformedSecretSaysWhatIsWrong(t *testing.T) {
	format := newFormat(t, "tb")
	text := format.NewSecret(format.NewID(), keys.ServiceKey).Reveal()
	for _, test := range []struct {
		name, text, says string
		kind             error
	}{
		{"cut off", text[:40], "it has 40 of 80 characters", keys.ErrMalformedSecret},
		{"with a line break", text[:79] + "\n", "other than letters, digits and underscores", keys.ErrMalformedSecret},
		{"of the other kind", "tbp_" + text[4:], "checksum", keys.ErrMalformedSecret},
		{"of another product", "sk_live_123", "installation", keys.ErrForeignSecret},
		{"empty", "", "installation", keys.ErrForeignSecret},
	} {
		_, err := format.ParseSecret(test.text)
		if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("a secret %s: %v; want %q", test.name, err, test.says)
		}
	}
}

func TestNoSecretNamesNoKey(t *testing.T) {
	format := newFormat(t, "tb")
	if (keys.Secret{}).Names(format.NewID()) {
		t.Error("the zero value names a key")
	}
	if id, err := format.ID(keys.Secret{}); !errors.Is(err, keys.ErrForeignID) {
		t.Errorf("the zero value is of key %q, %v", id, err)
	}
	if (keys.Secret{}).Reveal() != "" {
		t.Error("the zero value has a plain text")
	}
}

func FuzzParseSecret(f *testing.F) {
	format := newFormat(f, "tb", "acme_live_", "tbs_", "tb_")
	f.Add(format.NewSecret(format.NewID(), keys.ServiceKey).Reveal())
	f.Add(format.NewSecret(format.NewID(), keys.PersonalKey).Reveal())
	f.Add("tbs_" + strings.Repeat("s_", 38))
	f.Add("tbp_")
	f.Fuzz(func(t *testing.T, s string) {
		secret, err := format.ParseSecret(s)
		if err != nil {
			if !errors.Is(err, keys.ErrForeignSecret) && !errors.Is(err, keys.ErrMalformedSecret) {
				t.Errorf("%q: an error of another kind: %v", s, err)
			}
			if len(s) > 6 && strings.Contains(err.Error(), s) {
				t.Errorf("the error repeats the input: %v", err)
			}
			return
		}
		if secret.Reveal() != s {
			t.Errorf("%q was read as %q", s, secret.Reveal())
		}
		if id, err := format.ID(secret); err == nil && !secret.Names(id) {
			t.Errorf("%q is of key %s and does not name it", s, id)
		}
	})
}
