package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// What a process uses belongs to the latest load until the next one begins.
func TestAccount(t *testing.T) {
	a := account{p: ourselves()}
	work := func() {
		for began := a.p.cpu(); a.p.cpu()-began < time.Millisecond; {
		}
	}
	var first, second sample
	work()
	a.open(&first)
	before := a.p.cpu()
	work()
	a.open(&second)
	booked := first.cpu
	work()
	a.open(nil)
	work()
	if first.cpu != booked || first.cpu < time.Millisecond || second.cpu < time.Millisecond || first.cpu+second.cpu > a.p.cpu()-before {
		t.Errorf("booked %s and then %s on the first, %s on the second", booked, first.cpu, second.cpu)
	}
}

func TestProcesses(t *testing.T) {
	stat, ok := readStat(os.Getpid())
	if !ok || stat.parent != os.Getppid() || !strings.HasPrefix(os.Args[0][strings.LastIndexByte(os.Args[0], '/')+1:], stat.name) {
		t.Errorf("this process is %+v (%t)", stat, ok)
	}
	parents := map[int]int{10: 1, 20: 10, 30: 20, 40: 1}
	for pid, want := range map[int]bool{10: true, 20: true, 30: true, 40: false, 50: false} {
		if got := descends(parents, pid, 10); got != want {
			t.Errorf("%d descends from 10: %t, want %t", pid, got, want)
		}
	}
}
