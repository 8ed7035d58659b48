package console

import (
	"fmt"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// signingKey is a signing key as its page shows it.
type signingKey struct {
	signing.Stored
	Life    life
	Next    string // what happens to it next
	At      workspace.Time
	Retires bool // it can be removed before its time
	now     time.Time
}

func newSigningKey(k signing.Stored, t signing.Timing, now time.Time, unused bool) signingKey {
	shown := signingKey{Stored: k, Life: lifeOf(k, t, now), now: now}
	shown.Next, shown.At = shown.next()
	needed := k.NeededUntil.IsZero() || k.NeededUntil.After(now)
	shown.Retires = k.State == signing.Pending || (k.State == signing.Retiring && !needed) || (k.State == signing.Active && unused)
	return shown
}

// next says what happens to a key next, and about when.
func (k signingKey) next() (what string, at workspace.Time) {
	switch {
	case k.State == signing.Pending && k.PublishedAt.IsZero():
		return "Waits until every server publishes it", at
	case k.State == signing.Pending:
		return "Begins to sign", workspace.At(k.Life.Signs)
	case k.State == signing.Active:
		return "Is replaced", workspace.At(k.Life.Stops)
	case k.State == signing.Retiring && k.NeededUntil.IsZero():
		return "Waits until no server signs with it", at
	case k.State == signing.Retiring:
		return "Is removed", workspace.At(k.Life.Leaves)
	}
	return "Was removed", k.RemovedAt
}

// Short is the beginning of the key's ID, which tells it from others.
func (k signingKey) Short() string { return k.ID[:min(len(k.ID), 8)] + "…" }

// Kind is of the pill that says its state.
func (k signingKey) Kind() string {
	return map[signing.State]string{signing.Pending: "accent", signing.Active: "ok", signing.Retiring: "warn", signing.Removed: "off"}[k.State]
}

// Word says its state.
func (k signingKey) Word() string {
	return map[signing.State]string{signing.Pending: "Pending", signing.Active: "Signs", signing.Retiring: "Retiring", signing.Removed: "Removed"}[k.State]
}

// signingStep is one date in the life of a key.
type signingStep struct {
	At      workspace.Time
	Planned bool // it has not come, and may move
}

// The dates, for templates.

// Enters is when the key came into the published keys.
func (k signingKey) Enters() signingStep { return k.step(k.Life.Enters) }

// Signs is when it began to sign, or will.
func (k signingKey) Signs() signingStep { return k.step(k.Life.Signs) }

// Stops is when it stopped to sign, or will.
func (k signingKey) Stops() signingStep { return k.step(k.Life.Stops) }

// Leaves is when it left the published keys, or will.
func (k signingKey) Leaves() signingStep { return k.step(k.Life.Leaves) }

func (k signingKey) step(at time.Time) signingStep {
	if at.IsZero() {
		return signingStep{}
	}
	return signingStep{At: workspace.At(at), Planned: at.After(k.now)}
}

// timeline draws the lives of keys, one below the other: a thin bar while a key is
// published, and a thick one while it signs.
type timeline struct {
	Rows   []timelineRow
	Height int
	Now    int // x of the present
	From   string
	Until  string
}

type timelineRow struct {
	Name                          string
	Y, TextY, ThinY               int
	PublishedX, PublishedW, SignX int
	SignW                         int
}

// The size of the drawing, in its own units.
const (
	timelineLeft, timelineWidth = 90, 1000
	timelineRowHeight           = 32
)

func newTimeline(keys []signingKey, now time.Time) timeline {
	if len(keys) == 0 {
		return timeline{}
	}
	from, until := now, now
	for _, k := range keys {
		if k.Life.Enters.Before(from) {
			from = k.Life.Enters
		}
		until = later(until, k.Life.Leaves)
	}
	x := func(t time.Time) int {
		return timelineLeft + int(float64(timelineWidth-timelineLeft)*float64(t.Sub(from))/float64(max(until.Sub(from), 1)))
	}
	line := timeline{Height: len(keys)*timelineRowHeight + 24, Now: x(now), From: from.UTC().Format("2 Jan 2006"), Until: until.UTC().Format("2 Jan 2006")}
	for i, k := range keys {
		y := i * timelineRowHeight
		line.Rows = append(line.Rows, timelineRow{
			Name: k.Short(), Y: y + 6, TextY: y + 20, ThinY: y + 13,
			PublishedX: x(k.Life.Enters), PublishedW: max(x(k.Life.Leaves)-x(k.Life.Enters), 2), SignX: x(k.Life.Signs), SignW: max(x(k.Life.Stops)-x(k.Life.Signs), 2),
		})
	}
	return line
}

// Text says what the drawing shows.
func (t timeline) Text() string {
	return fmt.Sprintf("From %s to %s: when each key is published and when it signs. The table has the dates.", t.From, t.Until)
}

// Bottom is where the dates stand.
func (t timeline) Bottom() int { return t.Height - 6 }

// labelWidth is about how wide a date and "now" are together.
const labelWidth = 120

// FromFits reports whether the first date does not meet the present.
func (t timeline) FromFits() bool { return t.Now-timelineLeft > labelWidth }

// UntilFits reports whether the last date does not meet the present.
func (t timeline) UntilFits() bool { return timelineWidth-t.Now > labelWidth }

// Frame is the height without the dates.
func (t timeline) Frame() int { return t.Height - 22 }
