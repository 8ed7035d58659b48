package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const notesKey = "log.notes"

// notes are the context of a request with facts about it, for its log line. They are
// used again for another request: a line has many facts, and there is one for each
// exchange.
type notes struct {
	echo.Context
	attrs []slog.Attr
}

var spareNotes = sync.Pool{New: func() any { return &notes{attrs: make([]slog.Attr, 0, 16)} }}

// Get implements echo.Context. The notes are found as if they had been stored under
// their key, also by who has wrapped the context once more.
func (n *notes) Get(key string) any {
	if key == notesKey {
		return n
	}
	return n.Context.Get(key)
}

// put clears the notes for another request. Nobody may hold them any more.
func (n *notes) put() {
	clear(n.attrs)
	n.Context, n.attrs = nil, n.attrs[:0]
	spareNotes.Put(n)
}

// note attaches facts to the request's log line.
func note(c echo.Context, attrs ...slog.Attr) {
	if n, ok := c.Get(notesKey).(*notes); ok {
		n.attrs = append(n.attrs, attrs...)
	}
}

// accessLog writes one line a request. It names the route and never the URL, in
// which someone may have put a secret.
func accessLog(log *slog.Logger, m *metrics) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			began := time.Now()
			n := spareNotes.Get().(*notes)
			n.Context = c
			if err := next(n); err != nil {
				c.Error(err)
			}
			ended := time.Now()
			took := ended.Sub(began)
			route := c.Path()
			if route == "" {
				route = "none"
			}
			m.observeRequest(route, c.Response().Status, took)
			n.attrs = append(n.attrs,
				slog.String("method", knownMethod(c.Request().Method)),
				slog.String("route", route),
				slog.Int("status", c.Response().Status),
				slog.Int64("took_us", took.Microseconds()),
				slog.String("address", c.RealIP()),
				slog.String("request_id", c.Response().Header().Get(requestIDHeader)),
			)
			writeLine(c.Request().Context(), log, ended, n.attrs)
			n.put()
			return nil
		}
	}
}

// writeLine is log.LogAttrs for the line of a request, without two things that cost
// each line something. The place in the source, which no handler of ours shows, is not
// looked for; and the attributes go as a group without a name, which handlers write as
// they write its members: a record has room for five, and copies what is beyond.
func writeLine(ctx context.Context, log *slog.Logger, at time.Time, attrs []slog.Attr) {
	if !log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	line := slog.NewRecord(at, slog.LevelInfo, "request", 0)
	line.AddAttrs(slog.Attr{Value: slog.GroupValue(attrs...)})
	_ = log.Handler().Handle(ctx, line) // there is nobody to tell
}
