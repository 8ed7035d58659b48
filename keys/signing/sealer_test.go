package signing_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/keys/signing"
)

func kek(fill byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

func sealer(t *testing.T, text string) *signing.Sealer {
	t.Helper()
	s, err := signing.ParseSealer(text)
	check(t, err)
	return s
}

func TestSealedOpensInItsPlaceOnly(t *testing.T) {
	s := sealer(t, kek(1))
	plain := []byte("a private key")
	sealed := s.Seal(plain, "row 1")
	if got, err := s.Open("1", sealed, "row 1"); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("Open = %q, %v", got, err)
	}
	if bytes.Contains(sealed, plain) {
		t.Error("the plain text shows")
	}
	if bytes.Equal(sealed, s.Seal(plain, "row 1")) {
		t.Error("sealing twice gives the same")
	}
	if _, err := s.Open("1", sealed, "row 2"); !errors.Is(err, signing.ErrSealed) {
		t.Errorf("in another row: %v", err)
	}
	if _, err := sealer(t, kek(2)).Open("1", sealed, "row 1"); !errors.Is(err, signing.ErrSealed) {
		t.Errorf("under another key: %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := s.Open("1", changed, "row 1"); !errors.Is(err, signing.ErrSealed) {
			t.Errorf("with byte %d changed: %v", i, err)
		}
		if _, err := s.Open("1", sealed[:i], "row 1"); !errors.Is(err, signing.ErrSealed) {
			t.Errorf("cut off at byte %d: %v", i, err)
		}
	}
}

func TestParseSealer(t *testing.T) {
	for text, want := range map[string]string{kek(1): "1", "2026-01:" + kek(1): "2026-01"} {
		if got := sealer(t, text).ID(); got != want {
			t.Errorf("the ID is %q, want %q", got, want)
		}
	}
	short := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 31))
	for name, text := range map[string]string{
		"empty": "", "short": short, "no ID": ":" + kek(1), "not base64": strings.Repeat("!", 44), "an ID alone": "1:",
	} {
		_, err := signing.ParseSealer(text)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if text != "" && (strings.Contains(err.Error(), text) || strings.Contains(err.Error(), short)) {
			t.Errorf("%s: the error quotes the input: %v", name, err)
		}
	}
}

// Of several key-encryption keys the first seals and all open, each what it sealed.
func TestSealerOfSeveral(t *testing.T) {
	old, both := sealer(t, kek(1)), sealer(t, "2:"+kek(2)+", 1:"+kek(1))
	before := old.Seal([]byte("a private key"), "row")
	after := both.Seal([]byte("a private key"), "row")
	for id, sealed := range map[string][]byte{"1": before, "2": after} {
		if got, err := both.Open(id, sealed, "row"); err != nil || string(got) != "a private key" {
			t.Errorf("sealed by %s: %q, %v", id, got, err)
		}
	}
	if _, err := both.Open("1", after, "row"); !errors.Is(err, signing.ErrSealed) {
		t.Errorf("under the wrong one of two: %v", err)
	}
	if _, err := old.Open("2", after, "row"); !errors.Is(err, signing.ErrSealed) || !strings.Contains(err.Error(), `sealed by key-encryption key "2" and "1" is configured`) {
		t.Errorf("under one that is not there: %v", err)
	}
	if both.ID() != "2" || !both.Several() || old.Several() {
		t.Errorf("%s seals, several: %t and %t", both.ID(), both.Several(), old.Several())
	}
	if want := both.Word() + " " + old.Word(); both.Holds() != want {
		t.Errorf("it holds %q, want %q", both.Holds(), want)
	}
	if sealer(t, kek(1)).Word() != old.Word() || sealer(t, kek(2)).Word() == old.Word() {
		t.Error("the word does not tell key-encryption keys of one ID apart")
	}
	for _, text := range []string{kek(1) + "," + kek(2), "1:" + kek(1) + "," + kek(2), "2:" + kek(1) + ",", "2:" + kek(2) + ",2:" + kek(1)} {
		if _, err := signing.ParseSealer(text); err == nil || strings.Contains(err.Error(), kek(1)) || strings.Contains(err.Error(), kek(2)) {
			t.Errorf("%d key-encryption keys are accepted or quoted: %v", strings.Count(text, ",")+1, err)
		}
	}
}
