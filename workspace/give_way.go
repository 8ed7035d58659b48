package workspace

import "time"

// GiveWay lets whatever waits for the processor go first. Work in the background calls
// it between small pieces: on a single processor every exchange waits behind it.
//
// runtime.Gosched would not do, nor would a pause that is over before the scheduler
// looks: as long as something can run, the runtime looks every 10 ms only for what has
// come from the network.
func GiveWay() { time.Sleep(100 * time.Microsecond) }
