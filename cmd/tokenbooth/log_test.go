package main

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// serverLog is a server's log and what has been written of it.
func serverLog(t *testing.T) (log *slog.Logger, flush func(), written *output) {
	t.Helper()
	written = &output{}
	config := &Config{}
	config.Log.Level, config.Log.Format = "info", "text"
	log, flush = newServerLog(written, config)
	return log, flush, written
}

func TestServerLogGathersLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, flush, written := serverLog(t)
		log.Info("one")
		log.With("a", 1).WithGroup("g").Info("two", "b", 2)
		if text := written.String(); text != "" {
			t.Errorf("written at once: %q", text)
		}
		<-time.After(lineDelay)
		synctest.Wait()
		if lines := written.lines(); len(lines) != 2 || !strings.Contains(lines[1], "a=1 g.b=2") {
			t.Errorf("after %s: %q", lineDelay, lines)
		}
		log.Info("three")
		log.Warn("four")
		if lines := written.lines(); len(lines) != 4 || !strings.Contains(lines[2], "three") {
			t.Errorf("after a warning: %q", lines)
		}
		log.With("a", 1).Info("five")
		log.With("a", 1).Error("six")
		if n := len(written.lines()); n != 6 {
			t.Errorf("%d lines after an error, want 6", n)
		}
		log.Info("seven")
		flush()
		if n := len(written.lines()); n != 7 {
			t.Errorf("%d lines after the end, want 7", n)
		}
	})
}

func TestServerLogWritesBeforeItIsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, written := serverLog(t)
		for range linesWaiting / 1000 {
			log.Info(strings.Repeat("x", 1000))
		}
		if n := len(written.lines()); n == 0 {
			t.Errorf("%d bytes wait", linesWaiting)
		}
		<-time.After(lineDelay)
	})
}

// Whoever writes at the same time as others has its lines in order, each once.
func TestServerLogLosesNothing(t *testing.T) {
	const writers, each = 8, 2000
	log, flush, written := serverLog(t)
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				log.Info("line", "writer", w, "i", i)
			}
		})
	}
	writing.Wait()
	flush()
	next := [writers]int{}
	for _, line := range written.lines() {
		var w, i int
		_, facts, _ := strings.Cut(line, "msg=line ")
		if _, err := fmt.Sscanf(facts, "writer=%d i=%d", &w, &i); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if i != next[w] {
			t.Fatalf("writer %d: line %d, want %d", w, i, next[w])
		}
		next[w]++
	}
	for w, n := range next {
		if n != each {
			t.Errorf("writer %d has %d lines of %d", w, n, each)
		}
	}
}
