package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// devServer is a running `tokenbooth dev --json`.
type devServer struct {
	*process
	demo
	temp string // its TMPDIR
}

func (d *devServer) key() credential { return credential{d.ClientID, d.ClientSecret} }

// devStart runs dev on a free port.
func devStart(t *testing.T, env []string, args ...string) *devServer {
	t.Helper()
	d := &devServer{temp: t.TempDir()}
	d.process = start(t, append(env, "TMPDIR="+d.temp), append([]string{"dev", "--listen", "127.0.0.1:0"}, args...)...)
	return d
}

// devReady runs dev --json and reads the line that says it is ready.
func devReady(t *testing.T, args ...string) *devServer {
	t.Helper()
	d := devStart(t, nil, append(args, "--json")...)
	d.read()
	return d
}

func (d *devServer) read() {
	d.t.Helper()
	eventually(d.t, "dev's line of JSON", func() bool {
		if d.hasExited() {
			d.t.Fatalf("dev ended with code %d:\n%s", d.cmd.ProcessState.ExitCode(), &d.log)
		}
		return len(d.out.lines()) > 0
	})
	if err := json.Unmarshal([]byte(d.out.lines()[0]), &d.demo); err != nil {
		d.t.Fatalf("dev printed %q: %v", &d.out, err)
	}
}

func TestDevFixtures(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	token := wantToken(t, d.Issuer, d.key())
	if got := claims(t, token); got["workspace_id"] != d.WorkspaceID || got["aud"] != d.Audience || got["iss"] != d.Issuer {
		t.Errorf("claims %v do not fit what dev printed: %+v", got, d.demo)
	}
	refused := map[string]string{
		"expired": "expired at", "revoked": "revoked at", "disabled": "is disabled", "suspended": "is suspended",
	}
	if len(d.Fixtures) != len(refused)+1 {
		t.Errorf("there are %d fixtures, want %d", len(d.Fixtures), len(refused)+1)
	}
	for name, reason := range refused {
		f := d.Fixtures[name]
		wantRefusal(t, d.Issuer, credential{f.ClientID, f.ClientSecret}, reason)
	}
	other := d.Fixtures["other_workspace"]
	got := claims(t, wantToken(t, d.Issuer, credential{other.ClientID, other.ClientSecret}))
	if got["workspace_id"] == d.WorkspaceID || got["workspace_id"] == "" {
		t.Errorf("other_workspace has workspace_id %v, as the demo has", got["workspace_id"])
	}
	if a := get(t, d.JWKSURI, ""); a.status != http.StatusOK {
		t.Errorf("jwks_uri answers %d", a.status)
	}
	if a := get(t, d.OperationsURL+"/readyz", ""); a.status != http.StatusOK {
		t.Errorf("operations_url is not ready: %d %v", a.status, a.body)
	}

	d.stop()
	if left, err := os.ReadDir(d.temp); err != nil || len(left) > 0 {
		t.Errorf("dev left %v behind, error %v", left, err)
	}
	if d.log.String() != "" {
		t.Errorf("dev wrote to standard error: %s", &d.log)
	}
}

func TestDevDialects(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	post := func(contentType, body string, prepare func(*http.Request)) answer {
		request, err := http.NewRequest(http.MethodPost, d.LoginURL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", contentType)
		prepare(request)
		return send(t, request)
	}
	asIs := func(*http.Request) {}
	const form, asJSON = "application/x-www-form-urlencoded", "application/json"
	for name, a := range map[string]answer{
		"form":  post(form, d.key().form().Encode(), asIs),
		"Basic": post(form, "grant_type=client_credentials", func(r *http.Request) { r.SetBasicAuth(d.ClientID, d.ClientSecret) }),
		"JSON":  post(asJSON, `{"grant_type":"client_credentials","client_id":"`+d.ClientID+`","client_secret":"`+d.ClientSecret+`"}`, asIs),
		"camel": post(asJSON, `{"clientId":"`+d.ClientID+`","clientSecret":"`+d.ClientSecret+`"}`, asIs),
	} {
		if a.status != http.StatusOK {
			t.Errorf("%s: %d %v", name, a.status, a.body)
			continue
		}
		who := get(t, d.WhoamiURL, a.text("access_token"))
		if who.status != http.StatusOK || who.text("client_id") != d.ClientID || who.text("workspace_id") != d.WorkspaceID ||
			who.text("workspace") != d.Workspace || who.text("scope") != d.Scope.String() {
			t.Errorf("%s: whoami answers %d %v, want what dev printed: %+v", name, who.status, who.body, d.demo)
		}
	}
	inQuery := d.LoginURL + "?" + d.key().form().Encode()
	if a := get(t, inQuery, ""); a.status != http.StatusMethodNotAllowed {
		t.Errorf("GET with the key in the query answers %d, want 405", a.status)
	}
}

// What dev prints for people is pasted into a shell as it is.
func TestDevCommandsWork(t *testing.T) {
	t.Parallel()
	d := devStart(t, nil)
	eventually(t, "what dev prints for people", func() bool { return strings.Contains(d.out.String(), "/jwks.json\n") })
	script := []string{"set -eu"}
	for _, line := range d.out.lines() {
		if strings.HasPrefix(line, "  curl ") || strings.HasPrefix(line, "  TOKEN=") {
			script = append(script, line)
		}
	}
	if len(script) != 4 {
		t.Fatalf("there are %d commands, want 3:\n%s", len(script)-1, &d.out)
	}
	printed, err := exec.Command("sh", "-c", strings.Join(script, "\n")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	decoder := json.NewDecoder(strings.NewReader(string(printed)))
	var token, who map[string]any
	if decoder.Decode(&token) != nil || decoder.Decode(&who) != nil || token["access_token"] == nil || who["workspace"] != "demo" {
		t.Errorf("the commands print %s", printed)
	}
}

func TestDevIgnoresTheEnvironment(t *testing.T) {
	t.Parallel()
	d := devStart(t, []string{
		"TOKENBOOTH_CONFIG=nowhere.yaml", "TOKENBOOTH_LISTEN=0.0.0.0:1", "TOKENBOOTH_KEYS_PREFIX=other",
		"TOKENBOOTH_DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/x", "TOKENBOOTH_SECRETS_PEPPER=bad",
	}, "--json")
	d.read()
	wantToken(t, d.Issuer, d.key())
	if issuer, err := url.Parse(d.Issuer); err != nil || issuer.Hostname() != "127.0.0.1" || !strings.HasPrefix(d.ClientID, "tbk_") {
		t.Errorf("dev took something from the environment: %+v", d.demo)
	}
}

func TestDevPortTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	p, code := runCommand(t, nil, "dev", "--listen", taken.Addr().String())
	if code != exitFailure || !strings.Contains(p.log.String(), "hint: choose another address with --listen 127.0.0.1:0") {
		t.Errorf("exit code %d, want 1 and a hint:\n%s", code, &p.log)
	}
}

// When nobody asked for the usual address and it is taken, another one does.
func TestDevTakesAnotherPort(t *testing.T) {
	if usual, err := net.Listen("tcp", devAddress); err == nil { // otherwise someone else holds it
		defer func() { _ = usual.Close() }()
	}
	other, err := devListener("")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if host, _, err := net.SplitHostPort(other.Addr().String()); err != nil || host != "127.0.0.1" || other.Addr().String() == devAddress {
		t.Errorf("it listens on %s", other.Addr())
	}
}
