package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newHelpCommand replaces cobra's own, which ends the process by itself and
// exits 0 on a topic that does not exist.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND…]",
		Short: "Explain a command or a topic",
		Long:  "Help explains a command, or one of the topics environment, errors and exit-codes.",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			command, rest, err := c.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return unknownCommand(command, rest[0])
			}
			return command.Help()
		},
	}
}

// printHelp writes the help of one command: how to call it, what it does, what it
// offers, and a worked example.
func printHelp(c *cobra.Command, _ []string) {
	var b strings.Builder
	if !c.IsAdditionalHelpTopicCommand() {
		fmt.Fprintf(&b, "Usage:\n    %s\n\n", usageLine(c))
	}
	fmt.Fprintf(&b, "%s\n", strings.TrimSpace(cmp.Or(c.Long, c.Short)))
	writeCommands(&b, c)
	if !c.IsAdditionalHelpTopicCommand() {
		writeBlock(&b, "Options", c.LocalNonPersistentFlags().FlagUsages())
		if c.Flag("url") == nil { // others only use a Tokenbooth
			writeBlock(&b, "Configuration (see tokenbooth config --help)", globalFlags(c).FlagUsages())
		}
	}
	writeBlock(&b, "Example", indent(c.Example))
	fmt.Fprint(c.OutOrStdout(), b.String())
}

func usageLine(c *cobra.Command) string {
	if c.HasAvailableSubCommands() {
		return c.CommandPath() + " COMMAND [options]"
	}
	return c.UseLine()
}

// globalFlags is the flags of the root that the command does not redefine.
func globalFlags(c *cobra.Command) *pflag.FlagSet {
	if c.HasParent() {
		return c.InheritedFlags()
	}
	return c.PersistentFlags()
}

func writeCommands(b *strings.Builder, c *cobra.Command) {
	var commands, topics strings.Builder
	width := 13
	for _, child := range c.Commands() {
		width = max(width, len(child.Name()))
	}
	for _, child := range c.Commands() {
		line := fmt.Sprintf("    %-*s %s\n", width, child.Name(), child.Short)
		switch {
		case child.IsAvailableCommand():
			commands.WriteString(line)
		case child.IsAdditionalHelpTopicCommand():
			topics.WriteString(line)
		}
	}
	writeBlock(b, "Commands", commands.String())
	writeBlock(b, "Topics (tokenbooth help TOPIC)", topics.String())
}

func writeBlock(b *strings.Builder, title, body string) {
	if body != "" {
		fmt.Fprintf(b, "\n%s:\n%s\n", title, strings.TrimRight(body, "\n"))
	}
}

func indent(text string) string {
	if text == "" {
		return ""
	}
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}
