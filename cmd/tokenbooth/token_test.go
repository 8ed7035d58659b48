package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// aTool is what a command said and how it ended.
type aTool struct {
	code        int
	out, errors string
}

// tool runs a command in this process, with an environment of its own.
func tool(t *testing.T, env []string, stdin string, args ...string) aTool {
	t.Helper()
	var out, problems bytes.Buffer
	env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	code := run(t.Context(), args, env, strings.NewReader(stdin), &out, &problems)
	return aTool{code, out.String(), problems.String()}
}

// wants checks how a command ended. A failure puts nothing on standard output.
func (a aTool) wants(t *testing.T, what string, code int, says string) {
	t.Helper()
	if a.code != code || !strings.Contains(a.errors, says) {
		t.Errorf("%s: ended with %d and says %q; want %d and %q", what, a.code, a.errors, code, says)
	}
	if code != exitOK && a.out != "" {
		t.Errorf("%s: it failed and put %q on standard output", what, a.out)
	}
	if found := leak.FindString(a.errors); found != "" {
		t.Errorf("%s: standard error holds the secret %s", what, found)
	}
}

// as is the environment of a client of the server with that URL.
func as(url string, c credential) []string {
	return []string{"TOKENBOOTH_URL=" + url, "TOKENBOOTH_CLIENT_ID=" + c.id, "TOKENBOOTH_CLIENT_SECRET=" + c.secret}
}

func TestTokenGet(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	env := as(d.Issuer, d.key())
	jwt := regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\n$`)
	raw := tool(t, env, "", "token", "get")
	raw.wants(t, "token get", exitOK, "")
	if !jwt.MatchString(raw.out) || raw.errors != "" {
		t.Errorf("standard output is %q, standard error %q", raw.out, raw.errors)
	}
	if a := get(t, d.WhoamiURL, strings.TrimSpace(raw.out)); a.status != http.StatusOK || a.text("client_id") != d.ClientID {
		t.Errorf("the token: %+v", a)
	}

	// Everywhere the secret may come from, and with less said.
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(d.ClientSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, []string{"TOKENBOOTH_URL=" + d.Issuer + "/", "TOKENBOOTH_CLIENT_SECRET_FILE=" + file}, "", "token", "get").wants(t, "a file, no key ID", exitOK, "")
	tool(t, nil, d.ClientSecret+"\n", "token", "get", "--client-secret-stdin", "--url", d.Issuer).wants(t, "standard input", exitOK, "")

	narrowed := tool(t, env, "", "token", "get", "-o", "json", "--scope", "collectors:read", "--scope", "pipelines:read", "--audience", d.Audience)
	var answer map[string]any
	if err := json.Unmarshal([]byte(narrowed.out), &answer); err != nil || answer["scope"] != "collectors:read pipelines:read" || answer["version"] != 1.0 ||
		answer["token_type"] != "Bearer" || answer["key_expires_at"] != nil {
		t.Errorf("-o json: %v, %v", answer, err)
	}
	if at, err := time.Parse(time.RFC3339, fmt.Sprint(answer["expires_at"])); err != nil || time.Until(at) < 9*time.Minute {
		t.Errorf("expires_at %v: %v", answer["expires_at"], err)
	}
}

// Nothing is on standard output in any failure, and the code tells what is worth
// another try.
func TestTokenGetFailures(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	key := d.key()
	wrong := credential{key.id, d.Fixtures["revoked"].ClientSecret}
	long := func(name string) credential {
		return credential{d.Fixtures[name].ClientID, d.Fixtures[name].ClientSecret}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		env   []string
		args  []string
		code  int
		says  string
		stdin string
	}{
		{"another key's secret", as(d.Issuer, wrong), nil, exitRefused, "401 invalid_client", ""},
		{"a revoked key", as(d.Issuer, long("revoked")), nil, exitRefused, "was revoked at", ""},
		{"an expired key", as(d.Issuer, long("expired")), nil, exitRefused, "expired at", ""},
		{"a malformed secret", as(d.Issuer, credential{key.id, key.secret[:len(key.secret)-1]}), nil, exitRefused, "malformed", ""},
		{"a scope that it does not hold", as(d.Issuer, key), []string{"--scope", "collectors:delete"}, exitRefused, "400 invalid_scope", ""},
		{"an audience that it does not have", as(d.Issuer, key), []string{"--audience", "urn:x"}, exitRefused, "400 invalid_target", ""},
		{"nobody there", as("http://127.0.0.1:1", key), []string{"--timeout", "1s"}, exitRetry, "cannot reach the Tokenbooth", ""},
		{"no such host", as("https://tokenbooth.invalid", key), []string{"--timeout", "1s"}, exitRetry, "cannot reach the Tokenbooth", ""},
		{"not the issuer", as(d.Issuer+"/elsewhere", key), nil, exitFailure, "is " + d.Issuer + "/elsewhere the issuer", ""},
		{"in the clear", as("http://login.example.com", key), nil, exitUsage, "would send secrets in the clear", ""},
		{"no URL", as("", key), nil, exitUsage, "where is the Tokenbooth?", ""},
		{"no URL that is one", as("login.example.com", key), nil, exitUsage, "not like https://login.example.com", ""},
		{"a URL with a password", as("https://u:hunter2@login.example.com", key), nil, exitUsage, "not like https://login.example.com", ""},
		{"no secret", as(d.Issuer, credential{key.id, ""}), nil, exitUsage, "the secret is missing", ""},
		{"no key ID to be had", as(d.Issuer, credential{"", "x"}), nil, exitUsage, "the key ID is missing", ""},
		{"two secrets", append(as(d.Issuer, key), "TOKENBOOTH_CLIENT_SECRET_FILE="+empty), nil, exitUsage, "both TOKENBOOTH_CLIENT_SECRET and", ""},
		{"an empty file", append(as(d.Issuer, credential{}), "TOKENBOOTH_CLIENT_SECRET_FILE="+empty), nil, exitUsage, "the secret is missing", ""},
		{"no file", append(as(d.Issuer, credential{}), "TOKENBOOTH_CLIENT_SECRET_FILE="+empty+"x"), nil, exitFailure, "no such file", ""},
		{"nothing on standard input", as(d.Issuer, credential{}), []string{"--client-secret-stdin"}, exitUsage, "the secret is missing", " \n"},
		{"a secret as a flag", as(d.Issuer, key), []string{"--client-secret", "hunter2"}, exitUsage, "visible to every user", ""},
		{"an unknown format", as(d.Issuer, key), []string{"-o", "xml"}, exitUsage, `"xml" is none of raw, json`, ""},
		{"an unknown shell", as(d.Issuer, key), []string{"-o", "env", "--shell", "csh"}, exitUsage, `"csh" is none of`, ""},
		{"a variable that is none", as(d.Issuer, key), []string{"-o", "env", "--var", "A=b"}, exitUsage, "a name has letters", ""},
		{"a scope that is none", as(d.Issuer, key), []string{"--scope", "a\"b"}, exitUsage, "--scope: malformed scope", ""},
		{"an unknown cache", as(d.Issuer, key), []string{"--cache", "ram"}, exitUsage, `"ram" is none of auto, disk, none`, ""},
		{"no time", as(d.Issuer, key), []string{"--timeout", "0s"}, exitUsage, "--timeout", ""},
		{"a word too many", as(d.Issuer, key), []string{key.id}, exitUsage, "nothing goes after the options", ""},
		{"git without a word", as(d.Issuer, key), []string{"-o", "git"}, exitUsage, "-o git is for git", ""},
		{"github elsewhere", as(d.Issuer, key), []string{"-o", "github"}, exitUsage, "GITHUB_OUTPUT", ""},
		{"gitlab with a trace", append(as(d.Issuer, key), "CI_DEBUG_TRACE=true"), []string{"-o", "gitlab"}, exitFailure, "would show the token", ""},
		{"kubectl of the future", append(as(d.Issuer, key), `KUBERNETES_EXEC_INFO={"apiVersion":"client.authentication.k8s.io/v9"}`), []string{"-o", "exec-credential"}, exitFailure, "kubectl asks for client.authentication.k8s.io/v9", ""},
		{"no CA", append(as(d.Issuer, key), "TOKENBOOTH_CA_CERT="+empty), nil, exitFailure, "no certificate in PEM", ""},
	} {
		tool(t, c.env, c.stdin, append([]string{"token", "get"}, c.args...)...).wants(t, c.what, c.code, c.says)
	}
}

func TestTokenFormats(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	output := filepath.Join(t.TempDir(), "output")
	if err := os.WriteFile(output, []byte("before=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(as(d.Issuer, d.key()), "GITHUB_OUTPUT="+output)
	const token = `[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`
	for _, c := range []struct {
		args  []string
		env   string
		stdin string
		want  string // of standard output
	}{
		{[]string{"-o", "raw"}, "", "", `^` + token + `\n$`},
		{[]string{"-o", "env"}, "", "", `^export TOKENBOOTH_TOKEN='` + token + `'\n$`},
		{[]string{"-o", "env", "--shell", "fish", "--var", "T"}, "", "", `^set -gx T '` + token + `';\n$`},
		{[]string{"-o", "env", "--shell", "powershell"}, "", "", `^\$Env:TOKENBOOTH_TOKEN = '` + token + `'\n$`},
		{[]string{"-o", "gitlab", "--var", "API_TOKEN"}, "", "", `^export API_TOKEN='` + token + `'\n$`},
		{[]string{"-o", "header"}, "", "", `^Authorization: Bearer ` + token + `\n$`},
		{[]string{"-o", "exec-credential"}, "", "", `^{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"expirationTimestamp":"20[0-9T:-]+Z","token":"` + token + `"}}\n$`},
		{[]string{"-o", "exec-credential"}, `KUBERNETES_EXEC_INFO={"apiVersion":"client.authentication.k8s.io/v1beta1"}`, "", `^{"apiVersion":"client.authentication.k8s.io/v1beta1"`},
		{[]string{"-o", "git", "get"}, "", "protocol=https\nhost=git.example.com\n\n", `^username=tokenbooth\npassword=` + token + `\npassword_expiry_utc=[0-9]{10}\n$`},
		{[]string{"-o", "git", "get"}, "", "protocol=http\nhost=localhost:3000\n", `^username=`},
		{[]string{"-o", "git", "store"}, "", "protocol=https\npassword=x\n", `^$`},
		{[]string{"-o", "git", "erase"}, "", "protocol=https\n", `^$`},
		{[]string{"-o", "github"}, "", "", `^::add-mask::` + token + `\n$`},
		{[]string{"-o", "github", "--var", "api_token"}, "", "", `^::add-mask::` + token + `\n$`},
	} {
		a := tool(t, append(env, c.env), c.stdin, append([]string{"token", "get"}, c.args...)...)
		if a.code != exitOK || a.errors != "" || !regexp.MustCompile(c.want).MatchString(a.out) {
			t.Errorf("%v: %d, %q, %q; want %s", c.args, a.code, a.out, a.errors, c.want)
		}
	}
	text, err := os.ReadFile(output)
	if err != nil || !regexp.MustCompile(`^before=1\ntoken=`+token+`\napi_token=`+token+`\n$`).Match(text) {
		t.Errorf("GITHUB_OUTPUT holds %q, %v", text, err)
	}
	tool(t, env, "protocol=http\nhost=git.example.com\n\n", "token", "get", "-o", "git", "get").wants(t, "git in the clear", exitFailure, "it gets none")
}

// A token is given out again while it is good for a while, to the same credential
// that asks for the same; never in CI.
func TestTokenCache(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	cache := t.TempDir()
	env := append(as(d.Issuer, d.key()), "XDG_CACHE_HOME="+cache)
	get := func(env []string, args ...string) string {
		t.Helper()
		a := tool(t, env, "", append([]string{"token", "get"}, args...)...)
		a.wants(t, "token get", exitOK, "")
		return a.out
	}
	first := get(env)
	if again := get(env); again != first {
		t.Error("the kept token was not used")
	}
	for what, other := range map[string]string{
		"for another scope": get(env, "--scope", "collectors:read"),
		"in CI":             get(append(env, "CI=true")),
		"without a cache":   get(env, "--cache", "none"),
	} {
		if other == first {
			t.Errorf("%s: the kept token was used", what)
		}
	}
	if again := get(append(env, "CI=true"), "--cache", "disk"); again != first {
		t.Error("--cache disk: the kept token was not used")
	}
	files, err := filepath.Glob(filepath.Join(cache, "tokenbooth", "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("kept are %v, %v", files, err)
	}
	tool(t, as(d.Issuer, credential{d.ClientID, d.Fixtures["revoked"].ClientSecret}), "", "token", "get").wants(t, "another secret", exitRefused, "")

	// A file that is not as we leave it is as good as none.
	for what, spoil := range map[string]func(path string) error{
		"readable by others": func(path string) error { return os.Chmod(path, 0o644) },
		"cut off":            func(path string) error { return os.Truncate(path, 20) },
		"no token":           func(path string) error { return os.WriteFile(path, []byte(`{"access_token":"a b"}`), 0o600) },
		"a directory":        func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		for _, path := range files {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", path, info, err)
			}
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
		}
		if again := get(env); again == first || strings.Contains(again, " ") {
			t.Errorf("%s: it was used", what)
		}
		for _, path := range files {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
		get(env)
		get(env, "--scope", "collectors:read")
	}
	// git says that the token did not work.
	kept := get(env)
	tool(t, env, "protocol=https\n\n", "token", "get", "-o", "git", "erase").wants(t, "erase", exitOK, "")
	if get(env) == kept {
		t.Error("erase left the token")
	}
}

// askOnce makes a request against a server of the test's, with a clock of its own.
func askOnce(t *testing.T, answer http.HandlerFunc, timeout time.Duration) (got accessToken, slept []time.Duration, err error) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	httpClient, err := newHTTPClient(&environment{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(httpClient.CloseIdleConnections)
	clock := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	r := &tokenRequest{
		url: server.URL, key: credentials{"tbk_1", "hunter2"}, http: httpClient, timeout: timeout,
		now: func() time.Time { return clock },
		sleep: func(_ context.Context, d time.Duration) error {
			slept, clock = append(slept, d), clock.Add(d)
			return nil
		},
	}
	got, err = r.run(t.Context())
	return got, slept, err
}

const goodAnswer = `{"access_token":"a.b.c","token_type":"bearer","expires_in":600,"scope":""}`

// What may pass is tried again, never earlier than it was asked to.
func TestTokenRetries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		header string // Retry-After
		after  time.Duration
	}{
		{"503 with seconds", 503, "7", 7 * time.Second},
		{"429 with a date", 429, "Wed, 02 Jan 2030 12:00:09 GMT", 9 * time.Second},
		{"500 without a word", 500, "", 0},
		{"502 with nonsense", 502, "soon", 0},
		{"503 with the past", 503, "Wed, 02 Jan 2020 12:00:09 GMT", 0},
	} {
		var asked atomic.Int64
		got, slept, err := askOnce(t, func(w http.ResponseWriter, _ *http.Request) {
			if asked.Add(1) < 3 {
				w.Header().Set("Retry-After", c.header)
				w.WriteHeader(c.status)
				return
			}
			_, _ = io.WriteString(w, goodAnswer)
		}, time.Minute)
		if err != nil || got.AccessToken != "a.b.c" || len(slept) != 2 {
			t.Errorf("%s: %+v, %v after %v", c.name, got, err, slept)
			continue
		}
		if slept[0] < max(c.after, 500*time.Millisecond) || slept[0] > max(c.after, 500*time.Millisecond)*5/4+time.Second {
			t.Errorf("%s: it waited %v, want at least %s", c.name, slept, c.after)
		}
	}
	// Not more often than five times, and not for longer than there is time.
	for name, c := range map[string]struct {
		header  string
		timeout time.Duration
		tries   int64
		hint    string
	}{
		"it never passes":      {"", time.Hour, maxTries, "it was tried 5 times"},
		"it would be too late": {"90", time.Minute, 1, "try again in 1m"},
	} {
		var asked atomic.Int64
		_, _, err := askOnce(t, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.Header().Set("Retry-After", c.header)
			http.Error(w, `{"error":"quota_exceeded","error_description":"hunter2 \u001b[31m"}`, http.StatusTooManyRequests)
		}, c.timeout)
		var exit *exitError
		if !errors.As(err, &exit) || exit.code != exitRetry || !strings.Contains(exit.hint, c.hint) || asked.Load() != c.tries {
			t.Errorf("%s: %v after %d tries", name, err, asked.Load())
		}
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\x1b") || !strings.Contains(err.Error(), "quota_exceeded") {
			t.Errorf("%s: the error is %q", name, err)
		}
	}
}

// What is no token never gets out.
func TestTokenAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"a page":              "<html>Sign in to the airport's network</html>",
		"nothing":             "",
		"an empty object":     "{}",
		"an array":            "[]",
		"a line end inside":   `{"access_token":"a.b\nc","token_type":"Bearer","expires_in":600}`,
		"a quote inside":      `{"access_token":"a'; rm -rf /'","token_type":"Bearer","expires_in":600}`,
		"another type":        `{"access_token":"a.b.c","token_type":"mac","expires_in":600}`,
		"no life":             `{"access_token":"a.b.c","token_type":"Bearer"}`,
		"a negative life":     `{"access_token":"a.b.c","token_type":"Bearer","expires_in":-1}`,
		"a life that is text": `{"access_token":"a.b.c","token_type":"Bearer","expires_in":"600"}`,
		"more than we read":   strings.Repeat(" ", maxAnswer) + goodAnswer,
	} {
		_, slept, err := askOnce(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }, time.Minute)
		if err == nil || !strings.Contains(err.Error(), "not with a token") || len(slept) > 0 {
			t.Errorf("%s: %v after %v", name, err, slept)
		}
	}
	var followed atomic.Bool
	_, slept, err := askOnce(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/login" {
			followed.Store(true)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}, time.Minute)
	if !errors.Is(err, errRedirect) || followed.Load() || len(slept) > 0 {
		t.Errorf("a redirect: %v, followed: %v", err, followed.Load())
	}
}

func TestExpiryWarning(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	for expires, want := range map[string]string{
		"": "", "never": "", "2030-01-17T12:00:00Z": "",
		"2030-01-16T11:00:00Z": "expires in 13 days, at 2030-01-16T11:00:00Z",
		"2030-01-02T15:00:01Z": "expires in 3 h,",
		"2030-01-02T12:00:30Z": "expires in 30 s,",
	} {
		if got := strings.Join(expiryWarning("tbk_1", expires, now), ""); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expires, got, want)
		}
	}
}

// The printed command works when it is pasted, and keeps the secret out of the
// command line.
func TestShowCurl(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	env := []string{"TOKENBOOTH_URL=" + d.Issuer, "TOKENBOOTH_CLIENT_ID=" + d.ClientID}
	a := tool(t, env, "", "token", "get", "--show-curl", "--scope", "collectors:read", "--audience", d.Audience)
	a.wants(t, "--show-curl", exitOK, "")
	if strings.Contains(a.out, d.ClientSecret) || !strings.Contains(a.out, `"$TOKENBOOTH_CLIENT_SECRET" `) {
		t.Fatalf("the command is %s", a.out)
	}
	const ca = "/etc/ssl/it's ours.pem"
	if a := tool(t, append(env, "TOKENBOOTH_CA_CERT="+ca), "", "token", "get", "--show-curl"); !strings.Contains(a.out, ` --cacert '/etc/ssl/it'\''s ours.pem' `) {
		t.Errorf("with a CA of its own the command is %s", a.out)
	}
	pasted := exec.CommandContext(t.Context(), "sh", "-c", a.out)
	pasted.Env = append(os.Environ(), "TOKENBOOTH_CLIENT_SECRET="+d.ClientSecret)
	text, err := pasted.Output()
	var answer struct{ Scope string }
	if err := errors.Join(err, json.Unmarshal(text, &answer)); err != nil || answer.Scope != "collectors:read" {
		t.Errorf("it answers %s, %v", text, err)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "-1", "99999999999999", "Wed, 02 Jan 2030 12:00:09 GMT", "1e9"} {
		f.Add(seed)
	}
	now := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if d := retryAfter(text, now); d < 0 {
			t.Errorf("%q: %s", text, d)
		}
	})
}

// Whatever else a request says, it gets nothing for the clear.
func FuzzGitRequest(f *testing.F) {
	f.Add("path=x", "wwwauth[]=Basic")
	f.Add("protocol=https", "\x00")
	line := strings.NewReplacer("\n", "", "\r", "")
	f.Fuzz(func(t *testing.T, first, second string) {
		request := "a" + line.Replace(first) + "\nb" + line.Replace(second) + "\nprotocol=http\r\nhost=git.example.com:80\n\nhost=localhost\n"
		if err := readGitRequest(strings.NewReader(request)); err == nil {
			t.Errorf("%q gets a token", request)
		}
	})
}
