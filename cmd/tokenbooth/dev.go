package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// devAddress is where dev listens unless it is told otherwise.
const devAddress = "127.0.0.1:8080"

// devOptions is what `tokenbooth dev` can be told.
type devOptions struct {
	listen      string
	databaseURL string
	redisURL    string
	json        bool
}

func newDevCommand(env *environment) *cobra.Command {
	var o devOptions
	command := &cobra.Command{
		Use:   "dev [--listen HOST:PORT] [--json]",
		Short: "Run a throw-away server with a demo key",
		Long: `Dev runs the whole service without configuration, on this machine only, with a
demo workspace and key, and prints the commands to try them. Its data ends with
it.

--json prints one line of JSON when the server is ready, for tests: the URLs, the
demo key, and fixtures: a key in each state that a client must cope with.

--database-url and --redis-url use real servers instead. A database is taken only
if it is empty or was made by dev.`,
		Example: `$ tokenbooth dev
$ tokenbooth dev --listen 127.0.0.1:0 --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if env.options.file != "" || len(env.options.overrides) > 0 {
				return usagef(c, "dev takes no configuration: use serve for that")
			}
			if host, _, err := net.SplitHostPort(o.listen); o.listen != "" && (err != nil || !isLoopback(host)) {
				return usagef(c, "--listen %s: dev listens on this machine only: use an address such as 127.0.0.1:8080 or 127.0.0.1:0", o.listen)
			}
			if err := checkRedis(o.redisURL); err != nil {
				return usagef(c, "--redis-url: it %w; it accepts %s", err, acceptsRedis)
			}
			return dev(c.Context(), env, o)
		},
	}
	command.Flags().StringVar(&o.listen, "listen", "", "serve on `HOST:PORT`, such as localhost:8080 to try passkeys; port 0 takes a free one (default "+devAddress+", or a free one if that is taken)")
	command.Flags().StringVar(&o.databaseURL, "database-url", "", "use the database at `URL`, which must be empty or made by dev")
	command.Flags().StringVar(&o.redisURL, "redis-url", "", "use the Redis at `URL`")
	command.Flags().BoolVar(&o.json, "json", false, "print one line of JSON when ready")
	return command
}

// dev serves until ctx ends.
func dev(ctx context.Context, env *environment, o devOptions) error {
	public, err := devListener(o.listen)
	if err != nil {
		return err
	}
	defer func() { _ = public.Close() }()
	ops, err := listen("127.0.0.1:0", "--listen 127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _ = ops.Close() }()

	dir, err := os.MkdirTemp("", "tokenbooth-dev-")
	if err != nil {
		return fmt.Errorf("make a directory for throw-away data: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	config, err := devConfig(env, o, devIssuer(o.listen, public.Addr()), dir)
	if err != nil {
		return err
	}
	if err := reachRedis(ctx, config); err != nil {
		return err
	}
	log := newLog(env.stderr, config)
	b, err := openDevBackend(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = b.close() }()
	// Before there is a replica: revoking waits for all of them.
	demo, err := makeDemo(ctx, b)
	if err != nil {
		return err
	}
	s, err := newServer(ctx, b, log)
	if err != nil {
		return err
	}
	demo.describe(s, ops.Addr().String())
	// The listeners accept connections from here on; they are answered as soon
	// as run has started, so what is printed now works when it is read.
	if err := demo.print(env.stdout, o.json); err != nil {
		return err
	}
	return s.run(ctx, public, ops)
}

// devListener takes the address that was asked for, or if none was, the usual one
// or any other if that is taken: what is printed says which.
func devListener(address string) (net.Listener, error) {
	if address != "" {
		return listen(address, "--listen 127.0.0.1:0")
	}
	if listener, err := net.Listen("tcp", devAddress); err == nil {
		return listener, nil
	}
	return listen("127.0.0.1:0", "--listen")
}

// devIssuer names the server as it was asked to listen: passkeys work for a name such
// as localhost alone.
func devIssuer(listen string, public net.Addr) string {
	host, port, _ := net.SplitHostPort(public.String())
	if named, _, err := net.SplitHostPort(listen); err == nil {
		host = named
	}
	return "http://" + net.JoinHostPort(host, port)
}

// devConfig is the configuration of the demo: the defaults, a catalogue, and a
// resource server beside the issuer.
func devConfig(env *environment, o devOptions, issuer, dir string) (*Config, error) {
	config, _, err := Load(&environment{stdin: env.stdin, stdout: env.stdout, stderr: env.stderr}, loadOptions{
		overrides: []override{{"dev", "issuer=" + issuer}, {"dev", "data=" + dir}, {"dev", "log.level=warn"}, {"dev", "log.format=text"}, {"dev", "http.shutdown_delay=0s"}},
	})
	if err != nil {
		return nil, err
	}
	config.Database.URL = "sqlite:" + filepath.Join(dir, "dev.db") + "?synchronous=off"
	if o.databaseURL != "" {
		config.Database.URL = o.databaseURL
	}
	config.Redis.URL = o.redisURL
	actions := []string{"read", "create", "update", "delete"}
	config.Catalogue.Resources = map[string][]string{"collectors": actions, "pipelines": actions}
	config.Audiences.Servers = []ResourceServer{{Audience: "https://api.example.com"}}
	config.Audiences.Default = "https://api.example.com"
	return config, nil
}

// reachRedis checks the Redis that dev was told to use, before anything is made.
func reachRedis(ctx context.Context, config *Config) error {
	r, err := newRedisStatus(config, slog.New(slog.DiscardHandler))
	if err != nil || r.client == nil {
		return err
	}
	defer r.close()
	if err := r.ready(ctx); err != nil {
		return err
	}
	if r.problem.Load() != "" {
		return exitWith(exitRetry, errors.New("the Redis at --redis-url does not answer"), "is it running, and is the URL right?")
	}
	return nil
}

// openDevBackend opens a database of throw-away data. Its secrets are kept in
// the database itself, so that several servers and later starts can share it.
func openDevBackend(ctx context.Context, config *Config) (_ *backend, err error) {
	db, err := openDatabase(ctx, config.Database.URL)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = db.Close()
		}
	}()
	if err := refuseRealData(ctx, db); err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx); err != nil {
		return nil, err
	}
	secrets := generateSecrets()
	text, err := json.Marshal(secrets)
	if err != nil {
		return nil, err
	}
	b, err := newBackend(config, db, secrets)
	if err != nil {
		return nil, err
	}
	mark := workspace.Installation{MadeBy: workspace.MadeByDev, DevSecrets: string(text)}
	settled := b.settle(ctx, secrets, mark)
	installation, err := workspace.FindInstallation(ctx, db.Reader())
	if err != nil {
		return nil, errors.Join(settled, err)
	}
	if installation.MadeBy != workspace.MadeByDev { // a server took the empty database first
		return nil, errRealData()
	}
	// Another start made the secrets; these are the ones.
	if err := json.Unmarshal([]byte(installation.DevSecrets), &secrets); err != nil {
		return nil, fmt.Errorf("secrets of the dev database: %w", err)
	}
	return newBackend(config, db, secrets)
}

// How often, and how many times, to look for the mark of what made the tables.
const (
	markLook  = 50 * time.Millisecond
	markLooks = 60
)

// refuseRealData protects whatever someone cares about. Another dev that starts
// at the same moment makes its tables before it marks them, so tables without a
// mark are looked at again before they count as someone's.
func refuseRealData(ctx context.Context, db *schema.DB) error {
	tick := time.NewTicker(markLook)
	defer tick.Stop()
	for range markLooks {
		empty, err := db.Empty(ctx)
		if err != nil || empty {
			return err
		}
		installation, err := workspace.FindInstallation(ctx, db.Reader())
		if err == nil && installation.MadeBy == workspace.MadeByDev {
			return nil
		}
		if err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errRealData()
}

func errRealData() error {
	return exitWith(exitRefused, errors.New("the database at --database-url is not empty and was not made by dev: it is left alone"),
		"give dev an empty database, or use serve for this one")
}

// describe adds where the demo is served.
func (d *demo) describe(s *server, ops string) {
	d.Issuer = s.config.Issuer
	d.APIURL = s.config.Issuer + admin.BasePath
	d.LoginURL = s.config.Issuer + endpoint.LoginPath
	d.ConsoleURL = s.demo.Link(s.config.Issuer)
	d.JWKSURI = s.config.Issuer + endpoint.JWKSPath
	d.WhoamiURL = s.config.Issuer + endpoint.WhoamiPath
	d.OperationsURL = "http://" + ops
	d.Audience = s.policy.Audiences.Default()
}

// print writes one line of JSON, or what a person wants to paste.
func (d *demo) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(d)
	}
	_, err := fmt.Fprintf(w, `tokenbooth dev: throw-away data, this machine only. Stop it with Ctrl-C.

  issuer     %[1]s
  workspace  %[2]s (%[3]s)
  key ID     %[4]s
  secret     %[5]s
  scope      %[6]s
  admin key  %[10]s (of the owner, for %[11]s)
  console    %[12]s

Exchange the key for a token:

  curl -sS %[7]s -d grant_type=client_credentials -d client_id=%[4]s -d client_secret=%[5]s

Keep the token, and ask whose it is:

  TOKEN=$(curl -sS %[7]s -d grant_type=client_credentials -d client_id=%[4]s -d client_secret=%[5]s | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl -sS %[8]s -H "Authorization: Bearer $TOKEN"

Verify it anywhere with %[9]s
`, d.Issuer, d.Workspace, d.WorkspaceID, d.ClientID, d.ClientSecret, d.Scope, d.LoginURL, d.WhoamiURL, d.JWKSURI, d.AdminKey, d.APIURL, d.ConsoleURL)
	return err
}
