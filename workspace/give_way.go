package workspace

import (
	"runtime"
	"time"
)

// leastRest is how long GiveWay sleeps at least.
const leastRest = 100 * time.Microsecond

// GiveWay lets whatever waits for the processor go first, for that long; 0: for as little
// as is of use. Work in the background calls it between small pieces: on a single
// processor every exchange waits behind it.
//
// It takes both: as long as something can run, the runtime looks every 10 ms only for
// what has come from the network, but at once when all sleep. And who wakes up is
// served before those who waited, unless it goes to the end of the line.
func GiveWay(rest time.Duration) {
	time.Sleep(max(rest, leastRest))
	runtime.Gosched()
}
