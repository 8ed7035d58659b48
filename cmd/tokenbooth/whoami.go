package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var identityColumns = []column[admin.Identity]{
	{name: "workspace", text: func(i admin.Identity) string { return i.Workspace }},
	{name: "workspace_id", text: func(i admin.Identity) string { return i.WorkspaceID }},
	{name: "subject", text: func(i admin.Identity) string { return i.Subject }},
	{name: "client_id", text: func(i admin.Identity) string { return i.ClientID }},
	{name: "scope", text: func(i admin.Identity) string { return i.Scope }},
	{name: "expires_at", at: func(i admin.Identity) *time.Time { return i.ExpiresAt }},
}

func newWhoamiCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:   "whoami [-o FORMAT]",
		Short: "Say whose the credential is",
		Long: `Whoami shows the workspace, the subject and the scope of the credential that commands
use: a token in TOKENBOOTH_TOKEN, else a key's secret (see tokenbooth help environment).`,
		Example: `$ tokenbooth whoami
$ TOKENBOOTH_TOKEN=$(tokenbooth token get) tokenbooth whoami -o json | jq -r .scope`,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c, env, func(r *apiRun) error {
				who, err := r.api.Whoami(c.Context())
				if err != nil {
					return err
				}
				return printOne(env, o.format, who, identityColumns)
			})
		},
	}
	o.addFlags(command)
	return command
}
