package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"time"
)

// growth is how the cost of an exchange grows with what there is: keys, workspaces,
// records, replicas. What is compared takes turns, so that a busy machine slows all
// of it alike; ratios count, and absolute figures only where the machine was idle.
type growth struct {
	plan     growthPlan
	pinned   bool
	embedded []*variant
	memory   keyMemory
	cold     coldStart
	fleets   []*fleet
}

// growthPlan is how much is measured.
type growthPlan struct {
	keys       int           // that exist where there are many
	inUse      int           // of those that exist, at random, wherever costs are compared
	workspaces int           // where there are many
	events     int           // exchanges on record where there are many
	coldKeys   int           // in use while replicas start
	rounds     int           // each measures everything once
	length     time.Duration // of one load
}

// growthCommand measures growth and prints it.
func growthCommand(args []string) error {
	var p growthPlan
	flags := flag.NewFlagSet("growth", flag.ContinueOnError)
	program := flags.String("server", "bin/tokenbooth", "the `PROGRAM` to measure")
	to := flags.String("json", os.Getenv("BENCH_JSON"), "write the figures to `FILE` as JSON")
	flags.IntVar(&p.keys, "keys", 1_000_000, "`NUMBER` of keys where there are many")
	flags.IntVar(&p.workspaces, "workspaces", 10_000, "`NUMBER` of workspaces where there are many")
	flags.IntVar(&p.events, "events", 1_000_000, "`NUMBER` of exchanges on record where there are many")
	flags.IntVar(&p.coldKeys, "cold", 10_000, "`NUMBER` of keys in use while replicas start")
	flags.IntVar(&p.inUse, "used", 1000, "`NUMBER` of keys in use, of those that exist")
	flags.IntVar(&p.rounds, "rounds", 5, "`NUMBER` of rounds")
	flags.DurationVar(&p.length, "load", 2*time.Second, "`DURATION` of each load of a round")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if least := min(p.keys, p.workspaces, p.coldKeys, 10_000); p.inUse < 1 || p.inUse > least || p.rounds < 1 {
		return errors.New("there must be at least one round, and one key in use, of those that exist: -used is at most -keys, -workspaces, -cold and 10000")
	}
	b, err := newBench(*program)
	if err != nil {
		return err
	}
	g := &growth{plan: p, pinned: b.pinned}
	if err := g.measure(context.Background(), b); err != nil {
		return err
	}
	g.print(os.Stdout)
	if *to == "" {
		return nil
	}
	return writeJSON(*to, g.figures())
}

func (g *growth) measure(ctx context.Context, b *bench) error {
	if err := g.measureEmbedded(ctx, b); err != nil {
		return err
	}
	err := g.measureFleets(ctx, b)
	b.say("")
	return err
}

// sample is a load, and the processor time that it cost.
type sample struct {
	requests int
	cpu      time.Duration
}

func (s sample) cost() float64 { return microseconds(s.cpu) / float64(max(s.requests, 1)) }

// costs are samples of one thing, a round each.
type costs []*sample

// median is the cost of a request in the round in the middle.
func (c costs) median() float64 { return median(c, func(s *sample) float64 { return s.cost() }) }

// overall is the cost of a request in all rounds together. It has all of the garbage
// collection, which with much memory is rare and long: many rounds have none of it.
func (c costs) overall() float64 {
	var all sample
	for _, s := range c {
		all.requests += s.requests
		all.cpu += s.cpu
	}
	return all.cost()
}

// account books the processor time of a server on its latest load, until the next
// one begins: what a server writes behind belongs to the load before.
type account struct {
	p     *process
	on    *sample
	since time.Duration
}

// open books from now on a new sample, and closes the one before; nil: on nothing.
func (a *account) open(on *sample) {
	now := a.p.cpu()
	if a.on != nil {
		a.on.cpu += now - a.since
	}
	a.on, a.since = on, now
}
