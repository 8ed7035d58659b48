package packaging

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// composeFile is what we use of the Compose specification; anything else is a slip.
type composeFile struct {
	Name     string                    `yaml:"name"`
	Hardened yaml.Node                 `yaml:"x-hardened"`
	Services map[string]composeService `yaml:"services"`
	Networks map[string]*struct {
		Internal bool `yaml:"internal"`
	} `yaml:"networks"`
	Volumes map[string]*struct{} `yaml:"volumes"`
	Secrets map[string]struct {
		File string `yaml:"file"`
	} `yaml:"secrets"`
}

type composeService struct {
	Image string `yaml:"image"`
	Build *struct {
		Context    string `yaml:"context"`
		Dockerfile string `yaml:"dockerfile"`
	} `yaml:"build"`
	DependsOn map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	User            string            `yaml:"user"`
	Command         []string          `yaml:"command"`
	Environment     map[string]string `yaml:"environment"`
	Secrets         []string          `yaml:"secrets"`
	Volumes         []string          `yaml:"volumes"`
	Ports           []string          `yaml:"ports"`
	Networks        []string          `yaml:"networks"`
	Tmpfs           []string          `yaml:"tmpfs"`
	ReadOnly        bool              `yaml:"read_only"`
	CapDrop         []string          `yaml:"cap_drop"`
	CapAdd          []string          `yaml:"cap_add"`
	SecurityOpt     []string          `yaml:"security_opt"`
	Restart         string            `yaml:"restart"`
	MemLimit        string            `yaml:"mem_limit"`
	PidsLimit       int               `yaml:"pids_limit"`
	ShmSize         string            `yaml:"shm_size"`
	StopGracePeriod string            `yaml:"stop_grace_period"`
	Logging         *struct {
		Driver string `yaml:"driver"`
	} `yaml:"logging"`
	Healthcheck *struct {
		Test        []string `yaml:"test"`
		Interval    string   `yaml:"interval"`
		Timeout     string   `yaml:"timeout"`
		StartPeriod string   `yaml:"start_period"`
		Retries     int      `yaml:"retries"`
	} `yaml:"healthcheck"`
}

func readCompose(t *testing.T, name string) composeFile {
	t.Helper()
	var f composeFile
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(read(t, "../"+name))))
	decoder.KnownFields(true)
	if err := decoder.Decode(&f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f
}

var composeFiles = []string{"compose.yaml", "compose.sqlite.yaml"}

// Everything that a service names exists, and each is confined.
func TestComposeFiles(t *testing.T) {
	t.Parallel()
	for _, name := range composeFiles {
		f := readCompose(t, name)
		for service, s := range f.Services {
			for _, fault := range composeFaults(f, s) {
				t.Errorf("%s, %s: %s", name, service, fault)
			}
		}
		ours := f.Services["tokenbooth"]
		if _, err := os.Stat(filepath.Join("..", ours.Build.Context, ours.Build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if grace, err := time.ParseDuration(ours.StopGracePeriod); err != nil || grace < endsWithin(t)+10*time.Second {
			t.Errorf("%s: the engine waits %s for the end, a server may need longer", name, ours.StopGracePeriod)
		}
	}
}

func composeFaults(f composeFile, s composeService) (faults []string) {
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	add(!s.ReadOnly, "its root can be written")
	add(!slices.Equal(s.CapDrop, []string{"ALL"}) || s.CapAdd != nil, "it has capabilities")
	add(!slices.Contains(s.SecurityOpt, "no-new-privileges:true"), "it can gain privileges")
	add(s.Build == nil && (s.User == "" || s.Healthcheck == nil), "it runs as root, or nobody checks its health")
	for _, port := range s.Ports {
		add(!strings.HasPrefix(port, "127.0.0.1:"), "the port %s is open to everybody", port)
	}
	for other, on := range s.DependsOn {
		_, exists := f.Services[other]
		add(!exists || on.Condition != "service_healthy", "it does not wait for %s to be healthy", other)
	}
	for _, secret := range s.Secrets {
		add(f.Secrets[secret].File == "", "the secret %s does not exist", secret)
	}
	for _, network := range s.Networks {
		_, exists := f.Networks[network]
		add(!exists, "the network %s does not exist", network)
	}
	for _, volume := range s.Volumes {
		source, _, _ := strings.Cut(volume, ":")
		_, exists := f.Volumes[source]
		if strings.HasPrefix(source, ".") {
			_, err := os.Stat(filepath.Join("..", source))
			exists = err == nil
		}
		add(!exists, "%s does not exist", source)
	}
	for name, value := range s.Environment {
		path, isSecret := strings.CutPrefix(value, "/run/secrets/")
		add(strings.HasSuffix(name, "_FILE") && (!isSecret || !slices.Contains(s.Secrets, path)), "%s names no secret of it: %s", name, value)
	}
	return faults
}

// defaulted is a variable of the shell with what it is when it is not set.
var defaulted = regexp.MustCompile(`\$\{[A-Z_]+:-([^}]*)\}`)

// composeEnvironment is the environment of our service, with its secrets in a directory.
func composeEnvironment(f composeFile, secrets string) (env []string) {
	for name, value := range f.Services["tokenbooth"].Environment {
		value = defaulted.ReplaceAllString(value, "$1")
		value = strings.Replace(value, "/run/secrets", secrets, 1)
		if value == "/etc/tokenbooth/config.yaml" {
			value = "../config.yaml"
		}
		env = append(env, name+"="+value)
	}
	return env
}

// wantSettings checks an environment as the server would read it: every variable is a
// setting, and every value is taken.
func wantSettings(t *testing.T, env []string) {
	t.Helper()
	said := output(t, append(env, "TOKENBOOTH_NO_SUCH=1"), "sh", "-c", `"$0" config check 2>&1`, binary(t))
	if !strings.Contains(said, "TOKENBOOTH_NO_SUCH is not a setting") || strings.Count(said, "is not a setting") != 1 {
		t.Errorf("config check says\n%s", said)
	}
}

func makeSecrets(t *testing.T, dir string) {
	t.Helper()
	need(t, "openssl")
	made := filepath.Join(t.TempDir(), "secrets")
	output(t, nil, "../compose-secrets.sh", made)
	for _, name := range listed(t, made) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(read(t, filepath.Join(made, name))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestComposeEnvironment(t *testing.T) {
	t.Parallel()
	secrets := t.TempDir()
	makeSecrets(t, secrets)
	for _, name := range composeFiles {
		f := readCompose(t, name)
		for secret, from := range f.Secrets {
			if from.File != "./secrets/"+secret {
				t.Errorf("%s: the secret %s is in %s", name, secret, from.File)
			}
			if _, err := os.Stat(filepath.Join(secrets, secret)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		wantSettings(t, composeEnvironment(f, secrets))
	}
}

func TestComposeSecretsAreMadeOnce(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	dir := filepath.Join(t.TempDir(), "secrets")
	output(t, nil, "../compose-secrets.sh", dir)
	pepper := read(t, filepath.Join(dir, "pepper"))
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, error %v; want mode 0700", info, err)
	}
	for _, name := range listed(t, dir) {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o444 {
			t.Errorf("%s: %v, error %v; want mode 0444, for the users in containers", name, info, err)
		}
	}
	said := output(t, nil, "sh", "-c", `"$0" "$1" 2>&1; echo $?`, "../compose-secrets.sh", dir)
	if !strings.Contains(said, "left as it is") || !strings.HasSuffix(said, "\n1\n") || read(t, filepath.Join(dir, "pepper")) != pepper {
		t.Errorf("a second time: %s", said)
	}
}

// The image serves in the environment of compose.yaml, over a PostgreSQL and a Redis that
// is started as compose.yaml starts it. It needs no place to write.
func TestComposeServes(t *testing.T) {
	t.Parallel()
	needRoot(t)
	f := readCompose(t, "compose.yaml")
	c := newContainer(t)
	secrets := filepath.Join(c.root, "run/secrets")
	if err := os.MkdirAll(secrets, 0o755); err != nil {
		t.Fatal(err)
	}
	makeSecrets(t, secrets)
	args := f.Services["redis"].Command[1:]
	for i, arg := range args {
		args[i] = strings.Replace(arg, "/run/secrets", secrets, 1)
	}
	redis := schematest.PrivateRedis(t, args...).Address()
	put := func(name, text string) {
		path := filepath.Join(secrets, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("redis_url", strings.Replace(read(t, filepath.Join(secrets, "redis_url")), "redis:6379", redis, 1))
	put("database_url", schematest.PostgresURL(t))
	for _, name := range listed(t, secrets) {
		if err := os.Chmod(filepath.Join(secrets, name), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	wantPong(t, redis)
	if err := os.Chmod(c.data, 0o500); err != nil { // nothing may be written there either
		t.Fatal(err)
	}
	put("config.yaml", read(t, "../config.yaml"))
	if err := os.Chmod(filepath.Join(secrets, "config.yaml"), 0o444); err != nil {
		t.Fatal(err)
	}
	for _, entry := range composeEnvironment(f, "/run/secrets") {
		c.env = append(c.env, strings.Replace(entry, "../config.yaml", "/run/secrets/config.yaml", 1))
	}
	c.env = append(c.env, "TOKENBOOTH_HTTP_SHUTDOWN_DELAY=0s")
	stop := c.serve()
	c.exchange()
	stop()
	if left := append(everything(t, c.data), everything(t, c.tmp)...); len(left) > 0 {
		t.Errorf("it leaves %q", left)
	}
}

// wantPong is the health check of Redis: it needs no password, and may do nothing else.
func wantPong(t *testing.T, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, ask := range []struct{ command, answer string }{{"PING", "+PONG"}, {"KEYS *", "-NOPERM"}} {
		if _, err := fmt.Fprintf(conn, "%s\r\n", ask.command); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 256)
		n, err := conn.Read(answer)
		if err != nil || !strings.HasPrefix(string(answer[:n]), ask.answer) {
			t.Errorf("Redis answers %q to %s, error %v", answer[:n], ask.command, err)
		}
	}
}
