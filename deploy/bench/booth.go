package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// booth is the service as it is measured: one replica with a configuration as people
// have it, where everything that an exchange may cost is on.
type booth struct {
	*process
	program string
	dir     string // of its configuration, and of the embedded database
	env     []string
	url     string // of the public listener
	metrics string
	keys    []credential
}

type credential struct{ id, secret string }

// What is set up: keys in several workspaces, as one alone may have 10,000 exchanges
// a second at most.
const (
	workspaces       = 4
	keysPerWorkspace = 4
)

const configuration = `
issuer: http://localhost:8080
listen: 127.0.0.1:0
operations: {listen: 127.0.0.1:0}
catalogue:
  resources: {collectors: [read, create, update, delete], pipelines: [read, create, update, delete]}
audiences:
  default: https://api.example.com
  servers: [{audience: https://api.example.com}]
http: {shutdown_delay: 0s}
log: {level: info, format: json}
`

// embedded is the environment of a service by itself: SQLite in memory, where the
// system has a file system for that.
func embedded(dir string) []string {
	return []string{"TOKENBOOTH_DATABASE_URL=sqlite:" + filepath.Join(dir, "tokenbooth.db") + "?synchronous=off"}
}

// withServers is that of one with PostgreSQL and Redis. They live as long as this
// program.
func withServers() ([]string, error) {
	database, err := schematest.StartPostgres()
	if err != nil {
		return nil, err
	}
	redis, err := schematest.StartRedis()
	return []string{"TOKENBOOTH_DATABASE_URL=" + database, "TOKENBOOTH_REDIS_URL=" + redis}, err
}

// memoryDir makes a directory in memory, or where temporary files are.
func memoryDir() (string, error) {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	return os.MkdirTemp(parent, "tokenbooth-bench-")
}

// newBooth sets up a service in a directory, in the environment that more says. It
// does not run yet.
func newBooth(program, dir string, more []string) (*booth, error) {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TOKENBOOTH_SECRETS_PEPPER=1:" + newSecret(),
		"TOKENBOOTH_SECRETS_ID_KEY=" + newSecret(), "TOKENBOOTH_SECRETS_KEY_ENCRYPTION_KEY=" + newSecret(),
	}
	b := &booth{program: program, dir: dir, env: append(env, more...)}
	return b, os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(configuration+"data: "+dir+"\n"), 0o600)
}

// newSecret is the base64 of 32 random bytes.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // it never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

func (b *booth) command(args ...string) *exec.Cmd {
	cmd := exec.Command(b.program, append(args, "--config", filepath.Join(b.dir, "config.yaml"))...) //nolint:gosec // the program that is measured
	cmd.Env, cmd.Dir = b.env, b.dir
	return cmd
}

// start runs the service.
func (b *booth) start(m *machine) error {
	var serving struct{ Msg, Listen, Operations string }
	p, err := m.launch(b.command("serve"), true, func(line string) bool {
		return json.Unmarshal([]byte(line), &serving) == nil && serving.Msg == "serving"
	})
	b.process, b.url, b.metrics = p, "http://"+serving.Listen, "http://"+serving.Operations+"/metrics"
	return err
}

// furnish makes the workspaces with their quota and keys, and a policy.
func (b *booth) furnish(ctx context.Context) error {
	for i := range workspaces {
		cmd := b.command("bootstrap", "--owner", "bench-"+strconv.Itoa(i)+"@example.com", "--workspace", "Bench "+strconv.Itoa(i), "--service-account", "robot", "--json")
		text, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("bootstrap: %w%s", err, stderrOf(err))
		}
		var made struct {
			WorkspaceID string  `json:"workspace_id"`
			OwnerSecret *string `json:"owner_secret"`
		}
		if err := json.Unmarshal(text, &made); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
		if err := b.furnishWorkspace(ctx, made.WorkspaceID, *made.OwnerSecret); err != nil {
			return err
		}
	}
	return nil
}

func (b *booth) furnishWorkspace(ctx context.Context, ws, owner string) error {
	api, err := admin.New(admin.Config{URL: b.url, Credential: owner})
	if err != nil {
		return err
	}
	_, errQuota := api.SetQuota(ctx, ws, map[string]any{"exchanges_per_minute": 600_000, "exchanges_per_day": 1_000_000_000, "exchanges_per_month": 1_000_000_000})
	_, errPolicy := api.SetPolicy(ctx, ws, map[string]any{"max_lifetime_days": 90, "disable_idle_after_days": 30, "allowed_scopes": []string{"collectors:*", "pipelines:read"}})
	if err := errors.Join(errQuota, errPolicy); err != nil {
		return err
	}
	for i := range keysPerWorkspace {
		name := "ci-" + strconv.Itoa(i)
		if _, err := api.CreateServiceAccount(ctx, ws, admin.NewServiceAccount{Name: name, Role: "editor"}); err != nil {
			return err
		}
		key, err := api.CreateKey(ctx, ws, admin.NewKey{ServiceAccount: name, Name: name, AllowedCIDRs: []string{"127.0.0.0/8"}})
		if err != nil {
			return err
		}
		b.keys = append(b.keys, credential{key.ClientID, *key.ClientSecret})
	}
	return nil
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return ": " + string(exit.Stderr)
	}
	return ""
}

// target is the exchange of every key.
func (b *booth) target() target {
	t := target{address: strings.TrimPrefix(b.url, "http://")}
	for _, k := range b.keys {
		t.requests = append(t.requests, loginRequest(k.id, k.secret))
	}
	return t
}

// exchange has one key exchanged and returns the whole answer, for the floors.
func (b *booth) exchange(k credential) (floorAnswer, string, error) {
	response, err := http.PostForm(b.url+"/api/login", url.Values{ //nolint:noctx // the process that answers is ours
		"grant_type": {"client_credentials"}, "client_id": {k.id}, "client_secret": {k.secret},
	})
	if err != nil {
		return floorAnswer{}, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	var answer struct {
		Token string `json:"access_token"`
	}
	if err = cmp.Or(err, json.Unmarshal(body, &answer)); err != nil || answer.Token == "" {
		return floorAnswer{}, "", fmt.Errorf("the first exchange was answered %s: %s%w", response.Status, body, err)
	}
	response.Header.Del("Date")
	response.Header.Del("Content-Length") // both are net/http's to set
	return floorAnswer{Header: response.Header, Body: string(body), Claims: signingInput(answer.Token)}, answer.Token, nil
}

// counter reads a metric, all of its series together.
func (b *booth) counters() (map[string]float64, error) {
	response, err := http.Get(b.metrics) //nolint:noctx // the process that answers is ours
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	found := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, ok := bytes.Cut(lines.Bytes(), []byte(" "))
		if !ok || name[0] == '#' {
			continue
		}
		base, _, _ := strings.Cut(string(name), "{")
		n, err := strconv.ParseFloat(string(value), 64)
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		found[base] += n
	}
	return found, lines.Err()
}
