package audit

// SetRoom bounds how many rows a writer remembers.
func (w *Writer) SetRoom(rows int) { w.next.room = rows }
