package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// maxNext bounds an address to come back to, which may be kept in a cookie, in bytes.
const maxNext = 1024

// maxForm bounds the body of a request, in bytes.
const maxForm = 256 << 10

// request is one request: who asks, and about what.
type request struct {
	echo.Context
	h       *Handler
	ctx     context.Context // belongs to the session: see identity.Sessions.Load
	session identity.Session
	me      manage.Profile // zero unless signed in
	by      manage.Caller
	form    url.Values     // of a POST; never nil after read
	proven  workspace.Time // since when the password that signs in is known to be right; zero: now

	ws     workspace.Workspace // that the path names; zero: it names none
	role   workspace.Role      // of the person there; empty: they see it as an organization admin
	rights oauth.Scope         // what they hold there, or in the installation

	denial manage.Denial // what the use case denied
}

// recognise reads the session and whose it is. Nobody is no error.
func (r *request) recognise() (err error) {
	var found bool
	r.ctx, r.session, found, err = r.h.Sessions.Load(r.Request())
	if err != nil || !found {
		return err
	}
	r.by = manage.User(r.session.UserID).From(r.origin()).Proven(r.session.CreatedAt.Time).Denying(&r.denial)
	if r.me, err = r.h.Manager.Me(r.ctx, r.by); errors.Is(err, workspace.ErrForbidden) || errors.Is(err, workspace.ErrNotFound) {
		r.me, r.by = manage.Profile{}, manage.Caller{} // disabled or deleted a moment ago
		return nil
	}
	return err
}

// origin is where a request comes from, as the server was told to see it.
func (r *request) origin() manage.Origin {
	return manage.Origin{Address: r.RealIP(), Agent: r.Request().UserAgent(), RequestID: r.requestID()}
}

func (r *request) signedIn() bool { return r.me.ID != "" }

func (r *request) requestID() string { return r.Response().Header().Get("Request-Id") }

// read takes in the form and finds the workspace of the path.
func (r *request) read() error {
	r.form = url.Values{}
	if r.Request().Method == http.MethodPost {
		r.Request().Body = http.MaxBytesReader(r.Response(), r.Request().Body, maxForm)
		if err := r.Request().ParseForm(); err != nil {
			return errForm
		}
		r.form = r.Request().PostForm
	}
	for _, name := range r.ParamNames() {
		if !plain(r.Param(name)) {
			return workspace.ErrNotFound
		}
	}
	if !r.signedIn() {
		return nil
	}
	return r.findWorkspace()
}

// findWorkspace reads the workspace that the path names, and what the person holds
// in it, or without one in the installation.
func (r *request) findWorkspace() (err error) {
	if named := r.Param("ws"); named != "" {
		if r.ws, err = r.h.Manager.Workspace(r.ctx, r.by, named); err != nil {
			return err
		}
		for _, m := range r.me.Memberships {
			if m.ID == r.ws.ID {
				r.role = m.Role
			}
		}
	}
	r.rights, err = r.h.Manager.Rights(r.ctx, r.by, r.ws.ID)
	return err
}

// plain reports whether text could be an ID or a name.
func plain(text string) bool {
	return text != "" && len(text) <= 200 && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// can reports whether the person holds a right where the page is. It is for what to
// offer; what is done, the use case decides.
func (r *request) can(right string) bool { return r.rights.Has(right) }

// path is an address below the console's base, of parts that are escaped.
func (h *Handler) path(parts ...string) string {
	var b strings.Builder
	b.WriteString(h.base)
	for _, part := range parts {
		b.WriteString("/" + url.PathEscape(part))
	}
	if len(parts) == 0 {
		b.WriteString("/")
	}
	return b.String()
}

// here is an address in the workspace of the page.
func (r *request) here(parts ...string) string {
	return r.h.path(append([]string{"w", r.ws.Slug}, parts...)...)
}

// text reads a field without the space around it.
func (r *request) text(name string) string { return strings.TrimSpace(r.form.Get(name)) }

// toSignIn sends somebody to sign in and then back.
func (r *request) toSignIn() page {
	to := r.h.path("sign-in")
	if r.Request().Method == http.MethodGet && r.Request().URL.Path != r.h.path() {
		to += "?" + url.Values{"next": {r.Request().URL.RequestURI()}}.Encode()
	}
	return seeOther(to)
}

// next is where to go after signing in: an address of the console and nothing else,
// so that a link to the sign-in page cannot send anybody elsewhere.
func (h *Handler) next(text string) string {
	u, err := url.Parse(text)
	if err != nil || len(text) > maxNext || slices.Contains(strings.Split(u.Path, "/"), "..") || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" ||
		!strings.HasPrefix(text, h.base+"/") || strings.HasPrefix(text, "//") || strings.ContainsAny(text, "\\\r\n\t") ||
		strings.Contains(u.Path, "//") {
		return h.path()
	}
	return text
}
