package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// machine divides the cores: the first for what is measured, the others for the load,
// the databases and this program.
type machine struct {
	server, load unix.CPUSet
	pinned       bool
}

// newMachine moves this process off the first core, if there is another one. Threads
// and processes that it starts from then on stay off it too, but for those of
// onServerCore.
func newMachine() (*machine, error) {
	m := &machine{}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil || allowed.Count() < 2 {
		return m, nil // one core, or a system that does not say: nothing is divided
	}
	for core := range len(allowed) * 64 {
		switch {
		case !allowed.IsSet(core):
		case m.server.Count() == 0:
			m.server.Set(core)
		default:
			m.load.Set(core)
		}
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return m, nil
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return nil, err
		}
		if err := unix.SchedSetaffinity(id, &m.load); err != nil {
			return nil, fmt.Errorf("pin thread %d: %w", id, err)
		}
	}
	m.pinned = true
	runtime.GOMAXPROCS(m.load.Count())
	return m, nil
}

// onServerCore runs start, which starts a process, so that the process gets the first
// core: a child has the affinity of the thread that started it.
func (m *machine) onServerCore(start func() error) error {
	if !m.pinned {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &m.server); err != nil {
		return err
	}
	defer func() { _ = unix.SchedSetaffinity(0, &m.load) }()
	return start()
}

// cpuOf is the processor time of a process, from its own clock (clock_getcpuclockid(3)),
// which counts nanoseconds where /proc counts hundredths of a second.
func cpuOf(pid int) time.Duration {
	const scheduled = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil { //nolint:gosec // the kernel's encoding of a process in a clock
		return 0
	}
	return time.Duration(t.Nano())
}

// sleepUntil wakes up within a tenth of a millisecond. time.Sleep does within one.
func sleepUntil(at time.Time) {
	if left := time.Until(at); left > 0 {
		t := unix.NsecToTimespec(left.Nanoseconds())
		_ = unix.Nanosleep(&t, nil) // a signal wakes it up earlier, which makes one request come early
	}
}
