package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// What exec ends with when it is not the command's own code (as env, nice and
// other utilities do: POSIX, Exit Status for Commands).
const (
	exitExecFailed     = 125
	exitExecNotAllowed = 126
	exitExecNotFound   = 127
)

func newExecCommand(env *environment) *cobra.Command {
	var o clientOptions
	var variable string
	command := &cobra.Command{
		Use:   "exec [--scope SCOPE …] [--audience AUDIENCE …] [--var NAME] -- COMMAND [ARGUMENT …]",
		Short: "Run a command with a token in its environment",
		Long: `Exec gets a token as tokenbooth token get does and runs a command with it in
TOKENBOOTH_TOKEN. The command does not get the secret. The token is not renewed
while it runs.

The command takes the place of exec, under the same process ID: signals, the terminal,
standard input and output and the exit code are the command's. Without a token, or if the
command cannot be run, exec ends with 125, 126 (it may not be executed) or 127
(there is none of that name).`,
		Example: `$ tokenbooth exec -- sh -c 'curl -H "Authorization: Bearer $TOKENBOOTH_TOKEN" https://api.example.com/collectors'
$ tokenbooth exec --scope collectors:update --var API_TOKEN -- ./deploy.sh`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exitWith(exitExecFailed, errors.New("which command?"), "tokenbooth exec -- COMMAND [ARGUMENT …]")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			err := asLocalExit(execWithToken(c, env, o, variable, args))
			var exit *exitError
			if errors.As(err, &exit) && exit.code < exitExecFailed {
				exit.code = exitExecFailed
			}
			return err
		},
	}
	command.Flags().SetInterspersed(false)
	command.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return exitWith(exitExecFailed, err, misuse(c, err).hint)
	})
	addLoginFlags(command, &o)
	command.Flags().StringVar(&variable, "var", tokenVariable, "put the token into the variable `NAME`")
	return command
}

// execWithToken returns only if it fails, or for --show-curl. The command replaces this
// process: a parent that passes signals on would give it each Ctrl-C twice, since a
// terminal signals both of them.
func execWithToken(c *cobra.Command, env *environment, o clientOptions, variable string, args []string) error {
	if !variableName.MatchString(variable) {
		return usagef(c, "--var: a name has letters, digits and underscores, and begins with no digit")
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return notRun(args[0], err)
	}
	if o.showCurl {
		return showCurl(c, env, o)
	}
	l, cache, err := newTokenRequest(c, env, o)
	if err != nil {
		return err
	}
	t, err := l.token(c.Context(), cache)
	if err != nil {
		return err
	}
	env.warn(expiryWarning(l.key.id, t.KeyExpiresAt, time.Now()))
	err = syscall.Exec(path, args, childEnvironment(env.environ, variable, t)) //nolint:gosec // that is what it is for
	return notRun(args[0], err)
}

// childEnvironment is ours with the token and without the secret.
func childEnvironment(environ []string, variable string, t accessToken) []string {
	var kept []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if name != secretVariable && name != secretFileVariable && name != variable {
			kept = append(kept, entry)
		}
	}
	return append(kept, variable+"="+t.AccessToken)
}

func notRun(name string, err error) error {
	code := exitExecNotAllowed
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitExecNotFound // the interpreter that a script names, perhaps
	}
	return exitWith(code, fmt.Errorf("cannot run %s: %w", name, err), "")
}
