// Command tokenbooth is the one binary: the server and the commands around it.
//
// This package owns the command line, the configuration, the exit codes and the
// composition of the server's parts. It owns no rules of the domain: those live
// in the packages that it puts together.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// environment is everything a command may know of the process around it.
// Commands read it instead of package os, so a test can give them another.
type environment struct {
	environ        []string // "NAME=value", as os.Environ gives them
	stdin          io.Reader
	stdout, stderr io.Writer

	// options is what the global flags said; it is filled before a command runs.
	options loadOptions
}

// getenv is os.Getenv for this environment.
func (e *environment) getenv(name string) string {
	for _, entry := range e.environ {
		if n, value, _ := strings.Cut(entry, "="); n == name {
			return value
		}
	}
	return ""
}

// loadConfig returns the configuration that the flags and the environment name.
// Its warnings go to standard error.
func (e *environment) loadConfig() (*Config, error) {
	config, warnings, err := Load(e, e.options)
	e.warn(warnings)
	return config, err
}

func (e *environment) warn(warnings []string) {
	for _, warning := range warnings {
		fmt.Fprintf(e.stderr, "tokenbooth: warning: %s\n", warning)
	}
}

// run executes one command line and returns the process's exit code.
// The first interrupt or SIGTERM cancels the command's context; a second one
// finds no handler any more and ends the process.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRoot(&environment{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		// Our commands return only exitErrors (see own), so this one is cobra's.
		exit = misuse(command, err)
	}
	fmt.Fprintf(stderr, "tokenbooth: %v\n", err)
	if exit.hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", exit.hint)
	}
	return exit.code
}

// newRoot builds the command tree.
func newRoot(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "tokenbooth",
		Short: "Exchange API keys for short-lived tokens",
		Long: `Tokenbooth exchanges a workspace's API key for a short-lived JWT at
POST /api/login. Any service verifies that token on its own, with the keys
published at /.well-known/jwks.json.`,
		Example: `$ tokenbooth dev
$ TOKENBOOTH_ISSUER=https://login.example.com tokenbooth serve --listen :8080
$ tokenbooth config print`,
		Version:       readBuild().Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("tokenbooth {{.Version}}\n")
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetHelpFunc(printHelp)
	root.SetHelpCommand(newHelpCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	addConfigFlags(root.PersistentFlags(), &env.options)
	root.AddCommand(
		newServeCommand(env),
		newDevCommand(env),
		newBootstrapCommand(env),
		newSetUpLinkCommand(env),
		newSigningKeysCommand(env),
		newAuditCommand(env),
		newTokenCommand(env),
		newExecCommand(env),
		newJWKSCommand(env),
		newLoginCommand(env),
		newLogoutCommand(env),
		newProfileCommand(env),
		newWhoamiCommand(env),
		newWorkspacesCommand(env),
		newMembersCommand(env),
		newUsersCommand(env),
		newServiceAccountsCommand(env),
		newKeysCommand(env),
		newRevocationsCommand(env),
		newVerifiersCommand(env),
		newUsageCommand(env),
		newPolicyCommand(env),
		newQuotaCommand(env),
		newMigrateCommand(env),
		newBackupCommand(env),
		newRestoreCheckCommand(env),
		newHealthcheckCommand(env),
		newConfigCommand(env),
		newVersionCommand(env),
		newCompletionCommand(),
		newEnvironmentTopic(),
		newErrorsTopic(),
		newExitCodesTopic(),
	)
	own(root)
	return root
}

// own makes every command of the tree ours: its usage line is the one we wrote, a command that only groups others
// explains itself, a command that says nothing of arguments takes none, and an
// error that a command returns is an exitError, so that any other error is known
// to come from cobra and to be about the command line.
func own(command *cobra.Command) {
	for _, child := range command.Commands() {
		own(child)
	}
	command.DisableFlagsInUseLine = true
	switch {
	case command.RunE != nil:
		inner := command.RunE
		command.RunE = func(c *cobra.Command, args []string) error {
			if c.Flag("url") != nil {
				return asLocalExit(inner(c, args)) // it knows no database
			}
			return asExit(inner(c, args))
		}
	case command.HasSubCommands():
		command.Args = cobra.ArbitraryArgs
		command.RunE = explainGroup
	}
	if command.Args == nil {
		command.Args = cobra.NoArgs
	}
}

// explainGroup answers a command that only groups others: alone it prints its
// help, with a word that is none of its commands it suggests one.
func explainGroup(command *cobra.Command, args []string) error {
	if len(args) == 0 {
		return command.Help()
	}
	return unknownCommand(command, args[0])
}

// unknownCommand is the error for a word that names no command of the group.
func unknownCommand(group *cobra.Command, word string) error {
	var names []string
	for _, child := range group.Commands() {
		names = append(names, child.Name())
	}
	return usagef(group, "%s has no command %q%s", group.CommandPath(), word, didYouMean(word, names))
}
