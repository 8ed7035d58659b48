package console

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// page is what an operation shows: a template with its data, another content, or
// the way to another page.
type page struct {
	status   int    // 0: 200
	template string // of templates/, without its ending
	title    string
	section  string // of the navigation
	data     any
	problem  *problem // that kept a form from being carried out

	location string // see there (303)

	content     []byte // instead of a template
	contentType string
	filename    string // to save it as; empty: shown

	stream func(io.Writer) error // instead of content: what it writes is sent as it comes
}

// seeOther sends the browser to another page, with GET.
func seeOther(location string) page { return page{location: location} }

// view is what templates see.
type view struct {
	Title     string
	Section   string
	Me        *manage.Profile // nil unless somebody is signed in
	Workspace *workspace.Workspace
	Role      workspace.Role
	Notice    string
	Problem   *problem
	Look      look
	RequestID string
	Path      string // of the page, with its query
	Data      any

	r *request
}

// Can reports whether the person holds a right where the page is.
func (v view) Can(right string) bool { return v.r.can(right) }

// URL is an address below the console's base.
func (v view) URL(parts ...string) string { return v.r.h.path(parts...) }

// Here is an address in the workspace of the page.
func (v view) Here(parts ...string) string { return v.r.here(parts...) }

// Issuer is the service's own URL.
func (v view) Issuer() string { return v.r.h.Issuer }

//go:embed templates/*.html
var templates embed.FS

// pages are the templates, each with the layout and the parts around it. One is parsed
// when it is first asked for: all of them together are half of what a server holds that
// only exchanges keys.
type pages map[string]func() (*template.Template, error)

// loadPages finds every page. Files whose names begin with _ are the layout and parts
// that pages share.
func (h *Handler) loadPages() (pages, error) {
	names, err := fs.Glob(templates, "templates/[^_]*.html")
	if err != nil {
		return nil, err
	}
	found := pages{}
	for _, name := range names {
		found[strings.TrimSuffix(path.Base(name), ".html")] = sync.OnceValues(func() (*template.Template, error) {
			return template.New("_layout.html").Funcs(h.functions()).ParseFS(templates, "templates/_*.html", name)
		})
	}
	return found, nil
}

// render makes the whole page before anything of it is sent, so that nobody gets
// half of one.
func (r *request) render(p page) ([]byte, error) {
	load := r.h.pages[p.template]
	if load == nil {
		return nil, fmt.Errorf("there is no page %q", p.template)
	}
	t, err := load()
	if err != nil {
		return nil, fmt.Errorf("page %q: %w", p.template, err)
	}
	v := view{
		Title: p.title, Section: p.section, Problem: p.problem, Notice: notices[r.QueryParam("notice")],
		Look: r.look(), RequestID: r.requestID(), Path: r.Request().URL.RequestURI(), Data: p.data, r: r,
	}
	if r.signedIn() {
		v.Me = &r.me
	}
	if r.ws.ID != "" {
		v.Workspace, v.Role = &r.ws, r.role
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "_layout.html", v); err != nil {
		return nil, fmt.Errorf("render %s: %w", p.template, err)
	}
	return b.Bytes(), nil
}

// write answers with a page.
func (h *Handler) write(r *request, p page) error {
	body, kind := p.content, p.contentType
	if p.location == "" && p.content == nil && p.stream == nil {
		var err error
		if body, err = r.render(p); err != nil {
			return h.fail(r, err)
		}
		kind = echo.MIMETextHTMLCharsetUTF8
	}
	if r.ctx != nil {
		if err := h.Sessions.Save(r.ctx, r.Response()); err != nil {
			return h.fail(r, err)
		}
	}
	if p.location != "" {
		return r.Redirect(http.StatusSeeOther, p.location)
	}
	if p.stream != nil {
		select {
		case h.exports <- struct{}{}:
			defer func() { <-h.exports }()
		default:
			return h.fail(r, errExports)
		}
	}
	if p.filename != "" {
		r.Response().Header().Set(echo.HeaderContentDisposition, fmt.Sprintf("attachment; filename=%q", p.filename))
	}
	if p.stream != nil {
		return h.sendStream(r, kind, p.stream)
	}
	return r.send(cmp.Or(p.status, http.StatusOK), kind, body)
}

// How many exports run at once, and how long each may take.
const (
	maxExports = 2
	exportFor  = 5 * time.Minute
)

// sendStream writes an answer as it is made. When that fails, the connection is cut,
// so that nobody takes what came for the whole.
func (h *Handler) sendStream(r *request, kind string, stream func(io.Writer) error) error {
	// Longer than other answers may take; a server that cannot do that keeps its own limit.
	_ = http.NewResponseController(r.Response()).SetWriteDeadline(time.Now().Add(exportFor))
	r.Response().Header().Set(echo.HeaderContentType, kind)
	r.Response().WriteHeader(http.StatusOK)
	if r.Request().Method == http.MethodHead {
		return nil
	}
	if err := stream(r.Response()); err != nil {
		h.Log.Error("answer broken off", "error", err, "request_id", r.requestID())
		panic(http.ErrAbortHandler)
	}
	return nil
}

// send writes an answer; to HEAD without its body.
func (r *request) send(status int, kind string, body []byte) error {
	if r.Request().Method == http.MethodHead {
		r.Response().Header().Set(echo.HeaderContentType, kind)
		return r.NoContent(status)
	}
	return r.Blob(status, kind, body)
}

// fail answers with a page that says what went wrong. What went wrong here and not
// with the request is in the log, by the request's ID.
func (h *Handler) fail(r *request, cause error) error {
	secure(r.Response().Header())
	f := explain(cause)
	if f.status >= http.StatusInternalServerError {
		h.Log.Error("request failed", "error", cause, "request_id", r.requestID())
	}
	body, err := r.render(page{template: "error", title: f.title, data: f})
	if err != nil { // then at least the sentence
		h.Log.Error("the error page failed", "error", err, "request_id", r.requestID())
		body = []byte("<!doctype html><title>" + template.HTMLEscapeString(f.title) + "</title><p>" +
			template.HTMLEscapeString(f.detail+" (Request "+r.requestID()+")"))
	}
	if f.retryAfter != "" {
		r.Response().Header().Set("Retry-After", f.retryAfter)
	}
	return r.send(f.status, echo.MIMETextHTMLCharsetUTF8, body)
}

// again shows a form once more, with what was wrong with what was sent. Errors that
// are not about that are returned as they are.
func (p page) again(err error) (page, error) {
	wrong := problemOf(err)
	if wrong == nil {
		return p, err
	}
	p.problem, p.status = wrong, wrong.status
	return p, nil
}

// pending reports whether a change is committed and only not confirmed everywhere.
func pending(err error) bool { return errors.Is(err, manage.ErrPending) }
