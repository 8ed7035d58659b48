package main

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer/bearertest"
)

// The pages of deploy/docs/consumers run here as their readers run them: what is in
// the files below is the text of the pages, with other addresses.

const (
	pageIssuer   = "https://login.example.com"
	pageAudience = "https://api.example.com"
)

// pageFile is the first line of a block that is a file.
var pageFile = regexp.MustCompile(`^(?:#|//|--) ([a-z0-9-]+(?:\.[a-z]+)+)\n`)

// consumerPage is a page with the files and commands that it shows.
type consumerPage struct {
	name     string
	files    map[string]string
	commands []string
}

func readConsumerPage(t *testing.T, name string) consumerPage {
	t.Helper()
	p := consumerPage{name, map[string]string{}, nil}
	for _, block := range pageBlocks(t, "consumers/"+name+".md", "") {
		if m := pageFile.FindStringSubmatch(block.text); m != nil {
			p.files[m[1]] = block.text
		} else if block.language == "sh" {
			p.commands = append(p.commands, block.text)
		}
	}
	return p
}

// write puts the files into a directory, with other text for what the replacer knows.
func (p consumerPage) write(t *testing.T, other *strings.Replacer) (directory string) {
	t.Helper()
	directory = t.TempDir()
	for name, text := range p.files {
		check(t, os.WriteFile(filepath.Join(directory, name), []byte(other.Replace(text)), 0o600))
	}
	return directory
}

// audiences are the page's settings, with one more audience that its service is not.
func (p consumerPage) audiences(t *testing.T) string {
	t.Helper()
	var settings struct {
		Audiences struct {
			Servers []map[string]any
			Default string
		}
	}
	check(t, yaml.Unmarshal([]byte(p.files["tokenbooth.yaml"]), &settings))
	settings.Audiences.Servers = append(settings.Audiences.Servers, map[string]any{"audience": "urn:other"})
	text, err := yaml.Marshal(map[string]any{"audiences": map[string]any{"servers": settings.Audiences.Servers, "default": settings.Audiences.Default}})
	check(t, err)
	return string(text)
}

// startService runs a command in a directory until the test ends, and returns once it
// answers at its address.
func startService(t *testing.T, directory, address string, command ...string) {
	t.Helper()
	path, err := exec.LookPath(command[0])
	if err != nil {
		t.Fatalf("%v: `make deps` installs it", err)
	}
	var said output
	child := exec.Command(path, command[1:]...)
	child.Dir = directory
	child.Stdout, child.Stderr = &said, &said
	check(t, child.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = child.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = child.Process.Kill() // it may have ended
		<-ended
		if found := leak.FindString(said.String()); found != "" {
			t.Errorf("%v logs a token: %s", command, &said)
		}
	})
	eventually(t, "a service that answers", func() bool {
		select {
		case <-ended:
			t.Fatalf("%v ended (`make deps` installs what it needs):\n%s", command, &said)
		default:
		}
		connection, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = connection.Close()
		}
		return err == nil
	})
}

// servedPages are the services of the pages. start runs one for an issuer and returns its
// URL. Those that do not read scopes, or follow the revocations, say so on their page.
var servedPages = []struct {
	name      string
	algorithm string
	scopes    bool
	feed      bool
	start     func(t *testing.T, p consumerPage, issuer string) string
}{
	{"go", jwk.ES256, true, true, startGoPage},
	{"node", jwk.ES256, true, false, startNodePage},
	{"python", jwk.ES256, true, false, startPythonPage},
	{"oauth2-proxy", jwk.RS256, false, false, startProxyPage},
}

const pageAddress = "127.0.0.1:8081"

func startGoPage(t *testing.T, p consumerPage, issuer string) string {
	t.Helper()
	address := freeAddress(t)
	directory := p.write(t, strings.NewReplacer(pageIssuer, issuer, pageAddress, address))
	built := filepath.Join(directory, "service")
	// From here it is of this module, and needs no other one.
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", built, filepath.Join(directory, "main.go")).CombinedOutput(); err != nil {
		t.Fatalf("the program does not compile: %v\n%s", err, out)
	}
	startService(t, directory, address, built)
	return "http://" + address
}

func startNodePage(t *testing.T, p consumerPage, issuer string) string {
	t.Helper()
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	directory := p.write(t, strings.NewReplacer(pageIssuer, issuer, "8081", port))
	modules, err := filepath.Abs("testdata/consumers/node/node_modules")
	check(t, err)
	check(t, os.Symlink(modules, filepath.Join(directory, "node_modules")))
	startService(t, directory, address, "node", "service.mjs")
	return "http://" + address
}

func startPythonPage(t *testing.T, p consumerPage, issuer string) string {
	t.Helper()
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	directory := p.write(t, strings.NewReplacer(pageIssuer, issuer))
	command := strings.Fields(strings.ReplaceAll(p.commands[0], "8081", port))
	if command[0] != "python3" {
		t.Fatalf("the page does not start its service with python3: %q", p.commands[0])
	}
	startService(t, directory, address, append([]string{python}, command[1:]...)...)
	return "http://" + address
}

// startProxyPage runs oauth2-proxy, which is built from a module of its own.
func startProxyPage(t *testing.T, p consumerPage, issuer string) string {
	t.Helper()
	built := buildConsumer(t, "oauth2-proxy", "github.com/oauth2-proxy/oauth2-proxy/v7")
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		subject := claims(t, token)["sub"]
		if r.Header.Get("X-Forwarded-User") != subject || r.Header.Get("X-Forwarded-Email") != subject {
			t.Errorf("the service sees %v, want the subject %s", r.Header, subject)
		}
		fmt.Fprintf(w, "the collectors of workspace %s\n", claims(t, token)["workspace"])
	}))
	t.Cleanup(upstream.Close)
	address, secrets := freeAddress(t), t.TempDir()
	check(t, os.WriteFile(filepath.Join(secrets, "client-secret"), []byte("a client's"), 0o600))
	check(t, os.WriteFile(filepath.Join(secrets, "cookie-secret"), []byte(strings.Repeat("c", 32)), 0o600))
	directory := p.write(t, strings.NewReplacer(pageIssuer, issuer, "http://"+pageAddress, upstream.URL, "127.0.0.1:4180", address, "/etc/oauth2-proxy", secrets))
	startService(t, directory, address, built, "--config", "oauth2-proxy.cfg")
	return "http://" + address
}

// asksWith is the status of a request with a token.
func asksWith(t *testing.T, base, token string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, base+"/collectors", http.NoBody)
	check(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	check(t, err)
	defer func() { _ = response.Body.Close() }()
	text := make([]byte, 200)
	n, _ := response.Body.Read(text)
	return response.StatusCode, string(text[:n])
}

func wantAnswer(t *testing.T, what, base, token string, status int) {
	t.Helper()
	if got, _ := asksWith(t, base, token); got != status {
		t.Errorf("%s: it answers %d, want %d", what, got, status)
	}
}

// Each service of a page takes the tokens that it should take, with the page's own
// audience, and no others, and goes on when the keys are replaced under it.
func TestConsumerPages(t *testing.T) {
	t.Parallel()
	for _, c := range servedPages {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			page := readConsumerPage(t, c.name)
			address := freeAddress(t)
			issuer := "http://" + address
			config := filepath.Join(t.TempDir(), "tokenbooth.yaml")
			check(t, os.WriteFile(config, []byte(page.audiences(t)), 0o600))
			env := onSQLite(t.TempDir(), "TOKENBOOTH_ISSUER="+issuer, "TOKENBOOTH_LISTEN="+address, "TOKENBOOTH_CONFIG="+config)
			made := bootstrapped(t, env, append(bootstrapArgs("Payments", "ci"), "--scope", "collectors:read", "--scope", "collectors:create")...)
			serveReady(t, env)
			base := c.start(t, page, issuer)
			token := func(scope, audience string) string {
				t.Helper()
				return wantTokenFor(t, issuer, made.key(), scope, audience)
			}

			good := token("", "")
			if status, body := asksWith(t, base, good); status != http.StatusOK || body != "the collectors of workspace payments\n" {
				t.Fatalf("with a good token it answers %d %q", status, body)
			}
			wantAnswer(t, "no token", base, "", http.StatusUnauthorized)
			wantAnswer(t, "another audience", base, token("", "urn:other"), http.StatusUnauthorized)
			if c.scopes {
				wantAnswer(t, "another scope", base, token("collectors:create", ""), http.StatusForbidden)
			} else {
				wantAnswer(t, "another scope, as the page says", base, token("collectors:create", ""), http.StatusOK)
			}
			published := publishedKey(t, issuer, good)
			if published.Algorithm != c.algorithm {
				t.Errorf("the page's audience has %s", published.Algorithm)
			}
			for what, forged := range forgeries(t, good, published) {
				wantAnswer(t, what, base, forged, http.StatusUnauthorized)
			}

			if p, code := runCommand(t, env, "signing-keys", "rotate", "--emergency", "--yes"); code != exitOK {
				t.Fatalf("the emergency rotation ended with %d: %s", code, &p.log)
			}
			fresh := token("", "")
			eventually(t, "a service that knows the new key", func() bool {
				status, _ := asksWith(t, base, fresh)
				return status == http.StatusOK
			})
			wantAnswer(t, "a token of the distrusted key", base, good, http.StatusUnauthorized)

			tool(t, as(issuer, made.ownerKey()), "", "keys", "revoke", made.ClientID).wants(t, "keys revoke", exitOK, "")
			if c.feed {
				eventually(t, "a service that knows of the revocation", func() bool {
					status, _ := asksWith(t, base, fresh)
					return status == http.StatusUnauthorized
				})
			} else {
				wantAnswer(t, "a revoked token, as the page says", base, fresh, http.StatusOK)
			}
		})
	}
}

// wantTokenFor exchanges a key for a token that is narrowed, or for an audience.
func wantTokenFor(t *testing.T, issuer string, key credential, scope, audience string) string {
	t.Helper()
	form := key.form()
	form.Set("scope", scope)
	form.Set("audience", audience)
	request, err := http.NewRequest(http.MethodPost, issuer+"/api/login", strings.NewReader(form.Encode()))
	check(t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a := send(t, request)
	if a.status != http.StatusOK {
		t.Fatalf("no token: %+v", a)
	}
	return a.text("access_token")
}

// tokenPayload is what a token says.
func tokenPayload(t *testing.T, token string) []byte {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	check(t, err)
	return payload
}

// Each refuses what its issuer signed and nobody may take.
func TestConsumerPagesRefuse(t *testing.T) {
	t.Parallel()
	for _, c := range servedPages {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			issuer := bearertest.NewIssuer(t, pageAudience)
			issuer.RotateTo(c.algorithm)
			issuer.Forget()
			base := c.start(t, readConsumerPage(t, c.name), issuer.URL())
			token := func(edit func(*oauth.Claims)) string {
				return issuer.Token(func(c *oauth.Claims) {
					c.Scope = oauth.NewScope("collectors:read")
					edit(c)
				})
			}
			good := token(func(*oauth.Claims) {})
			eventually(t, "a good token that is taken", func() bool {
				status, _ := asksWith(t, base, good)
				return status == http.StatusOK
			})
			hour := int64(time.Hour / time.Second)
			for what, bad := range map[string]string{
				"expired":              token(func(c *oauth.Claims) { c.Expiry, c.IssuedAt = c.Expiry-hour, c.IssuedAt-hour }),
				"another issuer":       token(func(c *oauth.Claims) { c.Issuer += "/" }),
				"another audience":     token(func(c *oauth.Claims) { c.Audience = oauth.Audience{pageAudience + "/"} }),
				"an unknown kid":       issuer.Sign(map[string]any{"kid": "unknown"}, tokenPayload(t, good)),
				"no kid and wrong alg": issuer.Sign(map[string]any{"kid": nil, "alg": "HS256"}, tokenPayload(t, good)),
			} {
				wantAnswer(t, what, base, bad, http.StatusUnauthorized)
			}
			if c.scopes {
				wantAnswer(t, "another type", base, issuer.Sign(map[string]any{"typ": "JWT"}, tokenPayload(t, good)), http.StatusUnauthorized)
				wantAnswer(t, "a scope that begins like it", base, token(func(c *oauth.Claims) { c.Scope = oauth.NewScope("collectors:readonly") }), http.StatusForbidden)
			}
			wantAnswer(t, "the good one again", base, good, http.StatusOK)
		})
	}
}
