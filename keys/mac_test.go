package keys_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"testing"

	"github.com/tokenbooth/tokenbooth/keys"
)

// One key is used by all requests at once: no code depends on another that is being
// made, or was made before.
func TestCodesAtOnce(t *testing.T) {
	format := newFormat(t, "tb")
	peppers, err := keys.ParsePeppers(pepper(1, 1))
	check(t, err)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			id := format.NewID()
			secret := format.NewSecret(id, keys.ServiceKey)
			digest := peppers.Digest(id, secret)
			for range 50 {
				peppers.Waste(secret)
				if _, err := format.ParseID(string(id)); err != nil {
					t.Errorf("%s: %v", id, err)
				}
				if right, err := peppers.Matches(id, secret, digest); !right || err != nil {
					t.Errorf("%s: %v, %v", id, right, err)
				}
			}
		})
	}
	group.Wait()
}

// The codes are those that were always made: stored digests, IDs and cursors depend
// on them.
func TestCodesStayAsTheyWere(t *testing.T) {
	format, err := keys.NewFormat("tb", nil, bytes.Repeat([]byte{7}, 32))
	check(t, err)
	const id = "tbk_06d020g30htgd1r8145ea8c4vc"
	if _, err := format.ParseID(id); err != nil {
		t.Errorf("an ID of old: %v", err)
	}
	peppers, err := keys.ParsePeppers(pepper(1, 1))
	check(t, err)
	if got := base64.StdEncoding.EncodeToString(peppers.MAC("purpose", "a", "b")); got != "+nT7n4LfLjHO5AgZ5qYLWsR51ZUo3otjQzd+5VbnEOM=" {
		t.Errorf("MAC is %s", got)
	}
}

// Whatever the lengths of key and parts are, the code is that of crypto/hmac.
func TestCodesAreHMACs(t *testing.T) {
	text := strings.Repeat("some text that is not the same all over; ", 10)
	for n := range 300 {
		key := []byte(text[n:][:n%65])
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text[:n] + text[n:n+7]))
		if got := keys.Code(key, text[:n], text[n:n+7]); !bytes.Equal(got[:], mac.Sum(nil)) {
			t.Fatalf("a message of %d bytes under a key of %d has another code", n+7, len(key))
		}
	}
}

// What codes are made with is used again, and holds nothing of what it was used for.
func TestCodesLeaveNothing(t *testing.T) {
	for n := range 200 {
		if left := keys.Leftovers(strings.Repeat("x", n)); !bytes.Equal(left, make([]byte, len(left))) {
			t.Fatalf("after a message of %d bytes there is left: %q", n, left)
		}
	}
}

// Recognising a credential allocates what holds the secret, and a text that its
// checksum is made of. The cheapest of many runs is taken: with the race detector pools
// forget some of what they are given.
func TestRecognisingAllocatesLittle(t *testing.T) {
	format := newFormat(t, "tb")
	peppers, err := keys.ParsePeppers(pepper(1, 1))
	check(t, err)
	id := format.NewID()
	text := format.NewSecret(id, keys.ServiceKey).Reveal()
	secret, err := format.ParseSecret(text)
	check(t, err)
	digest := peppers.Digest(id, secret)
	recognise := func() {
		_, errID := format.ParseID(string(id))
		again, err := format.ParseSecret(text)
		right, errMatch := peppers.Matches(id, again, digest)
		if errID != nil || err != nil || !right || errMatch != nil {
			t.Fatal(errID, err, right, errMatch)
		}
	}
	fewest := testing.AllocsPerRun(1, recognise)
	for range 200 {
		fewest = min(fewest, testing.AllocsPerRun(1, recognise))
	}
	if fewest > 2 {
		t.Errorf("%v objects", fewest)
	}
}

// decodeID and the standard library read the same texts as the same IDs.
func TestDecodeID(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("0", 26), strings.Repeat("z", 25) + "w", strings.Repeat("z", 26), strings.Repeat("0", 25) + "1",
		strings.Repeat("0", 25) + "4", "0123456789abcdefghjkmnpqrs", "06d020g30htgd1r8145ea8c4vc", "06D020G30HTGD1R8145EA8C4VC",
		strings.Repeat("0", 25) + "u", "\n" + strings.Repeat("0", 25), strings.Repeat("0", 24) + "\xc3\xa9", "tbk_" + strings.Repeat("0", 22),
	} {
		var want [16]byte
		n, err := keys.Crockford.Decode(want[:], []byte(text))
		valid := err == nil && n == len(want) && keys.Crockford.EncodeToString(want[:]) == text
		if id, ok := keys.DecodeID(text); ok != valid || ok && id != want {
			t.Errorf("%q: %x, %t; want %x, %t", text, id, ok, want, valid)
		}
	}
}
