package manage_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
)

// However many replicas find that a copy has to be made anew, one epoch comes of it.
func TestRenewEpoch(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		before, err := revocation.Newest(t.Context(), db.Reader())
		check(t, err)
		var renewing sync.WaitGroup
		var begun atomic.Int64 // the sum of what was begun
		for range 5 {
			renewing.Go(func() {
				epoch, err := h.RenewEpoch(t.Context(), operator, before.Epoch)
				if err != nil {
					t.Errorf("renew: %v", err)
				}
				begun.Add(epoch)
			})
		}
		renewing.Wait()
		after, err := revocation.Newest(t.Context(), db.Reader())
		check(t, err)
		if after.Epoch != h.now.Unix() || after.Epoch != begun.Load() || after.Sequence != before.Sequence {
			t.Errorf("after %+v comes %+v", before, after)
		}
		var events int
		check(t, db.Reader().QueryRowxContext(t.Context(), `SELECT count(*) FROM audit_events WHERE action = 'revocations.epoch'`).Scan(&events))
		if events != 1 {
			t.Errorf("%d events", events)
		}
	})
}
