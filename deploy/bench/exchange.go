package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// plan is how much is measured.
type plan struct {
	rounds  int           // for the ratios
	lengthy time.Duration // for each concurrency, for its times
	paced   int           // rounds at half of the saturation load; 0: not measured
	flat    int64         // exchanges after which memory must be what it was; 0: not measured
}

var (
	whole = plan{rounds: 60, lengthy: 4 * time.Second, paced: 7}
	quick = plan{rounds: 16, lengthy: 700 * time.Millisecond}
)

// A round is short and there are many: what else a machine does comes and goes within
// seconds, and what is compared has to meet the same of it.
const (
	floorRound    = 120 * time.Millisecond
	exchangeRound = 400 * time.Millisecond
	pacedRound    = 1500 * time.Millisecond
	signsRound    = 1500
)

// concurrencies are how many requests run at once. The one in the middle is what
// ratios are told for.
var concurrencies = []int{1, 16, 64}

const usual = 16

// round is everything that is compared, once.
type round struct {
	nethttp, echo result
	signature     time.Duration // processor time of one
	exchange      result        // whose processor time is all that the service has used until the next round
}

// ratio is what an exchange costs, as a multiple of what it cannot cost less than.
func (r round) ratio() float64 {
	return float64(r.exchange.cost()) / float64(r.echo.cost()+r.signature)
}

func (r round) ofNetHTTP() float64 { return r.exchange.perSecond() / r.nethttp.perSecond() }

// measured is what is known of one service.
type measured struct {
	rounds     []round
	loads      map[int]result // by concurrency
	allocs     float64        // objects allocated by an exchange
	allocBytes float64
	halves     []half
	floor      []half // the bare server that signs once, in turns with these
	early      int64  // memory after a warm-up, in bytes
	late       int64  // and after plan.flat exchanges
	peak       int64
	total      int64 // exchanges
}

// bench is one run.
type bench struct {
	*machine
	program  string
	profiles string                           // the directory for profiles; empty: none are taken
	say      func(format string, args ...any) // a progress line
}

// exchanges measures a service against the floors. The service is thrown away.
func (b *bench) exchanges(name string, p plan, environment func(dir string) ([]string, error)) (m measured, token string, set []byte, err error) {
	dir, err := memoryDir()
	if err != nil {
		return m, "", nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	env, err := environment(dir)
	if err != nil {
		return m, "", nil, err
	}
	b.say("%s: starting", name)
	if b.profiles != "" { // only then: it costs a little
		env = append(env, "TOKENBOOTH_OPERATIONS_PROFILING=true")
	}
	s, err := newBooth(b.program, dir, env)
	if err != nil {
		return m, "", nil, err
	}
	if err := s.start(b.machine); err != nil {
		return m, "", nil, err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	if err := s.furnish(context.Background()); err != nil {
		return m, "", nil, err
	}
	answer, token, err := s.exchange(s.keys[0])
	if err != nil {
		return m, "", nil, err
	}
	if set, err = fetch(s.url + "/.well-known/jwks.json"); err != nil {
		return m, "", nil, err
	}
	m, err = b.against(name, p, s, answer)
	return m, token, set, err
}

// against measures a running service.
func (b *bench) against(name string, p plan, s *booth, answer floorAnswer) (m measured, err error) {
	if err := b.warmUp(name, s, &m); err != nil {
		return m, err
	}
	if err := b.ratios(name, p, s, answer, &m); err != nil {
		return m, err
	}
	m.loads = map[int]result{}
	for _, c := range concurrencies {
		b.say("%s: %d at once", name, c)
		if m.loads[c], err = s.target().press(s.process, c, p.lengthy); err != nil {
			return m, err
		}
		m.total += int64(m.loads[c].requests)
	}
	if err := b.allocations(s, &m); err != nil {
		return m, err
	}
	if err := b.profile(name, s, &m); err != nil {
		return m, err
	}
	if err := b.halfLoad(name, p, s, answer, &m); err != nil {
		return m, err
	}
	return m, b.flatness(name, p, s, &m)
}

// ratios measures the service and the floors in turns.
func (b *bench) ratios(name string, p plan, s *booth, answer floorAnswer, m *measured) error {
	c, err := b.contest(s, answer)
	if err != nil {
		return err
	}
	defer c.end()
	before := s.cpu()
	for i := range p.rounds {
		b.say("%s: round %d of %d", name, i+1, p.rounds)
		r, err := c.round()
		if err != nil {
			return err
		}
		r.exchange.cpu, before = s.cpu()-before, s.cpu()
		m.rounds = append(m.rounds, r)
		m.total += int64(r.exchange.requests)
	}
	return nil
}

// contest is the service and the floors, with connections to each.
type contest struct {
	service       *booth
	nethttp, echo *process
	at            target // of the first
	crowds        [3][]*connection
}

func (b *bench) contest(s *booth, answer floorAnswer) (c *contest, err error) {
	c = &contest{service: s}
	var atEcho target
	if c.nethttp, c.at, err = b.startFloor("nethttp", answer); err != nil {
		return nil, err
	}
	if c.echo, atEcho, err = b.startFloor("echo", answer); err != nil {
		return nil, errors.Join(err, c.nethttp.end())
	}
	for i, t := range []target{c.at, atEcho, s.target()} {
		var failed error
		c.crowds[i], failed = t.dial(usual)
		err = errors.Join(err, failed)
	}
	if err != nil {
		c.end()
	}
	return c, err
}

// end ends the floors. They are asked nothing more, so nothing is lost if it fails.
func (c *contest) end() {
	for _, crowd := range c.crowds {
		hangUp(crowd)
	}
	_, _ = c.nethttp.end(), c.echo.end()
}

// round lets the service go first: what it puts off falls into the time of the floors.
func (c *contest) round() (r round, err error) {
	var errs [4]error
	r.exchange, errs[0] = press(c.service.process, c.crowds[2], exchangeRound)
	r.nethttp, errs[1] = press(c.nethttp, c.crowds[0], floorRound)
	r.signature, errs[2] = signatures(c.nethttp, c.at, signsRound)
	r.echo, errs[3] = press(c.echo, c.crowds[1], floorRound)
	return r, errors.Join(errs[:]...)
}

// warmUp lets every cache fill before anything counts.
func (b *bench) warmUp(name string, s *booth, m *measured) error {
	b.say("%s: warming up", name)
	r, err := s.target().press(s.process, usual, 2*time.Second)
	m.total += int64(r.requests)
	m.early = s.memory("VmRSS")
	return err
}

// signatures has the bare server sign, so that it happens on the same core.
func signatures(p *process, at target, times int) (time.Duration, error) {
	before := p.cpu()
	response, err := http.Post(fmt.Sprintf("http://%s/sign/%d", at.address, times), "", http.NoBody) //nolint:noctx // the process that answers is ours
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the signatures were answered %s", response.Status)
	}
	return (p.cpu() - before) / time.Duration(times), nil
}

// allocations counts what the service allocates for an exchange.
func (b *bench) allocations(s *booth, m *measured) error {
	before, err := s.counters()
	if err != nil {
		return err
	}
	r, err := s.target().send(s.process, usual, 20_000)
	if err != nil {
		return err
	}
	after, err := s.counters()
	m.total += int64(r.requests)
	m.allocs = (after["go_memstats_mallocs_total"] - before["go_memstats_mallocs_total"]) / float64(r.requests)
	m.allocBytes = (after["go_memstats_alloc_bytes_total"] - before["go_memstats_alloc_bytes_total"]) / float64(r.requests)
	return err
}

// profile takes a CPU profile of the saturated service, and one of what it has allocated.
func (b *bench) profile(name string, s *booth, m *measured) error {
	if b.profiles == "" {
		return nil
	}
	const length = 10 * time.Second
	b.say("%s: profile", name)
	var text []byte
	var errProfile error
	var taking sync.WaitGroup
	taking.Go(func() {
		text, errProfile = fetch(strings.TrimSuffix(s.metrics, "/metrics") + fmt.Sprintf("/debug/pprof/profile?seconds=%d", length/time.Second))
	})
	r, err := s.target().press(s.process, usual, length+time.Second)
	taking.Wait()
	m.total += int64(r.requests)
	allocs, errAllocs := fetch(strings.TrimSuffix(s.metrics, "/metrics") + "/debug/pprof/allocs")
	file := filepath.Join(b.profiles, strings.ReplaceAll(name, " ", "-"))
	return errors.Join(err, errProfile, errAllocs, os.WriteFile(file+".pprof", text, 0o600), os.WriteFile(file+".allocs.pprof", allocs, 0o600))
}

// half is a round at half of the load that the service just then was saturated with.
type half struct {
	rate float64 // a second
	result
}

// tail is how much longer the slowest hundredth takes than the usual request.
func (h half) tail() float64 { return float64(h.percentile(0.99)) / float64(h.percentile(0.5)) }

// halfLoad measures the service, and in turns with it a bare server that signs once: how
// late some answers are is for the most part the machine's and the garbage collector's.
func (b *bench) halfLoad(name string, p plan, s *booth, answer floorAnswer, m *measured) error {
	if p.paced == 0 {
		return nil
	}
	floor, at, err := b.startFloor("nethttp", answer)
	if err != nil {
		return err
	}
	defer func() { _ = floor.end() }() // it dies of the signal
	signs := floorTarget(at.address, signedLogin)
	for i := 0; i < p.paced && err == nil; i++ {
		b.say("%s: half of the saturation load, %d of %d", name, i+1, p.paced)
		var service, bare half
		var errService, errBare error
		service, errService = halfOf(s.target(), s.process)
		bare, errBare = halfOf(signs, floor)
		m.halves, m.floor = append(m.halves, service), append(m.floor, bare)
		m.total += int64(service.requests)
		err = errors.Join(errService, errBare)
	}
	return err
}

// halfOf saturates a server, and then sends half of that.
func halfOf(t target, p *process) (h half, err error) {
	full, err := t.press(p, usual, exchangeRound)
	if err != nil {
		return h, err
	}
	h.rate = full.perSecond() / 2
	h.result, err = t.pace(p, h.rate, pacedRound)
	return h, err
}

// flatness goes on until that many exchanges have been, and looks at the memory again.
func (b *bench) flatness(name string, p plan, s *booth, m *measured) error {
	for m.total < p.flat {
		b.say("%s: %d of %d exchanges, for the memory", name, m.total, p.flat)
		r, err := s.target().send(s.process, usual, min(100_000, p.flat-m.total))
		if err != nil {
			return err
		}
		m.total += int64(r.requests)
	}
	m.late, m.peak = s.memory("VmRSS"), s.memory("VmHWM")
	return nil
}

// median of a figure over the rounds.
func median[T any](all []T, figure func(T) float64) float64 {
	var values []float64
	for _, one := range all {
		values = append(values, figure(one))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func fetch(address string) ([]byte, error) {
	response, err := http.Get(address) //nolint:gosec,noctx // the process that answers is ours
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(response.Body)
	return body.Bytes(), err
}
