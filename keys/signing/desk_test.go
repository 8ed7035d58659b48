package signing_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
)

// What was put together at a desk is gone when the next one takes it.
func TestDesksKeepNothing(t *testing.T) {
	token, signature := signing.Leftovers("eyJ.eyJ", "signed")
	if !bytes.Equal(token, make([]byte, len("eyJ.eyJ"))) || !bytes.Equal(signature, make([]byte, len("signed"))) {
		t.Errorf("a desk that was released holds %q and %q", token, signature)
	}
}

// Those who sign at the same time do not share a desk: what is signed is always the same.
func TestSignAtOnce(t *testing.T) {
	ring := ringOfAll(t)
	for _, algorithm := range []string{jwk.ES256, jwk.EdDSA} {
		key, err := ring.Active(t.Context(), algorithm)
		check(t, err)
		payload := func(n int) []byte { return bytes.Repeat([]byte(fmt.Sprint(n)), 10+400*n) }
		var want [8]string
		for n := range want {
			want[n], err = key.Sign(oauth.AccessTokenType, payload(n))
			check(t, err)
		}
		var running sync.WaitGroup
		for n := range want {
			running.Go(func() {
				for range 50 {
					if got, err := key.Sign(oauth.AccessTokenType, payload(n)); err != nil || got != want[n] {
						t.Errorf("%s: %.80s, %v; want %.80s", algorithm, got, err, want[n])
					}
				}
			})
		}
		running.Wait()
	}
}
