package audit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// A flush pauses when it has worked for a stretch, and always as long: it may have spent
// the time waiting for a lock. The more wait behind it, the longer the stretch.
func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		waiting int
		worked  time.Duration
		want    time.Duration
	}{
		"too early":            {0, audit.Stretch - 1, 0},
		"a stretch":            {0, audit.Stretch, audit.Pause},
		"few wait":             {499, audit.Stretch, audit.Pause},
		"waited for a lock":    {0, 5 * time.Second, audit.Pause},
		"a batch waits":        {500, audit.Stretch, 0},
		"a batch waits, later": {500, 2 * audit.Stretch, audit.Pause},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rest := audit.Pace(c.waiting, 500)
				time.Sleep(c.worked) //nolint:forbidigo // in a bubble
				began := time.Now()
				rest()
				if paused := time.Since(began); paused != c.want {
					t.Errorf("it paused for %v, want %v", paused, c.want)
				}
				if c.want > 0 {
					began = time.Now()
					rest()
					if paused := time.Since(began); paused != 0 {
						t.Errorf("it paused again for %v, without having worked", paused)
					}
				}
			})
		})
	}
}
