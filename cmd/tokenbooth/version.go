package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is written by the linker (-X main.version=v1.2.3) and by nothing else.
// It is empty in a plain `go build`.
var version string

// build says which program this is.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`   // full hash; empty when built outside a repository
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Modified bool   `json:"modified,omitempty"` // built from a tree with uncommitted changes
	Go       string `json:"go"`
	Platform string `json:"platform"` // operating system and architecture, such as linux/amd64
}

// readBuild returns what the linker and the Go toolchain recorded.
func readBuild() build {
	b := build{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Version = info.Main.Version
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				b.Commit = setting.Value
			case "vcs.time":
				b.Time = setting.Value
			case "vcs.modified":
				b.Modified = setting.Value == "true"
			}
		}
	}
	b.Version = cmp.Or(version, b.Version, "(devel)")
	return b
}

// String is the one line for people.
func (b build) String() string {
	commit := ""
	if b.Commit != "" {
		commit = "commit " + b.Commit + ", "
	}
	return fmt.Sprintf("tokenbooth %s (%s%s, %s)", b.Version, commit, b.Go, b.Platform)
}

func newVersionCommand(env *environment) *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:     "version [--json]",
		Short:   "Print which build this is",
		Long:    "Version prints the release, the commit and the toolchain of this binary.",
		Example: "$ tokenbooth version --json",
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return printJSON(env, readBuild())
			}
			_, err := fmt.Fprintln(env.stdout, readBuild())
			return err
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return command
}

// printJSON writes v to standard output, indented for people and whole for jq.
func printJSON(env *environment, v any) error {
	encoder := json.NewEncoder(env.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
