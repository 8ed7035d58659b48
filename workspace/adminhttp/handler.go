package adminhttp

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// Paths of the API's description, below the issuer.
const (
	OpenAPIPath     = "/api/openapi.yaml"
	OpenAPIJSONPath = "/api/openapi.json"
)

// realm is where our credentials are good (RFC 9110 §11.5).
const realm = "tokenbooth"

// Handler answers the management API. All fields are required, but Draining.
type Handler struct {
	Issuer   string // an URL without a trailing slash; it may have a path
	Manager  *manage.Manager
	Grant    *grant.Authenticator
	Verifier *bearer.Verifier // of tokens for the issuer's own audience
	Log      *slog.Logger

	// Note attaches facts about a request to its log line.
	Note func(echo.Context, ...slog.Attr)
	// Draining reports whether requests that wait have to be answered now, since the
	// server shuts down; nil: never.
	Draining func() bool

	waiting atomic.Int32 // requests that wait for verifiers
}

// operation answers one method of one route. What it returns is written when
// there is no error, or only manage.ErrPending.
type operation func(*request) (answer, error)

// answer is what an operation has to say.
type answer struct {
	status   int    // 0: 200, or 204 without a body
	body     any    // nil: none
	version  string // of what the body shows; empty: it has none
	location string // of what was made, below the API's base
	next     string // cursor of the next page
}

// Mount adds the routes, below the issuer's path.
func (h *Handler) Mount(e *echo.Echo) error {
	issuer, err := url.Parse(h.Issuer)
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	base := strings.TrimSuffix(issuer.Path, "/")
	byPath := map[string][]route{}
	for _, r := range h.routes() {
		byPath[r.path] = append(byPath[r.path], r)
	}
	for path, routes := range byPath {
		h.all(e, base+admin.BasePath+path, h.methods(routes))
	}
	h.all(e, base+OpenAPIPath, h.document("application/yaml", func() ([]byte, error) { return OpenAPI(), nil }))
	h.all(e, base+OpenAPIJSONPath, h.document(echo.MIMEApplicationJSON, openAPIJSON))
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
		c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
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
		if method == http.MethodOptions {
			return c.NoContent(http.StatusNoContent)
		}
		return h.refuse(c, oauth.TopicMethodNotAllowed.Errorf("This address takes %s only.", allow))
	}
}

// serve runs one operation from credentials to answer.
func (h *Handler) serve(c echo.Context, r route) error {
	request, err := h.newRequest(c, r)
	if err != nil {
		return h.refuse(c, err)
	}
	a, err := r.run(request)
	if err != nil && !pending(err) {
		return h.refuse(c, err)
	}
	if err != nil {
		// Committed and never lost, but some replica has not confirmed it yet.
		h.Log.WarnContext(c.Request().Context(), "a change is not confirmed by every replica", "error", err)
		a.status = http.StatusAccepted
	}
	tellDenial(c.Response().Header(), request.denial, err)
	return h.write(c, a)
}

func (h *Handler) write(c echo.Context, a answer) error {
	header := c.Response().Header()
	if a.version != "" {
		header.Set("ETag", `"`+a.version+`"`)
	}
	if a.location != "" {
		header.Set(echo.HeaderLocation, h.Issuer+admin.BasePath+a.location)
	}
	if a.next != "" {
		header.Set("Link", h.nextLink(c, a.next))
	}
	switch {
	case a.body == nil && a.status == 0:
		return c.NoContent(http.StatusNoContent)
	case a.body == nil:
		return c.NoContent(a.status)
	case a.status == 0:
		a.status = http.StatusOK
	}
	return writeJSON(c, a.status, echo.MIMEApplicationJSON, a.body)
}

// nextLink is the address of the next page (RFC 8288): this one with the cursor.
func (h *Handler) nextLink(c echo.Context, cursor string) string {
	query := c.Request().URL.Query()
	query.Set("cursor", cursor)
	_, path, _ := strings.Cut(c.Request().URL.EscapedPath(), admin.BasePath)
	return "<" + h.Issuer + admin.BasePath + path + "?" + query.Encode() + `>; rel="next"`
}

// document serves the API's description, which anyone may read.
func (h *Handler) document(contentType string, text func() ([]byte, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		if m := c.Request().Method; m != http.MethodGet && m != http.MethodHead {
			c.Response().Header().Set(echo.HeaderAllow, "GET, HEAD")
			return h.refuse(c, oauth.TopicMethodNotAllowed.Errorf("This address takes GET, HEAD only."))
		}
		body, err := text()
		if err != nil {
			return h.refuse(c, err)
		}
		header := c.Response().Header()
		header.Set(echo.HeaderCacheControl, "public, max-age=300")
		header.Set(echo.HeaderAccessControlAllowOrigin, "*")
		return writeBody(c, http.StatusOK, contentType, body)
	}
}
