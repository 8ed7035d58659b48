package revocation

import (
	"bytes"
	"time"
)

// Fail makes a journal fail as it is told: what is to be written after that many
// bytes, and the wait for the disk. Nil is no failure. It tries again after pause.
func (j *Journal) Fail(write, sync func() error, bytes int, pause time.Duration) {
	j.pause = pause
	writeWell, syncWell := j.write, j.sync
	j.write = func(text []byte, at int64) error {
		if err := write(); err != nil {
			_ = writeWell(text[:bytes], at)
			return err
		}
		return writeWell(text, at)
	}
	j.sync = func() error {
		if err := sync(); err != nil {
			return err
		}
		return syncWell()
	}
}

// RenderAfter is a journal of a first line and of lines with the right checksums.
func RenderAfter(first []byte, lines ...Line) ([]byte, error) {
	text, _, err := render(lines, chainSum{}.then(first[:len(first)-1]))
	return append(bytes.Clone(first), text...), err
}

// ParseJournal reads a journal from memory.
var ParseJournal = parseJournal
