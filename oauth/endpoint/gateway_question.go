package endpoint

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// question is what a gateway asks: whether a request for that URL may pass, and what
// its token has to hold. The path decides nothing, since each gateway and each
// service has its own idea of when two paths are the same; the gateway asks on the
// routes that are guarded, with what they need.
type question struct {
	url       string      // as the gateway tells it; it is the client's
	scope     oauth.Scope // all of it is needed
	workspace string      // the slug or the ID of the only one whose tokens pass; empty: any
}

// notUnderstood refuses a gateway that does not ask as it should. Its status is one
// that every gateway takes.
func notUnderstood(format string, args ...any) error {
	return oauth.TopicGatewayNotUnderstood.Errorf(format, args...)
}

// forwardAuth reads the question of Traefik's ForwardAuth and Caddy's forward_auth.
func forwardAuth(r *http.Request) (question, error) {
	return describedBy(r, "X-Forwarded-Method", "X-Forwarded-Uri")
}

// authRequest reads the question of nginx's auth_request.
func authRequest(r *http.Request) (question, error) {
	return describedBy(r, "X-Original-Method", "X-Original-Url")
}

// describedBy reads a question whose request is described by two headers. Each has
// to be there once: a second one is the client's, which the gateway has let through.
func describedBy(r *http.Request, method, address string) (question, error) {
	for _, name := range []string{method, address} {
		if values := r.Header.Values(name); len(values) != 1 || values[0] == "" {
			return question{}, notUnderstood("The gateway has to send %s once, with what it knows of the request: see the configurations in deploy/gateways.", name)
		}
	}
	if err := checkForwardedFor(r); err != nil {
		return question{}, err
	}
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return question{}, notUnderstood("The query of the gateway's request is not well-formed: use scope and workspace, percent-encoded.")
	}
	for _, p := range query {
		if p.name != "scope" && p.name != "workspace" {
			return question{}, notUnderstood("The gateway's request has a parameter that is neither scope nor workspace: what it means to demand cannot be known.")
		}
	}
	q := question{url: r.Header.Get(address)}
	return q.demanding(query.all("scope"), query.all("workspace"))
}

// Envoy appends path and query of the client's request to the address, so what is
// needed is in headers that Envoy adds (authorization_request.headers_to_add). A
// client that sends them itself only demands more.
const (
	needScopeHeader     = "X-Auth-Need-Scope"
	needWorkspaceHeader = "X-Auth-Need-Workspace"
)

// extAuthz reads the question of Envoy's ext_authz.
func extAuthz(r *http.Request) (question, error) {
	if err := checkForwardedFor(r); err != nil {
		return question{}, err
	}
	q := question{url: r.RequestURI}
	return q.demanding(r.Header.Values(needScopeHeader), r.Header.Values(needWorkspaceHeader))
}

// checkForwardedFor makes sure that the gateway tells whose request it is: keys may
// be bound to networks, and the gateway's own address must not count for them, as it
// would where a single hop is no address.
func checkForwardedFor(r *http.Request) error {
	for hop := range strings.SplitSeq(strings.Join(r.Header.Values(echo.HeaderXForwardedFor), ","), ",") {
		if address, err := netip.ParseAddr(strings.TrimSpace(hop)); err != nil || address.Zone() != "" {
			return notUnderstood("The gateway has to send X-Forwarded-For with addresses alone, without ports or zones, and that of its client last.")
		}
	}
	return nil
}

// demanding adds what is needed. What was meant and is not there would let everybody
// pass, so a parameter without a value is refused.
func (q question) demanding(scopes, workspaces []string) (question, error) {
	for _, text := range scopes {
		scope, err := oauth.ParseScope(text)
		if err != nil || len(scope) == 0 {
			return q, notUnderstood("A scope that the gateway demands is empty or malformed: use scope=collectors:read, several times if need be.")
		}
		q.scope = q.scope.Union(scope)
	}
	switch {
	case len(workspaces) == 0:
		return q, nil
	case len(workspaces) > 1 || workspaces[0] == "":
		return q, notUnderstood("The gateway has to demand one workspace, by its slug or its ID, or none.")
	}
	q.workspace = workspaces[0]
	return q, nil
}

// checkClaims checks that a good token holds what is needed (RFC 6750 §3.1).
func (q question) checkClaims(claims *oauth.Claims) error {
	if q.workspace != "" && q.workspace != claims.Workspace && q.workspace != claims.WorkspaceID {
		return oauth.Errorf(oauth.InsufficientScope, "This address is for another workspace: use a key of that one.")
	}
	if missing := q.scope.Minus(claims.Scope); len(missing) > 0 {
		e := oauth.Errorf(oauth.InsufficientScope, "This address needs %s as well: ask for a token with that scope, or for a key that holds it.", missing)
		e.Scope = q.scope
		return e
	}
	return nil
}
