package keys_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

func TestKeyValidate(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		name   string
		change func(*keys.Key)
		valid  bool
	}{
		{"as it should be", func(*keys.Key) {}, true},
		{"personal", func(k *keys.Key) { k.ServiceAccountID, k.UserID = "", "usr_1" }, true},
		{"the longest description", func(k *keys.Key) { k.Description = strings.Repeat("ü", 1000) }, true},
		{"the shortest token life", func(k *keys.Key) { k.TokenTTL = time.Minute }, true},
		{"the longest token life", func(k *keys.Key) { k.TokenTTL = time.Hour }, true},
		{"ends in a moment", func(k *keys.Key) { k.ExpiresAt = workspace.At(now.Add(time.Second)) }, true},
		{"no name", func(k *keys.Key) { k.Name = " " }, false},
		{"a line break in the name", func(k *keys.Key) { k.Name = "a\nb" }, false},
		{"a reversed name", func(k *keys.Key) { k.Name = "a\u202eb" }, false},
		{"too long a description", func(k *keys.Key) { k.Description = strings.Repeat("a", 1001) }, false},
		{"no owner", func(k *keys.Key) { k.ServiceAccountID = "" }, false},
		{"two owners", func(k *keys.Key) { k.UserID = "usr_1" }, false},
		{"ended", func(k *keys.Key) { k.ExpiresAt = workspace.At(now) }, false},
		{"too short a token life", func(k *keys.Key) { k.TokenTTL = time.Minute - 1 }, false},
		{"too long a token life", func(k *keys.Key) { k.TokenTTL = time.Hour + 1 }, false},
		{"a negative token life", func(k *keys.Key) { k.TokenTTL = -time.Minute }, false},
	} {
		key := keys.Key{Name: "ci", ServiceAccountID: "sa_1"}
		test.change(&key)
		switch err := key.Validate(now); {
		case test.valid && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case !test.valid && !errors.Is(err, workspace.ErrInvalid):
			t.Errorf("%s: %v, want ErrInvalid", test.name, err)
		}
	}
}

func TestKeyAllows(t *testing.T) {
	key := keys.Key{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}}
	for address, want := range map[string]bool{
		"192.0.2.7": true, "::ffff:192.0.2.7": true, "2001:db8::1": true,
		"192.0.3.7": false, "::ffff:192.0.3.7": false, "2001:db9::1": false,
	} {
		if got := key.Allows(netip.MustParseAddr(address)); got != want {
			t.Errorf("Allows(%s) = %v", address, got)
		}
		if !(keys.Key{}).Allows(netip.MustParseAddr(address)) {
			t.Errorf("a key without networks refuses %s", address)
		}
	}
	if key.Allows(netip.Addr{}) {
		t.Error("an unknown address is allowed")
	}
}

// A secret ends at its instant, not after it.
func TestSecretLive(t *testing.T) {
	end := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	secret := keys.StoredSecret{ExpiresAt: workspace.At(end)}
	for after, want := range map[time.Duration]bool{-time.Microsecond: true, 0: false, time.Microsecond: false} {
		if got := secret.Live(end.Add(after)); got != want {
			t.Errorf("%s after its end: live is %v", after, got)
		}
	}
	if !(keys.StoredSecret{}).Live(end) {
		t.Error("a secret without an end is not live")
	}
}
