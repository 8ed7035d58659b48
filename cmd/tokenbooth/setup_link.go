package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/console"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// linkAnswer is what `tokenbooth setup-link --json` prints.
type linkAnswer struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

func newSetUpLinkCommand(env *environment) *cobra.Command {
	var email string
	var asJSON bool
	command := &cobra.Command{
		Use:   "setup-link [--for EMAIL] [--json]",
		Short: "Make a link to sign in to the console for the first time",
		Long: `Setup-link makes a link to the console that works once. It works on the configured
database itself, so it is for the operator on the host.

Without --for it is the link that makes the first organization admin, valid for 30
minutes; it is made only while nobody can sign in.

With --for it is one by which a user who exists sets a new password, valid for a
day: after bootstrap, or when somebody has lost what they sign in with. Using it
ends their sessions and removes their passkeys.`,
		Example: `$ tokenbooth setup-link
$ tokenbooth setup-link --for ada@example.com`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return withManager(c.Context(), env, func(b *backend) error {
				link, err := makeLink(c.Context(), b, email)
				if err != nil {
					return err
				}
				answer := linkAnswer{console.LinkURL(b.config.Issuer, link), link.ExpiresAt.Time}
				if asJSON {
					return printJSON(env, answer)
				}
				_, err = fmt.Fprintf(env.stdout, "%s\nIt works once, until %s.\n", answer.URL, answer.ExpiresAt.Format(time.RFC3339))
				return err
			})
		},
	}
	command.Flags().StringVar(&email, "for", "", "the `EMAIL` address of a user")
	command.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return command
}

// makeLink makes a link for the user with an address, or without one for the first.
func makeLink(ctx context.Context, b *backend, email string) (manage.NewLink, error) {
	by := manage.Operator("setup-link")
	if email == "" {
		link, needed, err := b.manager.SetUpLink(ctx, by)
		if err == nil && !needed {
			err = exitWith(exitRefused, errors.New("an organization admin can sign in already"), "make a link for somebody with --for EMAIL")
		}
		return link, err
	}
	address, err := workspace.NormalEmail(email)
	if err != nil {
		return manage.NewLink{}, err
	}
	user, err := workspace.UserByEmail(ctx, b.db.Reader(), address)
	if errors.Is(err, workspace.ErrNotFound) {
		return manage.NewLink{}, exitWith(exitFailure, fmt.Errorf("there is no user with the address %s", address), "invite them in the console, or make them with bootstrap")
	}
	if err != nil {
		return manage.NewLink{}, err
	}
	link, err := b.manager.AccessLink(ctx, by, user.ID)
	if errors.Is(err, manage.ErrPending) {
		err = nil
	}
	return link, err
}
