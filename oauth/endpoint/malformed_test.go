package endpoint_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// RFC 6749 §3.2: the token endpoint takes POST.
func TestOtherMethods(t *testing.T) {
	b := newBooth(t, options{})
	loads := b.directory.Loads()
	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND"} {
		r := httptest.NewRequest(method, endpoint.LoginPath, strings.NewReader(formOf(b.active).Encode()))
		r.Header.Set("Content-Type", formType)
		a := b.send(r)
		if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
			t.Errorf("%s: status %d, Allow %q", method, a.status, a.header.Get("Allow"))
		}
	}
	for _, path := range []string{endpoint.JWKSPath, endpoint.WhoamiPath, "/.well-known/oauth-authorization-server"} {
		a := b.send(httptest.NewRequest(http.MethodPost, path, nil))
		if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: status %d, Allow %q", path, a.status, a.header.Get("Allow"))
		}
	}
	if b.directory.Loads() != loads || len(b.outcomes) != 0 {
		t.Error("a method that is not allowed had an effect")
	}
}

// RFC 6749 §5.2: requests that are wrong whoever sends them.
func TestMalformedRequests(t *testing.T) {
	b := newBooth(t, options{})
	good := formOf(b.active).Encode()
	id, secret := string(b.active.ID), b.active.Secret.Reveal()
	for name, test := range map[string]struct {
		answer answer
		status int
		code   string
	}{
		"nothing":                       {b.login(url.Values{}), 400, "invalid_request"},
		"JSON that claims to be a form": {b.post(formType, `{"clientId":"`+id+`"}`), 400, "invalid_request"},
		"two content types":             {b.post(formType, good, setHeader("Content-Type", formType, "application/json")), 400, "invalid_request"},
		"a length beyond the limit":     {b.post(formType, good, func(r *http.Request) { r.ContentLength = 1 << 30 }), 413, "invalid_request"},
		"a body that ends too early":    {b.post(formType, good, func(r *http.Request) { r.ContentLength += 5 }), 400, "invalid_request"},
		"no grant_type":                 {b.login(formOf(b.active, "grant_type", "-")), 400, "invalid_request"},
		"empty grant_type":              {b.login(formOf(b.active, "grant_type", "")), 400, "invalid_request"},
		"password grant":                {b.login(formOf(b.active, "grant_type", "password")), 400, "unsupported_grant_type"},
		"refresh grant":                 {b.login(formOf(b.active, "grant_type", "refresh_token")), 400, "unsupported_grant_type"},
		"grant_type in upper case":      {b.login(formOf(b.active, "grant_type", "CLIENT_CREDENTIALS")), 400, "unsupported_grant_type"},
		"grant_type with a space":       {b.login(formOf(b.active, "grant_type", "client_credentials ")), 400, "unsupported_grant_type"},
		"name in upper case":            {b.login(formOf(b.active, "grant_type", "-", "GRANT_TYPE", "client_credentials")), 400, "invalid_request"},
		"grant_type twice":              {b.post(formType, good+"&grant_type=client_credentials"), 400, "invalid_request"},
		"client_id twice":               {b.post(formType, good+"&client_id="+id), 400, "invalid_request"},
		"client_secret twice":           {b.post(formType, good+"&client_secret="+secret), 400, "invalid_request"},
		"client_secret twice, empty":    {b.post(formType, good+"&client_secret="), 400, "invalid_request"},
		"scope twice":                   {b.post(formType, good+"&scope=collectors:read&scope=pipelines:read"), 400, "invalid_request"},
		"unknown parameter twice":       {b.post(formType, good+"&x=1&x=2"), 400, "invalid_request"},
		"bad percent-encoding":          {b.post(formType, good+"&x=%zz"), 400, "invalid_request"},
		"semicolon":                     {b.post(formType, good+";x=1"), 400, "invalid_request"},
		"basic and client_secret":       {b.login(formOf(b.active), basic(id, secret)), 400, "invalid_request"},
		"basic and another client_id":   {b.post(formType, "grant_type=client_credentials&client_id=other", basic(id, secret)), 400, "invalid_request"},
		"basic and an assertion":        {b.post(formType, "grant_type=client_credentials&client_assertion=a.b.c", basic(id, secret)), 400, "invalid_request"},
		"two Authorization headers":     {b.post(formType, "grant_type=client_credentials", basic(id, secret), twice), 400, "invalid_request"},
		"text/plain":                    {b.post("text/plain", good), 400, "invalid_request"},
		"multipart":                     {b.post("multipart/form-data; boundary=x", good), 400, "invalid_request"},
		"no Content-Type":               {b.post("", good), 400, "invalid_request"},
		"Content-Type of nonsense":      {b.post(";;", good), 400, "invalid_request"},
		"JSON as a form":                {b.post(formType, `{"clientId":"`+id+`"}`), 400, "invalid_request"},
		"JSON array":                    {b.post("application/json", `["client_id"]`), 400, "invalid_request"},
		"JSON in two names":             {b.post("application/json", `{"clientId":"x","client_id":"x","clientSecret":"y"}`), 400, "invalid_request"},
		"JSON secret as a number":       {b.post("application/json", `{"clientId":"x","clientSecret":1}`), 400, "invalid_request"},
		"JSON with something after":     {b.post("application/json", `{"clientId":"x","clientSecret":"y"} {}`), 400, "invalid_request"},
		"JSON without grant_type":       {b.post("application/json", `{"client_id":"`+id+`","client_secret":"`+secret+`"}`), 400, "invalid_request"},
		"query":                         {b.post(formType, good, query("x=1")), 400, "invalid_request"},
		"query of a question mark":      {b.post(formType, good, func(r *http.Request) { r.URL.ForceQuery = true }), 400, "invalid_request"},
	} {
		if test.answer.status != test.status || test.answer.code() != test.code {
			t.Errorf("%s: %d %s, want %d %s", name, test.answer.status, test.answer.body, test.status, test.code)
		}
	}
}

func twice(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }

func query(raw string) func(*http.Request) {
	return func(r *http.Request) { r.URL.RawQuery = raw }
}

// RFC 6749 §3.3, and never silently wider or narrower.
func TestMalformedScope(t *testing.T) {
	b := newBooth(t, options{})
	for _, scope := range []string{
		`collectors:"read"`, `collectors:\read`, "collectors:read\tcollectors:update", "collectors:read\u00a0collectors:update", "collectors:read  collectors:update",
		" collectors:read", "collectors:read ", " ", "collectors:read\n", "collectors:delete", "Collectors:read", "collectors:*", "*",
		"api-keys:create", "organization:update", "openid", strings.Repeat("a ", 10_000)[:4000], strings.Repeat("a", 5000),
	} {
		a := b.login(formOf(b.active, "scope", scope)).want(b, http.StatusBadRequest, "invalid_scope")
		if len(a.body) > 1000 {
			t.Errorf("the answer to a bad scope has %d bytes", len(a.body))
		}
	}
}

// RFC 8707 §2.
func TestMalformedResource(t *testing.T) {
	b := newBooth(t, options{})
	for _, parameter := range []string{"resource", "audience"} {
		for _, value := range []string{
			"https://unknown.example.com", apiURL + "/", apiURL + "#a", apiURL + "#", "/api", "api", "https:", "://", "https://API.example.com", "*",
		} {
			b.login(formOf(b.active, parameter, value)).want(b, http.StatusBadRequest, "invalid_target")
		}
		values := formOf(b.active)
		values[parameter] = []string{apiURL, "https://unknown.example.com"}
		b.login(values).want(b, http.StatusBadRequest, "invalid_target")
	}
}

// A body is bounded before it is parsed.
func TestGreedyBodies(t *testing.T) {
	b := newBooth(t, options{})
	good := formOf(b.active).Encode()
	fill := endpoint.MaxBody - len(good) - len("&x=")
	b.post(formType, good+"&x="+strings.Repeat("a", fill)).want(b, http.StatusOK, "")
	for name, body := range map[string]string{
		"one byte too many":     good + "&x=" + strings.Repeat("a", fill+1),
		"a mebibyte":            strings.Repeat("a", 1<<20),
		"a hundred thousand":    strings.Repeat("a=b&", 100_000),
		"a parameter of 64 KiB": good + "&x=" + strings.Repeat("a", 64<<10),
		"10,000 scope tokens":   good + "&scope=" + strings.Repeat("a+", 10_000),
	} {
		reader := strings.NewReader(body)
		r := httptest.NewRequest(http.MethodPost, endpoint.LoginPath, reader)
		r.Header.Set("Content-Type", formType)
		if a := b.send(r); a.status != http.StatusRequestEntityTooLarge || a.code() != "invalid_request" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if read := len(body) - reader.Len(); read > endpoint.MaxBody+1 {
			t.Errorf("%s: %d bytes were read", name, read)
		}
	}
}

// A compressed body is refused before anything is inflated.
func TestCompressedBodies(t *testing.T) {
	b := newBooth(t, options{})
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write([]byte(formOf(b.active).Encode()))
	b.check(err)
	b.check(w.Close())
	for _, coding := range []string{"gzip", "deflate", "br", "GZIP", "gzip, identity"} {
		b.post(formType, packed.String(), setHeader("Content-Encoding", coding)).want(b, http.StatusUnsupportedMediaType, "invalid_request")
	}
}

// The JSON dialects have a switch.
func TestFormOnly(t *testing.T) {
	b := newBooth(t, options{formOnly: true})
	id, secret := string(b.active.ID), b.active.Secret.Reveal()
	a := b.post("application/json", `{"clientId":"`+id+`","clientSecret":"`+secret+`"}`).want(b, http.StatusBadRequest, "invalid_request")
	if strings.Contains(a.body, "json") {
		t.Errorf("the answer offers JSON: %s", a.body)
	}
	b.login(formOf(b.active)).want(b, http.StatusOK, "")
}
