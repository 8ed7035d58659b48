package packaging

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// .dockerignore lets through every file that the binary is compiled of, and the scripts.
func TestImageContext(t *testing.T) {
	t.Parallel()
	needed := []string{"go.mod", "go.sum", "LICENSE", "deploy/package/binary.sh", "deploy/package/image-root.sh", "cmd/tokenbooth/default.pgo"}
	root, err := filepath.Abs(sources)
	if err != nil {
		t.Fatal(err)
	}
	text := output(t, goEnvironment(t), "go", "list", "-C", root, "-deps", "-json=Dir,GoFiles,EmbedFiles,Module", "./cmd/tokenbooth")
	for decoder := json.NewDecoder(strings.NewReader(text)); ; {
		var pkg struct {
			Dir                 string
			GoFiles, EmbedFiles []string
			Module              *struct{ Main bool }
		}
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if pkg.Module == nil || !pkg.Module.Main {
			continue
		}
		for _, name := range append(pkg.GoFiles, pkg.EmbedFiles...) {
			relative, err := filepath.Rel(root, filepath.Join(pkg.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			needed = append(needed, filepath.ToSlash(relative))
		}
	}
	if len(needed) < 100 {
		t.Fatalf("only %d files are needed: this test looks in the wrong place", len(needed))
	}
	ignored := read(t, filepath.Join(sources, ".dockerignore"))
	for _, name := range needed {
		if !letsThrough(ignored, name) {
			t.Errorf(".dockerignore keeps %s from the builder", name)
		}
	}
	for _, name := range []string{"deploy/secrets/pepper", "tokenbooth-data/secrets/id_key", ".git/config", "bin/tokenbooth", "cmd/tokenbooth/main_test.go", "deploy/x/.env"} {
		if letsThrough(ignored, name) {
			t.Errorf(".dockerignore lets %s through", name)
		}
	}
}

// goEnvironment is where the go command finds its caches.
func goEnvironment(t *testing.T) []string {
	t.Helper()
	var env []string
	for _, name := range []string{"GOCACHE", "GOMODCACHE"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	return env
}

// letsThrough is .dockerignore for the patterns that ours has: the last that fits counts.
func letsThrough(ignored, name string) bool {
	through := true
	for line := range strings.Lines(ignored) {
		pattern := strings.TrimSpace(line)
		if pattern == "" || strings.HasPrefix(pattern, "#") {
			continue
		}
		pattern, exception := strings.CutPrefix(pattern, "!")
		expression := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*\*/`, "(.*/)?")
		expression = strings.ReplaceAll(expression, `\*`, "[^/]*")
		if regexp.MustCompile("^" + expression + "(/.*)?$").MatchString(name) {
			through = exception
		}
	}
	return through
}

// The image is built with the Go of go.mod or a newer patch of it.
func TestImageGo(t *testing.T) {
	t.Parallel()
	want := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, filepath.Join(sources, "go.mod")))
	got := regexp.MustCompile(`ARG GO_VERSION=(\d+\.\d+)\.\d+\n`).FindStringSubmatch(read(t, "../Dockerfile"))
	if want == nil || got == nil || want[1] != got[1] {
		t.Errorf("the Dockerfile builds with Go %v, go.mod wants %v", got, want)
	}
}
