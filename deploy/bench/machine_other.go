//go:build !linux

package main

import (
	"time"
)

// machine has no way to divide the cores of this system.
type machine struct{ pinned bool }

func newMachine() (*machine, error) { return &machine{}, nil }

func (m *machine) onServerCore(start func() error) error { return start() }

// cpuOf is not to be had for another process: what follows from it is not shown.
func cpuOf(int) time.Duration { return 0 }

func sleepUntil(at time.Time) { time.Sleep(time.Until(at)) } //nolint:forbidigo // there is nothing finer here
