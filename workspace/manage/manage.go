package manage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/webhook"
)

// Manager performs the use cases. All fields are required, but Announce, Hurry,
// Tell, Journal, Timing, Now and Passwords.
type Manager struct {
	Database *schema.DB
	Format   *keys.Format
	Peppers  keys.Peppers
	Sealer   *signing.Sealer
	Policy   *policy.Policy
	Announce bool   // tell the webhook what happens to keys
	Hurry    func() // makes this process's own replica take a change in at once; nil: there is none
	// Tell tells the voucher of replicas without a lease (change.Voucher) everything up
	// to the change with that number, and returns its name; nil: there is none.
	Tell    func(ctx context.Context, seq int64) (voucher string, err error)
	Journal *revocation.Journal // has every revocation before its change is acknowledged; nil: there is none
	Timing  change.Timing       // of the replicas' leases; zero: change.DefaultTiming
	Signing signing.Timing      // of the rotation of signing keys
	Now     func() time.Time    // zero: time.Now

	Passwords *identity.Passwords // nil: identity.DefaultPasswords
}

// operation says what is to be done, and what a caller needs for it.
type operation struct {
	need string       // a reserved scope, such as "api-keys:create"; empty: none
	in   workspace.ID // where; empty: the installation
	// elsewhere are rights in the installation, separated by spaces, each of which
	// suffices too, also for those who are not in the workspace.
	elsewhere string
	own       bool // what is the caller's own needs no right: see unit.lacks
}

// unit is one unit of work: a transaction and what it has done so far.
type unit struct {
	*Manager
	tx     sqlx.ExtContext
	now    workspace.Time
	by     Caller
	rights oauth.Scope // what the caller holds where the operation is
	all    bool        // the caller is the operator
	lacks  error       // not nil: the caller may do this to their own keys only

	bounded map[workspace.ID]*policy.Bounds // what policy says, once it was asked

	touched   []string // for the caches
	events    []event
	denied    []revocation.Entry
	announced []webhook.Event
	before    Denial // what denied the same earlier
	denies    bool   // every replica must act by it when do returns, also when an earlier call changed it
}

type event struct {
	audit.Event
	detail map[string]any
}

// do runs one use case: authorise, execute, log the change, audit, commit, wait.
// f may run more than once, if the database asks for a retry; it must not keep
// what an earlier run produced. When f records no event, nothing is written.
func (m *Manager) do(ctx context.Context, by Caller, op operation, f func(context.Context, *unit) error) error {
	var seq int64
	var u *unit
	err := m.Database.InTx(ctx, func(ctx context.Context, tx sqlx.ExtContext) (err error) {
		if seq, err = change.Lock(ctx, tx); err != nil {
			return err
		}
		u = &unit{Manager: m, tx: tx, now: workspace.At(m.now()), by: by}
		if err := u.authorise(ctx, op); err != nil {
			return err
		}
		if err := f(ctx, u); err != nil {
			return err
		}
		return u.finish(ctx, seq)
	})
	if errors.Is(err, errUnchanged) {
		err, seq = nil, seq-1 // the number was not taken after all; the one before is the newest
	}
	if err != nil || !u.denies {
		return err
	}
	if by.denial != nil {
		*by.denial = u.denial()
	}
	return m.await(ctx, seq)
}

// view runs a use case that only reads: authorise, then read.
func (m *Manager) view(ctx context.Context, by Caller, op operation, f func(context.Context, *unit) error) error {
	u := &unit{Manager: m, tx: m.Database.Reader(), now: workspace.At(m.now()), by: by}
	if err := u.authorise(ctx, op); err != nil {
		return err
	}
	return f(ctx, u)
}

// errUnchanged rolls back a unit that had nothing to do.
var errUnchanged = errors.New("unchanged")

// finish writes what belongs to every change.
func (u *unit) finish(ctx context.Context, seq int64) error {
	if len(u.events) == 0 {
		return errUnchanged
	}
	if err := change.Record(ctx, u.tx, seq, u.now, u.touched...); err != nil {
		return err
	}
	if _, err := revocation.Append(ctx, u.tx, u.denied...); err != nil {
		return err
	}
	for _, e := range u.announced {
		if err := webhook.Enqueue(ctx, u.tx, e); err != nil {
			return err
		}
	}
	for _, e := range u.events {
		if err := audit.Append(ctx, u.tx, e.Event, e.detail); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) timing() change.Timing { return cmp.Or(m.Timing, change.DefaultTiming) }

// Time is the manager's clock.
func (m *Manager) Time() time.Time { return m.now() }

func (m *Manager) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

// record notes that subject was changed: in the audit chain of a workspace, or
// of the installation, and for the caches.
func (u *unit) record(action string, in workspace.ID, subject string, detail map[string]any) {
	chain := string(in)
	if chain == "" {
		chain = audit.Instance
	}
	u.events = append(u.events, event{
		Event: audit.Event{
			Chain: chain, At: u.now, Action: action,
			ActorKind: string(u.by.kind), ActorID: u.by.id, SubjectID: subject, KeyID: string(u.by.key),
			Address: u.by.origin.Address, Agent: u.by.origin.Agent, RequestID: u.by.origin.RequestID,
		},
		detail: detail,
	})
	u.touched = append(u.touched, subject)
}

// concerning says whom the event that was recorded last is about: the service
// account or user who owns the subject.
func (u *unit) concerning(owner string) { u.events[len(u.events)-1].OwnerID = owner }

// deny notes that tokens of a subject which carry a smaller generation are
// denied, and that nothing may be issued by what was before when do returns.
func (u *unit) deny(in workspace.ID, kind oauth.Revocable, subject string, generation int64, cause revocation.Cause) {
	u.denies = true
	u.denied = append(u.denied, revocation.Entry{
		Kind: kind, SubjectID: subject, Generation: generation, WorkspaceID: in, Cause: cause, At: u.now,
	})
}

// Version names a state of something by when it was last changed. It is what an
// ETag is made of.
func Version(updated workspace.Time) string { return strconv.FormatInt(updated.UnixMicro(), 36) }

// matches checks the caller's condition against what is there.
func (u *unit) matches(updated workspace.Time) error {
	if len(u.by.match) == 0 || slices.Contains(u.by.match, Version(updated)) {
		return nil
	}
	return fmt.Errorf("%w: read it again, and repeat what is still wanted", workspace.ErrChanged)
}

// stamp is when a change of something that was last changed at some time takes
// place: now, or just after that time if the clock was set back, so that no two
// versions have one name.
func (u *unit) stamp(updated workspace.Time) workspace.Time {
	if u.now.After(updated.Time) {
		return u.now
	}
	return workspace.At(updated.Add(time.Microsecond))
}
