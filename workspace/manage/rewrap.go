package manage

import (
	"context"
	"fmt"

	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// A key-encryption key is replaced while servers run: they are given the new one in
// front of the old one, everything is sealed anew, and then nothing needs the old one.

// awaitSealer returns when every server that lives opens what is sealed here. The error
// wraps change.ErrNotHeld and names those that do not.
func (m *Manager) awaitSealer(ctx context.Context) error {
	if err := change.AwaitHeld(ctx, m.Database, m.Sealer.Word(), m.timing()); err != nil {
		return fmt.Errorf("key-encryption key %q: %w: configure it there, in front of the others, and restart", m.Sealer.ID(), err)
	}
	return nil
}

// RewrapSigningKeys seals every private key that is stored anew, by the key-encryption
// key that is configured first, all or none. Servers go on signing meanwhile. It returns
// the keys as they were before; none, when nothing was to be done.
//
// change.ErrNotHeld: a server lacks that key-encryption key, and would not open them.
// signing.ErrSealed: a key was sealed by one that is not configured here.
func (m *Manager) RewrapSigningKeys(ctx context.Context, by Caller) (before []signing.Stored, err error) {
	if err := m.mayTend(ctx, by); err != nil {
		return nil, err
	}
	if err := m.awaitSealer(ctx); err != nil {
		return nil, err
	}
	err = m.do(ctx, by, tending, func(ctx context.Context, u *unit) error {
		before = nil
		present, err := signing.Published(ctx, u.tx)
		if err != nil {
			return err
		}
		for _, key := range present {
			if key.SealerID == m.Sealer.ID() {
				continue
			}
			if err := u.rewrap(ctx, key); err != nil {
				return err
			}
			before = append(before, key)
		}
		return nil
	})
	return before, err
}

func (u *unit) rewrap(ctx context.Context, key signing.Stored) error {
	sealed, err := key.Rewrapped(u.Sealer)
	if err != nil {
		return err
	}
	if _, err := signing.Rewrap(ctx, u.tx, sealed); err != nil {
		return err
	}
	u.recordKey("rewrap", key, map[string]any{"from": key.SealerID, "to": sealed.SealerID})
	return nil
}
