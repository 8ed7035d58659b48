package audit

import (
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// How long a flush works, while none wait behind it, before it lets others have the
// processor, and for how long: a sixth of a processor leaves room for exchanges on one
// that is half busy. How long it really worked does not count for the pause: it may have
// waited for the database meanwhile, and others may wait for what it has locked there.
const (
	stretch = 100 * time.Microsecond
	pause   = 5 * stretch
)

// pace keeps a flush from holding up what is answered meanwhile. On a single
// processor every exchange waits behind it, and the runtime would let it go on for
// 10 ms. What the database does in one call, such as a commit, is not divided.
//
// Whoever always steps back never gets done when the processor is busy. So the more
// wait to be written, the longer are the stretches.
type pace struct {
	begun   time.Time
	waiting func() int // rows
	enough  int
}

func newPace(waiting func() int, enough int) *pace { return &pace{time.Now(), waiting, enough} }

// rest is called between two small pieces of work.
func (p *pace) rest() {
	worked := time.Since(p.begun)
	if worked < stretch || worked < stretch*time.Duration(1+p.waiting()/p.enough) {
		return
	}
	workspace.GiveWay(pause)
	p.begun = time.Now()
}
