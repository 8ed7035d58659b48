package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func newSigningKeysRewrapCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "rewrap",
		Short: "Seal the keys anew under a new key-encryption key",
		Long: `Rewrap seals every stored key anew by the key-encryption key that stands first in
secrets.key_encryption_key, all or none. The keys stay the same, and servers go on
signing.

Before that, give every server the new one in front of the old one, separated by a
comma, and restart it: rewrap refuses while one lacks it. Afterwards nothing in the
database needs the old one; backups from before do. Run again, it changes nothing.`,
		Example: `$ tokenbooth signing-keys rewrap
$ tokenbooth signing-keys list --json | jq -r '.[].sealed_by' | sort | uniq -c`,
		RunE: func(c *cobra.Command, _ []string) error {
			return withManager(c.Context(), env, func(b *backend) error {
				before, err := b.manager.RewrapSigningKeys(c.Context(), manage.Operator(operatorName()))
				if errors.Is(err, change.ErrNotHeld) {
					return exitWith(exitRetry, err, "run this again when they are ready; nothing was changed")
				}
				if err != nil {
					return err
				}
				for _, k := range before {
					fmt.Fprintf(env.stdout, "sealed anew  %s  %s, by %s instead of %s\n", k.ID, k.Slot(), b.sealer.ID(), k.SealerID)
				}
				_, err = fmt.Fprintf(env.stdout, "Key-encryption key %s opens every signing key; the database needs no other one.\n", b.sealer.ID())
				return err
			})
		},
	}
}
