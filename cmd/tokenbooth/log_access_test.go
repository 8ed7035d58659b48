package main

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
)

// The line of a request is byte for byte what slog itself makes of it, in both formats.
func TestLineOfARequest(t *testing.T) {
	attrs := []slog.Attr{
		slog.String("client_id", "tbk_1"), slog.String("method", "POST"), slog.String("route", "/api/login"),
		slog.Int("status", 200), slog.Int64("took_us", 80), slog.Bool("odd", true), slog.String("quote", "a \"b\"\n"),
	}
	withoutTime := regexp.MustCompile(`"?time"?[:=]\S+?[, ]`)
	for _, format := range []string{"json", "text"} {
		config := &Config{}
		config.Log.Format, config.Log.Level = format, "info"
		var ours, theirs bytes.Buffer
		writeLine(t.Context(), newLog(&ours, config), time.Now(), attrs)
		newLog(&theirs, config).LogAttrs(t.Context(), slog.LevelInfo, "request", attrs...)
		got, want := withoutTime.ReplaceAll(ours.Bytes(), nil), withoutTime.ReplaceAll(theirs.Bytes(), nil)
		if !bytes.Equal(got, want) || bytes.Equal(got, ours.Bytes()) {
			t.Errorf("%s:\n%s%s", format, got, want)
		}
		config.Log.Level = "warn"
		ours.Reset()
		if writeLine(t.Context(), newLog(&ours, config), time.Now(), attrs); ours.Len() > 0 {
			t.Errorf("%s: written below its level: %s", format, &ours)
		}
	}
}

func TestNewRequestID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := newRequestID()
		if seen[id] || !regexp.MustCompile(`^req_[A-Z2-7]{26}$`).MatchString(id) || !isRequestID(id) {
			t.Fatal(id)
		}
		seen[id] = true
	}
	if n := testing.AllocsPerRun(100, func() { newRequestID() }); n > 2 {
		t.Errorf("%v objects", n)
	}
}

// What happens to every request costs few objects: the values of its headers and its
// request ID, one of echo's recovery, and the map of its headers. The cheapest of many
// requests is taken: with the race detector pools forget some of what they are given.
func TestCostOfEveryRequest(t *testing.T) {
	config := &Config{}
	config.Log.Format = "json"
	e := newEcho(config, newLog(io.Discard, config), newMetrics(&server{backend: &backend{}}))
	e.POST("/api/login", func(c echo.Context) error {
		note(c, slog.String("client_id", "tbk_1"))
		c.Response().WriteHeader(http.StatusOK)
		return nil
	})
	request := httptest.NewRequest(http.MethodPost, "/api/login", nil)
	serve := func() { e.ServeHTTP(discarded{http.Header{}}, request) }
	fewest := testing.AllocsPerRun(1, serve)
	for range 200 {
		fewest = min(fewest, testing.AllocsPerRun(1, serve))
	}
	if fewest > 5 {
		t.Errorf("%v objects", fewest)
	}
}

// discarded is an answer that nobody reads.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d discarded) WriteHeader(int)             {}
