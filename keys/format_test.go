package keys_test

import (
	"encoding/base32"
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/keys"
)

// crockford is how an ID's 128 bits are written.
var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

const (
	base62   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	alphabet = base62 + "_"
)

var (
	anyPrefix = rapid.StringMatching(`[a-z][a-z0-9_]{1,23}`)
	// alike begin like each other and like what follows a prefix.
	alike = rapid.SampledFrom([]string{"tb", "tbs", "tbs_", "tbs_s", "tbp_", "tbk_", "tb_", "tbk", "acme", "acme_live_", "ss", "s_", "s_s", "p_s_", "kk"})
)

func prefixes(t *rapid.T) (string, []string) {
	one := rapid.OneOf(anyPrefix, alike)
	return one.Draw(t, "prefix"), rapid.SliceOfN(one, 0, 5).Draw(t, "accepted")
}

func TestNewFormatChecksPrefixAndKey(t *testing.T) {
	for _, prefix := range []string{"", "t", "Tb", "1tb", "_tb", "tb-", "tb ", "a234567890123456789012345", "tb\n"} {
		if _, err := keys.NewFormat(prefix, nil, make([]byte, 32)); err == nil {
			t.Errorf("the prefix %q is accepted", prefix)
		}
		if _, err := keys.NewFormat("tb", []string{prefix}, make([]byte, 32)); err == nil {
			t.Errorf("the older prefix %q is accepted", prefix)
		}
	}
	for _, size := range []int{0, 16, 31, 33} {
		if _, err := keys.NewFormat("tb", nil, make([]byte, size)); err == nil {
			t.Errorf("a MAC key of %d bytes is accepted", size)
		}
	}
}

func TestIDForm(t *testing.T) {
	form := regexp.MustCompile(`^acme_live_k_[0-9a-hjkmnp-tv-z]{26}$`)
	format := newFormat(t, "acme_live_")
	seen := map[keys.ID]bool{}
	for range 1000 {
		id := format.NewID()
		if !form.MatchString(string(id)) {
			t.Fatalf("the ID %s has another form", id)
		}
		if seen[id] {
			t.Fatalf("the ID %s came twice", id)
		}
		seen[id] = true
	}
}

// IDs of every accepted prefix are recognised, those of others are not.
func TestIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix, accepted := prefixes(t)
		format := newFormat(t, prefix, accepted...)
		for _, p := range append(accepted, prefix) {
			id := newFormat(t, p).NewID()
			if got, err := format.ParseID(string(id)); err != nil || got != id {
				t.Fatalf("ParseID(%s) = %s, %v", id, got, err)
			}
		}
		stranger := newFormat(t, "zzstranger").NewID()
		if _, err := format.ParseID(string(stranger)); !errors.Is(err, keys.ErrForeignID) {
			t.Fatalf("an ID of another prefix: %v", err)
		}
	})
}

// Every bit of an ID is authenticated.
func TestInventedIDsAreRefused(t *testing.T) {
	format := newFormat(t, "tb")
	id := string(format.NewID())
	bits, err := crockford.DecodeString(strings.TrimPrefix(id, "tbk_"))
	check(t, err)
	for bit := range 8 * len(bits) {
		bits[bit/8] ^= 1 << (bit % 8)
		refuse(t, format, "tbk_"+crockford.EncodeToString(bits))
		bits[bit/8] ^= 1 << (bit % 8)
	}
	other, err := keys.NewFormat("tb", nil, make([]byte, 32))
	check(t, err)
	refuse(t, format, string(other.NewID()))
}

// 26 characters hold 130 bits: there are four ways to write an ID, and one is
// right. Nor is another case, or a letter that people confuse, taken for it.
func TestIDHasOneSpelling(t *testing.T) {
	format := newFormat(t, "tb")
	for range 50 {
		id := string(format.NewID())
		for i := range len(id) {
			for _, c := range alphabet + "-\n\r =" {
				if other := id[:i] + string(c) + id[i+1:]; other != id {
					refuse(t, format, other)
				}
			}
		}
		for _, other := range []string{"", " " + id, id + " ", id + "\n", id[1:], id[:len(id)-1], "x" + id, id + "0", id[:10] + "\n" + id[10:], id[4:]} {
			refuse(t, format, other)
		}
	}
}

func refuse(t *testing.T, format *keys.Format, id string) {
	t.Helper()
	if got, err := format.ParseID(id); !errors.Is(err, keys.ErrForeignID) || got != "" {
		t.Fatalf("ParseID(%q) = %q, %v; want ErrForeignID", id, got, err)
	}
}

func FuzzParseID(f *testing.F) {
	format := newFormat(f, "tb", "acme_live_", "tbk_")
	f.Add(string(format.NewID()))
	f.Add("tbk_00000000000000000000000000")
	f.Add("acme_live_k_" + strings.Repeat("\n", 26))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := format.ParseID(s)
		switch {
		case err == nil && string(id) != s:
			t.Errorf("%q was read as %q", s, id)
		case err != nil && !errors.Is(err, keys.ErrForeignID):
			t.Errorf("%q: %v, want ErrForeignID", s, err)
		case err != nil && len(s) > 3 && strings.Contains(err.Error(), s):
			t.Errorf("the error repeats the input: %v", err)
		}
	})
}
