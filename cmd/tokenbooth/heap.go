package main

import (
	"os"
	"runtime"
	"sync"
)

// heapRoom is how much a server may allocate, in bytes, before the garbage collector
// looks for what can be freed, however little it holds.
//
// What an exchange leaves behind is many times what a server holds, so at Go's usual
// setting, a collection whenever the heap has doubled, a tenth of its time would go
// there. A multiple of the usual setting would do as well, but a server with a million
// keys in memory would then need a multiple of that.
const heapRoom = 64 << 20

// roomyHeap gives the heap of a server that room: a block of memory that is never
// touched counts as held, and costs no memory, since the system gives a page when it is
// written first. Call release when the server has ended.
//
// Whoever sets GOGC or GOMEMLIMIT decides themselves.
func roomyHeap() (release func()) {
	_, percent := os.LookupEnv("GOGC")
	_, limit := os.LookupEnv("GOMEMLIMIT")
	if percent || limit {
		return func() {}
	}
	block := make([]byte, heapRoom)
	return func() {
		runtime.KeepAlive(block)
	}
}

// noHeapProfile has the runtime note nothing of what is allocated. Its usual notes, one
// in 512 KB, are for /debug/pprof/heap and /debug/pprof/allocs, and take a hundredth of
// the processor: one in 35 exchanges has its stack walked. Once, since a process that
// changes its mind later has notes that are wrong.
var noHeapProfile = sync.OnceFunc(func() { runtime.MemProfileRate = 0 })
