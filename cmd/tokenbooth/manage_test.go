package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptCommands are what scripts have beside the usual.
var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"devstart": devStartScript, "exits": exitsScript, "until": untilScript,
}

// devStartScript runs dev until the script ends, and tells the script where it is and
// the keys that it has made.
func devStartScript(ts *testscript.TestScript, _ bool, _ []string) {
	temp := ts.MkAbs("dev")
	ts.Check(os.Mkdir(temp, 0o700))
	c := exec.Command("tokenbooth", "dev", "--listen", "127.0.0.1:0", "--json")
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + temp, "TMPDIR=" + temp, "GORACE=atexit_sleep_ms=0"}
	c.Stderr = ts.Stderr()
	out, err := c.StdoutPipe()
	ts.Check(err)
	ts.Check(c.Start())
	ts.Defer(func() {
		_ = c.Process.Kill() // it may have ended
		_ = c.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	ts.Check(err)
	var d demo
	ts.Check(json.Unmarshal(line, &d))
	for name, value := range map[string]string{"URL": d.Issuer, "ADMIN_KEY": d.AdminKey, "HOME": ts.MkAbs(".")} {
		ts.Setenv(name, value)
	}
}

// exitsScript runs a program that has to end with the given code.
func exitsScript(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("it ends with %d (%v), want %d", code, err, want)
	}
}

// untilScript runs a program until its standard output matches the last argument:
// some things are written a little later than they happen.
func untilScript(ts *testscript.TestScript, _ bool, args []string) {
	last := len(args) - 1
	want, err := regexp.Compile(args[last])
	ts.Check(err)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		ts.Check(ts.Exec(args[0], args[1:last]...))
		if want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("waited %s in vain for %s", patience, want)
}
