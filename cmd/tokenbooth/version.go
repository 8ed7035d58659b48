package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// What the linker writes (-X main.version=v1.2.3), as deploy/package/binary.sh tells
// it; nothing else does. All are empty in a plain `go build` or `go install`, where the
// toolchain's own record stands in. Packages are built without that record: it says
// where the sources lay, and a tarball of them shall give the same binary.
var (
	version    string
	commit     string // full hash
	commitTime string // seconds since 1970
)

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
	b.Commit = cmp.Or(commit, b.Commit)
	if seconds, err := strconv.ParseInt(commitTime, 10, 64); err == nil {
		b.Time = time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	}
	b.Modified = b.Modified || strings.HasSuffix(version, "-dirty") // as git describe writes it
	return b
}

// String is the one line for people.
func (b build) String() string {
	parts := []string{b.Go, b.Platform}
	if b.Time != "" {
		parts = append([]string{b.Time}, parts...)
	}
	if b.Commit != "" {
		parts = append([]string{"commit " + b.Commit}, parts...)
	}
	return fmt.Sprintf("tokenbooth %s (%s)", b.Version, strings.Join(parts, ", "))
}

func newVersionCommand(env *environment) *cobra.Command {
	var format outputFormat
	var asJSON bool
	command := &cobra.Command{
		Use:   "version [-o FORMAT]",
		Short: "Print which build this is",
		Long: `Version prints the release, the commit with its time, and the toolchain and the
platform of this binary.`,
		Example: "$ tokenbooth version -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := format.check(c); err != nil {
				return err
			}
			if asJSON || format.name == formatJSON {
				return printJSON(env, readBuild())
			}
			_, err := fmt.Fprintln(env.stdout, readBuild())
			return err
		},
	}
	format.add(command, "text", []string{"text", formatJSON})
	command.Flags().BoolVar(&asJSON, "json", false, "the same as -o json")
	return command
}

// printJSON writes v to standard output, indented for people and whole for jq.
func printJSON(env *environment, v any) error {
	encoder := json.NewEncoder(env.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
