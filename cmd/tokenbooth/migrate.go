package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
)

func newMigrateCommand(env *environment) *cobra.Command {
	var plan bool
	command := &cobra.Command{
		Use:   "migrate [--plan]",
		Short: "Bring the database to this version's schema",
		Long: `Migrate brings the database to the schema of this binary and says what it did.
Serve does the same when it starts; run migrate before an upgrade where the
serving user may not change tables. Several may run at once: one does the work.

A database of a newer schema is left alone. Servers of the release before go on with
the new schema; migrate says from which version on.

With --plan it changes nothing and says what it would do.`,
		Example: `$ tokenbooth migrate --plan
$ tokenbooth migrate --config /etc/tokenbooth.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := env.loadConfig()
			if err != nil {
				return err
			}
			if plan {
				if err := wantDatabase(config); err != nil {
					return err
				}
			}
			ctx := c.Context()
			db, err := openDatabase(ctx, config.Database.URL)
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			if plan {
				return planMigration(ctx, env, db)
			}
			// The secrets of an embedded database are older than its tables:
			// tables without secrets are data that cannot be read any more.
			if db.Dialect() == schema.SQLite {
				if _, err := resolveSecrets(ctx, config, db, newLog(env.stderr, config)); err != nil {
					return err
				}
			}
			return migrate(ctx, env, db)
		},
	}
	command.Flags().BoolVar(&plan, "plan", false, "say what would be done, and change nothing")
	return command
}

func migrate(ctx context.Context, env *environment, db *schema.DB) error {
	before, err := db.Version(ctx)
	if err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	after, err := db.Version(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.stdout, "schema version %d (was %d)\n", after, before)
	return err
}

// planMigration says where the database is, what this binary would do to it, and for
// which binaries it is then.
func planMigration(ctx context.Context, env *environment, db *schema.DB) error {
	version, err := db.Version(ctx)
	if err != nil {
		return err
	}
	oldest, err := db.Window(ctx)
	if err != nil {
		return err
	}
	pending, err := db.Pending(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "schema version %d, for binaries that know %d or newer; this one knows %d\n", version, oldest, schema.Latest())
	for _, name := range pending {
		fmt.Fprintln(env.stdout, "to run  "+name)
	}
	if len(pending) == 0 {
		fmt.Fprintln(env.stdout, "nothing to run")
	}
	return nil
}
