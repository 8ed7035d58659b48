package manage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// A database that was restored from a backup has lost what was revoked since. The
// journals of the replicas have it. Merging them brings the rows back, and does to
// the subjects of the rows what was done to them then.

// Effect is what is done to the subject of lost revocations.
type Effect string

// The effects.
const (
	KeyRevoked         Effect = "revoked"
	AccountDisabled    Effect = "disabled" // a service account or user
	WorkspaceSuspended Effect = "suspended"
	KeyDistrusted      Effect = "distrusted" // a signing key
	TokensDenied       Effect = "denied"     // nothing but the tokens that it had
)

// Redone is what is done again to one subject.
type Redone struct {
	Kind        oauth.Revocable `json:"kind"`
	ID          string          `json:"id"`
	Name        string          `json:"name,omitempty"` // empty: the database does not know it, or it has none
	WorkspaceID workspace.ID    `json:"workspace_id,omitempty"`
	Effect      Effect          `json:"effect"`
	At          workspace.Time  `json:"at"`               // when it was done first
	Review      string          `json:"review,omitempty"` // why somebody has to look at it
}

// Merged is what merging journals does, or would do.
type Merged struct {
	Revocations int              `json:"revocations"`          // that the database lacked
	Renumbered  int              `json:"renumbered,omitempty"` // those of them whose numbers it has given to others
	Subjects    []Redone         `json:"subjects"`
	Gaps        []revocation.Gap `json:"gaps,omitempty"` // numbers that the database has not reached and no journal has
	From        oauth.Position   `json:"from"`           // where the database was
	To          oauth.Position   `json:"to"`             // where it is now
}

// Needed reports whether the database lacks anything.
func (m Merged) Needed() bool { return m.From != m.To }

var merging = operation{need: "organization:update"}

// PreviewMerge tells what MergeRevocations would do, and changes nothing. The epoch
// of To is not known before.
func (m *Manager) PreviewMerge(ctx context.Context, by Caller, entries []revocation.Entry, epoch int64) (merged Merged, err error) {
	err = m.view(ctx, by, merging, func(ctx context.Context, u *unit) error {
		p, err := u.planMerge(ctx, entries, epoch)
		merged = p.Merged
		return err
	})
	return merged, err
}

// MergeRevocations brings back the revocations that the database lacks, of entries
// in the order in which they were made (revocation.Combine), and begins an epoch
// above that one. Rows keep their numbers, unless the database has given those to
// others. Keys, accounts, workspaces and signing keys are ended as they were then;
// what was narrowed is wide again, so it is returned for review. A second call finds
// nothing to do. Only the operator may, and no server may run meanwhile: it would not
// see rows below the number that it is at.
func (m *Manager) MergeRevocations(ctx context.Context, by Caller, entries []revocation.Entry, epoch int64) (merged Merged, err error) {
	if by.kind != operatorCaller {
		return merged, fmt.Errorf("%w: only the operator can merge journals", workspace.ErrForbidden)
	}
	err = m.do(ctx, by, merging, func(ctx context.Context, u *unit) error {
		p, err := u.planMerge(ctx, entries, epoch)
		if err == nil && p.Needed() {
			err = u.merge(ctx, p, epoch)
		}
		merged = p.Merged
		return err
	})
	return merged, err
}

// merge is a plan to merge.
type merge struct {
	Merged
	missing revocation.Missing
	steps   []func(context.Context) error
}

func (u *unit) planMerge(ctx context.Context, entries []revocation.Entry, epoch int64) (*merge, error) {
	missing, err := revocation.Compare(ctx, u.tx, entries, u.now)
	if err != nil {
		return &merge{}, err
	}
	p := &merge{missing: missing, Merged: Merged{
		Revocations: len(missing.Lost) + len(missing.Taken), Renumbered: len(missing.Taken),
		Subjects: []Redone{}, Gaps: missing.Gaps, From: missing.Newest,
	}}
	for _, l := range losses(missing, u.now) {
		if err := u.planLoss(ctx, p, l); err != nil {
			return p, err
		}
	}
	p.To = p.From
	if p.Revocations+len(p.Subjects) > 0 || missing.Highest > p.From.Sequence || epoch > p.From.Epoch {
		p.To = oauth.Position{Epoch: max(epoch, p.From.Epoch) + 1, Sequence: missing.Highest + int64(len(missing.Taken))}
	}
	return p, nil
}

// merge carries out a plan.
func (u *unit) merge(ctx context.Context, p *merge, epoch int64) (err error) {
	u.denies = true
	p.To.Epoch, err = revocation.Restore(ctx, u.tx, p.missing.Lost, p.missing.Highest, epoch, u.now)
	if err != nil {
		return err
	}
	u.denied = append(u.denied, p.missing.Taken...)
	for _, step := range p.steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	p.To.Sequence = p.missing.Highest + int64(len(u.denied))
	u.record("revocations.merge", "", revocation.Subject, map[string]any{
		"revocations": p.Revocations, "renumbered": p.Renumbered, "subjects": len(p.Subjects), "before": p.From, "after": p.To,
	})
	return nil
}

// loss is what was lost of one subject.
type loss struct {
	kind    oauth.Revocable
	id      string
	entries []revocation.Entry // that the database lacks
	expired []revocation.Entry // that it may have had
	covered int64              // the highest generation below which tokens are denied again by the entries alone
}

// losses puts what is missing in order by subject.
func losses(missing revocation.Missing, now workspace.Time) (found []*loss) {
	type subject struct {
		kind oauth.Revocable
		id   string
	}
	known := map[subject]*loss{}
	of := func(e revocation.Entry) *loss {
		s := subject{e.Kind, e.SubjectID}
		if known[s] == nil {
			known[s] = &loss{kind: e.Kind, id: e.SubjectID}
			found = append(found, known[s])
		}
		return known[s]
	}
	lost := slices.Concat(missing.Lost, missing.Taken)
	slices.SortStableFunc(lost, func(a, b revocation.Entry) int { return a.At.Compare(b.At.Time) })
	for _, e := range lost {
		l := of(e)
		l.entries = append(l.entries, e)
		if e.ExpiresAt.After(now.Time) {
			l.covered = max(l.covered, e.Generation)
		}
	}
	for _, e := range missing.Expired {
		if e.Kind != oauth.RevocableToken {
			l := of(e)
			l.expired = append(l.expired, e)
		}
	}
	return found
}

// wanted is what the entries ask for: up to which generation tokens are denied, by
// which entry the subject was ended, and which one last narrowed it.
func wanted(entries []revocation.Entry) (generation int64, ended, narrowed *revocation.Entry) {
	for _, e := range entries {
		generation = max(generation, e.Generation)
		switch e.Cause {
		case revocation.Revoked, revocation.Disabled, revocation.Removed, revocation.Suspended, revocation.Deleted:
			ended = &e
		default:
			narrowed = &e
		}
	}
	return generation, ended, narrowed
}

// stood is a subject as the database has it.
type stood struct {
	Redone
	known      bool
	generation int64
	ended      bool // as far as its kind can be
	end        func(ctx context.Context, at workspace.Time, generation int64) error
}

// planLoss plans what is done again to a subject.
func (u *unit) planLoss(ctx context.Context, p *merge, l *loss) error {
	s, err := u.stood(ctx, l)
	if err != nil {
		return err
	}
	l.prove(s)
	if len(l.entries) == 0 {
		return nil
	}
	a := again{stood: s, loss: l}
	if s.known {
		a.decide()
	} else {
		s.At = l.last().At
	}
	p.Subjects = append(p.Subjects, s.Redone)
	if s.known && (a.ends || a.to > s.generation) {
		p.steps = append(p.steps, func(ctx context.Context) error { return u.redo(ctx, a) })
	}
	return nil
}

// prove counts as lost what the database would still show of it, had it been pruned.
func (l *loss) prove(s *stood) {
	for _, e := range l.expired {
		if s.known && (e.Generation > s.generation || e.Cause == revocation.Revoked && !s.ended) {
			l.entries = append(l.entries, e)
		}
	}
}

func (l *loss) last() revocation.Entry { return l.entries[len(l.entries)-1] }

// again is what is done to a subject that the database knows.
type again struct {
	*stood
	*loss
	ends  bool
	to    int64 // the generation
	cause revocation.Cause
}

// decide finds out what has to be done.
func (a *again) decide() {
	generation, ended, narrowed := wanted(a.entries)
	a.At, a.cause = a.last().At, cmp.Or(a.last().Cause, revocation.Changed)
	if a.ends = ended != nil && !a.ended; a.ends {
		a.At, a.Effect, a.cause = ended.At, effects[a.kind], ended.Cause
		if generation > 0 && generation <= a.generation {
			generation = a.generation + 1 // the restored database has issued tokens of the present one
		}
	}
	a.to = max(generation, a.generation)
	a.Review = review(a.kind, ended, narrowed, a.ended)
}

// redo does it. Where the entries that come back do not deny the tokens that there
// may be, a new one does.
func (u *unit) redo(ctx context.Context, a again) error {
	var at workspace.Time // zero: it goes on
	if a.ends {
		at = a.At
	}
	if err := a.end(ctx, at, a.to); err != nil {
		return err
	}
	if a.to > a.covered || !anyLasts(a.entries, u.now) {
		u.deny(a.WorkspaceID, a.kind, a.id, a.to, a.cause)
	}
	u.record("revocations.restore", a.WorkspaceID, a.subject(), map[string]any{"effect": a.Effect, "at": a.At, "generation": a.to})
	return nil
}

// anyLasts reports whether an entry still denies something.
func anyLasts(entries []revocation.Entry, now workspace.Time) bool {
	return slices.ContainsFunc(entries, func(e revocation.Entry) bool { return e.ExpiresAt.After(now.Time) })
}

// effects are how subjects are ended.
var effects = map[oauth.Revocable]Effect{
	oauth.RevocableKey: KeyRevoked, oauth.RevocableSubject: AccountDisabled,
	oauth.RevocableWorkspace: WorkspaceSuspended, oauth.RevocableSigningKey: KeyDistrusted,
}

// review says why somebody has to look at a subject: it is not as it was, and the
// journal does not say how it was.
func review(kind oauth.Revocable, ended, narrowed *revocation.Entry, already bool) string {
	at := func(e *revocation.Entry) string { return e.At.Format(time.RFC3339) }
	final := ended != nil && ended.Cause == revocation.Revoked
	switch {
	case ended != nil && (ended.Cause == revocation.Removed || ended.Cause == revocation.Deleted):
		return "was deleted at " + at(ended) + ": delete it again"
	case narrowed != nil && !final && (!already || kind != oauth.RevocableKey):
		return "was narrowed at " + at(narrowed) + ", or its tokens were revoked: compare what it may do with what it should"
	}
	return ""
}

// stood reads a subject.
func (u *unit) stood(ctx context.Context, l *loss) (s *stood, err error) {
	s = &stood{Redone: Redone{Kind: l.kind, ID: l.id, Effect: TokensDenied}}
	switch l.kind {
	case oauth.RevocableKey:
		err = u.stoodKey(ctx, s)
	case oauth.RevocableSubject, oauth.RevocableWorkspace:
		err = u.stoodStoppable(ctx, s)
	case oauth.RevocableSigningKey:
		err = u.stoodSigningKey(ctx, s)
	}
	if errors.Is(err, workspace.ErrNotFound) { // made after the backup
		err = nil
	}
	return s, err
}

func (u *unit) stoodKey(ctx context.Context, s *stood) error {
	record, err := keys.Read(ctx, u.tx, keys.ID(s.ID))
	if err != nil {
		return err
	}
	s.known, s.Name, s.WorkspaceID, s.generation, s.ended = true, record.Name, record.WorkspaceID, record.Generation, !record.RevokedAt.IsZero()
	s.end = func(ctx context.Context, at workspace.Time, generation int64) error {
		key, reason := record.Key, ""
		key.Generation = generation
		if !at.IsZero() {
			key.RevokedAt, reason = at, "restored: it was revoked at "+at.Format(time.RFC3339)
		}
		return keys.SetRevoked(ctx, u.tx, key, reason, u.now)
	}
	return nil
}

func (u *unit) stoodStoppable(ctx context.Context, s *stood) error {
	found, err := workspace.FindStoppable(ctx, u.tx, s.ID)
	if err != nil {
		return err
	}
	s.known, s.Name, s.WorkspaceID, s.generation = true, found.Name, found.WorkspaceID, found.Generation
	s.ended = !found.StoppedAt.IsZero() || !found.DeletedAt.IsZero()
	s.end = func(ctx context.Context, at workspace.Time, generation int64) error {
		after := found
		after.Generation = generation
		if !at.IsZero() {
			after.StoppedAt = at
		}
		return workspace.SetStopped(ctx, u.tx, after, u.now)
	}
	return nil
}

func (u *unit) stoodSigningKey(ctx context.Context, s *stood) error {
	all, err := signing.All(ctx, u.tx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(key signing.Stored) bool { return key.ID == s.ID })
	if i < 0 {
		return nil
	}
	s.known, s.Name, s.ended = true, all[i].Algorithm, all[i].State == signing.Removed
	s.end = func(ctx context.Context, _ workspace.Time, _ int64) error {
		_, err := signing.Distrust(ctx, u.tx, s.ID, u.now)
		return err
	}
	return nil
}

// subject is how the caches and the audit log name it.
func (s *stood) subject() string {
	if s.Kind == oauth.RevocableSigningKey {
		return signing.Subject(s.ID)
	}
	return s.ID
}
