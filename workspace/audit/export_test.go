package audit

// SetRoom bounds how many rows a writer remembers.
func (w *Writer) SetRoom(rows int) { w.next.room = rows }

// Enough is how many rows do not wait for the interval.
func (w *Writer) Enough() int { return w.enough }

// Of a pace.
const (
	Stretch = stretch
	Pause   = pause
)

// Pace is a flush behind which so many rows wait, of which some are enough for a batch.
func Pace(waiting, enough int) (rest func()) {
	return newPace(func() int { return waiting }, enough).rest
}
