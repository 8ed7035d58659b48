package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// target is a server and what it is asked, as bytes on the wire: the load must cost
// less than the cheapest server, which leaves no room for an HTTP client.
type target struct {
	address  string
	requests [][]byte // of which each connection sends one, over and over

	// draws, if it is set, comes in place of requests: it makes for each connection what
	// draws its next request, which is good until the one after it.
	draws func() func() []byte
}

// result is what a load has seen.
type result struct {
	requests int
	took     time.Duration
	cpu      time.Duration   // of the server
	times    []time.Duration // of each request, sorted
}

func (r result) perSecond() float64 { return float64(r.requests) / r.took.Seconds() }

// cost is the processor time of one request.
func (r result) cost() time.Duration {
	if r.requests == 0 {
		return 0
	}
	return r.cpu / time.Duration(r.requests)
}

// percentile is the time within which that part of the requests was answered.
func (r result) percentile(part float64) time.Duration {
	if len(r.times) == 0 {
		return 0
	}
	return r.times[min(len(r.times)-1, int(part*float64(len(r.times))))]
}

// connection is a keep-alive connection that sends one request at a time.
type connection struct {
	net.Conn
	next   func() []byte // its next request
	buffer []byte
}

// dial opens connections to the target.
func (t target) dial(n int) ([]*connection, error) {
	var all []*connection
	for i := range n {
		c, err := net.Dial("tcp", t.address)
		if err != nil {
			hangUp(all)
			return nil, err
		}
		all = append(all, &connection{Conn: c, next: t.source(i), buffer: make([]byte, 16<<10)})
	}
	return all, nil
}

// source is what connection i sends.
func (t target) source(i int) func() []byte {
	if t.draws != nil {
		return t.draws()
	}
	request := t.requests[i%len(t.requests)]
	return func() []byte { return request }
}

func hangUp(all []*connection) {
	for _, c := range all {
		_ = c.Close()
	}
}

var (
	headerEnd     = []byte("\r\n\r\n")
	statusOK      = []byte("HTTP/1.1 200 ")
	contentLength = []byte("\r\nContent-Length: ")
)

// ask sends the request and reads the answer, which has to be 200 and have a length.
func (c *connection) ask() error {
	if _, err := c.Write(c.next()); err != nil {
		return err
	}
	have, whole := 0, 0
	for whole == 0 || have < whole {
		n, err := c.Read(c.buffer[have:])
		if err != nil {
			return fmt.Errorf("after %d bytes of an answer: %w", have, err)
		}
		have += n
		if whole == 0 {
			if whole, err = wholeLength(c.buffer[:have]); err != nil {
				return err
			}
			if whole > len(c.buffer) {
				return fmt.Errorf("an answer of %d bytes is too long", whole)
			}
		}
	}
	return nil
}

// wholeLength is how long an answer is, from what there is of it; 0: not enough yet.
func wholeLength(answer []byte) (int, error) {
	end := bytes.Index(answer, headerEnd)
	if end < 0 {
		return 0, nil
	}
	if !bytes.HasPrefix(answer, statusOK) {
		return 0, fmt.Errorf("the server answers %q", answer)
	}
	_, rest, found := bytes.Cut(answer[:end+2], contentLength)
	line, _, _ := bytes.Cut(rest, []byte("\r\n"))
	length, err := strconv.Atoi(string(line))
	if !found || err != nil {
		return 0, errors.New("an answer has no Content-Length")
	}
	return end + len(headerEnd) + length, nil
}

// press keeps n requests running for a time.
func (t target) press(p *process, n int, length time.Duration) (result, error) {
	all, err := t.dial(n)
	if err != nil {
		return result{}, err
	}
	defer hangUp(all)
	return press(p, all, length)
}

// press keeps a request running on each connection for a time.
func press(p *process, all []*connection, length time.Duration) (result, error) {
	return pressUntil(p, all, func(began time.Time, _ int64) bool { return time.Since(began) >= length })
}

// send has a number of requests answered, n at a time.
func (t target) send(p *process, n int, requests int64) (result, error) {
	all, err := t.dial(n)
	if err != nil {
		return result{}, err
	}
	defer hangUp(all)
	return pressUntil(p, all, func(_ time.Time, sent int64) bool { return sent > requests })
}

func pressUntil(p *process, connections []*connection, enough func(began time.Time, sent int64) bool) (result, error) {
	var sent atomic.Int64
	began, cpu := time.Now(), p.cpu()
	times, err := each(connections, func(c *connection) (times []time.Duration, err error) {
		for !enough(began, sent.Add(1)) {
			at := time.Now()
			if err := c.ask(); err != nil {
				return nil, err
			}
			times = append(times, time.Since(at))
		}
		return times, nil
	})
	return result{len(times), time.Since(began), p.cpu() - cpu, times}, err
}

// pace sends requests at a rate, at random moments, as clients that know nothing of
// each other do (a Poisson process). The time of a request counts from the moment at
// which it was due, so that a server that stalls is not spared the requests that would
// have come meanwhile.
func (t target) pace(p *process, perSecond float64, length time.Duration) (result, error) {
	connections, err := t.dial(64)
	if err != nil {
		return result{}, err
	}
	defer hangUp(connections)
	due := make(chan time.Time, 1<<16)
	// One more than usual, for the clock: what comes late by it would come in bursts.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1))
	began, cpu := time.Now(), p.cpu()
	go func() {
		defer close(due)
		for at := began; ; {
			at = at.Add(time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second))) //nolint:gosec // a load, not a secret
			if at.Sub(began) > length {
				return
			}
			sleepUntil(at)
			due <- at
		}
	}()
	times, err := each(connections, func(c *connection) (times []time.Duration, err error) {
		for at := range due {
			if err := c.ask(); err != nil {
				return nil, err
			}
			times = append(times, time.Since(at))
		}
		return times, nil
	})
	return result{len(times), time.Since(began), p.cpu() - cpu, times}, err
}

// each runs a loop on every connection and puts their times together, sorted.
func each(connections []*connection, loop func(*connection) ([]time.Duration, error)) ([]time.Duration, error) {
	var running sync.WaitGroup
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	for _, c := range connections {
		running.Go(func() {
			times, err := loop(c)
			mu.Lock()
			defer mu.Unlock()
			all, failed = append(all, times...), errors.Join(failed, err)
		})
	}
	running.Wait()
	slices.Sort(all)
	return all, failed
}
