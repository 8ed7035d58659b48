package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long a process may take to say that it is ready, or to end.
const patience = 2 * time.Minute

// process is something that is measured: a server on its core.
type process struct {
	cmd    *exec.Cmd
	pid    int
	said   bytes.Buffer // until it was ready
	exited chan error
}

// launch starts a program on the measured core and waits for a line of its that ready
// takes: on standard output, or if onStderr there. What it writes after that is read
// and thrown away.
func (m *machine) launch(cmd *exec.Cmd, onStderr bool, ready func(line string) bool) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan error, 1)}
	pipe := cmd.StdoutPipe
	if onStderr {
		pipe = cmd.StderrPipe
	}
	out, err := pipe()
	if err != nil {
		return nil, err
	}
	if err := m.onServerCore(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p.pid = cmd.Process.Pid
	started := make(chan struct{})
	go func() {
		p.listen(out, ready, started)
		p.exited <- cmd.Wait()
	}()
	select {
	case <-started:
		return p, nil
	case err := <-p.exited:
		return nil, fmt.Errorf("%s ended before it was ready: %w\n%s", cmd.Path, err, &p.said)
	case <-time.After(patience):
		return nil, errors.Join(fmt.Errorf("%s was not ready after %s", cmd.Path, patience), cmd.Process.Kill())
	}
}

func (p *process) listen(out io.Reader, ready func(line string) bool, started chan<- struct{}) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		p.said.WriteString(lines.Text() + "\n")
		if ready(lines.Text()) {
			close(started)
			break
		}
	}
	_, _ = io.Copy(io.Discard, out)
}

// end asks the process to end and waits until it has.
func (p *process) end() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-p.exited:
		return err
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("process %d did not end", p.pid), p.cmd.Process.Kill())
	}
}

// cpu is how much processor time the process has used, with all of its threads.
func (p *process) cpu() time.Duration { return cpuOf(p.pid) }

// memory reads a line such as VmHWM (peak) or VmRSS (now) of /proc, in bytes; 0: it
// is not to be had.
func (p *process) memory(line string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(l, ":")
		if name != line {
			continue
		}
		kilobytes, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		return kilobytes << 10
	}
	return 0
}
