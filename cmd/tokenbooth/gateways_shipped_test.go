package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

const gatewayFiles = "../../deploy/gateways/"

// fill reads a shipped file and puts our values in the place of its examples, each of
// which has to be there once.
func fill(t *testing.T, name string, values map[string]string) string {
	t.Helper()
	raw, err := os.ReadFile(gatewayFiles + name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for example, value := range values {
		if n := strings.Count(text, example); n != 1 {
			t.Fatalf("%s has %q %d times", name, example, n)
		}
		text = strings.Replace(text, example, value, 1)
	}
	return text
}

// startNginx runs Debian's nginx with the shipped file in its http block.
func startNginx(t *testing.T, booth, service string) string {
	t.Helper()
	dir, listen := t.TempDir(), freeAddress(t)
	certificate, key := filepath.Join(dir, "site.pem"), filepath.Join(dir, "site.key")
	writeCertificate(t, certificate, key)
	writeText(t, filepath.Join(dir, "api.conf"), fill(t, "nginx.conf", map[string]string{
		"server 127.0.0.1:8080;":               "server " + booth + ";",
		"server 127.0.0.1:3000;":               "server " + service + ";",
		"listen 443 ssl;":                      "listen " + listen + " ssl;",
		"/etc/ssl/certs/api.example.com.pem":   certificate,
		"/etc/ssl/private/api.example.com.key": key,
	}))
	writeText(t, filepath.Join(dir, "nginx.conf"), `daemon off;
master_process off;
pid `+dir+`/pid;
error_log stderr warn;
events {}
http {
	access_log off;
	client_body_temp_path `+dir+`/body;
	proxy_temp_path `+dir+`/proxy;
	fastcgi_temp_path `+dir+`/fastcgi;
	scgi_temp_path `+dir+`/scgi;
	uwsgi_temp_path `+dir+`/uwsgi;
	include `+dir+`/api.conf;
}
`)
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // which is in the PATH of root alone
	}
	startGateway(t, nil, listen, program, "-e", "stderr", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	return "https://" + listen
}

// startCaddy runs Debian's Caddy with the shipped file, whose values are variables.
func startCaddy(t *testing.T, booth, service string) string {
	t.Helper()
	dir, listen := t.TempDir(), freeAddress(t)
	env := []string{
		"SITE=http://" + listen, "TOKENBOOTH=http://" + booth, "UPSTREAM=http://" + service, "SCOPE=collectors:read", "CADDY_ADMIN=off",
		"HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir,
	}
	startGateway(t, env, listen, "caddy", "run", "--adapter", "caddyfile", "--config", gatewayFiles+"Caddyfile")
	return "http://" + listen
}

// startGateway runs a program until the test ends, and returns when it listens. Its
// end comes with the pipe's, however this process ends.
func startGateway(t *testing.T, env []string, listen, program string, args ...string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", `"$0" "$@" >&2 & read -r _; kill -9 $!; wait $!`, program}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	var log output
	cmd.Stderr = &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s says:\n%s", program, &log)
		}
		if found := leak.FindString(log.String()); found != "" {
			t.Errorf("the log of %s holds a secret", program)
		}
	})
	eventually(t, program+" that listens", func() bool {
		conn, err := net.Dial("tcp", listen)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeCertificate makes a certificate that signs itself.
func writeCertificate(t *testing.T, certificate, key string) {
	t.Helper()
	private := newECKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certificate, "CERTIFICATE", der)
	if der, err = x509.MarshalECPrivateKey(private); err != nil {
		t.Fatal(err)
	}
	writePEM(t, key, "EC PRIVATE KEY", der)
}

// trustEverybody is for certificates that sign themselves.
func trustEverybody() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true} //nolint:gosec // it is ours, on this machine
}

// payloadOf reads a token without any check.
func payloadOf(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatal("this is no token")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// memberOf is a member of a JSON object.
func memberOf(t *testing.T, body io.Reader, name string) string {
	t.Helper()
	var members map[string]any
	if err := json.NewDecoder(body).Decode(&members); err != nil {
		t.Fatal(err)
	}
	text, _ := members[name].(string)
	return text
}

func mustParse(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// What nginx makes of a refusal: the client gets its real status, and when to come
// back. 503 takes a database that is away, so a program that answers like the endpoint
// does stands for it.
func TestNginxStatus(t *testing.T) {
	t.Parallel()
	booth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(endpoint.StatusHeader, r.Header.Get("X-Says"))
		w.Header().Set("Retry-After", "7")
		w.Header().Set("WWW-Authenticate", `Bearer error="x"`)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(booth.Close)
	service := newRecorder(t)
	address := startNginx(t, strings.TrimPrefix(booth.URL, "http://"), strings.TrimPrefix(service.URL, "http://"))
	for _, test := range []struct {
		says string
		want int
	}{{"400", 400}, {"403", 403}, {"429", 429}, {"503", 503}, {"500", 403}, {"", 403}, {"200", 403}} {
		request, err := http.NewRequest(http.MethodGet, address, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Says", test.says) // which nginx passes on
		response, err := clientAt(somebody).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		header := response.Header
		if response.StatusCode != test.want || header.Get("Retry-After") != "7" || header.Get("WWW-Authenticate") != `Bearer error="x"` || header.Get("Cache-Control") != "no-store" {
			t.Errorf("X-Auth-Status %q becomes %d %v, want %d", test.says, response.StatusCode, header, test.want)
		}
	}
	if seen := service.take(); len(seen) != 0 {
		t.Errorf("the service has seen %d requests", len(seen))
	}
}
