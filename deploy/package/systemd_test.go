package packaging

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const unit = "../systemd/tokenbooth.service"

// placedUnit is a copy of the unit, with its drop-in, that starts a program that exists:
// systemd-analyze looks for it.
func placedUnit(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "tokenbooth.service")
	text := strings.Replace(read(t, unit), "ExecStart=/usr/bin/tokenbooth ", "ExecStart="+binary(t)+" ", 1)
	dropIn := path + ".d/postgres-and-redis.conf"
	if err := os.Mkdir(filepath.Dir(dropIn), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{path: text, dropIn: read(t, "../systemd/postgres-and-redis.conf")} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestUnitIsValid(t *testing.T) {
	t.Parallel()
	need(t, "systemd-analyze")
	output(t, nil, "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", placedUnit(t))
}

// exposure is what systemd-analyze ends with.
var exposure = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

func TestUnitIsConfined(t *testing.T) {
	t.Parallel()
	need(t, "systemd-analyze")
	report := output(t, nil, "systemd-analyze", "security", "--offline=yes", "--no-pager", placedUnit(t))
	found := exposure.FindStringSubmatch(report)
	if found == nil {
		t.Fatalf("no level of exposure in\n%s", report)
	}
	if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > 1.5 {
		t.Errorf("the exposure is %s, want 1.5 at most\n%s", found[1], report)
	}
}

// unitSettings are the values of a unit's setting.
func unitSettings(text, name string) (values []string) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// Every variable is a setting, and every credential that one names is loaded from the
// place where the package makes it.
func TestUnitEnvironment(t *testing.T) {
	t.Parallel()
	text := read(t, unit) + read(t, "../systemd/postgres-and-redis.conf")
	credentials := t.TempDir()
	loaded := map[string]bool{}
	for _, value := range unitSettings(text, "LoadCredential") {
		name, path, _ := strings.Cut(value, ":")
		if path != "/etc/tokenbooth/secrets/"+name {
			t.Errorf("the credential %s is loaded from %s", name, path)
		}
		loaded[name] = true
	}
	makeSecrets(t, credentials)
	var env []string
	for _, value := range unitSettings(text, "Environment") {
		name, path, _ := strings.Cut(value, "=")
		if credential, ok := strings.CutPrefix(path, "%d/"); ok {
			if !loaded[credential] {
				t.Errorf("%s names the credential %s, which is not loaded", name, credential)
			}
			delete(loaded, credential)
		}
		if name == "TOKENBOOTH_CONFIG" { // the file is the package's, and tested there
			continue
		}
		value = strings.NewReplacer("%d", credentials, "%S", t.TempDir()).Replace(value)
		env = append(env, value)
	}
	if len(loaded) > 0 {
		t.Errorf("no variable names the credentials %v", loaded)
	}
	wantSettings(t, append(env, "TOKENBOOTH_ISSUER=https://login.example.com"))
}

// systemd waits for longer than a server takes to end by its defaults.
func TestUnitWaitsForTheEnd(t *testing.T) {
	t.Parallel()
	values := unitSettings(read(t, unit), "TimeoutStopSec")
	if len(values) != 1 {
		t.Fatalf("TimeoutStopSec is %q", values)
	}
	wait, err := time.ParseDuration(values[0])
	if err != nil {
		t.Fatal(err)
	}
	if ends := endsWithin(t); wait < ends+10*time.Second {
		t.Errorf("systemd waits %s, and a server may need %s and a little more", wait, ends)
	}
}

// duration finds a setting in what `config print` prints.
var duration = regexp.MustCompile(`(?m)(shutdown_delay|drain_timeout): ([0-9smh]+)`)

// endsWithin is how long a server drains by its defaults.
func endsWithin(t *testing.T) (total time.Duration) {
	t.Helper()
	printed := output(t, []string{"TOKENBOOTH_ISSUER=https://login.example.com"}, binary(t), "config", "print")
	found := duration.FindAllStringSubmatch(printed, -1)
	for _, f := range found {
		d, err := time.ParseDuration(f[2])
		if err != nil {
			t.Fatal(err)
		}
		total += d
	}
	if len(found) != 2 {
		t.Fatalf("config print says\n%s", printed)
	}
	return total
}

// tokenbooth-admin hands on what the unit and its drop-ins say, and what it is asked.
func TestAdminCommand(t *testing.T) {
	t.Parallel()
	needRoot(t)
	bin := t.TempDir()
	text := read(t, unit) + "\n# /etc/systemd/system/tokenbooth.service.d/override.conf\n" + read(t, "../systemd/postgres-and-redis.conf") +
		"DynamicUser=no\n" // as the guide says for a journal on another disk
	tools := map[string]string{
		"systemctl":   "#!/bin/sh\ncat <<'END'\n" + text + "\nEND\n",
		"systemd-run": "#!/bin/sh\nfor a; do printf '%s\\n' \"$a\"; done\n",
	}
	for name, script := range tools {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	asked := output(t, nil, "env", "PATH="+bin+":"+os.Getenv("PATH"), "../systemd/tokenbooth-admin", "bootstrap", "--workspace", "Two Words")
	for _, value := range unitSettings(text, "LoadCredential") {
		if !strings.Contains(asked, "--property=LoadCredential="+value+"\n") {
			t.Errorf("the credential %s is not loaded", value)
		}
	}
	if values := unitSettings(text, "DynamicUser"); !strings.Contains(asked, "--property=DynamicUser="+values[len(values)-1]+"\n") {
		t.Errorf("the last of DynamicUser=%v is not handed on", values)
	}
	for _, name := range []string{"User", "StateDirectory", "StateDirectoryMode", "UMask"} {
		for _, value := range unitSettings(text, name) {
			if !strings.Contains(asked, "--property="+name+"="+value+"\n") {
				t.Errorf("%s=%s of the unit is not handed on", name, value)
			}
		}
	}
	for _, value := range unitSettings(text, "Environment") {
		if !strings.Contains(asked, strings.ReplaceAll(value, "%S", "/var/lib")) {
			t.Errorf("%s is not handed on", value)
		}
	}
	if !strings.HasSuffix(asked, "\ntokenbooth\nbootstrap\n--workspace\nTwo Words\n") {
		t.Errorf("systemd-run gets\n%s", asked)
	}
}
