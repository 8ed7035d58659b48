package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// variant is an installation by itself, with SQLite, of which some keys are in use.
type variant struct {
	name    string
	of      estate
	inUse   int
	service *standing
	costs   costs
}

// standing is a service that runs and has all of its keys in memory.
type standing struct {
	*booth
	account
	made  *credentials
	ready time.Duration // from its start until it served
}

// keyMemory is what keys cost in memory.
type keyMemory struct {
	keys     int
	heap     float64       // bytes a key that live in the heap
	resident float64       // bytes a key of the process
	ready    time.Duration // from the start of the server until it serves
	load     sample        // the first exchange of every key
}

// variants are what is compared: against the first.
func (p growthPlan) variants() []*variant {
	return []*variant{
		{name: fmt.Sprintf("%d keys", p.inUse), of: estate{keys: p.inUse, workspaces: 1}, inUse: p.inUse},
		{name: "1 key", of: estate{keys: 1, workspaces: 1}, inUse: 1},
		{name: "10000 keys", of: estate{keys: 10_000, workspaces: 1}, inUse: p.inUse},
		{name: fmt.Sprintf("%d keys", p.keys), of: estate{keys: p.keys, workspaces: 1}, inUse: p.inUse},
		{name: fmt.Sprintf("%d workspaces", p.workspaces), of: estate{keys: p.workspaces, workspaces: p.workspaces}, inUse: p.inUse},
		{name: fmt.Sprintf("after %d exchanges", p.events), of: estate{keys: p.inUse, workspaces: 1, events: p.events}, inUse: p.inUse},
		{name: fmt.Sprintf("%d keys, all used", p.keys), of: estate{keys: p.keys, workspaces: 1}, inUse: p.keys},
	}
}

// measureEmbedded has all variants run side by side and be loaded in turn.
func (g *growth) measureEmbedded(ctx context.Context, b *bench) (err error) {
	running := map[estate]*standing{}
	defer func() {
		for _, s := range running {
			err = errors.Join(err, s.end(), os.RemoveAll(s.dir))
		}
	}()
	g.embedded = g.plan.variants()
	for _, v := range g.embedded {
		if running[v.of] == nil {
			s, err := g.stand(ctx, b, v)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			running[v.of] = s
		}
		v.service = running[v.of]
	}
	for i := range g.plan.rounds {
		b.say("embedded: round %d of %d", i+1, g.plan.rounds)
		for _, v := range g.embedded {
			if err := v.press(g.plan.length); err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
		}
	}
	for _, s := range running {
		if err := s.rest(); err != nil {
			return err
		}
		s.open(nil)
	}
	return nil
}

func (v *variant) press(length time.Duration) error {
	s := &sample{}
	v.service.open(s)
	v.costs = append(v.costs, s)
	r, err := v.service.asks(v.service.made.random(v.inUse)).press(v.service.process, usual, length)
	s.requests = r.requests
	return err
}

// asks is the service with what it is asked.
func (b *booth) asks(draws func() func() []byte) target {
	return target{address: strings.TrimPrefix(b.url, "http://"), draws: draws}
}

// stand makes an installation, starts it and uses every key once. If it has the many
// keys, what they cost in memory is measured on the way.
func (g *growth) stand(ctx context.Context, b *bench, v *variant) (*standing, error) {
	dir, err := memoryDir()
	if err != nil {
		return nil, err
	}
	s := &standing{}
	err = s.stand(ctx, b, v, dir)
	if err == nil && v.of.keys == g.plan.keys {
		g.memory, err = s.loadAll(b)
	} else if err == nil {
		_, err = s.asks(s.made.inTurn(s.made.len())).send(s.process, usual, int64(s.made.len()))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func (s *standing) stand(ctx context.Context, b *bench, v *variant, dir string) (err error) {
	b.say("%s: making the rows", v.name)
	env := append(embedded(dir), fmt.Sprintf("TOKENBOOTH_KEYS_CACHE_SIZE=%d", max(100, 2*v.of.keys)))
	if s.booth, err = newBooth(b.program, dir, env); err != nil {
		return err
	}
	if s.made, err = v.of.fill(ctx, s.booth); err != nil {
		return err
	}
	b.say("%s: starting", v.name)
	began := time.Now()
	err = s.start(b.machine)
	s.p, s.ready = s.process, time.Since(began)
	return err
}

// loadAll uses every key once and sees what that takes.
func (s *standing) loadAll(b *bench) (m keyMemory, err error) {
	m.keys, m.ready = s.made.len(), s.ready
	before, err := s.collected()
	if err != nil {
		return m, err
	}
	resident := s.memory("VmRSS")
	s.open(&m.load)
	draws := s.made.inTurn(s.made.len())
	for m.load.requests < m.keys {
		b.say("%d of %d keys in memory", m.load.requests, m.keys)
		r, err := s.asks(draws).send(s.process, usual, int64(min(100_000, m.keys-m.load.requests)))
		if err != nil {
			return m, err
		}
		m.load.requests += r.requests
	}
	if err := s.rest(); err != nil {
		return m, err
	}
	s.open(nil)
	after, err := s.collected()
	cached := after["tokenbooth_keys_cached"] - before["tokenbooth_keys_cached"]
	m.heap = (after["go_memstats_heap_alloc_bytes"] - before["go_memstats_heap_alloc_bytes"]) / cached
	m.resident = float64(s.memory("VmRSS")-resident) / cached
	return m, err
}

// collected is the metrics right after a garbage collection.
func (b *booth) collected() (map[string]float64, error) {
	if _, err := fetch(strings.TrimSuffix(b.metrics, "/metrics") + "/debug/pprof/heap?gc=1"); err != nil {
		return nil, err
	}
	return b.counters()
}

// rest waits until the service has written down what it was asked, and what it writes
// each second besides.
func (b *booth) rest() error {
	const writesEach = time.Second
	for began := time.Now(); ; time.Sleep(writesEach) {
		now, err := b.counters()
		if err != nil {
			return err
		}
		if waited := time.Since(began); waited > writesEach && now["tokenbooth_audit_pending"] == 0 {
			return nil
		} else if waited > patience {
			return fmt.Errorf("%.0f exchanges are not recorded after %s", now["tokenbooth_audit_pending"], patience)
		}
	}
}
