package workspace

import (
	"runtime"
	"time"
)

// GiveWay lets whatever waits for the processor go first. Work in the background calls
// it between small pieces: on a single processor every exchange waits behind it.
//
// It takes both: as long as something can run, the runtime looks every 10 ms only for
// what has come from the network, but at once when all sleep. And who wakes up is
// served before those who waited, unless it goes to the end of the line.
func GiveWay() {
	time.Sleep(100 * time.Microsecond)
	runtime.Gosched()
}
