package audit

// SetRoom bounds how many rows a writer remembers.
func (w *Writer) SetRoom(rows int) { w.next.room = rows }

// Enough is how many rows do not wait for the interval.
func (w *Writer) Enough() int { return w.enough }
