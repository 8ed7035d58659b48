package endpoint

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/semaphore"

	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// Paths below the issuer.
const (
	LoginPath      = "/api/login"
	RevokePath     = "/api/revoke"
	IntrospectPath = "/api/introspect"
	JWKSPath       = "/.well-known/jwks.json"
	WhoamiPath     = "/api/v1/whoami"

	openIDPath = "/.well-known/openid-configuration"
	serverPath = "/.well-known/oauth-authorization-server" // before the issuer's path: RFC 8414 §3.1
)

// Handler answers the OAuth endpoints. All fields are required, but Gateway, Closing
// and MaxWaiting.
type Handler struct {
	Issuer    string // an URL without a trailing slash; it may have a path
	Grant     *grant.Issuer
	Policy    *policy.Policy
	Ring      *signing.Ring
	Manager   *manage.Manager
	Verifiers map[string]*bearer.Verifier // of each audience's tokens, by their typ; without Revocations
	Keys      bearer.KeySet               // those that we publish
	// Revocations are what is denied now. A token that is denied already can still be
	// revoked, so they are asked apart.
	Revocations bearer.Revocations
	Feed        *revocation.Publisher
	FeedRing    *signing.Ring // of the keys that sign the feed
	Gateway     *Gateway      // nil: no gateway may ask anything
	JSON        bool          // accept JSON bodies at the token endpoint
	Log         *slog.Logger

	// Note attaches facts about a request to its log line.
	Note func(echo.Context, ...slog.Attr)
	// Count counts exchanges by their outcome.
	Count func(outcome string)

	// Closing is closed when the server is about to end: nobody waits for news of
	// revocations any more. Nil: never.
	Closing <-chan struct{}
	// MaxWaiting is how many requests may wait for them at once; 0: 10 000.
	MaxWaiting int
	waiting    atomic.Int64

	revoking *semaphore.Weighted
}

// Mount adds the routes, below the issuer's path.
func (h *Handler) Mount(e *echo.Echo) error {
	issuer, err := url.Parse(h.Issuer)
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	base := strings.TrimSuffix(issuer.Path, "/")
	h.revoking = semaphore.NewWeighted(maxRevoking)
	all(e, base+LoginPath, h.only(h.token, http.MethodPost))
	all(e, base+RevokePath, h.only(h.revoke, http.MethodPost))
	all(e, base+IntrospectPath, h.only(h.introspect, http.MethodPost))
	all(e, base+JWKSPath, h.only(h.jwks, http.MethodGet, http.MethodHead))
	all(e, base+oauth.FeedPath, h.only(h.feed, http.MethodGet, http.MethodHead))
	all(e, base+oauth.FeedKeysPath, h.only(h.feedKeys, http.MethodGet, http.MethodHead))
	all(e, base+openIDPath, h.only(h.metadata, http.MethodGet, http.MethodHead))
	all(e, serverPath+base, h.only(h.metadata, http.MethodGet, http.MethodHead))
	all(e, base+WhoamiPath, h.only(h.whoami, http.MethodGet, http.MethodHead))
	h.mountGateway(e, base)
	h.mountDocs(e, base)
	return nil
}

// all routes every method, also those that echo does not know.
func all(e *echo.Echo, path string, handler echo.HandlerFunc) {
	e.Any(path, handler)
	e.RouteNotFound(path, handler)
}

// only answers other methods with 405 and Allow (RFC 9110 §15.5.6).
func (h *Handler) only(next echo.HandlerFunc, methods ...string) echo.HandlerFunc {
	allow := strings.Join(methods, ", ")
	return func(c echo.Context) error {
		for _, m := range methods {
			if c.Request().Method == m {
				return next(c)
			}
		}
		header := c.Response().Header()
		header.Set(echo.HeaderAllow, allow)
		header.Set(echo.HeaderCacheControl, "no-store")
		if c.Request().Method == http.MethodOptions {
			return c.NoContent(http.StatusNoContent)
		}
		wire := oauth.Errorf(oauth.InvalidRequest, "This address takes %s only.", allow).WithStatus(http.StatusMethodNotAllowed)
		return writeJSON(c, wire.Status, wire.Explained(h.Issuer))
	}
}

// origin is where a request comes from, as the server was told to see it.
func origin(c echo.Context) grant.Origin {
	address, err := netip.ParseAddr(c.RealIP())
	if err != nil {
		address = netip.IPv6Unspecified() // a listener without addresses, such as a Unix socket
	}
	return grant.Origin{Address: address.Unmap(), Agent: c.Request().UserAgent(), RequestID: c.Response().Header().Get("Request-Id")}
}

// writeJSON writes an answer as one line, which is kind to terminals; to HEAD
// only its header.
func writeJSON(c echo.Context, status int, answer any) error {
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return writeBody(c, status, echo.MIMEApplicationJSON, append(body, '\n'))
}

func writeBody(c echo.Context, status int, contentType string, body []byte) error {
	if c.Request().Method == http.MethodHead {
		c.Response().Header().Set(echo.HeaderContentType, contentType)
		return c.NoContent(status)
	}
	return c.Blob(status, contentType, body)
}

// writePublic writes a document that anyone may read and keep for as long as
// maxAge says (RFC 9111, Fetch §3.2): the same bytes have the same ETag.
func writePublic(c echo.Context, contentType string, maxAge time.Duration, document any) error {
	body, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return writePublicBody(c, contentType, maxAge, body)
}

func writePublicBody(c echo.Context, contentType string, maxAge time.Duration, body []byte) error {
	sum := sha256.Sum256(body)
	return writeTagged(c, contentType, public(maxAge), `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`, body)
}

func public(maxAge time.Duration) string {
	return fmt.Sprintf("public, max-age=%d", int64(maxAge/time.Second))
}

// writeTagged writes what anyone may read, or that it is what the client has.
func writeTagged(c echo.Context, contentType, cacheControl, tag string, body []byte) error {
	header := c.Response().Header()
	header.Set(echo.HeaderCacheControl, cacheControl)
	header.Set(echo.HeaderAccessControlAllowOrigin, "*")
	header.Set("ETag", tag)
	if matches(c.Request().Header.Get("If-None-Match"), tag) {
		return c.NoContent(http.StatusNotModified)
	}
	return writeBody(c, http.StatusOK, contentType, body)
}

// matches compares weakly, as If-None-Match asks (RFC 9110 §13.1.2).
func matches(ifNoneMatch, tag string) bool {
	for candidate := range strings.SplitSeq(ifNoneMatch, ",") {
		candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
		if candidate == tag || candidate == "*" {
			return true
		}
	}
	return false
}
