package manage

import (
	"context"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// AuditEvents lists what happened in a workspace, the newest first: changes and
// exchanges. In an empty workspace it is what happened in the installation, for
// organization admins.
func (m *Manager) AuditEvents(ctx context.Context, by Caller, in workspace.ID, f audit.Filter, after audit.Position, limit int) (found []audit.Entry, err error) {
	op := operation{need: "audit:read", in: in}
	if f.Chain = string(in); in == "" {
		op.need, f.Chain = seeAll, audit.Instance
	}
	err = m.view(ctx, by, op, func(ctx context.Context, u *unit) error {
		found, err = audit.List(ctx, u.tx, f, after, limit)
		return err
	})
	return found, err
}

// Usage counts the exchanges of a workspace by key, outcome and time.
func (m *Manager) Usage(ctx context.Context, by Caller, in workspace.ID, key string, since, until time.Time, bucket time.Duration) (rows []audit.UsageRow, err error) {
	err = m.view(ctx, by, operation{need: "api-keys:read", in: in}, func(ctx context.Context, u *unit) error {
		rows, err = audit.Usage(ctx, u.tx, in, key, since, until, bucket)
		return err
	})
	return rows, err
}
