package main

import (
	"errors"
	"fmt"
	"os/user"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// bootstrapAnswer is what `tokenbooth bootstrap --json` prints. Secrets are null
// when their keys existed already.
type bootstrapAnswer struct {
	WorkspaceID      string  `json:"workspace_id"`
	ServiceAccountID string  `json:"service_account_id"`
	ClientID         string  `json:"client_id"`
	ClientSecret     *string `json:"client_secret"`
	OwnerID          string  `json:"owner_id"`
	OwnerClientID    string  `json:"owner_client_id"`
	OwnerSecret      *string `json:"owner_secret"`
	Created          bool    `json:"created"`
}

func newBootstrapCommand(env *environment) *cobra.Command {
	var b manage.Bootstrap
	var scopes []string
	var asJSON bool
	command := &cobra.Command{
		Use:   "bootstrap --owner EMAIL --workspace NAME --service-account NAME [--scope SCOPE …] [--rotate] [--json]",
		Short: "Make the first owner, workspace, service account and key",
		Long: `Bootstrap makes an owner, who is an organization admin, with a personal key, a
workspace, and a service account with a key. It works on the configured database
itself, so it is for the operator on the host; a running server takes the new
keys in at once.

Either everything is made or nothing. What exists already is left as it is: a
second run prints the same IDs, without the secrets, which are shown once. If they
were lost, --rotate makes new ones for both keys, the owner's and the service
account's. Another --owner is added to the workspace beside the first.

Without --scope the service account has the role viewer.`,
		Example: `$ tokenbooth bootstrap --owner ada@example.com --workspace Payments --service-account gitlab-ci --scope collectors:read
$ tokenbooth bootstrap --owner ada@example.com --workspace Payments --service-account gitlab-ci --json | jq -r .client_secret`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for flag, value := range map[string]string{"owner": b.OwnerEmail, "workspace": b.Workspace, "service-account": b.ServiceAccount} {
				if value == "" {
					return usagef(c, "--%s is missing", flag)
				}
			}
			var err error
			if b.Scopes, err = oauth.ParseScope(strings.Join(scopes, " ")); err != nil {
				return usagef(c, "--scope: %w", err)
			}
			result, err := bootstrap(c, env, b)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(env, answerOf(result))
			}
			return printBootstrap(env, result)
		},
	}
	command.Flags().StringVar(&b.OwnerEmail, "owner", "", "the owner's `EMAIL` address")
	command.Flags().StringVar(&b.Workspace, "workspace", "", "the `NAME` of the workspace")
	command.Flags().StringVar(&b.ServiceAccount, "service-account", "", "the `NAME` of the service account, such as gitlab-ci")
	command.Flags().StringArrayVar(&scopes, "scope", nil, "a `SCOPE` of the service account, such as collectors:read; repeatable")
	command.Flags().BoolVar(&b.Rotate, "rotate", false, "give keys that exist new secrets; the old ones stop at once")
	command.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return command
}

func bootstrap(c *cobra.Command, env *environment, b manage.Bootstrap) (manage.Bootstrapped, error) {
	config, err := env.loadConfig()
	if err != nil {
		return manage.Bootstrapped{}, err
	}
	backend, err := openBackend(c.Context(), config, newLog(env.stderr, config))
	if err != nil {
		return manage.Bootstrapped{}, err
	}
	defer func() { _ = backend.close() }()
	if len(backend.policy.Catalogue.All()) == 0 {
		env.warn([]string{"the catalogue is empty: keys hold no scopes until catalogue.resources is configured"})
	}
	result, err := backend.manager.Bootstrap(c.Context(), manage.Operator(operatorName()), b)
	switch {
	case errors.Is(err, workspace.ErrInvalid):
		return result, usagef(c, "%w", err)
	case errors.Is(err, workspace.ErrConflict):
		return result, exitWith(exitNotFound, err, "")
	}
	return result, err
}

// operatorName is who runs the command, for the audit log.
func operatorName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

func answerOf(r manage.Bootstrapped) bootstrapAnswer {
	return bootstrapAnswer{
		WorkspaceID:      string(r.WorkspaceID),
		ServiceAccountID: string(r.ServiceAccount.ID),
		ClientID:         string(r.Key.ID),
		ClientSecret:     revealed(r.Key.Secret),
		OwnerID:          string(r.OwnerID),
		OwnerClientID:    string(r.OwnerKey.ID),
		OwnerSecret:      revealed(r.OwnerKey.Secret),
		Created:          r.Created,
	}
}

// revealed is the plain text of a new secret, or nil.
func revealed(s keys.Secret) *string {
	if s == (keys.Secret{}) {
		return nil
	}
	text := s.Reveal()
	return &text
}

func printBootstrap(env *environment, r manage.Bootstrapped) error {
	a := answerOf(r)
	_, err := fmt.Fprintf(env.stdout, "workspace        %s\nowner            %s\n  key ID         %s\n  secret         %s\nservice account  %s (%s)\n  key ID         %s\n  secret         %s\n",
		a.WorkspaceID, a.OwnerID, a.OwnerClientID, shown(a.OwnerSecret),
		a.ServiceAccountID, r.ServiceAccount.Name, a.ClientID, shown(a.ClientSecret))
	return err
}

func shown(secret *string) string {
	if secret == nil {
		return "(existed already; it was shown when it was made)"
	}
	return *secret + "   (store it now: it is not shown again)"
}
