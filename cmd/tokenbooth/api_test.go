package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// aSecret has the form of one.
const aSecret = "tbs_06h0y7y7cdrnq4bjsfgy7yhqjw_9CjFkrBnR2RYS3xlNeZDagw9fcp4TaM2ujJlfQmdcmF2OQpFQ"

const aKeyID = "tbk_06h0y7y7cdrnq4bjsfgy7yhqjw"

// anAPI is a management API of the test's; the result is the environment of its client.
func anAPI(t *testing.T, answer http.HandlerFunc) []string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return []string{"TOKENBOOTH_URL=" + server.URL, "TOKENBOOTH_CLIENT_SECRET=" + aSecret}
}

// problem answers with one, as the API does.
func problem(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// Each kind of refusal has its exit code, and says where, with which key, under which
// request ID and what to do.
func TestAPIRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		code   int
		says   []string
	}{
		{400, `{"code":"parameter_unknown","detail":"No such parameter."}`, exitUsage, []string{"400 No such parameter", "hint: ", "/docs/errors/parameter_unknown"}},
		{401, `{"code":"key_revoked","detail":"The API key was revoked.","request_id":"req_1"}`, exitRefused, []string{"with the key " + aKeyID, "(request ID req_1)", "Create a new API key"}},
		{403, `{"code":"insufficient_permissions","detail":"This needs api-keys:read."}`, exitRefused, []string{"403 This needs api-keys:read"}},
		{404, `{"code":"not_found","detail":"There is nothing here."}`, exitNotFound, []string{"GET http://127.0.0.1", "/api/v1/workspaces/demo/keys, with the key "}},
		{404, `<html>`, exitFailure, []string{"404 Not Found", "the issuer of a Tokenbooth"}},
		{409, `{"code":"conflict","detail":"Taken."}`, exitNotFound, []string{"409 Taken"}},
		{412, `{"code":"precondition_failed","detail":"Changed."}`, exitNotFound, []string{"412 Changed"}},
		{
			422, `{"code":"validation_failed","detail":"Two mistakes.","errors":[{"pointer":"/scopes/0","detail":"No such scope."},{"pointer":"/name","detail":"Too long."}]}`,
			exitUsage,
			[]string{"422 Two mistakes; /scopes/0: No such scope; /name: Too long"},
		},
		{429, `{"code":"quota_exceeded","detail":"Too fast."}`, exitRetry, []string{"429 Too fast", "try again in 1h0m0s"}},
		{500, `{"code":"server_error","detail":"It broke."}`, exitRetry, []string{"500 It broke"}},
		{502, `bad gateway`, exitRetry, []string{"502 Bad Gateway", "try again later"}},
		{503, `{"code":"temporarily_unavailable","detail":"No database."}`, exitRetry, []string{"503 No database"}},
		{403, `{"code":"x","detail":"you sent ` + aSecret + ` \u001b[31m\u202e"}`, exitRefused, []string{"you sent [redacted] \\x1b[31m\\u202e"}},
	} {
		env := anAPI(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			problem(w, c.status, c.body)
		})
		a := tool(t, env, "", "keys", "list", "-w", "demo")
		for _, says := range c.says {
			a.wants(t, fmt.Sprint(c.status), c.code, says)
		}
	}
	env := anAPI(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	tool(t, env, "", "keys", "list", "-w", "demo").wants(t, "a page", exitFailure, "not what a Tokenbooth answers")
	env = anAPI(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
	tool(t, env, "", "keys", "list", "-w", "demo").wants(t, "a redirect", exitFailure, "which is not followed")
}

// retried sends a request to a server that fails twice, and tells how often it got it
// and how long the client waited.
func retried(t *testing.T, method, idempotency string, timeout time.Duration, fail http.HandlerFunc) (int64, []time.Duration, int) {
	t.Helper()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if asked.Add(1) < 3 {
			fail(w, r)
			return
		}
		_, _ = w.Write(body)
	}))
	defer server.Close()
	var slept []time.Duration
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Timeout: timeout, Transport: &retrying{next: transport, now: time.Now, sleep: func(_ context.Context, d time.Duration) error {
		slept = append(slept, d)
		return nil
	}}}
	request, err := http.NewRequest(method, server.URL, strings.NewReader(`{"name":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	if idempotency != "" {
		request.Header.Set("Idempotency-Key", idempotency)
	}
	response, err := client.Do(request)
	if err != nil {
		return asked.Load(), slept, 0
	}
	defer func() { _ = response.Body.Close() }()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode == http.StatusOK && string(text) != `{"name":"x"}` {
		t.Errorf("the body that was sent again is %q, %v", text, err)
	}
	return asked.Load(), slept, response.StatusCode
}

// What may pass is sent again, if it reads or takes effect once, never earlier than was
// asked for.
func TestAPIRetries(t *testing.T) {
	t.Parallel()
	status := func(code int, after string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(code)
		}
	}
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, c := range []struct {
		what, method, key string
		timeout           time.Duration
		fail              http.HandlerFunc
		asked             int64
		status            int
		after             time.Duration
	}{
		{"a read", "GET", "", time.Minute, status(503, "7"), 3, 200, 7 * time.Second},
		{"a creation", "POST", "x", time.Minute, status(429, ""), 3, 200, 0},
		{"a connection that breaks", "POST", "x", time.Minute, cut, 3, 200, 0},
		{"a change", "PATCH", "", time.Minute, status(503, ""), 1, 503, 0},
		{"a refusal", "GET", "", time.Minute, status(403, ""), 1, 403, 0},
		{"a failure that stays", "GET", "", time.Minute, status(500, ""), 1, 500, 0},
		{"a wait that is too long", "GET", "", time.Minute, status(503, "90"), 1, 503, 0},
	} {
		asked, slept, got := retried(t, c.method, c.key, c.timeout, c.fail)
		if asked != c.asked || got != c.status || len(slept) != int(c.asked)-1 {
			t.Errorf("%s: asked %d times, %d, after %v", c.what, asked, got, slept)
		}
		if len(slept) > 0 && slices.Min(slept) < c.after {
			t.Errorf("%s: it waited %v, want at least %s", c.what, slept, c.after)
		}
	}
}

// What a name holds drives no terminal and no spreadsheet.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	const name = "=1+1\x1b[2J\u202egnp\tx\u009b31m"
	env := anAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(admin.List[admin.ServiceAccount]{Data: []admin.ServiceAccount{{Name: name, Scopes: []string{}}}})
	})
	for _, format := range []string{"table", "json", "jsonl"} {
		a := tool(t, env, "", "service-accounts", "list", "-w", "demo", "-o", format)
		a.wants(t, format, exitOK, "")
		if strings.ContainsAny(a.out, "\x1b\u202e\u009b\t") || !strings.Contains(a.out, "=1+1") {
			t.Errorf("%s: %q", format, a.out)
		}
	}
	a := tool(t, env, "", "service-accounts", "list", "-w", "demo", "-o", "csv")
	rows, err := csv.NewReader(strings.NewReader(a.out)).ReadAll()
	if err != nil || len(rows) != 2 || rows[1][0] != "'"+name || rows[0][0] != "name" {
		t.Errorf("csv: %q, %v", rows, err)
	}
}

// A list goes on from page to page, ends where it was told to, and prints nothing when
// a page fails.
func TestListPages(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	env := anAPI(t, func(w http.ResponseWriter, r *http.Request) {
		page := admin.List[admin.Workspace]{Data: []admin.Workspace{{Slug: "a" + r.URL.Query().Get("cursor")}, {Slug: "b"}}}
		if next := "2"; r.URL.Query().Get("cursor") == "" {
			page.NextCursor = &next
		} else if broken.Load() {
			problem(w, http.StatusForbidden, `{"code":"insufficient_permissions","detail":"No."}`)
			return
		}
		_ = json.NewEncoder(w).Encode(page)
	})
	slugs := func(args ...string) (found []string) {
		t.Helper()
		a := tool(t, env, "", append([]string{"workspaces", "list", "-o", "json"}, args...)...)
		a.wants(t, "list", exitOK, "")
		var list []admin.Workspace
		if err := json.Unmarshal([]byte(a.out), &list); err != nil {
			t.Fatal(err)
		}
		for _, w := range list {
			found = append(found, w.Slug)
		}
		return found
	}
	for limit, want := range map[string]string{"0": "a b a2 b", "3": "a b a2", "1": "a"} {
		if got := strings.Join(slugs("--limit", limit), " "); got != want {
			t.Errorf("--limit %s: %s, want %s", limit, got, want)
		}
	}
	tool(t, env, "", "workspaces", "list", "--limit", "-1").wants(t, "a negative limit", exitUsage, "--limit")
	tool(t, env, "", "workspaces", "list", "-o", "xml").wants(t, "a format that is none", exitUsage, `"xml" is none of table, json, jsonl, csv`)
	broken.Store(true)
	tool(t, env, "", "workspaces", "list", "-o", "jsonl").wants(t, "a page that fails", exitRefused, "403 No")
}

// A file that exists stays as it is until the new one is whole.
func TestExportIsWhole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.csv")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var fails atomic.Bool
	env := anAPI(t, func(w http.ResponseWriter, r *http.Request) {
		next := "2"
		page := admin.List[admin.AuditEvent]{Data: []admin.AuditEvent{{Action: "key.create", UserAgent: "@x"}}, NextCursor: &next}
		if r.URL.Query().Get("cursor") != "" {
			if page.NextCursor = nil; fails.Load() {
				problem(w, http.StatusForbidden, `{"code":"insufficient_permissions","detail":"No."}`)
				return
			}
		}
		_ = json.NewEncoder(w).Encode(page)
	})
	export := func() aTool {
		return tool(t, env, "", "audit", "export", "-w", "demo", "-o", "csv", "--out", path)
	}
	fails.Store(true)
	export().wants(t, "a page that fails", exitRefused, "403 No")
	if text, err := os.ReadFile(path); err != nil || string(text) != "before\n" {
		t.Errorf("after a failure the file is %q, %v", text, err)
	}
	fails.Store(false)
	export().wants(t, "export", exitOK, "")
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), ",key.create,") != 2 || !strings.Contains(string(text), ",'@x,") {
		t.Errorf("the file is %q, %v", text, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".events*")); len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}
}

func TestParseExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"7d": "2030-01-09T12:00:00Z", "30d": "2030-02-01T12:00:00Z", "90d": "2030-04-02T12:00:00Z", "1y": "2031-01-02T12:00:00Z", "2w": "2030-01-16T12:00:00Z",
		"12h": "2030-01-03T00:00:00Z", "2031-01-31": "2031-01-31T00:00:00Z", "2031-01-31t00:00:00z": "2031-01-31T00:00:00Z", "2031-01-31T01:00:00+01:00": "2031-01-31T00:00:00Z",
		"never": "never", "": "", "0d": "", "-1h": "", "291y": "", "0w": "", "soon": "", "2029-01-01": "", "7": "",
	} {
		e, err := parseExpiry(text, now)
		got := ""
		switch {
		case err != nil:
		case e.Value == nil:
			got = "never"
		default:
			got = e.Value.Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
}

// Mistakes are found before anything is sent.
func TestManageMistakes(t *testing.T) {
	t.Parallel()
	env := anAPI(t, func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was sent", r.Method, r.URL)
		w.WriteHeader(http.StatusTeapot)
	})
	for _, c := range []struct {
		says string
		args []string
	}{
		{"every user of the machine can see now", []string{"keys", "revoke", aSecret}},
		{"every user of the machine: set", []string{"keys", "list", "--client-secret", "x"}},
		{"--expires:", []string{"keys", "create", "x", "--expires", "soon"}},
		{"--token-ttl:", []string{"keys", "create", "x", "--token-ttl", "soon"}},
		{"--max-uses:", []string{"keys", "create", "x", "--max-uses", "-1"}},
		{"--exchanges-per-minute:", []string{"keys", "update", aKeyID, "--exchanges-per-minute", "fast"}},
		{"a policy has no", []string{"policy", "set", "colour=red"}},
		{"is not like NAME=VALUE", []string{"policy", "preview", "api_keys_enabled"}},
		{`"x" is not a whole number`, []string{"quota", "set", "max_keys=x"}},
		{"not one JSON object", []string{"quota", "set", "--file", os.DevNull}},
		{"--grace:", []string{"keys", "rotate", aKeyID, "--grace", "soon"}},
		{"personal", []string{"keys", "create", "x", "--personal", "--role", "viewer"}},
		{"NAME is missing", []string{"keys", "create"}},
		{`"y" is one too many`, []string{"keys", "show", "x", "y"}},
		{"ID is empty", []string{"keys", "show", ""}},
		{"which role?", []string{"members", "add", "ada@example.com"}},
		{"what is to change? give --role", []string{"members", "update", "usr_1"}},
		{"give how long ago", []string{"audit", "list", "--since", "yesterday"}},
		{"for good", []string{"users", "delete", "usr_1"}},
		{"--timeout", []string{"whoami", "--timeout", "0s"}},
		{`"env" is none of`, []string{"keys", "list", "-o", "env"}},
		{`has no command "lst" (did you mean list?)`, []string{"keys", "lst"}},
	} {
		tool(t, env, "", c.args...).wants(t, strings.Join(c.args[:2], " "), exitUsage, c.says)
	}
}
