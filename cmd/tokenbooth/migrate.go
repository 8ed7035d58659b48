package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
)

func newMigrateCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database to this version's schema",
		Long: `Migrate brings the database to the schema of this binary and says what it did.
Serve does the same when it starts; run migrate before an upgrade where the
serving user may not change tables. Several may run at once: one does the work.

A database of a newer schema is left alone.`,
		Example: `$ tokenbooth migrate
$ tokenbooth migrate --config /etc/tokenbooth.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := env.loadConfig()
			if err != nil {
				return err
			}
			ctx := c.Context()
			db, err := openDatabase(ctx, config.Database.URL)
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			// The secrets of an embedded database are older than its tables:
			// tables without secrets are data that cannot be read any more.
			if db.Dialect() == schema.SQLite {
				if _, err := resolveSecrets(ctx, config, db, newLog(env.stderr, config)); err != nil {
					return err
				}
			}
			before, err := db.Version(ctx)
			if err != nil {
				return err
			}
			if err := db.Migrate(ctx); err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.stdout, "schema version %d (was %d)\n", schema.Latest(), before)
			return err
		},
	}
}
