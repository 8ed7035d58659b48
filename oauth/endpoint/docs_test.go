package endpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"html"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
)

// checkExplained: every error names its page, and the page is there.
func (b *booth) checkExplained(a answer) {
	b.Helper()
	problem := a.header.Get("Content-Type") == oauth.ProblemType
	if a.status < http.StatusBadRequest || a.body == "" || (a.status == http.StatusNotFound && !problem) {
		return // what no route takes is for the server to answer
	}
	members := a.object(b)
	address, _ := members["error_uri"].(string)
	if problem {
		address, _ = members["type"].(string)
	}
	if code, _ := members["code"].(string); address == oauth.QuotaType { // a registered type, whose page is not ours
		address = oauth.Topic(code).URI(b.issuer)
	}
	path, ours := strings.CutPrefix(address, "https://login.example.com/")
	recorder := httptest.NewRecorder()
	b.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/"+path, nil))
	if !ours || recorder.Code != http.StatusOK || !strings.Contains(recorder.Body.String(), "What to do") {
		b.Errorf("status %d names the page %q, which answers %d: %s", a.status, address, recorder.Code, a.body)
	}
}

// Each topic has a page with its cause and what to do, for people and as JSON, and
// the list leads to it.
func TestErrorPages(t *testing.T) {
	b := newBooth(t, options{})
	list := b.get("/docs/errors").want(b, http.StatusOK, "")
	for _, h := range oauth.Topics() {
		path := oauth.ErrorPath + string(h.Topic)
		page := b.get(path).want(b, http.StatusOK, "")
		for _, want := range []string{h.Title, strconv.Itoa(h.Status), string(h.Topic), h.Cause, h.Fix} {
			if text := html.UnescapeString(page.body); !strings.Contains(text, want) {
				t.Errorf("%s does not say %q", path, want)
			}
		}
		if !strings.Contains(list.body, `<a href="`+path+`">`) {
			t.Errorf("the list does not lead to %s", path)
		}
		row := b.get(path, setHeader("Accept", "application/json")).object(b)
		if row["topic"] != string(h.Topic) || row["title"] != h.Title || row["status"] != float64(h.Status) || row["cause"] != h.Cause || row["fix"] != h.Fix {
			t.Errorf("%s as JSON is %v", path, row)
		}
	}
	for _, path := range []string{"/docs/errors", "/docs/errors/"} {
		rows, _ := b.get(path, setHeader("Accept", "application/json")).object(b)["errors"].([]any)
		if len(rows) != len(oauth.Topics()) {
			t.Errorf("%s lists %d errors", path, len(rows))
		}
	}
}

// The pages load a style sheet of their own and nothing else, run no script, and
// may be kept for five minutes.
func TestErrorPagesAreHarmless(t *testing.T) {
	b := newBooth(t, options{})
	for _, path := range []string{"/docs/errors", oauth.TopicKeyExpired.URI("")} {
		a := b.get(path)
		const policy = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
		if a.header.Get("Content-Security-Policy") != policy || a.header.Get("Content-Type") != "text/html; charset=UTF-8" ||
			a.header.Get("Cache-Control") != "public, max-age=300" || a.header.Get("Vary") != "Accept" {
			t.Errorf("%s: the header is %v", path, a.header)
		}
		if found := regexp.MustCompile(`(?i)<script|<style| style=| on[a-z]+=|https?://`).FindString(a.body); found != "" {
			t.Errorf("%s has %q", path, found)
		}
		again := b.get(path, setHeader("If-None-Match", a.header.Get("ETag")))
		if again.status != http.StatusNotModified || again.body != "" {
			t.Errorf("%s with its ETag: %d", path, again.status)
		}
		if head := b.send(httptest.NewRequest(http.MethodHead, path, nil)); head.status != http.StatusOK || head.body != "" {
			t.Errorf("HEAD %s: %d %q", path, head.status, head.body)
		}
		if post := b.send(httptest.NewRequest(http.MethodPost, path, nil)); post.status != http.StatusMethodNotAllowed || post.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %d %v", path, post.status, post.header)
		}
	}
	style := b.get("/docs/style.css").want(b, http.StatusOK, "")
	if style.header.Get("Content-Type") != "text/css; charset=utf-8" || style.header.Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("the style sheet: %v", style.header)
	}
	if strings.Contains(style.body, "url(") || strings.Contains(style.body, "@import") {
		t.Error("the style sheet loads something")
	}
}

// With a path in the issuer the pages, and all that they lead to, are below it.
func TestErrorPagesOfIssuerWithPath(t *testing.T) {
	const path = "/tenants/a"
	b := newBooth(t, options{issuer: issuer + path})
	a := b.get(path+"/api/v1/whoami").want(b, http.StatusUnauthorized, "Send an access token as Authorization: Bearer.")
	if got, want := a.object(b)["type"], issuer+path+"/docs/errors/credentials_missing"; got != want {
		t.Errorf("type is %v, want %s", got, want)
	}
	for _, page := range []string{"/docs/errors", oauth.ErrorPath + "key_expired"} {
		for _, link := range regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(b.get(path+page).body, -1) {
			b.get(link[1]).want(b, http.StatusOK, "")
		}
	}
}

func TestUnknownErrorPage(t *testing.T) {
	b := newBooth(t, options{})
	for _, name := range []string{"nothing", "KEY_EXPIRED", "%3Cscript%3E", "key_expired%00"} {
		a := b.get(oauth.ErrorPath + name)
		members := a.object(b)
		if a.status != http.StatusNotFound || a.header.Get("Content-Type") != oauth.ProblemType || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", name, a.status, a.header)
		}
		if members["type"] != oauth.TopicNotFound.URI(issuer) || members["code"] != "not_found" || strings.Contains(a.body, "script") {
			t.Errorf("%s: %s", name, a.body)
		}
	}
}

// RFC 9110 §12.5.1: JSON for who would rather have it, HTML for everybody else.
func TestErrorPageNegotiation(t *testing.T) {
	b := newBooth(t, options{})
	for accept, want := range map[string]string{
		"": "text/html", "*/*": "text/html", "text/html,application/xhtml+xml,*/*;q=0.8": "text/html",
		"application/json": "application/json", "Application/JSON, */*;q=0.5": "application/json",
		"application/json, text/html": "text/html", "application/json;q=0.2, text/html;q=0.1": "application/json",
		"application/json;q=0": "text/html", "application/json;q=x, ;;": "application/json", "image/png": "text/html",
	} {
		a := b.get(oauth.ErrorPath+"conflict", setHeader("Accept", accept))
		if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, want) || a.header.Get("Vary") != "Accept" {
			t.Errorf("Accept %q gives %s, Vary %q", accept, got, a.header.Get("Vary"))
		}
	}
}

// Every reason for which a right secret is refused has a page of its own.
func TestReasonsHaveTopics(t *testing.T) {
	reasons := map[oauth.Topic]grant.Reason{}
	for _, reason := range grantReasons(t) {
		e := grant.WireError(&grant.RefusedError{Reason: reason, Text: "x"})
		if other, taken := reasons[e.Topic]; taken {
			t.Errorf("%s and %s have the same topic %s", reason, other, e.Topic)
		}
		reasons[e.Topic] = reason
		if h, ok := e.Topic.Help(); !ok || h.Status != e.Status || e.Topic == oauth.TopicCredentialsNotRecognised {
			t.Errorf("%s has the topic %q", reason, e.Topic)
		}
	}
	if len(reasons) < 7 {
		t.Errorf("there are %d reasons", len(reasons))
	}
}

// grantReasons reads the constants of type Reason from their source, so that none
// is forgotten.
func grantReasons(t *testing.T) (reasons []grant.Reason) {
	t.Helper()
	for _, file := range must(filepath.Glob("../grant/*.go")) {
		tree := must(parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution))
		ast.Inspect(tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Reason" {
				for _, value := range spec.Values {
					reasons = append(reasons, grant.Reason(must(strconv.Unquote(value.(*ast.BasicLit).Value))))
				}
			}
			return true
		})
	}
	return reasons
}

// What people meet most often is explained by a page of its own, with the words
// under which they look for it. (Insufficient permissions are for the services
// that take the tokens: see oauth.TestDerivedTopics.)
func TestCommonErrorsAreExplained(t *testing.T) {
	b := newBooth(t, options{now: clock(noon)})
	names := b.fixtures()
	for state, want := range map[string]struct {
		topic oauth.Topic
		title string
	}{
		"expired":  {oauth.TopicKeyExpired, "API key expired"},
		"revoked":  {oauth.TopicKeyRevoked, "API key revoked"},
		"disabled": {oauth.TopicOwnerDisabled, "Service account is disabled"},
		"invented": {oauth.TopicCredentialsNotRecognised, "API token not recognised"},
	} {
		id, secret := names[state+"_id"], names[state+"_secret"]
		login := b.login(form(id, secret)).want(b, http.StatusUnauthorized, "invalid_client")
		if got := login.object(b)["error_uri"]; got != want.topic.URI(issuer) {
			t.Errorf("%s: error_uri is %v, want the page of %s", state, got, want.topic)
		}
		whoami := b.whoami("Bearer " + secret).object(b)
		if whoami["code"] != string(want.topic) || whoami["title"] != want.title || whoami["type"] != want.topic.URI(issuer) {
			t.Errorf("%s: whoami says %v", state, whoami)
		}
	}
}
