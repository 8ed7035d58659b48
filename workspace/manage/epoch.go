package manage

import (
	"context"

	"github.com/tokenbooth/tokenbooth/policy/revocation"
)

// RenewEpoch begins a new epoch of the revocations, for a copy that has to be made
// from nothing, and returns it. When the present epoch is another than old, somebody
// was faster: nothing changes, and it returns 0.
func (m *Manager) RenewEpoch(ctx context.Context, by Caller, old int64) (epoch int64, err error) {
	err = m.do(ctx, by, tending, func(ctx context.Context, u *unit) error {
		epoch = 0
		begun, err := revocation.NextEpoch(ctx, u.tx, old, u.now)
		if err != nil || !begun {
			return err
		}
		now, err := revocation.Newest(ctx, u.tx)
		if err != nil {
			return err
		}
		epoch = now.Epoch
		u.record("revocations.epoch", "", revocation.Subject, map[string]any{"before": old, "after": epoch})
		return nil
	})
	return epoch, err
}
