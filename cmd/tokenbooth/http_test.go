package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// listener is the public listener of a server in this process, with its log.
type listener struct {
	*server
	*demo
	t       *testing.T
	address string
	log     *logBuffer
}

// listenInProcess runs a server until the test ends. prepare may shorten the
// limits of its listener, so that a test need not wait for them.
func listenInProcess(t *testing.T, prepare func(*http.Server)) *listener {
	t.Helper()
	l := &listener{t: t, log: &logBuffer{}}
	public, ops := localListener(t), localListener(t)
	l.address = public.Addr().String()
	config, err := devConfig(&environment{}, devOptions{}, "http://"+l.address, t.TempDir())
	check(t, err)
	b, err := openDevBackend(t.Context(), config)
	check(t, err)
	t.Cleanup(func() { check(t, b.close()) })
	l.demo, err = makeDemo(t.Context(), b)
	check(t, err)
	l.server, err = newServer(t.Context(), b, slog.New(slog.NewJSONHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	check(t, err)
	if prepare != nil {
		prepare(l.public)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.run(ctx, public, ops) }()
	t.Cleanup(func() {
		stop()
		check(t, <-ended)
		if strings.Contains(l.log.String(), l.ClientSecret) {
			t.Error("the log holds the secret")
		}
	})
	return l
}

func localListener(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	return listener
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// form is the body of a good token request.
func (l *listener) form() string {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {l.ClientID}, "client_secret": {l.ClientSecret}}.Encode()
}

// raw writes bytes to a connection of its own and returns all that comes back
// until the server closes it.
func (l *listener) raw(text string) string {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.address)
	check(l.t, err)
	defer func() { _ = conn.Close() }()
	check(l.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	if _, err := io.WriteString(conn, text); err != nil {
		return "" // it was closed before all was written
	}
	answer, err := io.ReadAll(conn)
	if err != nil && len(answer) == 0 && !strings.Contains(err.Error(), "reset") {
		l.t.Errorf("the server keeps the connection: %v", err)
	}
	return string(answer)
}

// head is the beginning of a token request.
func head(fields ...string) string {
	return "POST " + endpoint.LoginPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
		strings.Join(append(fields, "", ""), "\r\n")
}

// Requests that proxies and servers may cut in different places get one answer
// at most, and the connection is not used again (RFC 9112 §6.1, §6.3).
func TestRequestSmuggling(t *testing.T) {
	l := listenInProcess(t, nil)
	body := l.form()
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	hidden := "GET /api/v1/whoami HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, test := range map[string]struct {
		request string
		status  string
	}{
		"chunked":                     {head("Transfer-Encoding: chunked") + chunked + hidden, "200"},
		"two framings":                {head("Content-Length: 4", "Transfer-Encoding: chunked") + chunked + hidden, "200"},
		"two framings, reversed":      {head("Transfer-Encoding: chunked", "Content-Length: 4") + chunked + hidden, "200"},
		"two lengths":                 {head("Content-Length: 4", "Content-Length: 5") + body, "400"},
		"length with a sign":          {head("Content-Length: +4") + body, "400"},
		"unknown coding":              {head("Transfer-Encoding: xchunked") + chunked, "501"},
		"chunk extension and bare LF": {head("Transfer-Encoding: chunked") + "2;\n" + "xx\r\n" + chunked + hidden, "400"},
		"chunk size of nonsense":      {head("Transfer-Encoding: chunked") + "zz\r\n" + body + "\r\n0\r\n\r\n" + hidden, "400"},
		"chunk size too large":        {head("Transfer-Encoding: chunked") + "ffffffffffffffffff\r\n" + body + hidden, "400"},
		"space before the colon":      {head("Content-Length : 4") + body, "400"},
		"no Host":                     {"POST " + endpoint.LoginPath + " HTTP/1.1\r\n\r\n", "400"},
	} {
		answer := l.raw(test.request)
		if n := strings.Count(answer, "HTTP/1.1 "); n != 1 || !strings.HasPrefix(answer, "HTTP/1.1 "+test.status+" ") {
			t.Errorf("%s: %d answers, want one of %s:\n%s", name, n, test.status, answer)
		}
		if !strings.Contains(answer, "\r\nConnection: close\r\n") {
			t.Errorf("%s: the answer does not close the connection:\n%s", name, answer)
		}
	}
}

// A client that sends a byte now and then is cut off; others do not notice.
func TestSlowClients(t *testing.T) {
	const limit = 300 * time.Millisecond
	l := listenInProcess(t, func(s *http.Server) { s.ReadTimeout, s.ReadHeaderTimeout = limit, limit })
	slow := map[string]string{
		"body":    head("Content-Length: 1000") + "g",
		"chunk":   head("Transfer-Encoding: chunked") + "3e8\r\ng",
		"header":  "POST " + endpoint.LoginPath + " HTTP/1.1\r\nHost: x\r\nX-",
		"nothing": "",
	}
	var group sync.WaitGroup
	for name, text := range slow {
		group.Go(func() {
			if answer := l.raw(text); strings.HasPrefix(answer, "HTTP/1.1 2") {
				t.Errorf("%s: %s", name, answer)
			}
		})
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.LoginURL(), strings.NewReader(l.form()))
	check(t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(request)
	check(t, err)
	check(t, response.Body.Close())
	if response.StatusCode != http.StatusOK {
		t.Errorf("meanwhile another client gets %s", response.Status)
	}
	group.Wait()
	http.DefaultClient.CloseIdleConnections()
}

// LoginURL is where this listener exchanges keys.
func (l *listener) LoginURL() string { return "http://" + l.address + endpoint.LoginPath }

// RFC 9110 §5.4, §15.5.5, §15.5.6: what no endpoint answers.
func TestUnusualRequests(t *testing.T) {
	l := listenInProcess(t, nil)
	for name, test := range map[string]struct{ request, status, contains string }{
		"long header":    {head("X-Fill: " + strings.Repeat("a", 64<<10)), "431", ""},
		"TRACE":          {"TRACE /api/login HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c2VjcmV0\r\nConnection: close\r\n\r\n", "405", "\r\nAllow: POST\r\n"},
		"unknown method": {"BREW /api/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "405", "\r\nAllow: "},
		"unknown path":   {"GET /api/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404", "\r\nContent-Type: application/problem+json\r\n"},
		"other spelling": {"POST /api/login/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "404", ""},
		"dot segments":   {"POST /api/x/../login HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "404", ""},
		"upper case":     {"POST /API/LOGIN HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "404", ""},
		"HTTP/1.0":       {"GET /.well-known/jwks.json HTTP/1.0\r\n\r\n", "200", `"keys"`},
	} {
		answer := l.raw(test.request)
		if !strings.HasPrefix(answer[min(9, len(answer)):], test.status) || !strings.Contains(answer, test.contains) {
			t.Errorf("%s: want %s with %q:\n%s", name, test.status, test.contains, answer)
		}
		if strings.Contains(answer, "c2VjcmV0") {
			t.Errorf("%s: the answer repeats the Authorization header", name)
		}
	}
}

// A secret in the wrong place is in no answer, no log line and no metric.
func TestMisplacedSecrets(t *testing.T) {
	l := listenInProcess(t, nil)
	secret, end := l.ClientSecret, "Connection: close\r\n\r\n"
	for name, request := range map[string]string{
		"path":         "GET /" + secret + " HTTP/1.1\r\nHost: x\r\n" + end,
		"known path":   "GET /api/login/" + secret + " HTTP/1.1\r\nHost: x\r\n" + end,
		"query":        "POST /api/login?client_secret=" + secret + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + end,
		"fragment":     "GET /.well-known/jwks.json#" + secret + " HTTP/1.1\r\nHost: x\r\n" + end,
		"method":       secret + " /api/login HTTP/1.1\r\nHost: x\r\n" + end,
		"version":      "GET / HTTP/" + secret + "\r\nHost: x\r\n" + end,
		"Host":         "GET /.well-known/jwks.json HTTP/1.1\r\nHost: " + secret + "\r\n" + end,
		"URL":          "GET http://user:" + secret + "@x/ HTTP/1.1\r\nHost: x\r\n" + end,
		"X-Request-Id": "GET /api/v1/whoami HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + secret + "\r\n" + end,
		"header name":  "GET /api/v1/whoami HTTP/1.1\r\nHost: x\r\n" + secret + ": x\r\n" + end,
		"bad header":   "GET /api/v1/whoami HTTP/1.1\r\nHost: x\r\n" + secret + "\r\n" + end,
		"User-Agent":   "GET /api/v1/whoami HTTP/1.1\r\nHost: x\r\nUser-Agent: " + secret + "\r\n" + end,
		"forwarded":    "GET /api/v1/whoami HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + secret + "\r\n" + end,
		"other scheme": "POST /api/login HTTP/1.1\r\nHost: x\r\nAuthorization: Digest " + secret + "\r\nContent-Length: 0\r\n" + end,
		"client_id":    head("Content-Length: 138", "Connection: close") + "grant_type=client_credentials&client_secret=x&client_id=" + secret + "&x",
		"chunk size":   head("Transfer-Encoding: chunked", "Connection: close") + secret + "\r\n",
		"coding":       head("Transfer-Encoding: " + secret),
		"length":       head("Content-Length: " + secret),
	} {
		if answer := l.raw(request); strings.Contains(answer, secret) {
			t.Errorf("%s: the answer holds the secret:\n%s", name, answer)
		}
	}
	recorder := httptest.NewRecorder()
	l.operations().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if strings.Contains(recorder.Body.String(), secret) || !strings.Contains(recorder.Body.String(), `route="none"`) {
		t.Error("the metrics hold the secret, or do not count what no route answers")
	}
	if !strings.Contains(l.log.String(), `"secret_in_url":true`) {
		t.Error("the log does not note the secret in the URL")
	}
}

// Each answer names its request; a caller's own ID is taken over only in a form
// that cannot harm a log.
func TestRequestIDs(t *testing.T) {
	l := listenInProcess(t, nil)
	for given, taken := range map[string]bool{
		"0123456789abcdef": true, "a.b-c_d8": true, "": false, "short": false, strings.Repeat("a", 65): false, "with space": false, `quote"quote`: false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/nothing", nil)
		r.Header.Set("X-Request-Id", given)
		recorder := httptest.NewRecorder()
		l.public.Handler.ServeHTTP(recorder, r)
		id := recorder.Header().Get("Request-Id")
		if (id == given) != taken || len(id) < 8 || !strings.Contains(recorder.Body.String(), `"request_id":"`+id+`"`) {
			t.Errorf("given %q: Request-Id %q in %s", given, id, recorder.Body)
		}
		if recorder.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Error("X-Content-Type-Options is missing")
		}
	}
}

// What no handler answers is explained as well, by a page of the same server.
func TestUnansweredRequestsAreExplained(t *testing.T) {
	l := listenInProcess(t, nil)
	for path, want := range map[string]struct {
		err  error
		code oauth.Topic
	}{
		"/nothing": {nil, oauth.TopicNotFound}, "/405": {echo.ErrMethodNotAllowed, oauth.TopicMethodNotAllowed},
		"/413": {echo.ErrStatusRequestEntityTooLarge, oauth.TopicBodyTooLarge}, "/400": {echo.ErrBadRequest, oauth.TopicRequestMalformed},
		"/500": {io.ErrUnexpectedEOF, oauth.TopicServerError},
	} {
		if want.err != nil {
			l.public.Handler.(*echo.Echo).GET(path, func(echo.Context) error { return want.err })
		}
		var problem oauth.Problem
		status, body := l.get(path)
		check(t, json.Unmarshal([]byte(body), &problem))
		if status != problem.Status || status < 400 || problem.Code != want.code || problem.Title == "" || problem.Success || problem.Error != problem.Detail {
			t.Errorf("%s: %d %s", path, status, body)
		}
		page, ok := strings.CutPrefix(problem.Type, l.config.Issuer)
		if status, text := l.get(page); !ok || status != http.StatusOK || !strings.Contains(text, problem.Title) {
			t.Errorf("%s: its page %s answers %d: %s", path, problem.Type, status, text)
		}
	}
}

// get asks the public handler, without a socket.
func (l *listener) get(path string) (status int, body string) {
	recorder := httptest.NewRecorder()
	l.public.Handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder.Code, recorder.Body.String()
}

// A panic becomes a 500 that says nothing; the log says all.
func TestPanic(t *testing.T) {
	l := listenInProcess(t, nil)
	e := newEcho(l.config, slog.New(slog.NewJSONHandler(l.log, nil)), l.metrics)
	e.GET("/panic", func(echo.Context) error { panic("the reason") })
	recorder := httptest.NewRecorder()
	e.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/panic", nil))
	response := recorder.Result()
	defer func() { _ = response.Body.Close() }()
	body := recorder.Body.String()
	if response.StatusCode != http.StatusInternalServerError || strings.Contains(body, "reason") || strings.Contains(body, "goroutine") {
		t.Errorf("%s: %s", response.Status, body)
	}
	if !strings.Contains(l.log.String(), "the reason") || !strings.Contains(l.log.String(), recorder.Header().Get("Request-Id")) {
		t.Error("the log does not tell the reason")
	}
}
