package manage

import (
	"context"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Rights is what the caller holds in a workspace, or with an empty one in the
// installation, for showing only what they can do: it decides nothing.
// ErrNotFound: they may not know of the workspace.
func (m *Manager) Rights(ctx context.Context, by Caller, in workspace.ID) (rights oauth.Scope, err error) {
	op := operation{in: in}
	if in != "" {
		op.elsewhere = seeAll + " " + changeAll
	}
	err = m.view(ctx, by, op, func(_ context.Context, u *unit) error {
		rights = u.rights
		if u.all {
			rights = u.Policy.Catalogue.Known()
		}
		return nil
	})
	return rights, err
}
