package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer/bearertest"
)

func TestTokenInspect(t *testing.T) {
	t.Parallel()
	issuer := bearertest.NewIssuer(t, "https://api.example.com")
	keys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(keys, issuer.Keys(), 0o600); err != nil {
		t.Fatal(err)
	}
	good := issuer.Token(func(c *oauth.Claims) { c.Scope = oauth.NewScope("charts:read") })
	hostile := issuer.Token(func(c *oauth.Claims) { c.Workspace, c.Expiry = "\x1b[2J\x07evil\u009b2J\u202e", 1 })
	elsewhere := issuer.Token(func(c *oauth.Claims) { c.Issuer = "https://evil.example.com" })
	url := []string{"TOKENBOOTH_URL=" + issuer.URL()}
	gone := []string{"TOKENBOOTH_URL=http://127.0.0.1:1"}
	for _, c := range []struct {
		what  string
		env   []string
		stdin string
		args  []string
		code  int
		out   string
		says  string
	}{
		{"a good one", url, good, nil, exitOK, "valid, for the audience https://api.example.com\n", ""},
		{"of the environment", append(url, "TOKENBOOTH_TOKEN="+good), "", nil, exitOK, "scope       charts:read\n", ""},
		{"of standard input all the same", append(url, "TOKENBOOTH_TOKEN=x"), good, []string{"-"}, exitOK, "valid", ""},
		{"as a header", url, "Authorization: Bearer " + good + "\r\n", []string{"-"}, exitOK, "(in 9 m)\n", ""},
		{"for another audience", url, good, []string{"--audience", "urn:x"}, exitRefused, "NOT VALID: it is meant for another audience\nwhat it claims:\n", "the token is not valid: it is meant"},
		{"expired, and driving the terminal", url, hostile, nil, exitRefused, `workspace   \x1b[2J\aevil\u009b2J\u202e`, "it has expired"},
		{"of another issuer", url, elsewhere, nil, exitRefused, "NOT VALID: it was issued by another issuer", "another issuer"},
		{"changed", url, good[:len(good)-6] + "AAAAAA", nil, exitRefused, "NOT VALID: ", "not valid"},
		{"with typ JWT", url, issuer.Sign(map[string]any{"typ": "JWT"}, []byte(`{"aud":"a","exp":1e3}`)), nil, exitRefused, "typ JWT", "claim exp has an unexpected form"},
		{"no token at all", url, "hello", nil, exitRefused, "NOT VALID: it does not have the three parts of a JWT", "three parts"},
		{"with a file", []string{"TOKENBOOTH_URL=" + issuer.URL()}, good, []string{"--jwks", keys}, exitOK, "valid", ""},
		{"the issuer is away", gone, good, nil, exitRetry, "NOT VERIFIED: the keys are not available\nwhat it claims:\n", "not available"},
	} {
		a := tool(t, c.env, c.stdin, append([]string{"token", "inspect"}, c.args...)...)
		if a.code != c.code || !strings.Contains(a.out, c.out) || !strings.Contains(a.errors, c.says) {
			t.Errorf("%s: %d\n%s\n%s; want %d, %q, %q", c.what, a.code, a.out, a.errors, c.code, c.out, c.says)
		}
		if strings.ContainsAny(a.out+a.errors, "\x1b\x07\u009b\u202e") {
			t.Errorf("%s: a control character gets out: %q", c.what, a.out)
		}
		if leak.MatchString(a.errors) {
			t.Errorf("%s: the token is in %s", c.what, a.errors)
		}
	}
	tool(t, url, "", "token", "inspect").wants(t, "nothing", exitUsage, "there is no token")
	tool(t, url, "", "token", "inspect", good).wants(t, "a token as an argument", exitUsage, "visible to every user")
	tool(t, nil, good, "token", "inspect").wants(t, "no issuer", exitUsage, "where is the Tokenbooth?")
	tool(t, url, good, "token", "inspect", "-o", "xml").wants(t, "a format", exitUsage, "none of text, json")
	tool(t, url, good, "token", "inspect", "--jwks", keys+"x").wants(t, "no file", exitFailure, "no such file")

	var i inspection
	a := tool(t, url, hostile, "token", "inspect", "-o", "json")
	if strings.ContainsAny(a.out, "\x1b\u009b\u202e") {
		t.Errorf("-o json: a control character gets out: %q", a.out)
	}
	if err := json.Unmarshal([]byte(a.out), &i); err != nil || i.Valid || i.Reason != "it has expired" || i.Claims["exp"] != 1.0 || i.Header["alg"] != "ES256" || i.Claims["workspace"] != "\x1b[2J\x07evil\u009b2J\u202e" {
		t.Errorf("-o json: %s, %v", a.out, err)
	}
}

func TestJWKS(t *testing.T) {
	t.Parallel()
	issuer := bearertest.NewIssuer(t, "https://api.example.com")
	issuer.RotateTo("RS256")
	issuer.RotateTo("EdDSA")
	url := []string{"TOKENBOOTH_URL=" + issuer.URL()}
	path := filepath.Join(t.TempDir(), "jwks.json")
	shown := tool(t, url, "", "jwks")
	shown.wants(t, "jwks", exitOK, "")
	tool(t, url, "", "jwks", "--out", path).wants(t, "--out", exitOK, "")
	written, err := os.ReadFile(path)
	if err != nil || string(written) != shown.out || strings.Count(shown.out, `"kid"`) != 3 {
		t.Errorf("the file holds %s, %v; shown is %s", written, err, shown.out)
	}
	before, err := os.Stat(path)
	if err != nil || before.Mode().Perm() != 0o644 {
		t.Fatalf("%v, %v", before, err)
	}
	tool(t, url, "", "jwks", "--out", path).wants(t, "again", exitOK, "")
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was written anew, %v", err)
	}
	issuer.Forget()
	tool(t, url, "", "jwks", "--out", path).wants(t, "other keys", exitOK, "")
	if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), `"kid"`) != 1 {
		t.Errorf("the file holds %s, %v", text, err)
	}

	// Whatever else the answer is, the file stays.
	kept, _ := os.ReadFile(path)
	const good = `{"issuer":"http://HOST","jwks_uri":"http://HOST/keys"}`
	for _, c := range []struct {
		metadata string
		status   int
		keys     string
		code     int
	}{
		{good, 200, `{"keys":[]}`, exitFailure},
		{good, 200, "<html>", exitFailure},
		{good, 200, "", exitFailure},
		{good, 404, "", exitFailure},
		{good, 503, "", exitRetry},
		{good, 429, "", exitRetry},
		{good, 307, "", exitFailure},
		{"<html>", 200, string(issuer.Keys()), exitFailure},
		{"{}", 200, string(issuer.Keys()), exitFailure},
		{`{"issuer":"https://other.example.com","jwks_uri":"http://HOST/keys"}`, 200, string(issuer.Keys()), exitFailure},
		{`{"issuer":"http://HOST","jwks_uri":"http://login.example.com/keys"}`, 200, string(issuer.Keys()), exitFailure},
		{`{"issuer":"http://HOST","jwks_uri":"file:///keys"}`, 200, string(issuer.Keys()), exitFailure},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == metadataPath {
				_, _ = io.WriteString(w, strings.ReplaceAll(c.metadata, "HOST", r.Host))
				return
			}
			w.Header().Set("Location", issuer.URL())
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.keys)
		}))
		tool(t, nil, "", "jwks", "--url", server.URL, "--out", path).wants(t, fmt.Sprint(c.metadata, c.status, c.keys), c.code, "")
		server.Close()
		if text, err := os.ReadFile(path); err != nil || string(text) != string(kept) {
			t.Errorf("%s %d %s: the file was changed, %v", c.metadata, c.status, c.keys, err)
		}
	}
	issuer.Stop()
	tool(t, url, "", "jwks", "--out", path).wants(t, "away", exitRetry, "cannot reach")
	tool(t, url, "", "jwks", "--out", filepath.Join(path, "x")).wants(t, "nowhere", exitRetry, "cannot reach")

	issuer.Start()
	asPEM := tool(t, url, "", "jwks", "--pem")
	if strings.Count(asPEM.out, "BEGIN PUBLIC KEY") != 1 || !strings.HasPrefix(asPEM.out, "# kid ") {
		t.Errorf("--pem: %s", asPEM.out)
	}
	read := exec.CommandContext(t.Context(), "openssl", "pkey", "-pubin", "-noout")
	read.Stdin = strings.NewReader(asPEM.out)
	if text, err := read.CombinedOutput(); err != nil {
		t.Errorf("openssl does not read it: %s %v", text, err)
	}
}
