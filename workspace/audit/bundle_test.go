package audit_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// Exchanges that are alike share a row, up to a hundred, and none is of two minutes.
func TestBundles(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		for i := range 250 {
			check(t, w.Record(t.Context(), use("tbk_1", 0)))
			if i < 3 {
				e := use("tbk_1", 0)
				e.At = workspace.At(noon.Add(time.Duration(i) * time.Minute))
				e.Outcome = "other"
				check(t, w.Record(t.Context(), e))
			}
		}
		check(t, w.Flush(t.Context()))
		wantCount(t, db, 3+3, `SELECT COUNT(*) FROM exchange_bundles`)
		wantCount(t, db, 100, `SELECT MAX(count) FROM exchange_bundles`)
		wantCount(t, db, 253, `SELECT COUNT(DISTINCT position) FROM exchange_events`)
		wantCount(t, db, 253, `SELECT SUM(count) FROM exchange_bundles`)
		wantFindings(t, verify(t, db))
	})
}

// someUses are exchanges of three keys in five minutes, in three batches.
func someUses(r *rapid.T) (batches [][]audit.Exchange) {
	use := rapid.Custom(func(r *rapid.T) audit.Exchange {
		e := use(rapid.SampledFrom([]string{"tbk_1", "tbk_2", "tbk_3"}).Draw(r, "key"), 0)
		e.At = workspace.At(noon.Add(time.Duration(rapid.IntRange(0, 30).Draw(r, "at")) * 10 * time.Second))
		e.Count = int64(rapid.IntRange(1, 3).Draw(r, "count"))
		e.Outcome = rapid.SampledFrom([]string{"issued", "quota_exceeded"}).Draw(r, "outcome")
		return e
	})
	return rapid.SliceOfN(rapid.SliceOfN(use, 0, 20), 3, 3).Draw(r, "batches")
}

// However the uses fall into batches and bundles, a timeline has each of them once and in
// order, and usage counts each.
func TestBundlesHideNothing(t *testing.T) {
	db := schematest.SQLite(t)
	w, runs := writer(db), 0
	rapid.Check(t, func(r *rapid.T) {
		runs++
		ws := workspace.ID(fmt.Sprint("ws_", runs))
		var all []audit.Exchange
		for _, batch := range someUses(r) {
			for _, e := range batch {
				e.WorkspaceID, e.KeyID = ws, string(ws)+e.KeyID
				all = append(all, e)
				check(t, w.Record(t.Context(), e))
			}
			check(t, w.Flush(t.Context()))
		}
		key := rapid.SampledFrom([]string{"", string(ws) + "tbk_2"}).Draw(r, "key asked for")
		instant := rapid.Map(rapid.IntRange(-1, 62), func(n int) time.Time { return noon.Add(time.Duration(n) * 5 * time.Second) })
		since, until := instant.Draw(r, "since"), instant.Draw(r, "until")
		wanted := slices.DeleteFunc(all, func(e audit.Exchange) bool {
			return key != "" && e.KeyID != key || e.At.Before(since) || !e.At.Before(until)
		})
		asked := audit.Filter{Chain: string(ws), KeyID: key, Since: since, Until: until}
		wantUsage(r, t, db, asked, wanted)
		wantPages(r, t, db, asked, wanted)
	})
	wantFindings(t, verify(t, db))
}

func wantUsage(r *rapid.T, t *testing.T, db *schema.DB, f audit.Filter, wanted []audit.Exchange) {
	const bucket = 2 * time.Minute
	counts := map[string]int64{}
	for _, e := range wanted {
		counts[fmt.Sprint(e.At.Truncate(bucket).Unix(), e.KeyID, e.Outcome)] += e.Count
	}
	rows, err := audit.Usage(t.Context(), db.Reader(), workspace.ID(f.Chain), f.KeyID, f.Since, f.Until, bucket)
	check(t, err)
	got := map[string]int64{}
	for _, row := range rows {
		got[fmt.Sprint(row.Start.Unix(), row.KeyID, row.Outcome)] += row.Count
	}
	if diff := gocmp.Diff(counts, got); diff != "" || len(rows) != len(got) {
		r.Errorf("usage from %s to %s (-want +got):\n%s", f.Since, f.Until, diff)
	}
}

func wantPages(r *rapid.T, t *testing.T, db *schema.DB, f audit.Filter, wanted []audit.Exchange) {
	limit := rapid.IntRange(2, 20).Draw(r, "limit")
	seen := map[string]bool{}
	var got []string
	for after := (audit.Position{}); ; {
		page := list(t, db, f, after, limit)
		for _, e := range page {
			seen[e.ID] = true
			got = append(got, fmt.Sprint(e.At.Unix(), e.KeyID, e.Outcome, e.Count))
		}
		if len(page) < limit {
			break
		}
		after = audit.Position{At: page[len(page)-1].At, ID: page[len(page)-1].ID}
	}
	slices.SortStableFunc(wanted, func(a, b audit.Exchange) int { return b.At.Compare(a.At.Time) })
	var want []string
	for _, e := range wanted {
		want = append(want, fmt.Sprint(e.At.Unix(), e.KeyID, e.Outcome, e.Count))
	}
	if !slices.IsSortedFunc(got, func(a, b string) int { return cmp.Compare(b[:10], a[:10]) }) {
		r.Errorf("out of order: %v", got)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := gocmp.Diff(want, got); diff != "" || len(seen) != len(got) {
		r.Errorf("%d different ones in pages of %d (-want +got):\n%s", len(seen), limit, diff)
	}
}

// What is not part of a page is not read, nor what usage knows from a bundle's own columns: a
// bundle that cannot be read shows where one is.
func TestBundlesAreReadOnlyWhenNeeded(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		for hours := range 9 {
			check(t, w.Record(t.Context(), use("tbk_1", hours)))
		}
		check(t, w.Flush(t.Context()))
		exec(t, db, `UPDATE exchange_bundles SET records = 'unreadable' WHERE bundle NOT IN (4, 5)`)
		at := func(hours int) workspace.Time { return use("", hours).At }
		page := list(t, db, audit.Filter{Chain: "ws_1"}, audit.Position{At: workspace.At(at(6).Add(-time.Minute))}, 1)
		if len(page) != 1 || page[0].At != at(5) {
			t.Errorf("%+v", page)
		}
		between := audit.Filter{Chain: "ws_1", Since: at(4).Time, Until: at(6).Time}
		if page := list(t, db, between, audit.Position{}, 9); len(page) != 2 {
			t.Errorf("%+v", page)
		}
		if _, err := audit.List(t.Context(), db.Reader(), audit.Filter{Chain: "ws_1"}, audit.Position{At: workspace.At(at(6).Add(-time.Minute))}, 3); err == nil {
			t.Error("a page with a bundle that cannot be read is read")
		}
		rows, err := audit.Usage(t.Context(), db.Reader(), "ws_1", "", at(0).Time, at(9).Time, time.Hour)
		if err != nil || len(rows) != 9 {
			t.Errorf("%v, %v", rows, err)
		}
	})
}

// What is found by a bundle's own columns cannot be hidden by a bundle that tells the truth
// and is of several minutes.
func TestVerifyFindsMergedBundles(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		for hours := range 2 {
			check(t, w.Record(t.Context(), use("tbk_1", hours)))
		}
		check(t, w.Flush(t.Context()))
		exec(t, db, `UPDATE exchange_bundles SET count = 2, until_at = (SELECT until_at FROM exchange_bundles WHERE bundle = 1),
			records = SUBSTR(records, 1, LENGTH(records) - 1) || ',' || (SELECT SUBSTR(records, 2) FROM exchange_bundles WHERE bundle = 1) WHERE bundle = 0`,
			`DELETE FROM exchange_bundles WHERE bundle = 1`)
		wantFindings(t, verify(t, db), "exchanges/1: exchanges of batch 1 were changed or moved")
	})
}

// What is read here as it was recorded, and elsewhere as something else, is a change.
func TestVerifyFindsWhatOthersReadOtherwise(t *testing.T) {
	for from, to := range map[string]string{`""`: `null`, "\ufffd": `\ud800`} {
		schematest.Each(t, func(t *testing.T, db *schema.DB) {
			w := writer(db)
			e := use("tbk_1", 0)
			e.RequestID, e.Agent, e.Detail = "", "\ufffd", `{"escaped":"\ud83d\ude00 \\ud800"}`
			check(t, w.Record(t.Context(), e))
			check(t, w.Flush(t.Context()))
			wantFindings(t, verify(t, db))
			_, err := db.Writer().ExecContext(t.Context(), `UPDATE exchange_bundles SET records = REPLACE(records, ?, ?)`, from, to)
			check(t, err)
			wantFindings(t, verify(t, db), "exchanges/1: exchanges of batch 1 were")
		})
	}
}

// A page reads little of a long timeline, also from a database that sends whatever was asked for.
func TestPagesOfManyBundles(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		for i := range 200 {
			e := use(fmt.Sprint("tbk_", i), 0)
			e.At = workspace.At(e.At.Add(time.Duration(i/40) * time.Second)) // forty of each instant
			check(t, w.Record(t.Context(), e))
		}
		check(t, w.Flush(t.Context()))
		seen := map[string]bool{}
		for after := (audit.Position{}); ; {
			page := list(t, db, audit.Filter{Chain: "ws_1"}, after, 7)
			for _, e := range page {
				seen[e.ID] = true
				after = audit.Position{At: e.At, ID: e.ID}
			}
			if len(page) < 7 {
				break
			}
		}
		if len(seen) != 200 {
			t.Errorf("%d were seen", len(seen))
		}
		exec(t, db, `UPDATE exchange_bundles SET records = '' WHERE bundle < 100`)
		if page := list(t, db, audit.Filter{Chain: "ws_1"}, audit.Position{}, 60); len(page) != 60 {
			t.Errorf("%d entries", len(page))
		}
	})
}
