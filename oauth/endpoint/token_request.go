package endpoint

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
)

// MaxBody is the largest body of a token request, in bytes.
const MaxBody = 8192

// repeatable are the parameters that may appear more than once (RFC 8707 §2).
var repeatable = map[string]bool{"resource": true, "audience": true}

// readTokenRequest reads and checks all that depends on the request alone. Its
// errors are *oauth.Error and never quote a value: it might be a secret in the
// wrong place.
func (h *Handler) readTokenRequest(c echo.Context) (grant.Request, error) {
	r := c.Request()
	parameters, err := h.readParameters(c, h.JSON)
	if err != nil {
		return grant.Request{}, err
	}
	if err := parameters.checkGrantType(); err != nil {
		return grant.Request{}, err
	}
	credentials, err := readCredentials(r.Header.Values(echo.HeaderAuthorization), parameters)
	if err != nil {
		return grant.Request{}, err
	}
	asked, err := parameters.asked()
	if err != nil {
		return grant.Request{}, err
	}
	return grant.Request{Credentials: credentials, Origin: origin(c), Request: asked}, nil
}

// readParameters reads the body: a form, or if it may be that, JSON.
func (h *Handler) readParameters(c echo.Context, orJSON bool) (parameters, error) {
	r := c.Request()
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		if strings.Contains(r.URL.RawQuery, "secret") {
			h.Note(c, slog.Bool("secret_in_url", true))
		}
		return nil, oauth.Errorf(oauth.InvalidRequest, "Parameters belong in the body: nothing is read from the URL (RFC 6749 section 2.3.1). A secret that was in a URL may have been logged on the way: rotate it.")
	}
	if len(r.TransferEncoding) > 0 {
		// A chunked body may also have claimed a length, which is how requests are
		// smuggled past proxies and which net/http does not show: the connection is
		// not used again (RFC 9112 §6.1).
		c.Response().Header().Set(echo.HeaderConnection, "close")
	}
	if coding := r.Header.Get(echo.HeaderContentEncoding); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, oauth.Errorf(oauth.InvalidRequest, "Compressed bodies are not accepted: send the body without Content-Encoding.").WithStatus(http.StatusUnsupportedMediaType)
	}
	mediaType := mediaTypeOf(r.Header.Values(echo.HeaderContentType))
	buffer := takeBuffer()
	defer buffer.release() // what is read from the body is copied
	body, err := readBody(c, buffer)
	if err != nil {
		return nil, err
	}
	switch {
	case mediaType == echo.MIMEApplicationForm:
		return parseForm(string(body))
	case mediaType == echo.MIMEApplicationJSON && orJSON:
		return parseJSON(body)
	case orJSON:
		return nil, oauth.Errorf(oauth.InvalidRequest, "Send the parameters as Content-Type application/x-www-form-urlencoded, or as application/json.")
	}
	return nil, oauth.Errorf(oauth.InvalidRequest, "Send the parameters as Content-Type application/x-www-form-urlencoded.")
}

// mediaTypeOf is what Content-Type says, without parameters; empty: it is missing,
// malformed or there several times. The value that nearly every client sends is not
// taken apart.
func mediaTypeOf(types []string) string {
	if len(types) != 1 {
		return ""
	}
	if types[0] == echo.MIMEApplicationForm {
		return types[0]
	}
	mediaType, _, err := mime.ParseMediaType(types[0])
	if err != nil {
		return ""
	}
	return mediaType
}

// readBody reads the body, into a buffer if its length is known.
func readBody(c echo.Context, into *buffer) ([]byte, error) {
	r := c.Request()
	if r.ContentLength > MaxBody { // before any of it is asked for
		c.Response().Header().Set(echo.HeaderConnection, "close")
		return nil, errTooLarge()
	}
	if r.ContentLength >= 0 { // net/http gives no more than that
		body := into.grow(int(r.ContentLength))
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, errCutOff()
		}
		return body, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, MaxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, errTooLarge()
	}
	if err != nil {
		return nil, errCutOff()
	}
	return body, nil
}

func errCutOff() error {
	return oauth.Errorf(oauth.InvalidRequest, "The body could not be read to its end.")
}

func errTooLarge() error {
	return oauth.Errorf(oauth.InvalidRequest, "The body is larger than %d bytes.", MaxBody).WithStatus(http.StatusRequestEntityTooLarge)
}

// parseForm reads application/x-www-form-urlencoded strictly: a bad escape or a
// parameter that appears twice is an error. Parameters without a value count as omitted
// (RFC 6749 §3.1), though even those may not be repeated, but for resource and audience.
// Errors are *oauth.Error.
func parseForm(body string) (parameters, error) {
	if strings.HasPrefix(body, "{") {
		return nil, oauth.Errorf(oauth.InvalidRequest, "The body looks like JSON and its Content-Type says that it is a form: send Content-Type: application/json.")
	}
	p, err := parseQuery(body)
	if err != nil {
		return nil, oauth.Errorf(oauth.InvalidRequest, "The body is not well-formed application/x-www-form-urlencoded: check the percent-encoding and separate parameters with ampersands.")
	}
	for i := 1; i < len(p); i++ {
		if p[i].name == p[i-1].name && !repeatable[p[i].name] {
			return nil, oauth.Errorf(oauth.InvalidRequest, "A parameter appears more than once: send each once (only resource and audience may be repeated).")
		}
	}
	return slices.DeleteFunc(p, func(p parameter) bool { return p.value == "" }), nil
}

// withValue drops what counts as omitted.
func withValue(list []string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// camelCase is the second JSON dialect that clients in the field send; it has no
// grant type.
var camelCase = map[string]string{"clientId": "client_id", "clientSecret": "client_secret"}

// parseJSON reads the JSON dialects: the parameters of RFC 6749 as members, or
// {"clientId","clientSecret"}. Errors are *oauth.Error.
func parseJSON(body []byte) (parameters, error) {
	members, err := oauth.ParseObject(body)
	if err != nil {
		return nil, oauth.Errorf(oauth.InvalidRequest, "The body is %v: send {'grant_type','client_id','client_secret'} or {'clientId','clientSecret'}.", err)
	}
	var p parameters
	camel, hasGrant := false, false
	for name, value := range members {
		if snake, ok := camelCase[name]; ok {
			if _, both := members[snake]; both {
				return nil, oauth.Errorf(oauth.InvalidRequest, "The body has a parameter both as %s and as %s: send one of them.", name, snake)
			}
			name, camel = snake, true
		}
		list, ok := stringsOf(value, repeatable[name])
		if !ok {
			if known[name] {
				return nil, oauth.Errorf(oauth.InvalidRequest, "The member %s has to be a string.", name)
			}
			continue // unknown parameters are ignored, whatever they hold
		}
		for _, value := range list {
			p = append(p, parameter{name, value})
			hasGrant = hasGrant || name == "grant_type"
		}
	}
	if camel && !hasGrant {
		p = append(p, parameter{"grant_type", oauth.GrantClientCredentials})
	}
	p.sort()
	return p, nil
}

// known are the parameters that have a meaning here.
var known = map[string]bool{
	"grant_type": true, "client_id": true, "client_secret": true, "scope": true, "resource": true, "audience": true,
	"client_assertion": true, "client_assertion_type": true,
}

// stringsOf reads a member: a string, or where it may repeat an array of them.
// Null and the empty string count as omitted.
func stringsOf(value json.RawMessage, several bool) (list []string, ok bool) {
	var one *string
	if json.Unmarshal(value, &one) == nil {
		if one == nil || *one == "" {
			return nil, true
		}
		return []string{*one}, true
	}
	if !several || json.Unmarshal(value, &list) != nil {
		return nil, false
	}
	return withValue(list), true
}

func (p parameters) checkGrantType() error {
	switch p.get("grant_type") {
	case oauth.GrantClientCredentials:
		return nil
	case "":
		return oauth.Errorf(oauth.InvalidRequest, "The parameter grant_type is missing: send grant_type=client_credentials.")
	}
	return oauth.Errorf(oauth.UnsupportedGrantType, "This grant_type is not supported: send grant_type=client_credentials, in lower case.")
}

// readCredentials takes exactly one way of client authentication (RFC 6749
// §2.3): Basic, or client_id and client_secret in the body.
func readCredentials(authorization []string, p parameters) (grant.Credentials, error) {
	assertion := p.get("client_assertion") != "" || p.get("client_assertion_type") != ""
	switch {
	case len(authorization) > 1:
		return grant.Credentials{}, oauth.Errorf(oauth.InvalidRequest, "There is more than one Authorization header: send one.")
	case len(authorization) == 1 && (assertion || p.get("client_secret") != ""):
		return grant.Credentials{}, oauth.Errorf(oauth.InvalidRequest, "The client authenticates in more than one way: use either the Authorization header or the body.")
	case len(authorization) == 1:
		return basicCredentials(authorization[0], p.get("client_id"))
	case assertion:
		return grant.Credentials{}, oauth.Errorf(oauth.InvalidClient, "Client assertions are not supported: send client_id and client_secret.")
	}
	c := grant.Credentials{ID: trimEnd(p.get("client_id")), Secret: trimEnd(p.get("client_secret"))}
	return c, complete(c)
}

func basicCredentials(authorization, bodyID string) (grant.Credentials, error) {
	c, ok := parseBasic(authorization)
	if !ok {
		return c, oauth.Errorf(oauth.InvalidClient, "The Authorization header is not well-formed: send Basic and the base64 of client_id:client_secret, or both parameters in the body.")
	}
	if bodyID != "" && bodyID != c.ID {
		return c, oauth.Errorf(oauth.InvalidRequest, "The client_id in the body is not the one in the Authorization header.")
	}
	return c, complete(c)
}

func complete(c grant.Credentials) error {
	switch {
	case c.ID == "" && c.Secret == "":
		return oauth.Errorf(oauth.InvalidClient, "There are no client credentials: send client_id and client_secret.")
	case c.ID == "":
		return oauth.Errorf(oauth.InvalidClient, "The client_id is missing.")
	case c.Secret == "":
		return oauth.Errorf(oauth.InvalidClient, "The client_secret is missing.")
	}
	return nil
}

// parseBasic reads an Authorization header of the Basic scheme, whose two halves
// are form-encoded (RFC 6749 §2.3.1, RFC 7617 §2).
func parseBasic(authorization string) (c grant.Credentials, ok bool) {
	scheme, encoded, _ := strings.Cut(authorization, " ")
	text, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	if !strings.EqualFold(scheme, "Basic") || err != nil {
		return c, false
	}
	id, secret, ok := strings.Cut(string(text), ":")
	if !ok {
		return c, false
	}
	id, errID := url.QueryUnescape(id)
	secret, errSecret := url.QueryUnescape(secret)
	return grant.Credentials{ID: trimEnd(id), Secret: trimEnd(secret)}, errors.Join(errID, errSecret) == nil
}

// trimEnd drops the line end that `echo` and files leave behind a value.
func trimEnd(s string) string { return strings.TrimRight(s, "\r\n") }

// asked reads what the token shall be narrowed to.
func (p parameters) asked() (policy.Request, error) {
	scope, err := oauth.ParseScope(p.get("scope"))
	if err != nil {
		return policy.Request{}, oauth.Errorf(oauth.InvalidScope, "The parameter scope is malformed: %s.", grant.Sentence(err, oauth.ErrScopeSyntax))
	}
	for _, resource := range p.all("resource") {
		if err := policy.CheckURI(resource); err != nil {
			return policy.Request{}, oauth.Errorf(oauth.InvalidTarget, "The parameter resource: %s.", err)
		}
	}
	return policy.Request{Scope: scope, Audience: p.all("resource", "audience")}, nil
}
