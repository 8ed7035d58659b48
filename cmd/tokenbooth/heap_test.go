package main

import (
	"os"
	"runtime"
	"testing"
)

// heapGoal is how large the heap may grow until the next collection, in bytes.
func heapGoal() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.NextGC
}

func TestRoomyHeap(t *testing.T) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} { // whatever they are where this runs
		t.Setenv(name, "")
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	const half = heapRoom / 2 // what else this process frees meanwhile is less
	usual := heapGoal()
	release := roomyHeap()
	if roomy := heapGoal(); roomy < usual+heapRoom {
		t.Errorf("the heap may grow to %d bytes, without room to %d: want %d more", roomy, usual, heapRoom)
	}
	release()
	if after := heapGoal(); after > usual+half {
		t.Errorf("the heap may grow to %d bytes afterwards, before to %d", after, usual)
	}
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "100")
			defer roomyHeap()()
			if decided := heapGoal(); decided > usual+half {
				t.Errorf("the heap may grow to %d bytes, before to %d, though the operator decides", decided, usual)
			}
		})
	}
}
