package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
)

func newBackupCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy an embedded database while it is served",
		Long: `Backup writes a whole copy of the SQLite database, as it is at one moment, to a new
file. A server may run meanwhile and is not disturbed. The file must not exist; it
appears when it is complete and on the disk.

The secrets are not in it. The copy is of no use without them: keep them as well, and
apart from it. PostgreSQL has pg_dump for this.`,
		Example: `$ tokenbooth backup /mnt/backups/tokenbooth-$(date +%F).db`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(c, "name one new FILE for the copy")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			config, err := env.loadConfig()
			if err != nil {
				return err
			}
			if err := wantDatabase(config); err != nil {
				return err
			}
			db, err := openDatabase(c.Context(), config.Database.URL)
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			version, err := db.Version(c.Context())
			if err != nil {
				return err
			}
			switch err := db.Copy(c.Context(), args[0]); {
			case errors.Is(err, schema.ErrCopy):
				return exitWith(exitUsage, err, "back up PostgreSQL with pg_dump --format=custom")
			case errors.Is(err, fs.ErrExist):
				return exitWith(exitFailure, fmt.Errorf("%s exists and was left alone", args[0]), "name a new file")
			case err != nil:
				return err
			}
			_, err = fmt.Fprintf(env.stdout, "%s is a copy of the database, schema version %d. Keep the secrets as well, apart from it: %s\n",
				args[0], version, secretsPlace(config))
			return err
		},
	}
}

// secretsPlace says where the installation's secrets are.
func secretsPlace(config *Config) string {
	if s := config.Secrets; s.Pepper != "" && s.IDKey != "" && s.KeyEncryptionKey != "" {
		return "they are configured"
	}
	return filepath.Join(config.Data, "secrets")
}
