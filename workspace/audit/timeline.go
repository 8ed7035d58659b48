package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Filter says which entries of one chain's timeline are wanted. The zero value of
// a field wants all.
type Filter struct {
	Chain     string // required: a workspace ID, or Instance
	OwnerID   string // whom it concerns: as owner, subject or actor
	KeyID     string // the key that was used, or that it is about
	ActorID   string
	SubjectID string
	Action    string    // exact, or what begins alike: key.*
	Outcome   string    // of uses of keys, and then nothing else
	Since     time.Time // included
	Until     time.Time // not included
	Only      Only      // empty: both kinds
}

// Only is one of the kinds of entries.
type Only string

// The kinds.
const (
	OnlyEvents Only = "events" // of management
	OnlyUses   Only = "uses"   // of keys
)

// Entry is a management event or a use of a key. Of the latter the subject is the
// key and the actor its owner.
type Entry struct {
	ID        string         `db:"id"`
	At        workspace.Time `db:"at"`
	Chain     string         `db:"chain"`
	Seq       int64          `db:"seq"` // 0 for uses of keys
	Action    string         `db:"action"`
	ActorKind string         `db:"actor_kind"`
	ActorID   string         `db:"actor_id"`
	KeyID     string         `db:"key_id"`
	SubjectID string         `db:"subject_id"`
	OwnerID   string         `db:"owner_id"`
	Outcome   string         `db:"outcome"` // of uses of keys
	Address   string         `db:"address"`
	Agent     string         `db:"agent"`
	RequestID string         `db:"request_id"`
	Detail    string         `db:"detail"` // a JSON object
	Count     int64          `db:"count"`  // how many alike it stands for
}

// Position is where a page of the timeline ended: at its last entry. Zero is
// before the newest.
type Position struct {
	At workspace.Time
	ID string
}

const eventEntries = `SELECT id, at, chain, seq, action, actor_kind, actor_id, key_id, subject_id, owner_id, '' AS outcome,
	address, agent, request_id, detail, 1 AS count FROM audit_events`

// List reads a page of a timeline, the newest entry first: what was managed in a
// workspace, and how its keys were used. The uses of keys that do not exist are
// in that of Instance.
func List(ctx context.Context, q sqlx.ExtContext, f Filter, after Position, limit int) ([]Entry, error) {
	entries := []Entry{}
	for _, kind := range []struct {
		without Only
		list    func(context.Context, sqlx.ExtContext, Filter, Position, int) ([]Entry, error)
	}{{OnlyUses, listEvents}, {OnlyEvents, listUses}} {
		if f.Only == kind.without {
			continue
		}
		found, err := kind.list(ctx, q, f, after, limit)
		if err != nil {
			return nil, fmt.Errorf("read the timeline of %s: %w", f.Chain, err)
		}
		entries = append(entries, found...)
	}
	return newest(entries, limit), nil
}

// newest sorts entries, the newest first, and keeps at most limit.
func newest(entries []Entry, limit int) []Entry {
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(b.At.Compare(a.At.Time), cmp.Compare(b.ID, a.ID))
	})
	return entries[:min(limit, len(entries))]
}

func listEvents(ctx context.Context, q sqlx.ExtContext, f Filter, after Position, limit int) (entries []Entry, err error) {
	if f.Outcome != "" {
		return nil, nil // events have none
	}
	c := f.ofEvents()
	if !after.At.IsZero() {
		c.Add(`(at, id) < (?, ?)`, after.At, clean(after.ID))
	}
	where, args := c.SQL()
	return entries, sqlx.SelectContext(ctx, q, &entries, eventEntries+where+` ORDER BY at DESC, id DESC LIMIT ?`, append(args, limit)...)
}

// bundlesAtOnce is how many bundles of a timeline are read by one statement. A result
// that is not read to its end is sent as a whole all the same.
const bundlesAtOnce = 50

// listUses reads bundles, the last first, until none can hold an entry of the page. One
// lies within bundleSpan, so it does not go through all that are newer than the page.
func listUses(ctx context.Context, q sqlx.ExtContext, f Filter, after Position, limit int) (entries []Entry, err error) {
	for before := (*bundle)(nil); ; {
		bundles, err := bundlesBefore(ctx, q, f, after, before, min(limit, bundlesAtOnce))
		if err != nil || len(bundles) == 0 {
			return entries, err
		}
		for i := range bundles {
			before = &bundles[i]
			if len(entries) >= limit {
				entries = newest(entries, limit)
				if before.UntilAt.Before(entries[limit-1].At.Time) {
					return entries, nil
				}
			}
			uses, err := before.exchanges()
			if err != nil {
				return nil, err
			}
			for i := range uses {
				if use := &uses[i].Exchange; f.during(use.At) && after.before(use) {
					entries = append(entries, use.entry())
				}
			}
		}
	}
}

// bundlesBefore reads the next bundles that may hold entries after a position of the
// timeline: those before one in the order in which they are read; nil: the first.
func bundlesBefore(ctx context.Context, q sqlx.ExtContext, f Filter, after Position, before *bundle, n int) (bundles []bundle, err error) {
	c := f.ofBundles()
	if !after.At.IsZero() {
		c.Add(`since_at <= ? AND until_at < ?`, after.At, workspace.At(after.At.Add(bundleSpan)))
	}
	if before != nil {
		c.Add(`(until_at, batch, bundle) < (?, ?, ?)`, before.UntilAt, before.Batch, before.Bundle)
	}
	where, args := c.SQL()
	return bundles, sqlx.SelectContext(ctx, q, &bundles,
		`SELECT `+bundleColumns+` FROM exchange_bundles`+where+` ORDER BY until_at DESC, batch DESC, bundle DESC LIMIT ?`, append(args, n)...)
}

// during reports whether an instant is within the filter's time.
func (f Filter) during(at workspace.Time) bool {
	return !at.Before(f.Since) && (f.Until.IsZero() || at.Before(f.Until))
}

// before reports whether the position is before an exchange.
func (p Position) before(e *Exchange) bool {
	return p.At.IsZero() || cmp.Or(e.At.Compare(p.At.Time), cmp.Compare(e.ID, p.ID)) < 0
}

// entry is the exchange in a timeline.
func (e *Exchange) entry() Entry {
	entry := Entry{
		ID: e.ID, At: e.At, Chain: cmp.Or(string(e.WorkspaceID), Instance), Action: e.Action,
		ActorID: e.OwnerID, KeyID: e.KeyID, SubjectID: e.KeyID, OwnerID: e.OwnerID, Outcome: e.Outcome,
		Address: e.Address, Agent: e.Agent, RequestID: e.RequestID, Detail: e.Detail, Count: e.Count,
	}
	switch {
	case strings.HasPrefix(e.OwnerID, "usr_"):
		entry.ActorKind = "user"
	case e.OwnerID != "":
		entry.ActorKind = "service_account"
	}
	return entry
}

// conditions of a query, all of which hold. Filters may hold any bytes.
type conditions struct{ workspace.Where }

// where adds a condition with one value for each of its parameters; no value adds
// nothing.
func (c *conditions) where(condition, value string) {
	if value == "" {
		return
	}
	var args []any
	for range strings.Count(condition, "?") {
		args = append(args, clean(value))
	}
	c.Add(condition, args...)
}

func (f Filter) ofEvents() *conditions {
	c := new(conditions)
	c.Add(`chain = ?`, clean(f.Chain))
	c.where(`(owner_id = ? OR subject_id = ? OR actor_id = ?)`, f.OwnerID)
	c.where(`(key_id = ? OR subject_id = ?)`, f.KeyID)
	c.where(`actor_id = ?`, f.ActorID)
	c.where(`subject_id = ?`, f.SubjectID)
	c.action(f.Action)
	c.during(`at`, `at`, f.Since, f.Until)
	return c
}

func (f Filter) ofBundles() *conditions {
	c := new(conditions)
	owner := clean(f.Chain)
	if owner == Instance {
		owner = ""
	}
	c.Add(`workspace_id = ?`, owner)
	c.where(`owner_id = ?`, f.OwnerID)
	c.where(`key_id = ?`, f.KeyID)
	c.where(`owner_id = ?`, f.ActorID)
	c.where(`key_id = ?`, f.SubjectID)
	c.where(`outcome = ?`, f.Outcome)
	c.action(f.Action)
	c.during(`since_at`, `until_at`, f.Since, f.Until)
	return c
}

// action asks for one action, or those that begin alike.
func (c *conditions) action(action string) {
	if prefix, ok := strings.CutSuffix(action, "*"); ok && strings.HasSuffix(prefix, ".") {
		prefix = clean(prefix)
		c.where(fmt.Sprintf(`SUBSTR(action, 1, %d) = ?`, utf8.RuneCountInString(prefix)), prefix)
		return
	}
	c.where(`action = ?`, action)
}

// during asks for rows some of which may be in a time: from and to are the columns of
// their first and last instant.
func (c *conditions) during(from, to string, since, until time.Time) {
	if !since.IsZero() {
		c.Add(to+` >= ?`, stored(since))
	}
	if !until.IsZero() {
		c.Add(from+` < ?`, stored(until))
	}
}

// stored is the first instant of those that are stored, in whole microseconds, that is
// not before t.
func stored(t time.Time) workspace.Time { return workspace.At(t.Add(time.Microsecond - 1)) }
