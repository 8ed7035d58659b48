package endpoint

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// The pages that explain errors, below the issuer. Anyone may read them: they say
// nothing of this installation.
const (
	errorsPath = "/docs/errors"
	stylePath  = "/docs/style.css"

	docsMaxAge = 5 * time.Minute

	// docsPolicy allows the pages their own style sheet and nothing else.
	docsPolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)

//go:embed docs
var docs embed.FS

var pages = template.Must(template.ParseFS(docs, "docs/*.html"))

// page is what the templates know.
type page struct {
	Base  string // the issuer's path
	Title string
	Help  oauth.Help   // of the one error
	All   []oauth.Help // of the list
}

func (h *Handler) mountDocs(e *echo.Echo, base string) {
	list := h.only(func(c echo.Context) error { return errorList(c, base) }, http.MethodGet, http.MethodHead)
	all(e, base+errorsPath, list)
	all(e, base+oauth.ErrorPath, list)
	all(e, base+oauth.ErrorPath+":topic", h.only(func(c echo.Context) error { return h.errorPage(c, base) }, http.MethodGet, http.MethodHead))
	all(e, base+stylePath, h.only(style, http.MethodGet, http.MethodHead))
}

// errorList answers with the table of errors.
func errorList(c echo.Context, base string) error {
	rows := oauth.Topics()
	if prefersJSON(c) {
		return writePublic(c, echo.MIMEApplicationJSON, docsMaxAge, map[string]any{"errors": rows})
	}
	return writePage(c, "errors", page{Base: base, Title: "Errors", All: rows})
}

// errorPage answers with one row of it.
func (h *Handler) errorPage(c echo.Context, base string) error {
	row, ok := oauth.Topic(c.Param("topic")).Help()
	if !ok {
		c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
		return writeProblem(c, oauth.TopicNotFound.Errorf("There is no error of this name: %s%s lists all.", h.Issuer, errorsPath).Explained(h.Issuer))
	}
	if prefersJSON(c) {
		return writePublic(c, echo.MIMEApplicationJSON, docsMaxAge, row)
	}
	return writePage(c, "error", page{Base: base, Title: row.Title, Help: row})
}

func style(c echo.Context) error {
	sheet, err := docs.ReadFile("docs/style.css")
	if err != nil {
		return fmt.Errorf("style sheet: %w", err)
	}
	return writePublicBody(c, "text/css; charset=utf-8", docsMaxAge, sheet)
}

func writePage(c echo.Context, name string, p page) error {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, p); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	header := c.Response().Header()
	header.Set(echo.HeaderContentSecurityPolicy, docsPolicy)
	header.Set(echo.HeaderReferrerPolicy, "no-referrer")
	return writePublicBody(c, echo.MIMETextHTMLCharsetUTF8, docsMaxAge, body.Bytes())
}

// prefersJSON reports whether a client would rather have JSON than HTML (RFC 9110
// §12.5.1). HTML is for whoever does not say. Caches keep the two apart.
func prefersJSON(c echo.Context) bool {
	header := c.Response().Header()
	header.Add(echo.HeaderVary, echo.HeaderAccept)
	weights := map[string]float64{}
	for item := range strings.SplitSeq(strings.Join(c.Request().Header.Values(echo.HeaderAccept), ","), ",") {
		mediaType, parameters, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		weight, err := strconv.ParseFloat(parameters["q"], 64)
		if err != nil {
			weight = 1
		}
		weights[mediaType] = max(weights[mediaType], weight)
	}
	return weights[echo.MIMEApplicationJSON] > max(weights[echo.MIMETextHTML], weights["text/*"], weights["*/*"])
}
