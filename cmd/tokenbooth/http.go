package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
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
// first: what the caller adds, a request ID, one log line, a panic's end.
func newEcho(config *Config, log *slog.Logger, m *metrics, outer ...echo.MiddlewareFunc) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = clientAddress(config)
	e.HTTPErrorHandler = func(err error, c echo.Context) { writeHTTPError(config.Issuer, log, err, c) }
	around := slices.Concat(outer, []echo.MiddlewareFunc{requestID, accessLog(log, m), recovery(log)})
	e.Use(once(around))
	return e
}

// once is several middlewares as one, put together now: echo puts together those that
// it is given for each request. No other may be added to the same router, since the
// innermost goes on with the handler of the route itself.
func once(around []echo.MiddlewareFunc) echo.MiddlewareFunc {
	handler := func(c echo.Context) error { return c.Handler()(c) }
	for _, m := range slices.Backward(around) {
		handler = m(handler)
	}
	return func(echo.HandlerFunc) echo.HandlerFunc { return handler }
}

func recovery(log *slog.Logger) echo.MiddlewareFunc {
	return middleware.RecoverWithConfig(middleware.RecoverConfig{
		LogErrorFunc: func(c echo.Context, err error, stack []byte) error {
			log.Error("panic", "error", err, "request_id", c.Response().Header().Get(requestIDHeader), "stack", string(stack))
			return err
		},
	})
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
			id = newRequestID()
		}
		header := c.Response().Header()
		header[requestIDHeader] = []string{id}
		header[echo.HeaderXContentTypeOptions] = noSniff
		return next(c)
	}
}

// noSniff is shared by all answers: a header's values are replaced, never changed.
var noSniff = []string{"nosniff"}

// newRequestID is "req_" and what rand.Text makes, without copying that.
func newRequestID() string {
	const prefix, alphabet = "req_", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	var id [len(prefix) + 26]byte
	random := id[copy(id[:], prefix):]
	_, _ = rand.Read(random) // never fails
	for i := range random {
		random[i] = alphabet[random[i]%32] // as likely as any other, for 32 divides 256
	}
	return string(id[:])
}

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
