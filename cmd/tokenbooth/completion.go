package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// newCompletionCommand replaces cobra's own, whose help has another form.
func newCompletionCommand() *cobra.Command {
	words := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands in your shell",
		Long:  `Completion prints a script for your shell that completes commands, flags and their values.`,
		Example: `$ source <(tokenbooth completion bash)
$ tokenbooth completion zsh >"${fpath[1]}/_tokenbooth"
$ tokenbooth completion fish >~/.config/fish/completions/tokenbooth.fish
PS> tokenbooth completion powershell | Out-String | Invoke-Expression`,
		ValidArgs: words,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(words, args[0]) {
				return usagef(c, "which shell? one of %s", strings.Join(words, ", "))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			root, out := c.Root(), c.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return root.GenPowerShellCompletionWithDesc(out)
		},
	}
}
