package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Exec is tried as a process: signals and exit codes are what it is about.
func TestExec(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	env := as(d.Issuer, d.key())
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	script := write("script", "#!/bin/sh\n", 0o600)
	orphan := write("orphan", "#!/no/such/interpreter\n", 0o700)
	garbage := write("garbage", "echo never\n", 0o700)
	for _, c := range []struct {
		what string
		env  []string
		args []string
		code int
		out  string
		says string
	}{
		{"a command", env, []string{"--", "sh", "-c", `test -n "$TOKENBOOTH_TOKEN" && echo "[$TOKENBOOTH_CLIENT_SECRET$TOKENBOOTH_CLIENT_SECRET_FILE]$TOKENBOOTH_CLIENT_ID"`}, 0, "[]" + d.ClientID, ""},
		{"its flags are its own", env, []string{"sh", "-c", "echo $#", "sh", "-o", "--url"}, 0, "2", ""},
		{"another variable", env, []string{"--var", "T", "--", "sh", "-c", `test -n "$T" && echo "[$TOKENBOOTH_TOKEN]"`}, 0, "[]", ""},
		{"its exit code", env, []string{"--", "sh", "-c", "exit 3"}, 3, "", ""},
		{"an exit code like ours", env, []string{"--", "sh", "-c", "exit 125"}, 125, "", ""},
		{"an interpreter that there is not", env, []string{"--", orphan}, exitExecNotFound, "", "cannot run " + orphan},
		{"no program", env, []string{"--", garbage}, exitExecNotAllowed, "", "exec format error"},
		{"no such command", env, []string{"--", "no-such-command"}, exitExecNotFound, "", "cannot run no-such-command"},
		{"not executable", env, []string{"--", script}, exitExecNotAllowed, "", "permission denied"},
		{"refused", as(d.Issuer, credential{d.ClientID, d.Fixtures["revoked"].ClientSecret}), []string{"--", "echo", "never"}, exitExecFailed, "", "401 invalid_client"},
		{"nobody there", as("http://127.0.0.1:1", d.key()), []string{"--timeout", "1s", "--", "echo", "never"}, exitExecFailed, "", "cannot reach"},
		{"no secret", as(d.Issuer, credential{}), []string{"--", "echo", "never"}, exitExecFailed, "", "the secret is missing"},
		{"no command", env, nil, exitExecFailed, "", "which command?"},
		{"no such flag", env, []string{"--no-such-flag", "--", "echo", "never"}, exitExecFailed, "", "unknown flag: --no-such-flag"},
	} {
		p, code := runCommand(t, c.env, append([]string{"exec"}, c.args...)...)
		if out := strings.TrimSpace(p.out.String()); code != c.code || out != c.out || !strings.Contains(p.log.String(), c.says) {
			t.Errorf("%s: ended with %d, %q, %q; want %d, %q, %q", c.what, code, out, &p.log, c.code, c.out, c.says)
		}
		if c.says == "" && p.log.String() != "" {
			t.Errorf("%s: something is said besides: %s", c.what, &p.log)
		}
	}
}

// The command is the process that was started: what is sent to that reaches it once, and
// how it ends is how that ends.
func TestExecIsTheCommand(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		// What ignores a signal from its start on cannot trap it, and this test may run so.
		p := start(t, as(d.Issuer, d.key()), "exec", "--", "env", "--default-signal", "sh", "-c", `trap 'echo got it; exit 9' TERM INT HUP; echo "ready $$"; while :; do sleep 0.05; done`)
		eventually(t, "a command that runs", func() bool { return len(p.out.lines()) > 0 })
		if got, want := p.out.lines()[0], fmt.Sprintf("ready %d", p.cmd.Process.Pid); got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
		p.signal(signal)
		if code := p.wait(); code != 9 || !strings.Contains(p.out.String(), "got it") {
			t.Errorf("%s: ended with %d, %q", signal, code, &p.out)
		}
	}
	p, _ := runCommand(t, as(d.Issuer, d.key()), "exec", "--", "sh", "-c", "kill -9 $$")
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("the command was killed, and exec ended with %s", p.cmd.ProcessState)
	}
}
