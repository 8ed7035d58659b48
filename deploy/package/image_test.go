package packaging

import (
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// user is the one that the image runs as.
const user = "65532:65532"

// makeImage builds the image's root file system as the Dockerfile does.
func makeImage(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "image")
	output(t, nil, "./image-root.sh", binary(t), root)
	return root
}

// contained are the arguments of unshare that run the image with a read-only root, as
// the engine does: /data and /tmp alone may be written.
func contained(root, data, tmp string, args ...string) []string {
	script := `set -eu
root=$1 data=$2 tmp=$3; shift 3
mount --bind "$root" "$root"
mount --bind "$data" "$root/data"
mount --bind "$tmp" "$root/tmp"
mount -o remount,bind,ro "$root"
exec chroot --userspec=` + user + ` "$root" /tokenbooth "$@"`
	return append([]string{"--mount", "sh", "-c", script, "sh", root, data, tmp}, args...)
}

// container is a place where the image runs.
type container struct {
	t               *testing.T
	root, data, tmp string
	env             []string
}

func newContainer(t *testing.T, more ...string) *container {
	t.Helper()
	needRoot(t)
	need(t, "unshare", "mount", "chroot")
	c := &container{t: t, root: makeImage(t), data: t.TempDir(), tmp: t.TempDir()}
	for dir, mode := range map[string]fs.FileMode{c.data: 0o700, c.tmp: 0o777} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(c.data, 65532, 65532); err != nil {
		t.Fatal(err)
	}
	c.env = append(imageEnvironment(t), more...)
	return c
}

// imageEnvironment is what the ENV of the Dockerfile says, with free ports.
func imageEnvironment(t *testing.T) (env []string) {
	t.Helper()
	for _, name := range []string{"TOKENBOOTH_LISTEN", "TOKENBOOTH_OPERATIONS_LISTEN", "TOKENBOOTH_DATA", "HOME"} {
		_, value, ok := strings.Cut(read(t, "../Dockerfile"), name+"=")
		if !ok {
			t.Fatalf("the Dockerfile does not set %s", name)
		}
		value, _, _ = strings.Cut(value, "\n")
		value = strings.TrimSuffix(value, ` \`)
		if strings.HasSuffix(name, "LISTEN") {
			if !strings.HasPrefix(value, ":") {
				t.Errorf("%s is %s in the image, which not every network reaches", name, value)
			}
			value = freePort(t)
		}
		env = append(env, name+"="+value)
	}
	return env
}

// freePort is an address that nobody listens at; every address of the machine, as in
// the image.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return ":" + port
}

func (c *container) command(args ...string) *exec.Cmd {
	cmd := exec.Command("unshare", contained(c.root, c.data, c.tmp, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, c.env...)
	return cmd
}

// run is a command in the container that must succeed, such as docker exec.
func (c *container) run(args ...string) string {
	c.t.Helper()
	out, err := c.command(args...).Output()
	if err != nil {
		var stderr []byte
		if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it as it is
			stderr = exit.Stderr
		}
		c.t.Fatalf("tokenbooth %q: %v\n%s%s", args, err, out, stderr)
	}
	return string(out)
}

// log collects what a server writes.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// serve starts the image's own command and returns when its health check passes.
func (c *container) serve() (stop func()) {
	c.t.Helper()
	cmd, written := c.command("serve"), new(log)
	cmd.Stdout, cmd.Stderr = written, written
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	running := true
	c.t.Cleanup(func() {
		if running {
			_ = cmd.Process.Kill()
			c.t.Logf("killed: %v\n%s", <-exited, written)
		}
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); c.command("healthcheck").Run() != nil; {
		select {
		case err := <-exited:
			running = false
			c.t.Fatalf("serve ended: %v\n%s", err, written)
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not healthy after %s\n%s", patience, written)
		}
	}
	return func() {
		c.t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			c.t.Fatal(err)
		}
		running = false
		select {
		case err := <-exited:
			if err != nil {
				c.t.Errorf("after SIGTERM: %v\n%s", err, written)
			}
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			c.t.Errorf("it does not end after SIGTERM\n%s", written)
		}
	}
}

// address is where a variable of the environment says that it listens.
func (c *container) address(variable string) string {
	for _, entry := range c.env {
		if port, ok := strings.CutPrefix(entry, variable+"=:"); ok {
			return "http://127.0.0.1:" + port
		}
	}
	c.t.Fatalf("%s is not in the environment", variable)
	return ""
}

// exchange bootstraps and exchanges the key that it made.
func (c *container) exchange() {
	c.t.Helper()
	var made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	text := c.run("bootstrap", "--json", "--owner", "ada@example.com", "--workspace", "Payments", "--service-account", "ci")
	if err := json.Unmarshal([]byte(text), &made); err != nil {
		c.t.Fatal(err)
	}
	answer, err := http.PostForm(c.address("TOKENBOOTH_LISTEN")+"/api/login",
		url.Values{"grant_type": {"client_credentials"}, "client_id": {made.ID}, "client_secret": {made.Secret}})
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var token struct {
		Text string `json:"access_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&token); err != nil || answer.StatusCode != http.StatusOK || strings.Count(token.Text, ".") != 2 {
		c.t.Errorf("the exchange answers %s, error %v", answer.Status, err)
	}
}

// The image's root runs by itself, read-only, as nobody in particular.
func TestImageRuns(t *testing.T) {
	t.Parallel()
	c := newContainer(t, "TOKENBOOTH_ISSUER=https://login.example.com", "TOKENBOOTH_HTTP_SHUTDOWN_DELAY=0s",
		"TOKENBOOTH_CATALOGUE_RESOURCES={collectors: [read]}")
	before := everything(t, c.root)
	stop := c.serve()
	c.exchange()
	stop()
	if after := everything(t, c.root); !slices.Equal(before, after) {
		t.Errorf("the root has changed from %q to %q", before, after)
	}
	if got := everything(t, c.tmp); len(got) != 0 {
		t.Errorf("it leaves %q in /tmp", got)
	}
	for _, file := range []string{"tokenbooth.db", "secrets/pepper"} {
		info, err := os.Stat(filepath.Join(c.data, file))
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 65532 || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s belongs to %d and has mode %o", file, owner, info.Mode().Perm())
		}
	}
}

// Without an issuer the image says what it lacks.
func TestImageWithoutIssuer(t *testing.T) {
	t.Parallel()
	out, err := newContainer(t).command("serve").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "issuer (default): is required") {
		t.Errorf("serve ends with %v and says\n%s", err, out)
	}
}

// The root cannot be written, whatever the mode of its directories: else the test above
// would prove nothing.
func TestContainerIsReadOnly(t *testing.T) {
	t.Parallel()
	c := newContainer(t, "TOKENBOOTH_ISSUER=https://login.example.com")
	if err := os.Mkdir(filepath.Join(c.root, "open"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(c.root, "open"), 0o777); err != nil {
		t.Fatal(err)
	}
	out, err := c.command("serve", "--data", "/open/data").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "read-only file system") {
		t.Errorf("serve ends with %v and says\n%s", err, out)
	}
}

func TestImageHoldsNothingElse(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root := makeImage(t)
	want := []string{"data", "etc", "etc/group", "etc/hosts", "etc/passwd", "etc/resolv.conf", "etc/ssl", "etc/ssl/certs",
		"etc/ssl/certs/ca-certificates.crt", "tmp", "tokenbooth", "usr", "usr/share", "usr/share/doc", "usr/share/doc/tokenbooth",
		"usr/share/doc/tokenbooth/LICENSE"}
	if got := everything(t, root); !slices.Equal(got, want) {
		t.Errorf("the image holds %q, want %q", got, want)
	}
	if !strings.Contains(read(t, filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")), "BEGIN CERTIFICATE") {
		t.Error("there are no CA certificates")
	}
	for file, mode := range map[string]fs.FileMode{"data": fs.ModeDir | 0o700, "tmp": fs.ModeDir | fs.ModeSticky | 0o777, "tokenbooth": 0o755} {
		if info, err := os.Stat(filepath.Join(root, file)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, error %v; want mode %s", file, info, err, mode)
		}
	}
}

// everything lists what is below a directory, sorted.
func everything(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); name != "." {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
