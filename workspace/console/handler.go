package console

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// Handler answers the console. All fields are required, but where it says so.
type Handler struct {
	Issuer   string // an URL without a trailing slash; the console is below its path
	Manager  *manage.Manager
	Sessions *identity.Sessions
	Log      *slog.Logger
	Demo     *Demo // nil: there is none

	Provider *identity.Provider // to sign in with; nil: there is none
	Mapping  identity.Mapping   // of its groups

	// Note attaches facts about a request to its log line.
	Note func(echo.Context, ...slog.Attr)

	base     string // path of the issuer; empty or without a trailing slash
	cross    *http.CrossOriginProtection
	assets   *assets
	pages    pages
	passkeys *identity.RelyingParty // nil: the issuer has no name
	attempts attempts               // with passwords
	exports  chan struct{}          // holds those that run
}

// operation answers one method of one route.
type operation func(*request) (page, error)

// access says who may ask at all. What they may do is for the use cases.
type access int

const (
	signedIn access = iota // anybody else is sent to sign in
	anybody
)

// route is one method of one path below the console's base.
type route struct {
	method, path string
	run          operation
	access       access
}

// Mount adds the routes, below the issuer's path. Pages that are asked for and not
// there are the console's to answer too.
func (h *Handler) Mount(e *echo.Echo) error {
	issuer, err := url.Parse(h.Issuer)
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	h.base = issuer.Path
	h.cross = http.NewCrossOriginProtection()
	// Behind a proxy that changes Host, a browser still says what it sees.
	if err := h.cross.AddTrustedOrigin(issuer.Scheme + "://" + issuer.Host); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if h.passkeys, err = identity.NewRelyingParty(h.Issuer); err != nil && !errors.Is(err, identity.ErrAddress) {
		return err
	}
	h.exports = make(chan struct{}, maxExports)
	if h.assets, err = loadAssets(); err != nil {
		return err
	}
	if h.pages, err = h.loadPages(); err != nil {
		return err
	}
	paths, byPath := []string{}, map[string][]route{}
	for _, r := range h.routes() {
		if byPath[r.path] == nil {
			paths = append(paths, r.path)
		}
		byPath[r.path] = append(byPath[r.path], r)
	}
	for _, path := range paths {
		h.all(e, h.base+path, h.methods(byPath[path]))
	}
	h.all(e, h.base+assetsPath+":hash/:name", h.serveAsset)
	others := e.HTTPErrorHandler
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if !errors.Is(err, echo.ErrNotFound) || !h.looksForPage(c) {
			others(err, c)
			return
		}
		_ = h.serve(c, route{access: anybody, run: func(*request) (page, error) { return page{}, errNothingHere }}) // the client is gone if this fails
	}
	return nil
}

// all routes every method, also those that echo does not know.
func (h *Handler) all(e *echo.Echo, path string, handler echo.HandlerFunc) {
	e.Any(path, handler)
	e.RouteNotFound(path, handler)
}

// methods chooses among the routes of one path; HEAD is GET without a body. Other
// methods get 405 and Allow (RFC 9110 §15.5.6).
func (h *Handler) methods(routes []route) echo.HandlerFunc {
	var allowed []string
	for _, r := range routes {
		allowed = append(allowed, r.method)
		if r.method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	allow := strings.Join(allowed, ", ")
	return func(c echo.Context) error {
		method := c.Request().Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		for _, r := range routes {
			if r.method == method {
				return h.serve(c, r)
			}
		}
		c.Response().Header().Set(echo.HeaderAllow, allow)
		return h.fail(&request{Context: c, h: h}, errMethod)
	}
}

// looksForPage reports whether a request that nobody answers is one for a page:
// people get one that says so, programs what they get everywhere.
func (h *Handler) looksForPage(c echo.Context) bool {
	path, below := strings.CutPrefix(c.Request().URL.Path, h.base+"/")
	return below && !c.Response().Committed && !strings.HasPrefix(path, "api/") && !strings.HasPrefix(path, ".well-known/") &&
		strings.Contains(c.Request().Header.Get(echo.HeaderAccept), echo.MIMETextHTML)
}

// serve runs one operation from the cookie to the answer.
func (h *Handler) serve(c echo.Context, route route) (err error) {
	secure(c.Response().Header())
	r := &request{Context: c, h: h}
	defer func() {
		if cause := recover(); cause == http.ErrAbortHandler { //nolint:errorlint // a panic with it is its only use
			panic(cause)
		} else if cause != nil {
			h.Log.Error("panic", "error", cause, "request_id", r.requestID(), "stack", string(debug.Stack()))
			err = h.fail(r, errPanic)
		}
	}()
	if err := h.cross.Check(c.Request()); err != nil {
		return h.fail(r, errCrossOrigin)
	}
	if err := r.recognise(); err != nil {
		return h.fail(r, err)
	}
	if route.access == signedIn && !r.signedIn() {
		return h.write(r, r.toSignIn())
	}
	if err := r.read(); err != nil {
		return h.fail(r, err)
	}
	p, err := route.run(r)
	if errors.Is(err, manage.ErrProveAgain) {
		p, err = r.proveAgain(), nil
	}
	if err != nil {
		return h.fail(r, err)
	}
	return h.write(r, p)
}

// The Content-Security-Policy of every answer: nothing inline, nothing from
// elsewhere, and no script may turn text into HTML.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// secure sets what every answer of the console says to browsers.
func secure(header http.Header) {
	for name, value := range map[string]string{
		"Content-Security-Policy":    contentSecurityPolicy,
		"Referrer-Policy":            "no-referrer",
		"X-Content-Type-Options":     "nosniff",
		"Cross-Origin-Opener-Policy": "same-origin",
		"Permissions-Policy":         "clipboard-write=(self)",
		"Strict-Transport-Security":  "max-age=31536000", // browsers heed it over TLS only (RFC 6797 §8.1)
		"Cache-Control":              "no-store",
	} {
		header.Set(name, value)
	}
}
