package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

// wantChange wants one of the flags to be given.
func wantChange(c *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if c.Flags().Changed(name) {
			return nil
		}
	}
	return misuse(c, errors.New("what is to change? give --"+oneOf(flags)))
}

// oneOf lists flags: "name, --role or --scope".
func oneOf(flags []string) string {
	text := flags[0]
	for i, name := range flags[1:] {
		if i == len(flags)-2 {
			text += " or --" + name
			continue
		}
		text += ", --" + name
	}
	return text
}

// given is the value of a flag, nil if the flag was not given.
func given[T any](c *cobra.Command, flag string, value *T) *T {
	if !c.Flags().Changed(flag) {
		return nil
	}
	return value
}

// splitScopes takes scopes one by one, or several with spaces between as tokens have
// them.
func splitScopes(scopes []string) []string {
	return strings.Fields(strings.Join(scopes, " "))
}

// withoutEmpty is a list without empty entries, which stand for none.
func withoutEmpty(list []string) []string {
	kept := []string{}
	for _, text := range list {
		if text != "" {
			kept = append(kept, text)
		}
	}
	return kept
}
