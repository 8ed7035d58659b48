package endpoint

import (
	"cmp"
	"context"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/singleflight"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
)

// Where gateways ask, below the issuer.
const (
	ForwardAuthPath = "/api/authz/forward-auth" // Traefik ForwardAuth, Caddy forward_auth
	AuthRequestPath = "/api/authz/auth-request" // nginx auth_request
	ExtAuthzPath    = "/api/authz/ext-authz"    // Envoy ext_authz over HTTP, which appends the path of the request
)

// Gateway lets the gateways in front of services ask whether a request may pass. A
// token passes as it is; a raw key is replaced by a token, so that no service ever
// sees one. All exported fields are required.
type Gateway struct {
	Audience string           // of the tokens that pass: the services behind the gateways
	Trusted  []netip.Prefix   // the networks of gateways; nobody else is answered
	Verifier *bearer.Verifier // of tokens for Audience, with Revocations

	kept    keptTokens
	flights singleflight.Group
}

// mountGateway adds the routes of gateways, if there is a Gateway. They take any
// method: it is that of the request which the gateway asks about.
func (h *Handler) mountGateway(e *echo.Echo, base string) {
	if h.Gateway == nil {
		return
	}
	all(e, base+ForwardAuthPath, h.gate(forwardAuth, (*oauth.Error).SetHeaders))
	all(e, base+AuthRequestPath, h.gate(authRequest, setAuthRequestHeaders))
	all(e, base+ExtAuthzPath+"/*", h.gate(extAuthz, (*oauth.Error).SetHeaders))
}

// gate answers gateways of one kind: read understands their requests, and
// setHeaders writes the header of a refusal, and may change its status.
func (h *Handler) gate(read func(*http.Request) (question, error), setHeaders func(*oauth.Error, http.Header, string)) echo.HandlerFunc {
	return func(c echo.Context) error {
		noStore(c)
		token, claims, err := h.pass(c, read)
		if err == nil {
			h.Note(c, slog.String("client_id", claims.ClientID), slog.String("workspace_id", claims.WorkspaceID))
			setIdentity(c.Response().Header(), token, claims)
			return c.NoContent(http.StatusOK)
		}
		wire := h.gatewayError(c, err)
		setHeaders(wire, c.Response().Header(), realm)
		return writeProblem(c, wire)
	}
}

// pass decides about one request, and returns the token that goes on to the service
// in place of what the client has sent.
func (h *Handler) pass(c echo.Context, read func(*http.Request) (question, error)) (string, *oauth.Claims, error) {
	r := c.Request()
	if err := h.Gateway.checkPeer(r); err != nil {
		return "", nil, err
	}
	asked, err := read(r)
	if err != nil {
		return "", nil, err
	}
	if err := h.checkClient(r, asked); err != nil {
		return "", nil, err
	}
	token, claims, err := h.presentedToken(c)
	if err != nil {
		return "", nil, err
	}
	return token, claims, asked.checkClaims(claims)
}

// presentedToken is the token that the client has sent, or one for the key that it
// has sent, once it is known to be good.
func (h *Handler) presentedToken(c echo.Context) (string, *oauth.Claims, error) {
	credential, err := grant.Presented(c.Request().Header)
	if err != nil {
		return "", nil, err
	}
	if !strings.Contains(credential, ".") {
		return h.keyToken(c, credential)
	}
	claims, err := h.passing(c.Request().Context(), credential)
	return credential, claims, err
}

// passing checks a token for the services behind the gateways. Errors wrap
// bearer.ErrInvalid, or keys.ErrUnavailable when it cannot be known.
func (h *Handler) passing(ctx context.Context, token string) (*oauth.Claims, error) {
	claims, err := h.Gateway.Verifier.Verify(ctx, token)
	return claims, orUnavailable(err)
}

// identityHeaders are what a service may rely on behind a gateway. Every answer that
// lets a request pass sets all of them, so that none of the client's is left
// wherever a gateway takes them over.
var identityHeaders = []string{
	echo.HeaderAuthorization, "X-Auth-Workspace", "X-Auth-Workspace-Id", "X-Auth-Subject", "X-Auth-Key-Id", "X-Auth-Scope", "X-Auth-Expires",
}

// removedHeaders tells Envoy what it has to take out of the request besides.
const removedHeaders = "X-Envoy-Auth-Headers-To-Remove"

func setIdentity(header http.Header, token string, claims *oauth.Claims) {
	for i, value := range []string{
		"Bearer " + token, claims.Workspace, claims.WorkspaceID, claims.Subject, claims.ClientID, claims.Scope.String(),
		strconv.FormatInt(claims.Expiry, 10),
	} {
		header.Set(identityHeaders[i], value)
	}
	header.Set(removedHeaders, "x-api-key")
}

// gatewayError is what is told about a request that does not pass, and notes it.
func (h *Handler) gatewayError(c echo.Context, err error) *oauth.Error {
	wire := grant.ResourceError(err)
	if wire.Code == oauth.InvalidTarget { // the client has not asked for one
		wire = oauth.TopicAudienceNotGranted.Errorf("This API key may not be used here: it lacks the audience %s.", h.Gateway.Audience).WithStatus(http.StatusForbidden)
	}
	if h.Grant.Format.QuotedIn(wire.Description) {
		wire.Description = "A header holds a secret where none belongs: check how your variables are assigned."
	}
	if wire.Status >= http.StatusInternalServerError && c.Request().Context().Err() == nil {
		h.Log.ErrorContext(c.Request().Context(), "a gateway's question failed", "error", err)
	}
	wire = wire.Explained(h.Issuer)
	h.Note(c, slog.String("error", cmp.Or(string(wire.Code), string(wire.Topic))))
	return wire
}

// StatusHeader tells nginx the status that a refusal would have, if nginx took it.
const StatusHeader = "X-Auth-Status"

// setAuthRequestHeaders is for nginx, which takes 401 and 403, and makes 500 of every
// other status of a refusal. What it would be goes into a header.
func setAuthRequestHeaders(wire *oauth.Error, header http.Header, realm string) {
	wire.SetHeaders(header, realm)
	header.Set(StatusHeader, strconv.Itoa(wire.Status))
	if wire.Status != http.StatusUnauthorized {
		wire.Status = http.StatusForbidden
	}
}

// checkPeer refuses whoever is no gateway: all that it says about a request of
// somebody else would be an invention.
func (g *Gateway) checkPeer(r *http.Request) error {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // of no peer that is an address: in no network
	address := peer.Addr().Unmap().WithZone("")
	if slices.ContainsFunc(g.Trusted, func(p netip.Prefix) bool { return p.Contains(address) }) {
		return nil
	}
	return oauth.TopicGatewayNotUnderstood.Errorf("Only gateways may ask this, and %s is none: add the gateway's network to http.trusted_proxies.", address)
}

// checkClient refuses what no gateway could clean: a header that some service takes
// for one of identityHeaders though it is spelled in another way, and a secret that
// is in the URL, where the service would see it.
func (h *Handler) checkClient(r *http.Request, asked question) error {
	for name := range r.Header {
		hyphened := strings.Map(hyphen, name)
		if hyphened == name {
			continue
		}
		if meant := http.CanonicalHeaderKey(hyphened); meant == apiKeyHeader || slices.Contains(identityHeaders, meant) {
			return oauth.Errorf(oauth.InvalidRequest, "There is a header that spells %s with underscores or the like, which some services take for it: leave it out.", meant)
		}
	}
	if holdsSecret(h.Grant.Format, asked.url) {
		return oauth.Errorf(oauth.InvalidRequest, "The URL holds the secret of an API key, and may have been logged on the way: rotate the key, and send its secret as Authorization: Bearer.")
	}
	return nil
}

// hyphen takes the underscores, dots and other marks in the name of a header for
// hyphens, as services do that make a variable of each header.
func hyphen(r rune) rune {
	if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
		return '-'
	}
	return r
}

const apiKeyHeader = "X-Api-Key"

// holdsSecret reports whether a word of a URL is a whole secret of ours, also if it is
// percent-encoded, or was once more by who built the URL. Names that only begin like one
// are none.
func holdsSecret(format *keys.Format, address string) bool {
	address = decoded(decoded(address))
	words := strings.FieldsFunc(address, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
	return slices.ContainsFunc(words, func(word string) bool {
		_, err := format.ParseSecret(word)
		return err == nil
	})
}

// escape is a percent-encoded byte. What looks like half of one is left as it is.
var escape = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

func decoded(text string) string {
	return escape.ReplaceAllStringFunc(text, func(e string) string {
		b, _ := hex.DecodeString(e[1:])
		return string(b)
	})
}
