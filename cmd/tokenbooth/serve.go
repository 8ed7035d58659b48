package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
)

func newServeCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Serve exchanges keys for tokens until it is asked to stop.

Without configuration it keeps its database and its secrets in ./tokenbooth-data
and listens on 127.0.0.1:8080, with health and metrics on 127.0.0.1:9090. Set
database.url to a PostgreSQL server to run several replicas.

SIGTERM makes it leave readiness, serve on for http.shutdown_delay, finish what
is running, and end with code 0. A second signal ends it at once.

While nobody can sign in to the console yet, it prints an address on standard
output that makes the first organization admin, once and for 30 minutes. setup-link
makes another one.`,
		Example: `$ tokenbooth serve
$ tokenbooth serve --config /etc/tokenbooth.yaml
$ TOKENBOOTH_DATABASE_URL_FILE=/run/secrets/database-url tokenbooth serve --issuer https://login.example.com`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := env.loadConfig()
			if err != nil {
				return err
			}
			log, flush := newServerLog(env.stderr, config)
			defer flush()
			return serve(c.Context(), config, env.stdout, log, newSystemd(env, log))
		},
	}
}

// serve runs one replica from configuration to shutdown.
func serve(ctx context.Context, config *Config, out io.Writer, log *slog.Logger, manager *systemd) error {
	if !config.Operations.Profiling {
		noHeapProfile()
	}
	// First, so that a wrong address leaves nothing behind on the disk.
	public, err := listen(config.Listen, "--listen HOST:PORT")
	if err != nil {
		return err
	}
	defer func() { _ = public.Close() }()
	ops, err := listen(config.Operations.Listen, "--set operations.listen=HOST:PORT")
	if err != nil {
		return err
	}
	defer func() { _ = ops.Close() }()
	unlock, err := lockEmbedded(config)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := openBackend(ctx, config, log)
	if err != nil {
		return err
	}
	defer func() { _ = b.close() }()
	shut, err := openJournal(ctx, b, log)
	if err != nil {
		return err
	}
	defer shut()
	s, err := newServer(ctx, b, log)
	if err != nil {
		return err
	}
	if err := offerSetUp(ctx, b, out); err != nil && ctx.Err() == nil {
		return err
	}
	log.Info("serving", "issuer", config.Issuer, "listen", public.Addr().String(), "operations", ops.Addr().String(),
		"database", string(b.db.Dialect()), "signing_keys", s.ring.Holds(), "version", readBuild().Version)
	s.systemd = manager
	if err := s.run(ctx, public, ops); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

func listen(address, flag string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, exitWith(exitFailure, fmt.Errorf("cannot listen: %w", err), "choose another address with "+flag)
	}
	return listener, nil
}

// lockEmbedded keeps a second server off an embedded database. The lock goes
// with the process, however it ends.
func lockEmbedded(config *Config) (unlock func(), err error) {
	path, embedded := embeddedPath(config)
	if !embedded {
		return func() {}, nil
	}
	return lockFile(path + ".lock")
}

// embeddedPath is the file of an embedded database.
func embeddedPath(config *Config) (path string, embedded bool) {
	path, embedded = strings.CutPrefix(config.Database.URL, string(schema.SQLite)+":")
	path, _, _ = strings.Cut(path, "?")
	return path, embedded
}
