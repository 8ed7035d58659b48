package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

func newConfigCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "config",
		Short: "Check or print the configuration",
		Long: `The configuration comes from four places, and the later one wins: a default, one
YAML file (--config FILE or TOKENBOOTH_CONFIG), the environment, the flags.

In the file a setting is nested; --set takes it with dots, and the environment in
capitals with underscores: tokens.ttl is --set tokens.ttl=5m and
TOKENBOOTH_TOKENS_TTL=5m. Outside the file lists are comma separated, and what is
more than a list is written as YAML. An empty variable counts as unset.

Secrets (marked *) never go on the command line. For each of them there is also a
variable with _FILE behind its name, which gives the path of a file to read.

` + describeSettings(),
		Example: `$ tokenbooth config check --config /etc/tokenbooth.yaml
configuration ok`,
	}
	command.AddCommand(newConfigCheckCommand(env), newConfigPrintCommand(env))
	return command
}

// describeSettings lists every setting with its default and what it accepts.
func describeSettings() string {
	var b strings.Builder
	b.WriteString("Settings:\n")
	for _, s := range settings(new(Config)) {
		mark := ""
		if s.secret {
			mark = " *"
		}
		fmt.Fprintf(&b, "    %s%s\n        %s", s.key, mark, s.accepts)
		if initial := cmp.Or(s.initial, s.derived); initial != "" {
			fmt.Fprintf(&b, " (default %s)", initial)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func newConfigCheckCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say everything that is wrong with the configuration",
		Long: `Check reads the configuration as the server would and names every problem at
once. It connects to nothing. It exits 1 when there is a problem.`,
		Example: "$ tokenbooth config check --config /etc/tokenbooth.yaml",
		RunE: func(*cobra.Command, []string) error {
			if _, err := env.loadConfig(); err != nil {
				return err
			}
			_, err := fmt.Fprintln(env.stdout, "configuration ok")
			return err
		},
	}
}

func newConfigPrintCommand(env *environment) *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "print [--json]",
		Short: "Print every setting and where it comes from",
		Long: `Print lists the effective configuration, each setting with its source. Secrets
are only said to be there or not. It prints what it can, and then exits 1, when
the configuration has problems.`,
		Example: `$ tokenbooth config print --set log.level=debug | grep level
  level: debug   # --set`,
		RunE: func(*cobra.Command, []string) error {
			r := resolve(env, env.options)
			env.warn(r.warnings)
			write := r.writeYAML
			if asJSON {
				write = r.writeJSON
			}
			if err := write(env); err != nil {
				return fmt.Errorf("print the configuration: %w", err)
			}
			return r.err()
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print a JSON list of keys, values and sources")
	return command
}

// writeYAML prints the settings in the shape of the file, the sources in one column.
func (r *resolution) writeYAML(env *environment) error {
	type line struct{ text, source string }
	var lines []line
	var open []string // the sections around the last line
	width := 0
	for _, s := range r.settings {
		path := strings.Split(s.key, ".")
		sections, leaf := path[:len(path)-1], path[len(path)-1]
		for depth, section := range sections {
			if depth < len(open) && open[depth] == section {
				continue
			}
			lines = append(lines, line{strings.Repeat("  ", depth) + section + ":", ""})
			open = open[:min(depth, len(open))]
		}
		open = sections
		value, err := s.yaml()
		if err != nil {
			return err
		}
		text := strings.Repeat("  ", len(sections)) + leaf + ": " + value
		lines = append(lines, line{text, "# " + s.source})
		width = max(width, min(len(text), 48))
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-*s  %s", width, l.text, l.source), " "))
	}
	_, err := fmt.Fprint(env.stdout, b.String())
	return err
}

// shown is the value to show: secrets that somebody gave stay hidden.
func (s *setting) shown() (value any, hidden string) {
	text, isText := s.field.(*string)
	switch {
	case s.failed:
		return nil, "(not usable)"
	case isText && *text == "":
		return nil, "(unset)"
	case s.secret && !strings.HasPrefix(s.source, fromDefault):
		return nil, "[redacted]"
	}
	switch field := s.field.(type) {
	case *string:
		return *field, ""
	case *time.Duration:
		return shortDuration(*field), ""
	case *[]netip.Prefix:
		var words []string
		for _, prefix := range *field {
			words = append(words, prefix.String())
		}
		return words, ""
	default:
		return field, ""
	}
}

// yaml is the value on one line.
func (s *setting) yaml() (string, error) {
	value, hidden := s.shown()
	if hidden != "" {
		return hidden, nil
	}
	var node yaml.Node
	if err := node.Encode(value); err != nil {
		return "", err
	}
	node.Style |= yaml.FlowStyle
	text, err := yaml.Marshal(&node)
	return strings.TrimSpace(string(text)), err
}

// writeJSON prints a list of objects in the order of the file. A setting that is
// not set has the value null, a secret that is set "[redacted]".
func (r *resolution) writeJSON(env *environment) error {
	type item struct {
		Key    string `json:"key"`
		Value  any    `json:"value"`
		Source string `json:"source"`
	}
	var items []item
	for _, s := range r.settings {
		value, hidden := s.shown()
		if hidden == "[redacted]" {
			value = hidden
		}
		items = append(items, item{s.key, value, s.source})
	}
	return printJSON(env, items)
}
