package keys_test

import (
	"bytes"
	"encoding/base64"
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
