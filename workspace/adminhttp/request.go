package adminhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 64 << 10

// request is one request, authenticated and with its query read.
type request struct {
	echo.Context
	h     *Handler
	by    manage.Caller
	ws    workspace.ID // that the path names; empty: it names none
	query query
	raw   []byte // the body

	denial manage.Denial // what the operation denied
}

// newRequest recognises the caller, reads the query and the body, and finds the
// workspace. What does not depend on what exists is refused first, so that
// answers tell nothing about other workspaces.
func (h *Handler) newRequest(c echo.Context, r route) (*request, error) {
	q, err := readQuery(c.Request().URL.RawQuery, r.params)
	if err != nil {
		return nil, err
	}
	by, err := h.caller(c)
	if err != nil {
		return nil, err
	}
	request := &request{Context: c, h: h, query: q}
	if request.raw, err = readBody(c.Request(), r.body); err != nil {
		return nil, err
	}
	if by, err = conditions(by, r, c.Request(), request.raw); err != nil {
		return nil, err
	}
	request.by = by.Denying(&request.denial)
	return request, request.findWorkspace()
}

// findWorkspace resolves the workspace of the path. Whether it exists for the
// caller is decided by the use case, so one that does not is left as it was named:
// the rest of the request is judged the same way in both cases.
func (r *request) findWorkspace() error {
	for _, name := range r.ParamNames() {
		if r.Param(name) == "" || !plain(r.Param(name)) {
			return workspace.ErrNotFound // no ID or name looks like that; nothing is not the organization
		}
	}
	if named := r.Param("ws"); named != "" {
		return r.resolve(named)
	}
	return nil
}

func (r *request) resolve(named string) (err error) {
	if r.ws, err = r.h.Manager.ResolveWorkspace(r.ctx(), named); errors.Is(err, workspace.ErrNotFound) {
		r.ws, err = workspace.ID(named), nil
	}
	return err
}

func (r *request) ctx() context.Context { return r.Request().Context() }

// plain reports whether text could be an ID or a name.
func plain(text string) bool {
	return len(text) <= 200 && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// caller recognises who asks: by a token for the issuer's own audience alone, so
// that no other service can replay a caller's token here, or by a raw key.
func (h *Handler) caller(c echo.Context) (manage.Caller, error) {
	credential, err := grant.Presented(c.Request().Header)
	if err != nil {
		return manage.Caller{}, err
	}
	from := h.origin(c)
	by, err := h.recognise(c, credential, from)
	if err != nil {
		return by, err
	}
	return by.From(manage.Origin{Address: from.Address.String(), Agent: from.Agent, RequestID: from.RequestID}), nil
}

func (h *Handler) recognise(c echo.Context, credential string, from grant.Origin) (manage.Caller, error) {
	ctx := c.Request().Context()
	if !strings.Contains(credential, ".") {
		client, err := h.Grant.Direct(ctx, grant.Credentials{Secret: credential}, from)
		if err != nil {
			return manage.Caller{}, err
		}
		h.note(c, string(client.ID), string(client.WorkspaceID))
		oauth.SetRateLimit(c.Response().Header(), client.Quota.Policy(), client.Quota.State())
		return manage.Bearer(client.Key, nil), nil
	}
	claims, err := h.Verifier.Verify(ctx, credential)
	if err != nil {
		return manage.Caller{}, err
	}
	if len(claims.Audience) != 1 {
		return manage.Caller{}, fmt.Errorf("%w: it is good elsewhere too: get one with audience=%s alone", bearer.ErrInvalid, h.Issuer)
	}
	record, err := h.Grant.Standing(ctx, claims)
	if err != nil {
		return manage.Caller{}, err
	}
	h.note(c, claims.ClientID, claims.WorkspaceID)
	return manage.Bearer(record.Key, &claims.Scope), nil
}

func (h *Handler) note(c echo.Context, key, ws string) {
	h.Note(c, slog.String("client_id", key), slog.String("workspace_id", ws))
}

// origin is where a request comes from, as the server was told to see it.
func (h *Handler) origin(c echo.Context) grant.Origin {
	address, err := netip.ParseAddr(c.RealIP())
	if err != nil {
		address = netip.IPv6Unspecified() // a listener without addresses, such as a Unix socket
	}
	return grant.Origin{Address: address.Unmap(), Agent: c.Request().UserAgent(), RequestID: requestID(c)}
}

func requestID(c echo.Context) string { return c.Response().Header().Get("Request-Id") }

// conditions adds the request's own conditions to its caller: If-Match (RFC 9110
// §13.1.1) and Idempotency-Key.
func conditions(by manage.Caller, r route, q *http.Request, body []byte) (manage.Caller, error) {
	if versions := ifMatch(q.Header); versions != nil {
		by = by.If(versions...)
	}
	sent := q.Header.Values("Idempotency-Key")
	if !r.once || len(sent) == 0 {
		return by, nil
	}
	if len(sent) > 1 || sent[0] == "" || len(sent[0]) > 255 || !plain(sent[0][:min(len(sent[0]), 200)]) || !plain(sent[0][min(len(sent[0]), 200):]) {
		return by, oauth.TopicIdempotencyKeyInvalid.Errorf("The Idempotency-Key is not usable: send one of 1 to 255 printable ASCII characters without spaces, such as a UUID.")
	}
	return by.Once(manage.Once{Key: sent[0], Request: q.Method + " " + q.URL.Path + "\n" + string(body)}), nil
}

// ifMatch reads the versions of If-Match; nil means that there is no condition.
// Weak ones match nothing.
func ifMatch(header http.Header) []string {
	text := strings.Join(header.Values("If-Match"), ",")
	if strings.TrimSpace(text) == "" || strings.TrimSpace(text) == "*" {
		return nil
	}
	versions := []string{}
	for tag := range strings.SplitSeq(text, ",") {
		versions = append(versions, strings.Trim(strings.TrimSpace(tag), `"`))
	}
	return versions
}

// readBody reads the body of a request that may have one.
func readBody(q *http.Request, wanted bodyKind) ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(nil, q.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, oauth.TopicBodyTooLarge.Errorf("The body is larger than %d bytes, which is the most that is taken here.", maxBody)
	case err != nil:
		return nil, oauth.TopicRequestMalformed.Errorf("The body breaks off: send it whole.")
	case len(text) == 0 && wanted == required:
		return nil, oauth.TopicRequestMalformed.Errorf("The body is missing: send a JSON object.")
	case len(text) == 0:
		return nil, nil
	case wanted == none:
		return nil, oauth.TopicRequestMalformed.Errorf("This request takes no body: leave it out.")
	}
	media, _, err := mime.ParseMediaType(q.Header.Get("Content-Type"))
	if err != nil || media != "application/json" || q.Header.Get("Content-Encoding") != "" {
		return nil, oauth.TopicMediaTypeUnsupported.Errorf("The body has to be JSON: send Content-Type: application/json, and no Content-Encoding.")
	}
	return text, nil
}

// decode reads the body into a pointer to a struct. Every mistake in it is
// reported at once. Members that are ignored may be anything.
func (r *request) decode(into any, ignored ...string) error {
	if len(r.raw) == 0 {
		return nil
	}
	if r.h.Grant.Format.HasSecret(string(r.raw)) { // it would be kept, shown and announced
		return oauth.TopicValidationFailed.Errorf("A value in the body holds a secret, which belongs in the Authorization header alone: check how your variables are assigned.")
	}
	if !utf8.Valid(r.raw) { // what is not text would be replaced silently
		return oauth.TopicRequestMalformed.Errorf("The body is not valid UTF-8: encode it as that.")
	}
	members, err := oauth.ParseObject(r.raw)
	if err != nil {
		return oauth.TopicRequestMalformed.Errorf("The body has to be one JSON object without repeated members.")
	}
	for _, name := range ignored {
		delete(members, name)
	}
	return invalid(setFields(members, into))
}

// maxParameter bounds a parameter of a URL, in bytes.
const maxParameter = 1000

// query is the parameters of a URL, each of which appears once.
type query map[string]string

// readQuery refuses parameters that are not known or repeated: a filter that is
// ignored lists too much.
func readQuery(raw string, known []string) (query, error) {
	q, err := parseQuery(raw)
	if err != nil {
		return nil, oauth.TopicParameterUnknown.Errorf("The query of the URL cannot be read: encode its parameters as UTF-8.")
	}
	out := query{}
	for name, values := range q {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return nil, oauth.TopicParameterUnknown.Errorf("This address takes no parameters in its URL.")
		case !slices.Contains(known, name):
			return nil, oauth.TopicParameterUnknown.Errorf("The parameter %s is not known here: known are %s.", shorten(name), strings.Join(known, ", "))
		case len(values) > 1:
			return nil, oauth.TopicParameterUnknown.Errorf("The parameter %s appears more than once.", name)
		}
		if len(values[0]) > maxParameter {
			return nil, oauth.TopicParameterUnknown.Errorf("The parameter %s is longer than %d bytes.", name, maxParameter)
		}
		out[name] = values[0]
	}
	return out, nil
}

// shorten keeps what a client invents short in an answer.
func shorten(text string) string { return oauth.Printable(text[:min(len(text), 64)]) }

func writeJSON(c echo.Context, status int, contentType string, answer any) error {
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return writeBody(c, status, contentType, append(body, '\n'))
}

// writeBody writes an answer; to HEAD only its header.
func writeBody(c echo.Context, status int, contentType string, body []byte) error {
	if c.Request().Method == http.MethodHead {
		c.Response().Header().Set(echo.HeaderContentType, contentType)
		return c.NoContent(status)
	}
	return c.Blob(status, contentType, body)
}
