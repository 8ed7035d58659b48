package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// UsageRow is how many exchanges of a key had an outcome within one bucket.
type UsageRow struct {
	Start   workspace.Time `db:"start" json:"start"` // of the bucket
	KeyID   string         `db:"key_id" json:"key_id"`
	Outcome string         `db:"outcome" json:"outcome"`
	Count   int64          `db:"count" json:"count"`
}

// Usage counts the exchanges of a workspace's keys, or of one of them, from since
// until before until. Buckets are of whole minutes and aligned with 1970 in UTC, and come
// in order; empty ones do not come.
func Usage(ctx context.Context, q sqlx.ExtContext, ws workspace.ID, keyID string, since, until time.Time, bucket time.Duration) ([]UsageRow, error) {
	u := usage{q, ws, keyID, since, until, max(bucket.Truncate(bundleSpan), bundleSpan).Microseconds()}
	rows, err := u.whole(ctx)
	if err == nil {
		rows, err = u.cut(ctx, rows)
	}
	if err != nil {
		return nil, fmt.Errorf("read the usage of %s: %w", ws, err)
	}
	return sum(rows), nil
}

// usage is what is counted. A bundle lies within one bucket.
type usage struct {
	q            sqlx.ExtContext
	ws           workspace.ID
	keyID        string
	since, until time.Time
	size         int64 // of a bucket, in microseconds
}

func (u *usage) conditions() *conditions {
	c := new(conditions)
	c.Add(`workspace_id = ?`, clean(string(u.ws)))
	c.where(`key_id = ?`, u.keyID)
	c.Add(`action IN ('` + TokenIssue + `', '` + TokenRefuse + `')`)
	return c
}

// whole counts the bundles that lie within the time, without their exchanges.
func (u *usage) whole(ctx context.Context) (rows []UsageRow, err error) {
	c := u.conditions()
	if !u.since.IsZero() {
		c.Add(`since_at >= ? AND until_at >= ?`, stored(u.since), stored(u.since)) // the second, for the index
	}
	if !u.until.IsZero() {
		c.Add(`until_at < ?`, stored(u.until))
	}
	where, args := c.SQL()
	return rows, sqlx.SelectContext(ctx, u.q, &rows, `SELECT since_at - since_at % CAST(? AS BIGINT) AS start, key_id, outcome,
		CAST(SUM(count) AS BIGINT) AS count FROM exchange_bundles`+where+` GROUP BY 1, 2, 3`, append([]any{u.size}, args...)...)
}

// cut adds what is within the time of bundles that are not wholly.
func (u *usage) cut(ctx context.Context, rows []UsageRow) ([]UsageRow, error) {
	across := func(edge time.Time) *conditions {
		c, at := u.conditions(), stored(edge)
		c.Add(`since_at < ? AND until_at >= ? AND until_at < ?`, at, at, workspace.At(at.Add(bundleSpan)))
		return c
	}
	var edges []*conditions
	if !u.since.IsZero() {
		edges = append(edges, across(u.since))
	}
	if !u.until.IsZero() {
		c := across(u.until)
		if !u.since.IsZero() {
			c.Add(`since_at >= ?`, stored(u.since)) // or both would have it
		}
		edges = append(edges, c)
	}
	for _, c := range edges {
		where, args := c.SQL()
		var bundles []bundle
		if err := sqlx.SelectContext(ctx, u.q, &bundles, `SELECT `+bundleColumns+` FROM exchange_bundles`+where, args...); err != nil {
			return nil, err
		}
		for i := range bundles {
			uses, err := bundles[i].exchanges()
			if err != nil {
				return nil, err
			}
			rows = append(rows, u.within(uses)...)
		}
	}
	return rows, nil
}

// within are rows of those uses that are within the time.
func (u *usage) within(uses []exchangeRow) (rows []UsageRow) {
	during := Filter{Since: u.since, Until: u.until}
	for _, use := range uses {
		if during.during(use.At) {
			at := use.At.UnixMicro()
			rows = append(rows, UsageRow{workspace.At(time.UnixMicro(at - at%u.size)), use.KeyID, use.Outcome, use.Count})
		}
	}
	return rows
}

// sum sorts rows, and makes one of those that differ in nothing but their count.
func sum(rows []UsageRow) []UsageRow {
	slices.SortFunc(rows, compareUsage)
	summed := []UsageRow{}
	for _, row := range rows {
		if last := len(summed) - 1; last >= 0 && compareUsage(summed[last], row) == 0 {
			summed[last].Count += row.Count
			continue
		}
		summed = append(summed, row)
	}
	return summed
}

func compareUsage(a, b UsageRow) int {
	return cmp.Or(a.Start.Compare(b.Start.Time), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Outcome, b.Outcome))
}
