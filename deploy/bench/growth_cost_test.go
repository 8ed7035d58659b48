package main

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The median leaves out a round with garbage collection; all rounds together do not.
func TestCosts(t *testing.T) {
	c := costs{{10, 100 * time.Microsecond}, {10, 1000 * time.Microsecond}, {20, 100 * time.Microsecond}}
	if c.median() != 10 || c.overall() != 30 {
		t.Errorf("median %v, overall %v; want 10 and 30 µs", c.median(), c.overall())
	}
}

// What a process uses belongs to the latest load until the next one begins.
func TestAccount(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the processor time of a process is not known here")
	}
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

// Half a core is used all the time, of two seconds; the rest is of the exchanges.
func TestFleetCost(t *testing.T) {
	f := &fleet{requests: 1000, parts: map[string]*part{}}
	f.book(map[string]time.Duration{replicas: time.Second, redis: 0}, func(p *part, cpu time.Duration) { p.idle += cpu; p.rested += 2 * time.Second })
	f.book(map[string]time.Duration{replicas: 3 * time.Second, redis: time.Second}, func(p *part, cpu time.Duration) { p.used += cpu; p.during += 4 * time.Second })
	if f.cost(replicas) != 1000 || f.cost(redis) != 1000 || f.cost(postgres) != 0 || f.total() != 2000 || f.background() != 0.5 {
		t.Errorf("replicas %v, redis %v, postgres %v, total %v µs, background %v", f.cost(replicas), f.cost(redis), f.cost(postgres), f.total(), f.background())
	}
}

func TestProcesses(t *testing.T) {
	stat, ok := readStat(os.Getpid())
	if runtime.GOOS != "linux" {
		t.Skip("no /proc")
	}
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
