package audit

import (
	"context"
	"fmt"
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

const entryColumns = `id, at, chain, seq, action, actor_kind, actor_id, key_id, subject_id, owner_id, outcome, address, agent, request_id, detail, count`

// Both kinds of rows as entries.
const (
	eventEntries = `SELECT id, at, chain, seq, action, actor_kind, actor_id, key_id, subject_id, owner_id, '' AS outcome,
		address, agent, request_id, detail, 1 AS count FROM audit_events`
	exchangeEntries = `SELECT id, at, CASE workspace_id WHEN '' THEN '` + Instance + `' ELSE workspace_id END AS chain, 0 AS seq, action,
		CASE WHEN SUBSTR(owner_id, 1, 4) = 'usr_' THEN 'user' WHEN owner_id <> '' THEN 'service_account' ELSE '' END AS actor_kind,
		owner_id AS actor_id, key_id, key_id AS subject_id, owner_id, outcome, address, agent, request_id, detail, count FROM exchange_events`
)

// List reads a page of a timeline, the newest entry first: what was managed in a
// workspace, and how its keys were used. The uses of keys that do not exist are
// in that of Instance.
func List(ctx context.Context, q sqlx.ExtContext, f Filter, after Position, limit int) ([]Entry, error) {
	events, exchanges := f.ofEvents(), f.ofExchanges()
	for _, c := range []*conditions{events, exchanges} {
		c.common(f, after)
	}
	if f.Only == OnlyUses {
		events.Add(`1 = 0`)
	}
	if f.Only == OnlyEvents {
		exchanges.Add(`1 = 0`)
	}
	managed, args := events.newest(eventEntries, limit)
	used, more := exchanges.newest(exchangeEntries, limit)
	query := `SELECT ` + entryColumns + ` FROM (` + managed + `) AS events
		UNION ALL SELECT ` + entryColumns + ` FROM (` + used + `) AS exchanges
		ORDER BY at DESC, id DESC LIMIT ?`
	args = append(append(args, more...), limit)
	entries := []Entry{}
	if err := sqlx.SelectContext(ctx, q, &entries, query, args...); err != nil {
		return nil, fmt.Errorf("read the timeline of %s: %w", f.Chain, err)
	}
	return entries, nil
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

// newest reads at most limit entries, along the index by time.
func (c *conditions) newest(entries string, limit int) (query string, args []any) {
	where, args := c.SQL()
	return entries + where + ` ORDER BY at DESC, id DESC LIMIT ?`, append(args, limit)
}

func (f Filter) ofEvents() *conditions {
	c := new(conditions)
	c.Add(`chain = ?`, clean(f.Chain))
	c.where(`(owner_id = ? OR subject_id = ? OR actor_id = ?)`, f.OwnerID)
	c.where(`(key_id = ? OR subject_id = ?)`, f.KeyID)
	c.where(`actor_id = ?`, f.ActorID)
	c.where(`subject_id = ?`, f.SubjectID)
	if f.Outcome != "" {
		c.Add(`1 = 0`) // events have none
	}
	return c
}

func (f Filter) ofExchanges() *conditions {
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
	return c
}

// common adds what both kinds of rows have columns for.
func (c *conditions) common(f Filter, after Position) {
	if prefix, ok := strings.CutSuffix(f.Action, "*"); ok && strings.HasSuffix(prefix, ".") {
		prefix = clean(prefix)
		c.where(fmt.Sprintf(`SUBSTR(action, 1, %d) = ?`, utf8.RuneCountInString(prefix)), prefix)
	} else {
		c.where(`action = ?`, f.Action)
	}
	c.during(f.Since, f.Until)
	if !after.At.IsZero() {
		c.Add(`(at, id) < (?, ?)`, after.At, clean(after.ID))
	}
}

func (c *conditions) during(since, until time.Time) {
	if !since.IsZero() {
		c.Add(`at >= ?`, workspace.At(since.Add(time.Microsecond-1))) // what is stored is in whole microseconds
	}
	if !until.IsZero() {
		c.Add(`at < ?`, workspace.At(until.Add(time.Microsecond-1)))
	}
}

// UsageRow is how many exchanges of a key had an outcome within one bucket.
type UsageRow struct {
	Start   workspace.Time `db:"start" json:"start"` // of the bucket
	KeyID   string         `db:"key_id" json:"key_id"`
	Outcome string         `db:"outcome" json:"outcome"`
	Count   int64          `db:"count" json:"count"`
}

// Usage counts the exchanges of a workspace's keys, or of one of them, from since
// until before until. Buckets are aligned with 1970 in UTC, and come in order;
// empty ones do not come.
func Usage(ctx context.Context, q sqlx.ExtContext, ws workspace.ID, keyID string, since, until time.Time, bucket time.Duration) ([]UsageRow, error) {
	size := max(bucket.Microseconds(), 1)
	c := new(conditions)
	c.Add(`workspace_id = ?`, clean(string(ws)))
	c.where(`key_id = ?`, keyID)
	c.Add(`action IN ('` + TokenIssue + `', '` + TokenRefuse + `')`)
	c.during(since, until)
	where, args := c.SQL()
	query := `SELECT at - at % CAST(? AS BIGINT) AS start, key_id, outcome, CAST(SUM(count) AS BIGINT) AS count
		FROM exchange_events` + where + ` GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`
	rows := []UsageRow{}
	if err := sqlx.SelectContext(ctx, q, &rows, query, append([]any{size}, args...)...); err != nil {
		return nil, fmt.Errorf("read the usage of %s: %w", ws, err)
	}
	return rows, nil
}
