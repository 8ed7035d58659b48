package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What deploy/ci and deploy/action hold, and what the page on CI says, runs here
// against a server, with the text that users get.

const (
	loginScript = "../../deploy/ci/tokenbooth-login.sh"
	actionFile  = "../../deploy/action/action.yml"
)

// posixShells are those that CI jobs run in: Debian's, most images', and Alpine's.
var posixShells = [][]string{{"dash"}, {"bash"}, {"busybox", "sh"}}

// ciServer is a server with a workspace and a key for CI.
type ciServer struct {
	*replica
	bootstrapAnswer
}

func startCIServer(t *testing.T) ciServer {
	t.Helper()
	env := onSQLite(t.TempDir(), `TOKENBOOTH_AUDIENCES_SERVERS=[{audience: "https://api.example.com"}, {audience: "urn:two"}]`,
		"TOKENBOOTH_AUDIENCES_DEFAULT=https://api.example.com")
	made := bootstrapped(t, env, append(bootstrapArgs("Payments", "gitlab-ci"), "--scope", "collectors:read", "--scope", "collectors:create")...)
	return ciServer{serveReady(t, env), made}
}

// expiring makes a key that ends after a time such as 7d.
func (s ciServer) expiring(name, after string) credential {
	s.t.Helper()
	a := tool(s.t, as(s.url, s.ownerKey()), "", "keys", "create", name, "--scope", "collectors:read", "--expires", after, "-o", "json")
	var made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal([]byte(a.out), &made); err != nil || made.Secret == "" {
		s.t.Fatalf("no key that expires: %+v, %v", a, err)
	}
	return credential{made.ID, made.Secret}
}

// shellRun runs a command with nothing in its environment but PATH, HOME and env.
func shellRun(t *testing.T, env, command []string) aTool {
	t.Helper()
	var out, problems bytes.Buffer
	child := exec.CommandContext(t.Context(), command[0], command[1:]...)
	child.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	child.Stdout, child.Stderr = &out, &problems
	if err := child.Run(); err != nil && child.ProcessState == nil {
		t.Fatalf("%v (`make deps` installs it)", err)
	}
	return aTool{child.ProcessState.ExitCode(), out.String(), problems.String()}
}

// loginWith runs the script in a shell.
func loginWith(t *testing.T, env, shell []string, args ...string) aTool {
	t.Helper()
	return shellRun(t, env, slices.Concat(shell, []string{loginScript}, args))
}

// wantGood checks that a token is one of the key, and says what it may do.
func (s ciServer) wantGood(what, token string, key credential, scope string) {
	s.t.Helper()
	a := get(s.t, s.url+"/api/v1/whoami", strings.TrimSpace(token))
	if a.status != http.StatusOK || a.text("client_id") != key.id || a.text("scope") != scope {
		s.t.Errorf("%s: the token is no good: %+v", what, a)
	}
}

const ciScope = "collectors:create collectors:read"

// The script gives a token in every form, in every shell.
func TestLoginScript(t *testing.T) {
	t.Parallel()
	s := startCIServer(t)
	key := s.key()
	file := filepath.Join(t.TempDir(), "secret")
	check(t, os.WriteFile(file, []byte(key.secret+"\r\n"), 0o600))
	for _, shell := range posixShells {
		raw := loginWith(t, as(s.url, key), shell)
		raw.wants(t, shell[0], exitOK, "")
		if raw.errors != "" || strings.Count(raw.out, "\n") != 1 {
			t.Errorf("%s: standard output is %q, standard error %q", shell[0], raw.out, raw.errors)
		}
		s.wantGood(shell[0], raw.out, key, ciScope)

		header := loginWith(t, as(s.url+"/", key), shell, "header")
		token, ok := strings.CutPrefix(header.out, "Authorization: Bearer ")
		if !ok {
			t.Errorf("%s: header prints %q", shell[0], header.out)
		}
		s.wantGood(shell[0]+", a header", token, key, ciScope)

		// Only the secret, from a file; narrowed, for another audience.
		env := []string{"TOKENBOOTH_URL=" + s.url, "TOKENBOOTH_CLIENT_SECRET_FILE=" + file, "TOKENBOOTH_SCOPE=collectors:read", "TOKENBOOTH_AUDIENCE=urn:two https://api.example.com"}
		object := loginWith(t, env, shell, "terraform")
		var result map[string]string
		if err := json.Unmarshal([]byte(object.out), &result); err != nil || result["scope"] != "collectors:read" || result["expires_in"] != "600" {
			t.Errorf("%s: terraform prints %+v: %v", shell[0], object, err)
		}
		s.wantGood(shell[0]+", an object", result["token"], key, "collectors:read")
		if audience := fmt.Sprint(claims(t, result["token"])["aud"]); audience != "[urn:two https://api.example.com]" {
			t.Errorf("%s: the token is for %s", shell[0], audience)
		}
	}
}

// The script derives the key ID from a secret of any brand, and of a person.
func TestLoginScriptNamesTheKey(t *testing.T) {
	t.Parallel()
	asked := make(chan url.Values, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // then there is no client_id
		asked <- r.PostForm
		fmt.Fprint(w, `{"access_token":"a.b.c","token_type":"Bearer","expires_in":600}`)
	}))
	t.Cleanup(server.Close)
	const id, random = "06h0af3bbdyyn7edz9sv3qpehc", "0123456789012345678901234567890123456789012345678"
	for prefix, want := range map[string]string{"tbs": "tbk", "tbp": "tbk", "acme_live_s": "acme_live_k", "ssp": "ssk"} {
		a := loginWith(t, as(server.URL, credential{"", prefix + "_" + id + "_" + random}), posixShells[0])
		if a.code != exitOK {
			t.Fatalf("%s: %+v", prefix, a)
		}
		if form := <-asked; a.out != "a.b.c\n" || form.Get("client_id") != want+"_"+id || form.Get("grant_type") != "client_credentials" {
			t.Errorf("%s: %+v, asked for %q", prefix, a, form.Get("client_id"))
		}
	}
}

// Every failure has its exit code and a sentence, nothing on standard output and no
// secret anywhere.
func TestLoginScriptFailures(t *testing.T) {
	t.Parallel()
	s := startCIServer(t)
	key := s.key()
	gone := s.expiring("gone", "30d")
	tool(t, as(s.url, s.ownerKey()), "", "keys", "revoke", gone.id).wants(t, "revoke", exitOK, "")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved/api/login":
			http.Redirect(w, r, "/api/login", http.StatusTemporaryRedirect)
		case "/echo/api/login":
			_ = r.ParseForm() // then the test fails
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error":"invalid_client","error_description":"I know %s\u001b[31m\n::error::x"}`, r.PostForm.Get("client_secret"))
		default:
			fmt.Fprint(w, `<p>Welcome!</p>`)
		}
	}))
	t.Cleanup(elsewhere.Close)
	for _, c := range []struct {
		what string
		env  []string
		args []string
		code int
		says string
	}{
		{"another key's secret", as(s.url, credential{key.id, gone.secret}), nil, exitRefused, "401 invalid_client"},
		{"a revoked key", as(s.url, gone), nil, exitRefused, "was revoked at"},
		{"a secret cut off", as(s.url, credential{key.id, key.secret[:len(key.secret)-1]}), nil, exitRefused, "malformed"},
		{"a scope that it does not hold", append(as(s.url, key), "TOKENBOOTH_SCOPE=collectors:x&client_id=y"), nil, exitRefused, "400 invalid_scope"},
		{"an audience that it does not have", append(as(s.url, key), "TOKENBOOTH_AUDIENCE=urn:x"), nil, exitRefused, "400 invalid_target"},
		{"who repeats the secret", as(elsewhere.URL+"/echo", key), nil, exitRefused, "in words that hold the secret"},
		{"a redirect", as(elsewhere.URL+"/moved", key), nil, exitFailure, "answers 307: is it the URL"},
		{"some other page", as(elsewhere.URL, key), nil, exitFailure, "but not with a token"},
		{"not the issuer", as(s.url+"/elsewhere", key), nil, exitFailure, "answers 404: is it the URL"},
		{"nobody there", append(as("http://127.0.0.1:1", key), "TOKENBOOTH_TIMEOUT=1"), nil, exitRetry, "cannot reach http://127.0.0.1:1"},
		{"in the clear", as("http://login.example.com", key), nil, exitUsage, "would send the secret in the clear"},
		{"a host that looks like this one", as("http://localhost.example.com", key), nil, exitUsage, "would send the secret in the clear"},
		{"no URL", as("", key), nil, exitUsage, "TOKENBOOTH_URL is not set"},
		{"no URL that is one", as("login.example.com", key), nil, exitUsage, "not like https://login.example.com"},
		{"a URL with a password", as("https://u:hunter2@login.example.com", key), nil, exitUsage, "not like https://login.example.com"},
		{"no secret", as(s.url, credential{key.id, ""}), nil, exitUsage, "the secret is missing"},
		{"quotes around it", as(s.url, credential{key.id, `"` + key.secret + `"`}), nil, exitUsage, "a character that no secret has"},
		{"two secrets", append(as(s.url, key), "TOKENBOOTH_CLIENT_SECRET_FILE=/dev/null"), nil, exitUsage, "are both set"},
		{"no file", []string{"TOKENBOOTH_URL=" + s.url, "TOKENBOOTH_CLIENT_SECRET_FILE=/nowhere"}, nil, exitFailure, "cannot be read"},
		{"an ID with a space", as(s.url, credential{"tbk_1 2", key.secret}), nil, exitUsage, "TOKENBOOTH_CLIENT_ID is not like"},
		{"an unknown format", as(s.url, key), []string{"xml"}, exitUsage, "none of raw, header"},
		{"no number", append(as(s.url, key), "TOKENBOOTH_TIMEOUT=1m"), nil, exitUsage, "a number of seconds"},
		{"github elsewhere", as(s.url, key), []string{"github"}, exitUsage, ""},
		{"a job that is traced", append(as(s.url, key), "CI_DEBUG_TRACE=true"), nil, exitFailure, "would show the token"},
		{"no CA", append(as(s.url, key), "TOKENBOOTH_CA_CERT=/nowhere"), nil, exitFailure, "TOKENBOOTH_CA_CERT cannot be read"},
	} {
		a := loginWith(t, c.env, posixShells[0], c.args...)
		if c.what == "github elsewhere" { // GitHub takes errors from standard output
			a.out, a.errors = "", a.out+a.errors
		}
		a.wants(t, c.what, c.code, c.says)
	}
}

// faultyFront answers the requests for a server, first with faults.
type faultyFront struct {
	url    string
	mu     sync.Mutex
	faults []http.HandlerFunc
	asked  []time.Time
}

func newFaultyFront(t *testing.T, behind string, faults ...http.HandlerFunc) *faultyFront {
	t.Helper()
	target, err := url.Parse(behind)
	check(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	f := &faultyFront{faults: faults}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.next(proxy).ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f *faultyFront) next(otherwise http.Handler) http.Handler {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, time.Now())
	if len(f.faults) == 0 {
		return otherwise
	}
	fault := f.faults[0]
	f.faults = f.faults[1:]
	return fault
}

// requests tells when it was asked.
func (f *faultyFront) requests() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// busy answers with a status, as a server that asks to wait for so many seconds.
func busy(status int, code, retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", retryAfter)
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":%q,"error_description":"The quota is spent."}`, code)
	}
}

// hangUp breaks the connection.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// The script asks again as soon as it may and no earlier, and not for ever.
func TestLoginScriptWaits(t *testing.T) {
	t.Parallel()
	s := startCIServer(t)
	key := s.key()
	f := newFaultyFront(t, s.url, busy(429, "quota_exceeded", "3"), hangUp, busy(503, "temporarily_unavailable", "Sat, 28 Nov 2026 10:00:00 GMT"))
	a := loginWith(t, as(f.url, key), posixShells[0])
	a.wants(t, "faults that pass", exitOK, "429 quota_exceeded The quota is spent.; trying again in 3 s")
	s.wantGood("faults that pass", a.out, key, ciScope)
	asked := f.requests()
	if len(asked) != 4 {
		t.Fatalf("it asked %d times, want 4: %s", len(asked), a.errors)
	}
	for i, least := range []time.Duration{3 * time.Second, 2 * time.Second, 4 * time.Second} {
		if waited := asked[i+1].Sub(asked[i]); waited < least {
			t.Errorf("it waited %s before request %d, want %s at least", waited, i+2, least)
		}
	}

	late := newFaultyFront(t, s.url, busy(429, "quota_exceeded", "3600"))
	loginWith(t, as(late.url, key), posixShells[0]).wants(t, "an hour to wait", exitRetry, "Try again in 3600 seconds")
	if asked := late.requests(); len(asked) != 1 {
		t.Errorf("it asked %d times though it was told to wait", len(asked))
	}
}

// spyPath is a PATH whose programs write their arguments to a log before they run.
func spyPath(t *testing.T) (path, log string) {
	t.Helper()
	path, log = t.TempDir(), filepath.Join(t.TempDir(), "argv")
	for _, name := range []string{"curl", "sed", "tr", "cat", "tail", "date", "sleep"} {
		real, err := exec.LookPath(name)
		check(t, err)
		spy := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"%s $*\" >>%s\nexec %s \"$@\"\n", name, log, real)
		check(t, os.WriteFile(filepath.Join(path, name), []byte(spy), 0o755)) //nolint:gosec // it is run
	}
	return path + ":" + os.Getenv("PATH"), log
}

// No program that the script runs has the secret or the token as an argument, where
// every user of the machine could read it, and a trace shows neither.
func TestLoginScriptKeepsTheSecret(t *testing.T) {
	t.Parallel()
	s := startCIServer(t)
	key := s.expiring("watched", "7d")
	for _, shell := range posixShells {
		for _, format := range []string{"raw", "header", "terraform", "github"} {
			path, log := spyPath(t)
			env := append(as(s.url, key), "PATH="+path, "GITHUB_OUTPUT="+filepath.Join(t.TempDir(), "output"))
			a := loginWith(t, env, append(slices.Clone(shell), "-x"), format)
			a.wants(t, shell[0]+" "+format, exitOK, "") // which searches the trace
			argv, err := os.ReadFile(log)
			check(t, err)
			if !strings.Contains(string(argv), "/api/login") {
				t.Fatalf("%s: curl was not seen:\n%s", shell[0], argv)
			}
			if found := leak.FindString(string(argv)); found != "" {
				t.Errorf("%s %s: an argument holds %s:\n%s", shell[0], format, found, argv)
			}
		}
	}
}

// A key that ends within two weeks is warned of, with the right number of days.
func TestLoginScriptWarns(t *testing.T) {
	t.Parallel()
	s := startCIServer(t)
	for _, c := range []struct {
		after string
		says  []string // it may be midnight meanwhile
	}{
		{"1d", []string{"days left: 1)", "days left: 0)"}}, {"14d", []string{"days left: 14)", "days left: 13)"}}, {"20d", nil}, {"400d", nil},
	} {
		key := s.expiring("in-"+c.after, c.after)
		for _, shell := range posixShells {
			a := loginWith(t, as(s.url, key), shell)
			said := slices.ContainsFunc(c.says, func(text string) bool {
				return strings.Contains(a.errors, "the key "+key.id+" expires at") && strings.Contains(a.errors, text)
			})
			if a.code != exitOK || said != (c.says != nil) || c.says == nil && a.errors != "" {
				t.Errorf("%s, a key that ends in %s: %+v", shell[0], c.after, a)
			}
		}
	}
}
