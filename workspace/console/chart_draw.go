package console

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// draw places bars, ticks and labels.
func (c *chart) draw(byStart map[int64]map[string]int64, bucket time.Duration) {
	var most int64
	for _, row := range c.Rows {
		most = max(most, row.Total)
	}
	top := roundUp(most)
	for i, row := range c.Rows {
		if row.Total > 0 {
			c.Bars = append(c.Bars, newBar(i, len(c.Rows), row, byStart[row.Start.UnixMicro()], top, max(most, 1)))
		}
	}
	values := []int64{0, top}
	if top%2 == 0 { // a half of an exchange is none
		values = append(values, top/2)
	}
	for _, value := range values {
		y := plotBottom - int(plotHeight*value/top)
		c.Ticks = append(c.Ticks, chartTick{Y: y, TextY: y + 4, Text: number(value)})
	}
	c.Labels = newLabels(c.Rows, bucket)
}

func newBar(i, n int, row chartRow, counts map[string]int64, top, most int64) chartBar {
	width := 100 / float64(n)
	gap := width * 0.15
	b := chartBar{
		X: percent(float64(i)*width + gap), Width: percent(width - 2*gap), End: percent(float64(i+1)*width - gap),
	}
	var issued, limited, refused int64
	for outcome, count := range counts {
		switch outcome {
		case outcomeIssued:
			issued += count
		case outcomeQuota:
			limited += count
		default:
			refused += count
		}
	}
	b.Text = fmt.Sprintf("%s: %s issued, %s over quota, %s refused", row.Text, number(issued), number(limited), number(refused))
	y, spark := float64(plotBottom), 100.0
	for _, part := range []struct {
		kind string
		n    int64
	}{{"ok", issued}, {"limit", limited}, {"bad", refused}} {
		if part.n == 0 {
			continue
		}
		height := math.Max(leastBar, math.Round(float64(plotHeight)*float64(part.n)/float64(top)))
		y -= height
		share := max(leastShare, 100*float64(part.n)/float64(most))
		spark -= share
		b.Segments = append(b.Segments, chartSegment{
			Kind: part.kind, Y: y, Height: height, Middle: y + height/2,
			SparkY: percent(spark), SparkShare: percent(share),
		})
	}
	return b
}

func percent(n float64) string { return strconv.FormatFloat(n, 'f', 3, 64) + "%" }

// roundUp is the smallest round number that is not below n: what an axis can end with.
func roundUp(n int64) int64 {
	for unit := int64(1); ; unit *= 10 {
		for _, times := range []int64{1, 2, 3, 4, 5, 6, 8, 10, 15} {
			if unit*times >= n {
				return unit * times
			}
		}
	}
}

// labelEvery are the distances that labels may have.
var labelEvery = []time.Duration{
	time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 5 * day, 7 * day, 14 * day, 30 * day, 90 * day,
}

// newLabels names a few of the buckets: days, and hours where the days are few.
func newLabels(rows []chartRow, bucket time.Duration) (labels []chartLabel) {
	const most = 8
	every := labelEvery[len(labelEvery)-1]
	for _, distance := range labelEvery {
		if distance >= bucket && time.Duration(len(rows))*bucket <= most*distance {
			every = distance
			break
		}
	}
	for i, row := range rows {
		if row.Start.UnixMicro()%every.Microseconds() != 0 {
			continue
		}
		text := row.Start.Format("2 Jan")
		if row.Start.UnixMicro()%day.Microseconds() != 0 {
			text = row.Start.Format("15:04")
		}
		labels = append(labels, chartLabel{X: percent((float64(i) + 0.5) * 100 / float64(len(rows))), Text: text, Spare: len(labels)%2 == 1})
	}
	return labels
}
