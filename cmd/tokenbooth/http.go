package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"regexp"
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

// inboundID is the form of request IDs that are taken over from a caller.
var inboundID = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)

// requestID gives every answer a Request-Id: the caller's X-Request-Id if it has
// a sane form, else a new one.
func requestID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !inboundID.MatchString(id) {
			id = "req_" + rand.Text()
		}
		header := c.Response().Header()
		header.Set(requestIDHeader, id)
		header.Set(echo.HeaderXContentTypeOptions, "nosniff")
		return next(c)
	}
}

const notesKey = "log.notes"

// note attaches facts to the request's log line.
func note(c echo.Context, attrs ...slog.Attr) {
	notes, _ := c.Get(notesKey).([]slog.Attr)
	c.Set(notesKey, append(notes, attrs...))
}

// accessLog writes one line a request. It names the route and never the URL, in
// which someone may have put a secret.
func accessLog(log *slog.Logger, m *metrics) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			began := time.Now()
			if err := next(c); err != nil {
				c.Error(err)
			}
			took := time.Since(began)
			route := c.Path()
			if route == "" {
				route = "none"
			}
			m.observeRequest(route, c.Response().Status, took)
			notes, _ := c.Get(notesKey).([]slog.Attr)
			log.LogAttrs(c.Request().Context(), slog.LevelInfo, "request", append([]slog.Attr{
				slog.String("method", knownMethod(c.Request().Method)),
				slog.String("route", route),
				slog.Int("status", c.Response().Status),
				slog.Float64("took_ms", float64(took.Microseconds())/1000),
				slog.String("address", c.RealIP()),
				slog.String("request_id", c.Response().Header().Get(requestIDHeader)),
			}, notes...)...)
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
