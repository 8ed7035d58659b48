package main

import (
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

// Half a core is used all the time, of two seconds; the rest is of the exchanges.
func TestFleetCost(t *testing.T) {
	f := &fleet{requests: 1000, parts: map[string]*part{}}
	f.book(map[string]time.Duration{replicas: time.Second, redis: 0}, func(p *part, cpu time.Duration) { p.idle += cpu; p.rested += 2 * time.Second })
	f.book(map[string]time.Duration{replicas: 3 * time.Second, redis: time.Second}, func(p *part, cpu time.Duration) { p.used += cpu; p.during += 4 * time.Second })
	if f.cost(replicas) != 1000 || f.cost(redis) != 1000 || f.cost(postgres) != 0 || f.total() != 2000 || f.background() != 0.5 {
		t.Errorf("replicas %v, redis %v, postgres %v, total %v µs, background %v", f.cost(replicas), f.cost(redis), f.cost(postgres), f.total(), f.background())
	}
}
