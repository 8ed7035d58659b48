package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
)

// The exit codes. Scripts branch on them, so their meaning never changes.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitRetry    = 3
	exitRefused  = 4
	exitNotFound = 5
)

// exitError is an error that knows the exit code it deserves and, where there is
// one, the next step for the reader.
type exitError struct {
	code int
	err  error
	hint string // a sentence without "hint:"; may be empty
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// exitWith gives err an exit code and a hint, which may be empty.
func exitWith(code int, err error, hint string) error {
	return &exitError{code: code, err: err, hint: hint}
}

// usagef is a mistake on the command line of the given command.
func usagef(command *cobra.Command, format string, args ...any) error {
	return misuse(command, fmt.Errorf(format, args...))
}

func misuse(command *cobra.Command, err error) *exitError {
	return &exitError{
		code: exitUsage,
		err:  err,
		hint: fmt.Sprintf("see `%s --help`", command.CommandPath()),
	}
}

// asExit makes an error that has no exit code of its own a local failure, or one
// that is worth a retry when the database did not answer.
func asExit(err error) error {
	var exit *exitError
	if err != nil && !errors.As(err, &exit) && schema.IsUnavailable(err) {
		return exitWith(exitRetry, err, "the database does not answer; try again when it does")
	}
	return asLocalExit(err)
}

// asLocalExit makes an error that has no exit code of its own a local failure.
func asLocalExit(err error) error {
	var exit *exitError
	if err == nil || errors.As(err, &exit) {
		return err
	}
	return exitWith(exitFailure, err, "")
}

// newExitCodesTopic is what `tokenbooth help exit-codes` prints.
func newExitCodesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("Every command ends with one of these codes:\n\n")
	for _, line := range []struct {
		code    int
		meaning string
	}{
		{exitOK, "It worked."},
		{exitFailure, "It failed here: the configuration, a file, the database."},
		{exitUsage, "The command line, or what it asks a server for, is wrong; nothing was done."},
		{exitRetry, "A server or a dependency did not answer; the same command may work later."},
		{exitRefused, "The server refused: the credential or its rights do not suffice."},
		{exitNotFound, "What was named does not exist, or conflicts with what does."},
	} {
		fmt.Fprintf(&b, "    %d  %s\n", line.code, line.meaning)
	}
	b.WriteString(`
Errors go to standard error as "tokenbooth: …", sometimes followed by a line
"hint: …"; standard output carries only results.

tokenbooth exec ends with the code of its command instead, or with 125 when there is
no token, 126 when the command may not be executed, and 127 when there is none.`)
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: b.String()}
}
