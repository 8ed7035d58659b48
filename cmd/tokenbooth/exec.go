package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
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
	exitExecSignalled  = 128 // and the signal's number
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

Standard input, output and error are the command's, and so is the exit code; 128 and
its number if a signal ended it. Signals are passed on. Without a token, or if the
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
			err := execWithToken(c, env, o, variable, args)
			var exit *exitError
			if errors.As(err, &exit) && exit.code < exitExecFailed && !errors.As(err, new(*childExit)) {
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

// childExit is the exit of the command that was run, which speaks for itself.
type childExit struct{ error }

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
		return asLocalExit(err)
	}
	t, err := l.token(c.Context(), cache)
	if err != nil {
		return asLocalExit(err)
	}
	env.warn(expiryWarning(l.key.id, t.KeyExpiresAt, time.Now()))
	return runChild(env, path, args, childEnvironment(env.environ, variable, t))
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

// runChild runs the command to its end. It is not bound to our context: the
// signals that end that go to the command, which decides itself.
func runChild(env *environment, path string, args, environ []string) error {
	child := exec.CommandContext(context.Background(), path, args[1:]...) //nolint:gosec // that is what it is for
	child.Args[0] = args[0]
	child.Env, child.Stdin, child.Stdout, child.Stderr = environ, env.stdin, env.stdout, env.stderr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return notRun(args[0], err)
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = child.Process.Signal(s) // it has ended if this fails
			case <-done:
				return
			}
		}
	}()
	err := child.Wait()
	close(done)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	code := exit.ExitCode()
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = exitExecSignalled + int(status.Signal())
	}
	return exitWith(cmp.Or(code, exitExecFailed), &childExit{exit}, "")
}

func notRun(name string, err error) error {
	code := exitExecFailed
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		code = exitExecNotFound
	case errors.Is(err, fs.ErrPermission):
		code = exitExecNotAllowed
	}
	return exitWith(code, fmt.Errorf("cannot run %s: %w", name, err), "")
}
