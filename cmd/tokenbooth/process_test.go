package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen; it is long, since it
// only ends a test that has failed.
const patience = time.Minute

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", patience, what)
		}
	}
}

// output collects what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// lines is every whole line so far.
func (o *output) lines() []string {
	lines := strings.Split(o.String(), "\n")
	return lines[:len(lines)-1]
}

// process is tokenbooth as a process of its own. It is killed when the test
// ends, and what it logged is searched for secrets.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    output // standard output: results
	log    output // standard error
	exited chan struct{}
}

// start runs tokenbooth with nothing in its environment but PATH, HOME and env.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return startProgram(t, "tokenbooth", env, args...)
}

// startProgram is start for another build.
func startProgram(t *testing.T, program string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program, args...), exited: make(chan struct{})}
	p.cmd.Dir = t.TempDir()
	// Built with the race detector, a process would rest a second before it exits.
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.cmd.Dir, "GORACE=atexit_sleep_ms=0"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the exit code tells
	}()
	t.Cleanup(func() {
		p.kill()
		p.checkLog()
	})
	return p
}

// runCommand is start for a command that ends by itself; it returns its exit code.
func runCommand(t *testing.T, env []string, args ...string) (*process, int) {
	t.Helper()
	p := start(t, env, args...)
	return p, p.wait()
}

// wait returns the exit code once the process has ended; -1 if a signal ended it.
func (p *process) wait() int {
	p.t.Helper()
	eventually(p.t, "the end of tokenbooth "+strings.Join(p.cmd.Args[1:2], ""), p.hasExited)
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
}

// kill ends the process without a chance to tidy up.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.exited
}

// freeze stops the process until SIGCONT, and returns when it has stopped.
func (p *process) freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	_, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
	if err != nil || !status.Stopped() {
		p.t.Fatalf("the process did not freeze: %v, status %v", err, status)
	}
}

// stop asks the process to end, and wants it to end well.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitOK {
		p.t.Errorf("exit code %d after SIGTERM, want 0\n%s", code, &p.log)
	}
}

// leak is what no log, error or page for operators may hold: a key's secret, a
// token, 32 bytes in base64 as the installation's secrets are, and the passwords
// in these tests. The dot tells a token from the thumbprint of a key, which is
// no secret and may have "eyJ" in it by chance.
var leak = regexp.MustCompile(`tb[sp]_[0-9a-z]{26}_|eyJ[A-Za-z0-9_-]{10,}\.|[A-Za-z0-9+/]{43}=|hunter2`)

func (p *process) checkLog() {
	p.t.Helper()
	if found := leak.FindString(p.log.String()); found != "" {
		p.t.Errorf("standard error of tokenbooth holds the secret %s:\n%s", found, &p.log)
	}
	if strings.Contains(p.log.String(), "DATA RACE") || strings.Contains(p.log.String(), "panic") {
		p.t.Errorf("tokenbooth misbehaved:\n%s", &p.log)
	}
}

// replica is a running `tokenbooth serve`.
type replica struct {
	*process
	url, ops string
}

// serveReady starts a server and returns once it serves.
func serveReady(t *testing.T, env []string) *replica {
	t.Helper()
	return awaitReady(t, start(t, env, "serve"))
}

// awaitReady returns once a server that was started serves.
func awaitReady(t *testing.T, p *process) *replica {
	t.Helper()
	r := &replica{process: p}
	eventually(t, "a server that serves", func() bool {
		if r.hasExited() {
			t.Fatalf("serve ended with code %d:\n%s", r.cmd.ProcessState.ExitCode(), &r.log)
		}
		line, ok := r.event("serving")
		r.url, r.ops = "http://"+line.Listen, "http://"+line.Operations
		return ok
	})
	return r
}

// event finds a line of the log by its message. Every line must be JSON.
func (p *process) event(message string) (line struct {
	Message    string `json:"msg"`
	Listen     string `json:"listen"`
	Operations string `json:"operations"`
	Version    string `json:"version"`
}, ok bool) {
	p.t.Helper()
	for _, text := range p.log.lines() {
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			p.t.Fatalf("a line of the log is not JSON: %s", text)
		}
		if strings.HasPrefix(line.Message, message) {
			return line, true
		}
	}
	return line, false
}

// ready is the status of /readyz; 0 if nobody answers.
func (r *replica) ready() int {
	response, err := client.Get(r.ops + "/readyz")
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// client connects anew for each request, as to a server that comes and goes.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
