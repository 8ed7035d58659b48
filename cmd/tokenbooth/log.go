package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// newLog writes one line an event, at once.
func newLog(w io.Writer, config *Config) *slog.Logger { return slog.New(logHandler(w, config)) }

func logHandler(w io.Writer, config *Config) slog.Handler {
	var level slog.Level
	_ = level.UnmarshalText([]byte(config.Log.Level)) // checked with the configuration
	options := &slog.HandlerOptions{Level: level}
	if config.Log.Format == "text" {
		return slog.NewTextHandler(w, options)
	}
	return slog.NewJSONHandler(w, options)
}

// newServerLog is newLog for a server, whose requests write a line each: those are
// gathered. Call flush before the process ends.
func newServerLog(w io.Writer, config *Config) (log *slog.Logger, flush func()) {
	lines := &lineWriter{to: w}
	return slog.New(&gatherer{logHandler(lines, config), lines}), lines.Flush
}

// gatherer is a handler that has its lines gathered, but for those from a warning up:
// people wait for them, and they may be the last ones of a process.
type gatherer struct {
	slog.Handler
	lines *lineWriter
}

// Handle implements slog.Handler.
func (g *gatherer) Handle(ctx context.Context, r slog.Record) error {
	err := g.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		g.lines.Flush()
	}
	return err
}

// WithAttrs implements slog.Handler.
func (g *gatherer) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &gatherer{g.Handler.WithAttrs(attrs), g.lines}
}

// WithGroup implements slog.Handler.
func (g *gatherer) WithGroup(name string) slog.Handler {
	return &gatherer{g.Handler.WithGroup(name), g.lines}
}

// How long a line waits for others at most, and how many bytes wait at most.
const (
	lineDelay    = 100 * time.Millisecond
	linesWaiting = 64 << 10
)

// lineWriter writes many lines at once: a write of its own for each costs a request
// more than all of its rules. Nothing is dropped: when the reader of the log is slow,
// requests wait for it as they would otherwise. A process that is killed loses what
// waits.
type lineWriter struct {
	to io.Writer

	mu      sync.Mutex
	waiting []byte

	writing sync.Mutex // taken before mu, so that lines keep their order
	spare   []byte
}

// Write implements io.Writer. Its argument is one line or more.
func (w *lineWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	first := len(w.waiting) == 0
	w.waiting = append(w.waiting, line...)
	full := len(w.waiting) >= linesWaiting
	w.mu.Unlock()
	switch {
	case full:
		w.Flush()
	case first:
		time.AfterFunc(lineDelay, w.Flush)
	}
	return len(line), nil
}

// Flush writes what waits.
func (w *lineWriter) Flush() {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.mu.Lock()
	lines := w.waiting
	w.waiting = w.spare[:0]
	w.mu.Unlock()
	if len(lines) > 0 {
		_, _ = w.to.Write(lines) // there is nobody to tell
	}
	w.spare = lines
}
