package console

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

var noon = time.Date(2030, 1, 2, 12, 30, 0, 0, time.UTC)

func usage(at time.Time, outcome string, n int64) audit.UsageRow {
	return audit.UsageRow{Start: workspace.At(at), KeyID: "tbk_1", Outcome: outcome, Count: n}
}

func TestChart(t *testing.T) {
	t.Parallel()
	ten := noon.Truncate(time.Hour).Add(-2 * time.Hour)
	c := newChart([]audit.UsageRow{
		usage(ten, "issued", 90), usage(ten, "wrong_credentials", 6), usage(ten, "quota_exceeded", 3), usage(ten.Add(time.Hour), "issued", 10), usage(ten, "expired", 1),
	}, noon.Add(-24*time.Hour), noon, time.Hour)
	if c.Total != 110 || c.Issued != 100 || c.Limited != 3 || c.Refused != 7 || c.RefusedShare() != "9.1%" {
		t.Errorf("%d: %d issued, %d over quota, %d refused, %s", c.Total, c.Issued, c.Limited, c.Refused, c.RefusedShare())
	}
	if got := strings.Join(c.Outcomes, ", "); got != "Issued, Over quota, Key expired, Wrong secret" {
		t.Errorf("outcomes: %s", got)
	}
	if len(c.Rows) != 25 || len(c.Bars) != 2 || fmt.Sprint(c.Rows[22].Counts, c.Rows[22].Total) != "[90 3 1 6] 100" || c.Rows[22].Text != "Wed 2 Jan, 10:00" {
		t.Errorf("%d rows, %d bars, %+v", len(c.Rows), len(c.Bars), c.Rows[22])
	}
	if c.Bars[0].Text != "Wed 2 Jan, 10:00: 90 issued, 3 over quota, 7 refused" {
		t.Error(c.Bars[0].Text)
	}
	kinds := ""
	for _, s := range c.Bars[0].Segments {
		kinds += s.Kind + " "
	}
	if kinds != "ok limit bad " {
		t.Errorf("from the bottom: %s", kinds)
	}
	var ticks, labels []string
	for _, tick := range c.Ticks {
		ticks = append(ticks, tick.Text)
	}
	for _, label := range c.Labels {
		labels = append(labels, label.Text)
	}
	if got := strings.Join(ticks, " "); got != "0 100 50" {
		t.Errorf("ticks: %s", got)
	}
	if got := strings.Join(labels, " "); got != "12:00 16:00 20:00 2 Jan 04:00 08:00 12:00" {
		t.Errorf("labels: %s", got)
	}
}

// The title says how long a bucket is in the words that people use.
func TestBucketsHaveNames(t *testing.T) {
	t.Parallel()
	for bucket, want := range map[time.Duration]string{
		time.Hour: "Exchanges per hour", 6 * time.Hour: "Exchanges per 6 hours", day: "Exchanges per day",
	} {
		if got := newChart(nil, time.Unix(0, 0), time.Unix(1, 0), bucket).Title; got != want {
			t.Errorf("buckets of %v: %q, want %q", bucket, got, want)
		}
	}
}

func TestChartOfNothing(t *testing.T) {
	t.Parallel()
	c := newChart(nil, noon.Add(-24*time.Hour), noon, time.Hour)
	if c.Total != 0 || len(c.Bars) != 0 || c.RefusedShare() != "0%" {
		t.Errorf("%+v", c)
	}
}

// Whatever comes, bars stay within the chart, nothing that happened is invisible, and
// the table has all of it.
func TestChartIsWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		bucket := rapid.SampledFrom([]time.Duration{time.Hour, 6 * time.Hour, day}).Draw(t, "bucket")
		n := rapid.IntRange(1, 60).Draw(t, "buckets")
		since := noon.Add(-time.Duration(n) * bucket)
		var rows []audit.UsageRow
		var all int64
		for range rapid.IntRange(0, 100).Draw(t, "rows") {
			at := bucketStarts(since, noon, bucket)[rapid.IntRange(0, n-1).Draw(t, "at")]
			count := rapid.Int64Range(1, 1<<40).Draw(t, "count")
			rows = append(rows, usage(at, rapid.SampledFrom([]string{"issued", "quota_exceeded", "expired", "of another version"}).Draw(t, "outcome"), count))
			all += count
		}
		c := newChart(rows, since, noon, bucket)
		var table int64
		for _, row := range c.Rows {
			table += row.Total
		}
		if c.Total != all || table != all || c.Issued+c.Failed() != all {
			t.Fatalf("%d of %d, table %d", c.Total, all, table)
		}
		if len(c.Labels) > 9 || len(c.Ticks) < 2 || len(c.Ticks) > 3 {
			t.Fatalf("%d labels, %d ticks", len(c.Labels), len(c.Ticks))
		}
		for _, bar := range c.Bars {
			left, right := number64(t, bar.X), number64(t, bar.End)
			if left < 0 || right > 100 || right < left {
				t.Fatalf("bar from %f to %f", left, right)
			}
			for _, s := range bar.Segments {
				if s.Height < leastBar || s.Y < plotTop-3*leastBar || s.Y+s.Height > plotBottom {
					t.Fatalf("%+v", s)
				}
			}
		}
	})
}

func number64(t *rapid.T, percent string) float64 {
	n, err := strconv.ParseFloat(strings.TrimSuffix(percent, "%"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Outcomes are told in words, and one of a newer version as it is.
func TestOutcomesAreWords(t *testing.T) {
	t.Parallel()
	word := regexp.MustCompile(`^[A-Z][a-z A-Z]+$`)
	for outcome, text := range outcomeTexts {
		if !word.MatchString(text) {
			t.Errorf("%s is told as %q", outcome, text)
		}
	}
	if got := outcomeText("new_one"); got != "new_one" {
		t.Error(got)
	}
}

func TestAxisEndsRoundly(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]int64{0: 1, 1: 1, 2: 2, 3: 3, 7: 8, 9: 10, 11: 15, 16: 20, 61: 80, 81: 100, 101: 150, 8_001: 10_000} {
		if got := roundUp(n); got != want {
			t.Errorf("%d: %d, want %d", n, got, want)
		}
	}
}
