package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// newHTTPServer bounds what a slow or greedy client can hold.
func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // peers that break off, bad TLS
	}
}

// newEcho makes the public router with what happens to every request, outermost
// first: a request ID, one log line, a panic's end.
func newEcho(config *Config, log *slog.Logger, m *metrics) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = clientAddress(config)
	e.HTTPErrorHandler = func(err error, c echo.Context) { writeHTTPError(config.Issuer, log, err, c) }
	e.Use(requestID, accessLog(log, m), middleware.RecoverWithConfig(middleware.RecoverConfig{
		LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
			log.Error("panic", "error", err, "request_id", c.Response().Header().Get(requestIDHeader), "stack", string(stack))
			return err
		},
	}))
	return e
}

// clientAddress tells where a request comes from: the peer, or behind trusted
// proxies the rightmost hop that is none of them. Nothing else is believed.
func clientAddress(config *Config) echo.IPExtractor {
	if len(config.HTTP.TrustedProxies) == 0 {
		return echo.ExtractIPDirect()
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, p := range config.HTTP.TrustedProxies {
		p = p.Masked()
		options = append(options, echo.TrustIPRange(&net.IPNet{
			IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
		}))
	}
	return echo.ExtractIPFromXFFHeader(options...)
}

const requestIDHeader = "Request-Id"

// requestID gives every answer a Request-Id: the caller's X-Request-Id if it has
// a sane form, else a new one.
func requestID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !isRequestID(id) {
			id = "req_" + rand.Text()
		}
		header := c.Response().Header()
		header.Set(requestIDHeader, id)
		header[echo.HeaderXContentTypeOptions] = noSniff
		return next(c)
	}
}

// noSniff is shared by all answers: a header's values are replaced, never changed.
var noSniff = []string{"nosniff"}

// isRequestID reports whether a caller's request ID is taken over: 8 to 64 letters,
// digits, dots, hyphens and underscores.
func isRequestID(id string) bool {
	if len(id) < 8 || len(id) > 64 {
		return false
	}
	return strings.IndexFunc(id, func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-'
	}) < 0
}

const notesKey = "log.notes"

// notes are facts about a request, for its log line. They are used again for another
// request: a line has many, and there is one for each exchange.
type notes struct{ attrs []slog.Attr }

var spareNotes = sync.Pool{New: func() any { return &notes{make([]slog.Attr, 0, 16)} }}

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
			c.Set(notesKey, n)
			if err := next(c); err != nil {
				c.Error(err)
			}
			took := time.Since(began)
			route := c.Path()
			if route == "" {
				route = "none"
			}
			m.observeRequest(route, c.Response().Status, took)
			note(c,
				slog.String("method", knownMethod(c.Request().Method)),
				slog.String("route", route),
				slog.Int("status", c.Response().Status),
				slog.Int64("took_us", took.Microseconds()),
				slog.String("address", c.RealIP()),
				slog.String("request_id", c.Response().Header().Get(requestIDHeader)),
			)
			log.LogAttrs(c.Request().Context(), slog.LevelInfo, "request", n.attrs...)
			clear(n.attrs)
			n.attrs = n.attrs[:0]
			spareNotes.Put(n)
			return nil
		}
	}
}

// knownMethod keeps what a client invents out of the log.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions, http.MethodTrace, http.MethodConnect:
		return method
	}
	return "other"
}

// httpDetails are the sentences for what the router itself refuses.
var httpDetails = map[int]string{
	http.StatusNotFound:         "There is nothing at this address.",
	http.StatusMethodNotAllowed: "This address does not take this method.",
}

// writeHTTPError answers what no handler answered: an unknown route or method, a
// panic, a failed write. The page that explains it is below the issuer.
func writeHTTPError(issuer string, log *slog.Logger, err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	wire := &oauth.Error{Status: http.StatusInternalServerError}
	var known *echo.HTTPError
	if errors.As(err, &known) {
		wire.Status = known.Code
	}
	id := c.Response().Header().Get(requestIDHeader)
	if wire.Status >= http.StatusInternalServerError {
		log.Error("request failed", "error", err, "request_id", id)
	} else {
		wire.Description = cmp.Or(httpDetails[wire.Status], http.StatusText(wire.Status)+".")
	}
	c.Response().Header().Set(echo.HeaderContentType, oauth.ProblemType)
	if c.Request().Method == http.MethodHead {
		_ = c.NoContent(wire.Status) // the client is gone if this fails
		return
	}
	_ = c.JSON(wire.Status, wire.Explained(issuer).Problem(id)) // the same
}
