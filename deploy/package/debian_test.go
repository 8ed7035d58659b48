package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func debianPackage(t *testing.T) string {
	t.Helper()
	return filepath.Join(released(t), "tokenbooth_1.2.3_"+runtime.GOARCH+".deb")
}

// unpackedDebian is the package's files, and its scripts below DEBIAN.
func unpackedDebian(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	output(t, nil, "dpkg-deb", "--raw-extract", debianPackage(t), dir)
	return dir
}

func TestDebianPackage(t *testing.T) {
	t.Parallel()
	deb, root := debianPackage(t), unpackedDebian(t)
	for field, want := range map[string]string{"Package": "tokenbooth", "Version": "1.2.3", "Architecture": runtime.GOARCH} {
		if got := strings.TrimSpace(output(t, nil, "dpkg-deb", "--field", deb, field)); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	for line := range strings.Lines(output(t, nil, "dpkg-deb", "--contents", deb)) {
		if fields := strings.Fields(line); fields[1] != "root/root" || strings.Contains(fields[0][4:], "w") {
			t.Errorf("others than root may write: %s", line)
		}
	}
	for _, name := range []string{
		"usr/bin/tokenbooth", "usr/sbin/tokenbooth-admin", "usr/lib/systemd/system/tokenbooth.service", "etc/tokenbooth/config.yaml",
		"usr/share/bash-completion/completions/tokenbooth", "usr/share/zsh/vendor-completions/_tokenbooth",
		"usr/share/fish/vendor_completions.d/tokenbooth.fish", "usr/share/doc/tokenbooth/copyright", "usr/share/doc/tokenbooth/changelog.gz",
		"usr/share/doc/tokenbooth/operations.md", "usr/share/doc/tokenbooth/guides/systemd.md", "usr/share/doc/tokenbooth/examples/postgres-and-redis.conf",
	} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, error %v", name, info, err)
		}
	}
	if got := read(t, filepath.Join(root, "DEBIAN/conffiles")); got != "/etc/tokenbooth/config.yaml\n" {
		t.Errorf("the conffiles are %q", got)
	}
	if read(t, filepath.Join(root, "usr/bin/tokenbooth")) != read(t, binary(t)) {
		t.Error("the package has another binary than the archive")
	}
	if got := output(t, nil, filepath.Join(root, "usr/bin/tokenbooth"), "version"); !strings.HasPrefix(got, "tokenbooth v1.2.3 (") {
		t.Errorf("its binary says %q", got)
	}
	c := exec.Command("md5sum", "--check", "--quiet", "--strict", "DEBIAN/md5sums")
	c.Dir = root
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("the sums in the package: %v\n%s", err, out)
	}
}

// The configuration as it is installed is refused, and names what is missing; with the
// issuer it is good.
func TestDebianConfiguration(t *testing.T) {
	t.Parallel()
	config := filepath.Join(unpackedDebian(t), "etc/tokenbooth/config.yaml")
	out, err := exec.Command(binary(t), "config", "check", "--config", config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the configuration is not usable: issuer (") {
		t.Errorf("as installed: %v\n%s", err, out)
	}
	text := strings.Replace(read(t, config), "issuer: https://\n", "issuer: https://login.example.com\n", 1)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	output(t, nil, binary(t), "config", "check", "--config", config)
}

// The versions of Debian sort as ours do.
func TestDebianVersions(t *testing.T) {
	t.Parallel()
	need(t, "dpkg-deb", "dpkg")
	_, rest, _ := strings.Cut(read(t, "deb.sh"), "debian_version() {\n")
	body, _, _ := strings.Cut(rest, "\n}\n")
	last := ""
	for _, v := range []struct{ ours, want string }{
		{"fd4c434-dirty", "0~git.fd4c434.dirty"},
		{"v1.2.3-rc.1", "1.2.3~rc.1"},
		{"v1.2.3", "1.2.3"},
		{"v1.2.3-4-g0123abc", "1.2.3+4.g0123abc"},
		{"v1.2.3-4-g0123abc-dirty", "1.2.3+4.g0123abc.dirty"},
		{"v1.2.4-rc.1", "1.2.4~rc.1"},
	} {
		got := strings.TrimSpace(output(t, nil, "bash", "-c", "debian_version() {\n"+body+"\n}\ndebian_version "+v.ours))
		if got != v.want {
			t.Errorf("%s becomes %s, want %s", v.ours, got, v.want)
		}
		if last != "" {
			output(t, nil, "dpkg", "--compare-versions", last, "lt", got)
		}
		last = got
	}
}

// debianEtc runs the package's scripts on a private /etc.
type debianEtc struct {
	t         *testing.T
	root, etc string
}

func newDebianEtc(t *testing.T) *debianEtc {
	t.Helper()
	needRoot(t)
	need(t, "unshare", "mount")
	root := unpackedDebian(t)
	return &debianEtc{t: t, root: root, etc: filepath.Join(root, "etc")}
}

func (d *debianEtc) script(name string, args ...string) string {
	d.t.Helper()
	const enter = `mount --bind "$1" /etc; shift; exec "$@"`
	return output(d.t, nil, "unshare", append([]string{"--mount", "sh", "-c", enter, "sh", d.etc,
		filepath.Join(d.root, "DEBIAN", name)}, args...)...)
}

func TestDebianScripts(t *testing.T) {
	t.Parallel()
	d := newDebianEtc(t)
	said := d.script("postinst", "configure", "")
	for _, want := range []string{"does not run yet", "/etc/tokenbooth/config.yaml", "systemctl enable --now tokenbooth", "Back them up"} {
		if !strings.Contains(said, want) {
			t.Errorf("the installation does not say %q:\n%s", want, said)
		}
	}
	secrets := filepath.Join(d.etc, "tokenbooth/secrets")
	if info, err := os.Stat(secrets); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, error %v; want mode 0700", secrets, info, err)
	}
	made, env := map[string]string{}, []string{"TOKENBOOTH_ISSUER=https://login.example.com"}
	for _, name := range []string{"pepper", "id_key", "key_encryption_key"} {
		path := filepath.Join(secrets, name)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, error %v; want mode 0600", path, info, err)
		}
		made[name] = read(t, path)
		env = append(env, "TOKENBOOTH_SECRETS_"+strings.ToUpper(name)+"_FILE="+path)
	}
	output(t, env, binary(t), "config", "check") // they have the form that is wanted

	said = d.script("postinst", "configure", "1.2.2")
	if strings.Contains(said, "does not run yet") || strings.Contains(said, "Secrets were made") {
		t.Errorf("an upgrade says\n%s", said)
	}
	d.script("prerm", "remove")
	d.script("postrm", "remove")
	if said = d.script("postrm", "purge"); !strings.Contains(said, "/etc/tokenbooth/secrets is left as it is") {
		t.Errorf("a purge says\n%s", said)
	}
	for name, want := range made {
		if read(t, filepath.Join(secrets, name)) != want {
			t.Errorf("%s is another one now", name)
		}
	}
	if left := listed(t, secrets); len(left) != 3 {
		t.Errorf("%q are left", left)
	}
}
