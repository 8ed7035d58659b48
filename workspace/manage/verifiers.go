package manage

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Reported is what became of a report.
type Reported struct {
	revocation.Verifier
	Newest   oauth.Position
	WentBack bool // it was further before: it has begun again, or has lost what it knew
}

// ReportVerifier keeps how far a verifier in the caller's own workspace has followed
// the revocations. Reports are frequent and change nothing that anybody goes by:
// they wait for nobody, have no audit event, and are not written when they say
// nothing new. ErrInvalid: the name is none, or nothing is that far yet. ErrLimit:
// the workspace has as many verifiers as are kept.
func (m *Manager) ReportVerifier(ctx context.Context, by Caller, name string, at oauth.Position) (Reported, error) {
	if by.home == "" {
		return Reported{}, fmt.Errorf("%w: a verifier reports through an API key, which says of which workspace it is", workspace.ErrForbidden)
	}
	r := Reported{Verifier: revocation.Verifier{WorkspaceID: by.home, Name: name, KeyID: by.key, Epoch: at.Epoch, Seq: at.Sequence}}
	var last *revocation.Verifier
	err := m.view(ctx, by, operation{need: "tokens:report", in: by.home}, func(ctx context.Context, u *unit) (err error) {
		r.ReportedAt = u.now
		last, err = u.mayReport(ctx, &r)
		return err
	})
	if err != nil {
		return r, err
	}
	r.WentBack = last != nil && at.Before(last.Position())
	if !r.Adds(last) {
		r.ReportedAt = last.ReportedAt
		return r, nil
	}
	kept := false
	err = m.Database.InTx(ctx, func(ctx context.Context, tx sqlx.ExtContext) (err error) {
		kept, err = revocation.Report(ctx, tx, r.Verifier)
		return err
	})
	if err == nil && !kept {
		err = fmt.Errorf("%w: the workspace has %d verifiers, which is the most: let the ones that take over from others report by their names; those that have not reported for 30 days make room",
			ErrLimit, revocation.MaxVerifiers)
	}
	return r, err
}

// RemoveVerifier forgets a verifier of the caller's own workspace that does not run
// any more, so that nobody waits for it.
func (m *Manager) RemoveVerifier(ctx context.Context, by Caller, name string) error {
	if by.home == "" {
		return fmt.Errorf("%w: a verifier is removed through an API key, which says of which workspace it is", workspace.ErrForbidden)
	}
	return m.forgetVerifier(ctx, by, operation{need: "tokens:report", in: by.home}, name)
}

// ForgetVerifier is RemoveVerifier for organization admins, in any workspace.
func (m *Manager) ForgetVerifier(ctx context.Context, by Caller, in workspace.ID, name string) error {
	return m.forgetVerifier(ctx, by, operation{need: changeAll, in: in, elsewhere: changeAll}, name)
}

func (m *Manager) forgetVerifier(ctx context.Context, by Caller, op operation, name string) error {
	return m.do(ctx, by, op, func(ctx context.Context, u *unit) error {
		removed, err := revocation.RemoveVerifier(ctx, u.tx, op.in, name)
		if err == nil && !removed {
			err = fmt.Errorf("verifier %s: %w", name, workspace.ErrNotFound)
		}
		if err != nil {
			return err
		}
		u.record("verifier.remove", op.in, name, nil)
		return nil
	})
}

// mayReport refuses what cannot be, and reads what was reported before.
func (u *unit) mayReport(ctx context.Context, r *Reported) (last *revocation.Verifier, err error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if r.Newest, err = revocation.Newest(ctx, u.tx); err != nil {
		return nil, err
	}
	if r.Newest.Before(r.Position()) {
		return nil, fmt.Errorf("%w: nothing is at sequence %d of epoch %d yet: the newest is %d of epoch %d; report the epoch and seq of the feed that you follow, and follow the one of this issuer",
			workspace.ErrInvalid, r.Seq, r.Epoch, r.Newest.Sequence, r.Newest.Epoch)
	}
	return revocation.LastReport(ctx, u.tx, r.WorkspaceID, r.Name)
}

// Verifiers lists the verifiers of a workspace, or with an empty one of all, by
// workspace and name: those after one, at most limit of them. It tells as well how
// far the revocations are.
func (m *Manager) Verifiers(ctx context.Context, by Caller, in workspace.ID, after revocation.Verifier, limit int) (found []revocation.Verifier, newest oauth.Position, err error) {
	op := operation{need: "tokens:read", in: in, elsewhere: seeAll}
	if in == "" {
		op = operation{need: seeAll}
	}
	err = m.view(ctx, by, op, func(ctx context.Context, u *unit) error {
		if newest, err = revocation.Newest(ctx, u.tx); err != nil {
			return err
		}
		found, err = revocation.Verifiers(ctx, u.tx, in, after, limit, u.now.Time)
		return err
	})
	return found, newest, err
}

// Receipt says who has caught up with a revocation. To those whom it does not concern
// it does not exist: it does to whoever may read the tokens of its workspace, and
// every one does to those who see the organization.
func (m *Manager) Receipt(ctx context.Context, by Caller, seq int64) (r revocation.Receipt, err error) {
	entry, err := revocation.Find(ctx, m.Database.Reader(), seq)
	if err != nil {
		return r, err
	}
	read := func(ctx context.Context, u *unit) error {
		r, err = revocation.ReceiptOf(ctx, u.tx, entry, u.now.Time)
		return err
	}
	// The workspace may be gone, which those who see everything are told of all the same.
	err = m.view(ctx, by, operation{need: seeAll}, read)
	switch {
	case !errors.Is(err, workspace.ErrForbidden):
		return r, err
	case entry.WorkspaceID == "":
		return r, fmt.Errorf("revocation %d: %w", seq, workspace.ErrNotFound)
	}
	return r, m.view(ctx, by, operation{need: "tokens:read", in: entry.WorkspaceID}, read)
}
