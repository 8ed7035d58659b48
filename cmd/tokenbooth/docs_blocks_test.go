package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const docs = "../../deploy/docs"

// Every page with steps does what it says, in a directory of its own.
func TestPages(t *testing.T) {
	tested := 0
	err := filepath.WalkDir(docs, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(docs, path) // both are relative
		todo, err := steps(string(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(todo) > 0 {
			tested++
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				follow(t, name, todo)
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if tested < len(preparations) {
		t.Errorf("only %d pages have steps: this test looks in the wrong place", tested)
	}
}

// follow does what a page says.
func follow(t *testing.T, name string, todo []step) {
	t.Helper()
	r := newReader(t)
	if prepare := preparations[name]; prepare != nil {
		prepare(t, r)
	}
	r.terminal = r.open()
	for _, s := range todo {
		if s.file != "" {
			r.save(s)
		} else {
			r.run(s)
		}
	}
}

// reader is somebody who follows a page literally.
type reader struct {
	t        *testing.T
	dir      string // where they work
	scripts  string // what they paste
	env      []string
	places   map[string]string // what a page names, and what there is here
	ports    map[string]string // the same of ports of this machine
	terminal *terminal         // the one for most commands
	others   []*terminal
}

func newReader(t *testing.T) *reader {
	t.Helper()
	r := &reader{t: t, dir: t.TempDir(), scripts: t.TempDir(), places: map[string]string{}, ports: map[string]string{}}
	r.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GORACE=atexit_sleep_ms=0", "LC_ALL=C.UTF-8", "TERM=dumb"}
	return r
}

// local is an address of this machine, as pages have them.
const local = `\b(?:127\.0\.0\.1|localhost|0\.0\.0\.0):[0-9]{4,5}\b`

// here makes of a page's text what fits this machine: a port is a free one, the same
// on the whole page.
func (r *reader) here(text string) string {
	r.t.Helper()
	any := []string{}
	for name := range r.places {
		any = append(any, regexp.QuoteMeta(name))
	}
	return regexp.MustCompile(strings.Join(append(any, local), "|")).ReplaceAllStringFunc(text, func(name string) string {
		if place, ok := r.places[name]; ok {
			return place
		}
		host, port, _ := strings.Cut(name, ":")
		if r.ports[port] == "" {
			_, r.ports[port], _ = strings.Cut(freeAddress(r.t), ":")
		}
		return host + ":" + r.ports[port]
	})
}

// gap is what readers fill in themselves: an ID or a secret that they have seen.
var gap = regexp.MustCompile(`\b(tb[ksp]_)…`)

// filled has in place of each gap what fits it and was printed last: in this terminal,
// or else in another.
func (r *reader) filled(text string) string {
	r.t.Helper()
	return gap.ReplaceAllStringFunc(text, func(name string) string {
		fitting := regexp.MustCompile(`\b` + strings.TrimSuffix(name, "…") + `[0-9A-Za-z_]{20,}`)
		for _, x := range append([]*terminal{r.terminal}, r.others...) {
			if seen := fitting.FindAllString(x.out.String(), -1); seen != nil {
				return seen[len(seen)-1]
			}
		}
		r.t.Fatalf("nothing that was printed fits %s", name)
		return ""
	})
}

// save writes a file that the page shows.
func (r *reader) save(s step) {
	r.t.Helper()
	path := filepath.Join(r.dir, s.file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(r.here(s.text)), 0o600)); err != nil {
		r.t.Fatal(err)
	}
}

// run pastes commands into the first terminal, or a new one, and looks at what they
// print.
func (r *reader) run(s step) {
	r.t.Helper()
	if s.until != "" {
		r.leave(s)
		return
	}
	printed, ok := r.terminal.paste(s, r.filled(r.here(s.text)))
	if !ok {
		r.t.Fatalf("line %d fails:\n%s%s", s.line, s.text, printed)
	}
	if want := r.here(s.want); s.shown && !fits(want, printed) {
		r.t.Errorf("line %d prints\n%s\nand the page shows\n%s", s.line, printed, want)
	}
}

// leave runs commands in a new terminal and returns when they serve.
func (r *reader) leave(s step) {
	r.t.Helper()
	at, x := r.here(s.until), r.open()
	r.others = append(r.others, x)
	x.begin(s, r.here(s.text))
	eventually(r.t, "the commands in line "+strconv.Itoa(s.line)+" to answer at "+at, func() bool {
		if x.hasExited() {
			r.t.Fatalf("line %d ends:\n%s%s", s.line, s.text, &x.out)
		}
		response, err := client.Get("http://" + at)
		if err == nil {
			_ = response.Body.Close()
		}
		return err == nil
	})
}

// terminal is a shell, which ends at the first command that fails.
type terminal struct {
	*reader
	shell  *exec.Cmd
	keys   io.Writer
	out    output
	exited chan struct{}
}

// open starts a shell, which ends with the test, as does what it has left running.
func (r *reader) open() *terminal {
	r.t.Helper()
	x := &terminal{reader: r, shell: exec.Command("bash", "--noprofile", "--norc", "-euo", "pipefail"), exited: make(chan struct{})}
	x.shell.Dir, x.shell.Env, x.shell.Stdout, x.shell.Stderr = r.dir, r.env, &x.out, &x.out
	x.shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	keys, err := x.shell.StdinPipe()
	if err := errors.Join(err, x.shell.Start()); err != nil {
		r.t.Fatal(err)
	}
	x.keys = keys
	go func() {
		defer close(x.exited)
		_ = x.shell.Wait() // the shell is killed at the end
	}()
	r.t.Cleanup(func() {
		_ = syscall.Kill(-x.shell.Process.Pid, syscall.SIGKILL) // all that it started; they may have ended
		<-x.exited
	})
	return x
}

func (x *terminal) hasExited() bool {
	select {
	case <-x.exited:
		return true
	default:
		return false
	}
}

// done is what a shell prints when it has come to the end of what was pasted.
const done = "\x1edone\x1e\n"

// begin pastes commands. They read nothing that is pasted after them.
func (x *terminal) begin(s step, text string) {
	x.t.Helper()
	script := filepath.Join(x.scripts, fmt.Sprintf("line-%d.sh", s.line))
	err := os.WriteFile(script, []byte(text), 0o600)
	if err == nil {
		_, err = fmt.Fprintf(x.keys, "source %s </dev/null; printf '\\036done\\036\\n'\n", script)
	}
	if err != nil {
		x.t.Fatalf("line %d: %v\n%s", s.line, err, &x.out)
	}
}

// paste returns what commands print, once they have ended, and whether all went well.
func (x *terminal) paste(s step, text string) (printed string, ok bool) {
	x.t.Helper()
	before := len(x.out.String())
	x.begin(s, text)
	eventually(x.t, "the end of the commands in line "+strconv.Itoa(s.line), func() bool {
		printed, ok = strings.CutSuffix(x.out.String()[before:], done)
		return ok || x.hasExited()
	})
	return printed, ok
}
