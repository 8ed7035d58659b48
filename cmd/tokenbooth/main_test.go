package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run this test binary as tokenbooth.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tokenbooth": main})
}

// TestScripts runs the command lines under testdata/script, each in a directory
// and an environment of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Cmds:               scriptCommands,
		// Built with the race detector, each command would rest a second before it exits.
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
	})
}
