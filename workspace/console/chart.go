package console

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// chart is how many exchanges there were in each bucket of a time. Bars are placed
// by percentages of the width and pixels of the height, so that text keeps its size
// on every screen.
type chart struct {
	Title, Description string

	Total, Issued, Limited, Refused int64

	Bars     []chartBar
	Ticks    []chartTick
	Labels   []chartLabel
	Outcomes []string // the columns of the table, in words
	Rows     []chartRow
}

// chartBar is the bar of one bucket. Segments are drawn from the bottom: issued,
// over quota, refused.
type chartBar struct {
	Text     string // for the tooltip
	X, Width string
	End      string // of the bar, from the left
	Segments []chartSegment
}

// chartSegment is a part of a bar, in pixels from the top.
type chartSegment struct {
	Kind               string // ok, limit or bad
	Y, Height, Middle  float64
	SparkY, SparkShare string // of the height of a spark
}

type chartTick struct {
	Y     int
	Text  string
	TextY int // of the baseline of its text
}

type chartLabel struct {
	X, Text string
	Spare   bool // left out where there is little room
}

// chartRow is a bucket as the table has it.
type chartRow struct {
	Start  workspace.Time
	Text   string
	Counts []int64 // of each of Outcomes
	Total  int64
}

// The measures of a chart, in pixels.
const (
	plotTop    = 14 // room for the highest tick's text
	plotHeight = 168
	plotBottom = plotTop + plotHeight
	leastBar   = 2 // whatever happened at all is seen
	leastShare = 3 // the same in a spark, in percent
)

// maxBuckets bounds a chart, whatever time it is asked for.
const maxBuckets = 750

// newChart counts exchanges by the outcomes that a chart tells apart. Buckets are
// aligned with 1970 in UTC, as those of the rows are; the first and the last may
// reach beyond since and until.
func newChart(rows []audit.UsageRow, since, until time.Time, bucket time.Duration) chart {
	c := chart{}
	byStart := map[int64]map[string]int64{}
	outcomes := map[string]bool{}
	for _, row := range rows {
		at := row.Start.UnixMicro()
		if byStart[at] == nil {
			byStart[at] = map[string]int64{}
		}
		byStart[at][row.Outcome] += row.Count
		outcomes[row.Outcome] = true
		c.count(row.Outcome, row.Count)
	}
	c.tabulate(byStart, slices.SortedFunc(maps.Keys(outcomes), byWeight), bucketStarts(since, until, bucket), bucket)
	c.describe(since, until, bucket)
	c.draw(byStart, bucket)
	return c
}

// tabulate makes the table, of every bucket by outcome.
func (c *chart) tabulate(byStart map[int64]map[string]int64, outcomes []string, starts []time.Time, bucket time.Duration) {
	for _, outcome := range outcomes {
		c.Outcomes = append(c.Outcomes, outcomeText(outcome))
	}
	for _, start := range starts {
		row := chartRow{Start: workspace.At(start), Text: bucketText(start, bucket)}
		for _, outcome := range outcomes {
			n := byStart[start.UnixMicro()][outcome]
			row.Counts = append(row.Counts, n)
			row.Total += n
		}
		c.Rows = append(c.Rows, row)
	}
}

// count adds to the totals.
func (c *chart) count(outcome string, n int64) {
	c.Total += n
	switch outcome {
	case outcomeIssued:
		c.Issued += n
	case outcomeQuota:
		c.Limited += n
	default:
		c.Refused += n
	}
}

// byWeight orders outcomes: issued, over quota, then why others were refused.
func byWeight(a, b string) int {
	weight := func(outcome string) int { return slices.Index([]string{outcomeQuota, outcomeIssued}, outcome) }
	return cmp.Or(cmp.Compare(weight(b), weight(a)), strings.Compare(a, b))
}

func bucketStarts(since, until time.Time, bucket time.Duration) (starts []time.Time) {
	at := since.UnixMicro() - since.UnixMicro()%bucket.Microseconds()
	for ; at < until.UnixMicro() && len(starts) < maxBuckets; at += bucket.Microseconds() {
		starts = append(starts, time.UnixMicro(at).UTC())
	}
	return starts
}

// bucketText names a bucket by its day, and its hour if there are several a day.
func bucketText(start time.Time, bucket time.Duration) string {
	if bucket%day == 0 {
		return start.Format("Mon 2 Jan")
	}
	return start.Format("Mon 2 Jan, 15:04")
}

// bucketName says how long a bucket is: an hour, and not 60 minutes.
func bucketName(bucket time.Duration) string {
	switch bucket {
	case time.Hour:
		return "hour"
	case day:
		return "day"
	}
	return strings.TrimPrefix(readDuration(bucket), "1 ")
}

func (c *chart) describe(since, until time.Time, bucket time.Duration) {
	const form = "2 Jan 2006, 15:04"
	c.Title = "Exchanges per " + bucketName(bucket)
	c.Description = fmt.Sprintf("From %s to %s UTC: %s in all, of which %s issued a token, %s went over a quota, and %s were refused for other reasons.",
		since.UTC().Format(form), until.UTC().Format(form), count(c.Total, "exchange"), number(c.Issued), number(c.Limited), number(c.Refused))
}

// Failed is how many got no token, for whatever reason.
func (c chart) Failed() int64 { return c.Limited + c.Refused }

// RefusedShare is how much of all was refused, over quota or not, in percent.
func (c chart) RefusedShare() string {
	if c.Total == 0 {
		return "0%"
	}
	share := float64(c.Failed()) / float64(c.Total) * 100
	switch {
	case share > 0 && share < 0.1:
		return "under 0.1%"
	case share < 10 && share != math.Trunc(share):
		return strconv.FormatFloat(share, 'f', 1, 64) + "%"
	}
	return strconv.FormatFloat(math.Floor(share), 'f', 0, 64) + "%" // 100% is all
}
