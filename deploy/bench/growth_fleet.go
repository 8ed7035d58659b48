package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// fleet is a number of replicas over one PostgreSQL and one Redis. However many they
// are, the clients and the core are the same.
type fleet struct {
	replicas   int
	parts      map[string]*part // by the name of the process
	requests   int
	roundTrips float64 // to Redis for quotas
	statements float64 // to PostgreSQL
}

// part is the processor time of one kind of process, in all rounds.
type part struct {
	used   time.Duration // while the load went on, and until all of it was written down
	during time.Duration // how long that was
	idle   time.Duration // while nobody asked
	rested time.Duration // how long that was
}

// background is what is used all the time, whether somebody asks or not, as a part of
// one core.
func (p *part) background() float64 { return p.idle.Seconds() / max(p.rested.Seconds(), 1e-9) }

// cost is the processor time of an exchange without the background, in microseconds.
func (f *fleet) cost(name string) float64 {
	p := f.parts[name]
	if p == nil {
		return 0
	}
	return (microseconds(p.used) - p.background()*microseconds(p.during)) / float64(max(f.requests, 1))
}

// total is that of replicas, PostgreSQL and Redis together.
func (f *fleet) total() (sum float64) {
	for name := range f.parts {
		sum += f.cost(name)
	}
	return sum
}

func (f *fleet) background() (sum float64) {
	for _, p := range f.parts {
		sum += p.background()
	}
	return sum
}

// book adds what was used in a time to each part.
func (f *fleet) book(used map[string]time.Duration, add func(*part, time.Duration)) {
	for name, cpu := range used {
		if f.parts[name] == nil {
			f.parts[name] = &part{}
		}
		add(f.parts[name], cpu)
	}
}

// coldStart is what replicas do that have no key in memory when the load begins.
type coldStart struct {
	replicas, keys int
	requests       int
	loads          float64 // keys read
	statements     float64 // sent, with those for everything else
	took           time.Duration
}

var fleetSizes = []int{1, 2, 4}

// measureFleets starts replicas over one database: first as many as there ever are, all
// at once and under load, then each number of them again and again.
func (g *growth) measureFleets(ctx context.Context, b *bench) (err error) {
	dir, err := memoryDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b.say("replicas: making the rows")
	env, err := withServers()
	if err != nil {
		return err
	}
	s, err := newBooth(b.program, dir, env)
	if err != nil {
		return err
	}
	made, err := estate{keys: g.plan.coldKeys, workspaces: 1}.fill(ctx, s)
	if err != nil {
		return err
	}
	if err := g.startCold(b, s, made); err != nil {
		return fmt.Errorf("cold start: %w", err)
	}
	for _, n := range fleetSizes {
		g.fleets = append(g.fleets, &fleet{replicas: n, parts: map[string]*part{}})
	}
	for i := range g.plan.rounds {
		b.say("replicas: round %d of %d", i+1, g.plan.rounds)
		for _, f := range g.fleets {
			if err := f.round(b, s, made, g.plan); err != nil {
				return fmt.Errorf("%d replicas: %w", f.replicas, err)
			}
		}
	}
	return nil
}

// started are replicas that run.
type started []*booth

// startReplicas starts n of them at the same time.
func startReplicas(b *bench, of *booth, n int) (started, error) {
	all := make(started, n)
	for i := range all {
		replica := *of
		all[i] = &replica
	}
	return all, all.each(func(_ int, replica *booth) error { return replica.start(b.machine) })
}

// each has something done to every replica at the same time.
func (s started) each(do func(i int, replica *booth) error) error {
	errs := make([]error, len(s))
	var running sync.WaitGroup
	for i, replica := range s {
		running.Go(func() { errs[i] = do(i, replica) })
	}
	running.Wait()
	return errors.Join(errs...)
}

func (s started) end() error {
	return s.each(func(_ int, replica *booth) error {
		if replica.process == nil {
			return nil // it did not start
		}
		return replica.end()
	})
}

func (s started) rest() error {
	return s.each(func(_ int, replica *booth) error { return replica.rest() })
}

// load has every replica loaded, and adds up the requests.
func (s started) load(by func(*booth) (result, error)) (requests int, err error) {
	results := make([]result, len(s))
	err = s.each(func(i int, replica *booth) (err error) {
		results[i], err = by(replica)
		return err
	})
	for _, r := range results {
		requests += r.requests
	}
	return requests, err
}

// watch tells what the replicas and their servers use while something is done.
func (s started) watch(do func() error) (used map[string]time.Duration, took time.Duration, err error) {
	began, before := time.Now(), s.cpu()
	err = do()
	used = s.cpu()
	for name := range used {
		used[name] -= before[name]
	}
	return used, time.Since(began), err
}

// cpu is the processor time of the replicas and of their servers so far.
func (s started) cpu() map[string]time.Duration {
	used := serversCPU()
	used[replicas] = 0
	for _, replica := range s {
		used[replicas] += replica.cpu()
	}
	return used
}

// counters adds up the metrics of the replicas.
func (s started) counters() (map[string]float64, error) {
	sum := map[string]float64{}
	for _, replica := range s {
		of, err := replica.counters()
		if err != nil {
			return nil, err
		}
		for name, n := range of {
			sum[name] += n
		}
	}
	return sum, nil
}

// startCold starts replicas that know no key and sends each of them the whole load
// from the first moment. An exchange that fails ends it.
func (g *growth) startCold(b *bench, of *booth, made *credentials) (err error) {
	g.cold = coldStart{replicas: fleetSizes[len(fleetSizes)-1], keys: made.len()}
	b.say("%d replicas: cold start", g.cold.replicas)
	fleet, err := startReplicas(b, of, g.cold.replicas)
	defer func() { err = errors.Join(err, fleet.end()) }()
	if err != nil {
		return err
	}
	before, err := fleet.counters()
	if err != nil {
		return err
	}
	began := time.Now()
	g.cold.requests, err = fleet.load(func(r *booth) (result, error) {
		return r.asks(made.random(made.len())).send(r.process, usual, 2*int64(made.len()))
	})
	if err != nil {
		return err
	}
	g.cold.took = time.Since(began)
	after, err := fleet.counters()
	g.cold.loads = after["tokenbooth_key_loads_total"] - before["tokenbooth_key_loads_total"]
	g.cold.statements = after["tokenbooth_sql_statements_total"] - before["tokenbooth_sql_statements_total"]
	return err
}

// round starts the fleet, lets it take its keys into memory, measures it at rest and
// under load, and ends it.
func (f *fleet) round(b *bench, of *booth, made *credentials, p growthPlan) (err error) {
	fleet, err := startReplicas(b, of, f.replicas)
	defer func() { err = errors.Join(err, fleet.end()) }()
	if err != nil {
		return err
	}
	_, err = fleet.load(func(r *booth) (result, error) {
		return r.asks(made.inTurn(p.inUse)).send(r.process, usual/f.replicas, int64(p.inUse))
	})
	if err := errors.Join(err, fleet.rest()); err != nil {
		return err
	}
	idle, rested, err := fleet.watch(fleet.rest)
	if err != nil {
		return err
	}
	f.book(idle, func(p *part, cpu time.Duration) { p.idle += cpu; p.rested += rested })
	return f.underLoad(fleet, made, p)
}

func (f *fleet) underLoad(fleet started, made *credentials, p growthPlan) error {
	before, err := fleet.counters()
	if err != nil {
		return err
	}
	used, during, err := fleet.watch(func() error {
		requests, err := fleet.load(func(r *booth) (result, error) {
			return r.asks(made.random(p.inUse)).press(r.process, usual/f.replicas, p.length)
		})
		f.requests += requests
		return errors.Join(err, fleet.rest())
	})
	if err != nil {
		return err
	}
	f.book(used, func(p *part, cpu time.Duration) { p.used += cpu; p.during += during })
	after, err := fleet.counters()
	f.roundTrips += after["tokenbooth_quota_round_trips_total"] - before["tokenbooth_quota_round_trips_total"]
	f.statements += after["tokenbooth_sql_statements_total"] - before["tokenbooth_sql_statements_total"]
	return err
}
