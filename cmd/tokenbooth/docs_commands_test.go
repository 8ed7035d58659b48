package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestCommandsPage keeps the page of commands what the commands say.
func TestCommandsPage(t *testing.T) { wantPage(t, "commands.md", commandsPage()) }

func commandsPage() string {
	root := newRoot(&environment{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard})
	var b strings.Builder
	b.WriteString(`# Commands

Each command with its flags, as ` + "`tokenbooth COMMAND --help`" + ` prints it. How they are used together is on the pages about
[managing from the command line](cli.md), [token tools](tools.md) and [operating](operations.md). What errors mean is on
[their own page](errors.md).

`)
	var topics []*cobra.Command
	for _, c := range root.Commands() {
		if c.IsAdditionalHelpTopicCommand() {
			if c.Name() != "errors" { // which has a page
				topics = append(topics, c)
			}
			continue
		}
		fmt.Fprintf(&b, "- [`%s`](#%s): %s\n", c.CommandPath(), slugOf(c.CommandPath()), inMarkdown(c.Short))
	}
	for _, topic := range topics {
		fmt.Fprintf(&b, "\n## Topic: %s\n\n%s. `tokenbooth help %s` prints:\n\n```text\n%s\n```\n", topic.Name(), topic.Short, topic.Name(), strings.TrimSpace(topic.Long))
	}
	b.WriteString("\n## Flags for the configuration\n\nCommands that read the configuration have them. Commands that use a Tokenbooth which runs somewhere, those with `--url`, do not have them.\n\n")
	b.WriteString(flagTable(root.PersistentFlags()))
	for _, c := range root.Commands() {
		writeCommand(&b, c, "##")
	}
	return b.String()
}

// writeCommand describes a command and those below it.
func writeCommand(b *strings.Builder, c *cobra.Command, level string) {
	if !c.IsAvailableCommand() {
		return
	}
	fmt.Fprintf(b, "\n%s %s\n\n```text\n%s\n```\n\n", level, c.CommandPath(), usageLine(c))
	text, settings, _ := strings.Cut(cmp.Or(c.Long, c.Short), "Settings:\n")
	b.WriteString(paragraphs(text))
	if settings != "" {
		b.WriteString("\nIt lists the settings, which are on [a page of their own](configuration.md).\n")
	}
	if table := flagTable(c.LocalNonPersistentFlags()); table != "" {
		b.WriteString("\n" + table)
	}
	if c.HasParent() && c.Parent().HasParent() && c.Parent().HasPersistentFlags() {
		fmt.Fprintf(b, "\nand the flags of [`%s`](#%s).\n", c.Parent().CommandPath(), slugOf(c.Parent().CommandPath()))
	}
	if c.HasParent() && c.HasPersistentFlags() {
		b.WriteString("\n" + flagTable(c.PersistentFlags()))
	}
	if c.Example != "" {
		fmt.Fprintf(b, "\n```console\n%s\n```\n", c.Example)
	}
	for _, child := range c.Commands() {
		writeCommand(b, child, level+"#")
	}
}

// paragraphs is a help text in Markdown: what is indented stays as it is.
func paragraphs(text string) string {
	var b strings.Builder
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString("\n")
		}
		if strings.HasPrefix(paragraph, "  ") {
			fmt.Fprintf(&b, "```text\n%s\n```\n", paragraph)
			continue
		}
		b.WriteString(inMarkdown(paragraph) + "\n")
	}
	return b.String()
}

// inMarkdown keeps characters that Markdown gives a meaning.
func inMarkdown(text string) string {
	return strings.NewReplacer("*", `\*`, "<", `\<`, "_", `\_`, "|", `\|`).Replace(text)
}

func flagTable(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if b.Len() == 0 {
			b.WriteString("| flag | |\n|---|---|\n")
		}
		name, usage := pflag.UnquoteUsage(f)
		flag := strings.TrimSpace("--" + f.Name + " " + name)
		if f.Shorthand != "" {
			flag = "-" + f.Shorthand + ", " + flag
		}
		initial := ""
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && f.DefValue != "0s" {
			initial = " (default `" + f.DefValue + "`)"
		}
		fmt.Fprintf(&b, "| `%s` | %s%s |\n", strings.ReplaceAll(flag, "|", `\|`), inMarkdown(usage), initial)
	})
	return b.String()
}
