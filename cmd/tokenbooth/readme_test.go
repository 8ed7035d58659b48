package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// afterBuild is how long a newcomer waits at most for the first token, once the
// program is built.
const afterBuild = time.Minute

// Whoever has nothing but a clean copy of the source does what the first block of the
// README says, and reaches whoami.
func TestReadmeBeginning(t *testing.T) {
	t.Parallel()
	begin, asked := readmeCommands(t)
	if len(begin) != 1 || begin[0] != "make run" {
		t.Fatalf("the README begins with %q, want make run", begin)
	}
	copied := cleanCopy(t)
	newcomer := newReader(t)
	newcomer.dir = copied
	newcomer.env = append(newcomer.env, "GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"),
		"GOPROXY="+goEnv(t, "GOPROXY"), "GOTOOLCHAIN=local",
		"GOFLAGS=-trimpath") // so that what make build has compiled serves here too
	first := newcomer.open()
	first.begin(step{}, begin[0]+"\n")

	built := func() bool { return isFile(filepath.Join(copied, "bin", "tokenbooth")) }
	waitFor(t, "the build", 10*time.Minute, func() bool { return built() || first.hasExited() })
	since := time.Now()
	waitFor(t, "what the server prints", afterBuild, func() bool {
		return strings.Contains(first.out.String(), "/jwks.json\n") || first.hasExited()
	})
	if first.hasExited() {
		t.Fatalf("make run ended:\n%s", &first.out)
	}
	printed := first.out.String()
	sameCommands(t, asked, printed)

	var pasted []string
	for line := range strings.Lines(printed) {
		if strings.HasPrefix(line, "  curl ") || strings.HasPrefix(line, "  TOKEN=") {
			pasted = append(pasted, line)
		}
	}
	answer, ok := newcomer.open().paste(step{line: 1}, strings.Join(pasted, ""))
	if !ok || !strings.Contains(answer, `"access_token":"eyJ`) || !strings.Contains(answer, `"workspace":"demo"`) {
		t.Errorf("the commands that it prints answer:\n%s", answer)
	}
	if took := time.Since(since); took > afterBuild {
		t.Errorf("from the build to whoami it took %s, more than %s", took, afterBuild)
	}

	if err := syscall.Kill(-first.shell.Process.Pid, syscall.SIGINT); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	eventually(t, "the end of make run after Ctrl-C", first.hasExited)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// waitFor is eventually with a bound that matters.
func waitFor(t *testing.T, what string, most time.Duration, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(most); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", most, what)
		}
	}
}

// readmeCommands are those of the first two blocks of the README: what starts it, and
// what it is asked.
func readmeCommands(t *testing.T) (begin, asked []string) {
	t.Helper()
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found, _ := blocks(string(page))
	if len(found) < 2 {
		t.Fatal("the README has fewer than two blocks")
	}
	for _, s := range shownSteps(found[0]) {
		begin = append(begin, strings.TrimSpace(s.text))
	}
	for _, s := range shownSteps(found[1]) {
		asked = append(asked, strings.TrimSpace(s.text))
	}
	return begin, asked
}

// sameCommands checks that the README shows what the server prints, up to IDs and
// secrets.
func sameCommands(t *testing.T, asked []string, printed string) {
	t.Helper()
	if len(asked) != 2 {
		t.Errorf("the README asks %d things, want 2: %q", len(asked), asked)
	}
	port := regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)
	printed = port.ReplaceAllString(printed, "127.0.0.1:8080") // another one if that is taken
	for _, command := range asked {
		found := false
		for line := range strings.Lines(printed) {
			found = found || fits(command, line)
		}
		if !found {
			t.Errorf("the README shows %s\nand the server prints\n%s", command, printed)
		}
	}
}

// cleanCopy is what git would give: the files of the checkout that are not ignored.
func cleanCopy(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	names, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v (the tests need git and its checkout)", err)
	}
	copied := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimRight(string(names), "\x00"), "\x00") {
		copyFile(t, filepath.Join(root, name), filepath.Join(copied, name))
	}
	return copied
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Lstat(from)
	if errors.Is(err, os.ErrNotExist) { // removed, and not committed
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err := errors.Join(err, os.Symlink(target, to)); err != nil {
			t.Fatal(err)
		}
		return
	}
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, info.Mode().Perm())
	}
	if err != nil {
		t.Fatal(err)
	}
}
