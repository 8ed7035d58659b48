package helm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
)

// binary builds the real server, once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tokenbooth-chart-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "tokenbooth")
	build := exec.Command("go", "build", "-pgo=off", "-o", path, "./cmd/tokenbooth")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, output)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// contents are what the Secrets of an installation hold, by the file that they become.
var contents = map[string]string{
	"secrets_pepper":             "1:" + strings.Repeat("A", 43) + "=",
	"secrets_id_key":             strings.Repeat("B", 42) + "A=",
	"secrets_key_encryption_key": strings.Repeat("C", 42) + "A=",
	"database_url":               "postgres://tokenbooth:password@database:5432/tokenbooth",
	"redis_url":                  "rediss://tokenbooth:password@redis:6379/0",
	"webhook_url":                "https://hooks.example.com/tokenbooth",
	"webhook_secret":             strings.Repeat("D", 42) + "A=",
}

// A container is one of the chart on this machine: its files are under root.
type container struct {
	root string
	args []string
	env  []string
}

// unpack lays out what the pod's volumes hold, and has the pod's variables point there,
// and those of our image if it is that one: they win over the file.
func unpack(t *testing.T, r rendered, pod core.PodSpec, image bool) container {
	t.Helper()
	c := container{root: t.TempDir(), args: pod.Containers[0].Args}
	authority := certificate(t)
	write := func(file, content string) {
		path := filepath.Join(c.root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, mount := range pod.Containers[0].VolumeMounts {
		i := slices.IndexFunc(pod.Volumes, func(v core.Volume) bool { return v.Name == mount.Name })
		if i < 0 {
			t.Fatalf("there is no volume %s", mount.Name)
		}
		switch volume := pod.Volumes[i]; {
		case volume.Projected != nil:
			for _, source := range volume.Projected.Sources {
				name := source.Secret.Items[0].Path
				write(filepath.Join(mount.MountPath, name), contents[name]+"\n")
			}
		case volume.ConfigMap != nil:
			for name, content := range configMap(r, volume.ConfigMap.Name, authority) {
				write(filepath.Join(mount.MountPath, name), strings.ReplaceAll(content, "ca_file: /", "ca_file: "+c.root+"/"))
			}
		}
	}
	variables := map[string]string{}
	if image {
		variables = imageEnvironment(t)
	}
	for _, v := range pod.Containers[0].Env {
		variables[v.Name] = v.Value
	}
	for name, value := range variables {
		if strings.HasPrefix(value, "/") {
			value = c.root + value
		}
		c.env = append(c.env, name+"="+value)
	}
	return c
}

// configMap is one of the chart's, or the CA that the example has from elsewhere.
func configMap(r rendered, name, authority string) map[string]string {
	for _, object := range r.objects {
		if o, ok := object.(*core.ConfigMap); ok && o.Name == name {
			return o.Data
		}
	}
	return map[string]string{"ca.crt": authority}
}

// certificate is one of an authority that signs nothing.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// imageEnvironment is what the image sets.
func imageEnvironment(t *testing.T) map[string]string {
	t.Helper()
	block := regexp.MustCompile(`(?m)^ENV ((?:.*\\\n)*.*)$`).FindStringSubmatch(read(t, "../Dockerfile"))
	if block == nil {
		t.Fatal("the Dockerfile sets no variables")
	}
	variables := map[string]string{}
	for _, pair := range strings.Fields(strings.ReplaceAll(block[1], "\\\n", " ")) {
		name, value, _ := strings.Cut(pair, "=")
		variables[name] = value
	}
	return variables
}

func (c container) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(path, args...)
	command.Dir, command.Env = c.root, c.env
	return command
}

// TestConfigurationIsAccepted asks the real server about what the chart gives it.
func TestConfigurationIsAccepted(t *testing.T) {
	for name, v := range installations(t) {
		r := render(t, v)
		for which, pod := range pods(r) {
			for _, image := range []bool{true, false} {
				output, err := unpack(t, r, pod.Spec, image).command(t, "config", "check").CombinedOutput()
				if err != nil || strings.Contains(string(output), "warning") {
					t.Errorf("%s: %s, with the image's variables %t: %v\n%s", name, which, image, err, output)
				}
			}
		}
	}
}

// What values say arrives in the server, numbers too.
func TestConfigurationArrives(t *testing.T) {
	r := render(t, with(t, `
config:
  keys: {cache_size: 1000000}
  exchange: {json: false}
  catalogue: {resources: {collectors: [read]}, roles: {auditor: ["*:read"]}}
migrations: {mode: "off"}
`))
	output, err := unpack(t, r, pods(r)["the Deployment"].Spec, false).command(t, "config", "print").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, want := range []string{
		`cache_size: 1000000 `, `json: false `, `migrate: false `, `url: \[redacted\] +# file .*/run/secrets/tokenbooth/database_url `,
	} {
		if !regexp.MustCompile(want).Match(output) {
			t.Errorf("%s does not match:\n%s", want, output)
		}
	}
}

// TestServerStarts runs the server of the SQLite installation as its pod does, waits by
// its probes, and ends it as Kubernetes does.
func TestServerStarts(t *testing.T) {
	r := render(t, embedded(t, ``))
	pod := find[*apps.Deployment](t, r).Spec.Template.Spec
	c := unpack(t, r, pod, true)
	address := freeAddress(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := c.command(t, slices.Concat(c.args, []string{
		"--data", filepath.Join(c.root, "data"), "--listen", "127.0.0.1:0", "--set", "operations.listen=" + address,
		"--set", "http.shutdown_delay=0s"})...)
	log := filepath.Join(c.root, "log")
	stderr, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stderr.Close() }()
	command.Stderr = stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() { _ = command.Process.Kill() })
	for _, probe := range []*core.Probe{pod.Containers[0].StartupProbe, pod.Containers[0].ReadinessProbe, pod.Containers[0].LivenessProbe} {
		if err := answers(ctx, ended, "http://"+address+probe.HTTPGet.Path); err != nil {
			t.Fatalf("%s: %v\n%s", probe.HTTPGet.Path, err, read(t, log))
		}
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the server ended with %v\n%s", err, read(t, log))
		}
	case <-ctx.Done():
		t.Fatal("the server does not end")
	}
}

// answers waits until url answers 200, or the server has ended.
func answers(ctx context.Context, ended <-chan error, url string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if response, err := http.Get(url); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the server has ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// Every secret is a file that the volume has, under a name that the server knows.
func TestSecretsAreFiles(t *testing.T) {
	r := render(t, with(t, `
secrets: {existingSecret: a, keys: {pepper: p, idKey: i, keyEncryptionKey: k}}
database: {existingSecret: b, key: d}
redis: {existingSecret: c, key: r}
secretSettings: {webhook.url: {existingSecret: e, key: w}, webhook.secret: {existingSecret: e, key: s}}
`))
	pod := pods(r)["the Deployment"].Spec
	got := map[string]string{}
	for _, volume := range pod.Volumes {
		if volume.Projected == nil {
			continue
		}
		if mode := *volume.Projected.DefaultMode; mode != 0o440 {
			t.Errorf("the files have the mode %o", mode)
		}
		for _, source := range volume.Projected.Sources {
			got["/run/secrets/tokenbooth/"+source.Secret.Items[0].Path] = source.Secret.Name + "/" + source.Secret.Items[0].Key
		}
	}
	where := map[string]string{}
	for _, v := range pod.Containers[0].Env {
		if setting, ok := strings.CutSuffix(v.Name, "_FILE"); ok {
			where[setting] = got[v.Value]
		}
	}
	want := map[string]string{
		"TOKENBOOTH_SECRETS_PEPPER": "a/p", "TOKENBOOTH_SECRETS_ID_KEY": "a/i", "TOKENBOOTH_SECRETS_KEY_ENCRYPTION_KEY": "a/k",
		"TOKENBOOTH_DATABASE_URL": "b/d", "TOKENBOOTH_REDIS_URL": "c/r", "TOKENBOOTH_WEBHOOK_URL": "e/w", "TOKENBOOTH_WEBHOOK_SECRET": "e/s",
	}
	if !maps.Equal(where, want) {
		t.Errorf("the secrets come from %v, want %v", where, want)
	}
}
