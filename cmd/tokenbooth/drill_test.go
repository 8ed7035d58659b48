package main

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// The commands of guides/backup.md bring back an installation of which nothing is left
// but the backup, the secrets and the journal.
func TestBackupDrill(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		data := filepath.Join(t.TempDir(), "data")
		d := newDrill(t, "SQLite", onSQLite(data))
		d.reader.places["/var/lib/tokenbooth"] = data
		d.lost = []string{data}
		d.run()
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		at := schematest.PostgresURL(t)
		etc := t.TempDir()
		d := newDrill(t, "PostgreSQL", onPostgres(at, secretsIn(t, filepath.Join(etc, "secrets"))...))
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		d.reader.places["/etc/tokenbooth"] = etc
		d.reader.places["db.example.com"], d.reader.places["PGPORT=5432"] = u.Hostname(), "PGPORT="+u.Port()
		d.reader.places["PGUSER=tokenbooth"], d.reader.places["PGDATABASE=tokenbooth"] = "PGUSER="+u.User.Username(), "PGDATABASE="+strings.Trim(u.Path, "/")
		d.lost = []string{filepath.Join(etc, "secrets")} // the page drops the database itself
		d.run()
	})
}

// secretsIn writes new secrets to files, and returns the settings that name them.
func secretsIn(t *testing.T, dir string) (env []string) {
	t.Helper()
	secrets := generateSecrets()
	for _, n := range secrets.named() {
		path := filepath.Join(dir, n.name)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(path, []byte(*n.value+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		env = append(env, "TOKENBOOTH_SECRETS_"+strings.ToUpper(n.name)+"_FILE="+path)
	}
	return env
}

// drill is an operator who follows the page.
type drill struct {
	t        *testing.T
	database string // as the page's headings call it
	env      []string
	journal  string
	lost     []string // directories
	reader   *reader
}

func newDrill(t *testing.T, database string, env []string) *drill {
	t.Helper()
	d := &drill{t: t, database: database, journal: filepath.Join(t.TempDir(), "revocations.jsonl"), reader: newReader(t)}
	if strings.Contains(strings.Join(env, " "), "_FILE=") { // instead of the secrets of onPostgres
		env = leaveOut(leaveOut(leaveOut(env, "SECRETS_PEPPER"), "SECRETS_ID_KEY"), "SECRETS_KEY_ENCRYPTION_KEY")
	}
	// Verifiers find the restored server where the lost one was.
	d.env = append(leaveOut(env, "TOKENBOOTH_LISTEN"), "TOKENBOOTH_LISTEN="+freeAddress(t), "TOKENBOOTH_REVOCATION_JOURNAL="+d.journal)
	d.reader.env = append(d.reader.env, d.env...)
	if programs, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); len(programs) > 0 {
		d.reader.env = append(d.reader.env, "PATH="+strings.Join(append(programs, os.Getenv("PATH")), ":"))
	}
	d.reader.places["/mnt/backups"], d.reader.places["/mnt/safe"] = t.TempDir(), t.TempDir()
	return d
}

// do runs the commands below a heading.
func (d *drill) do(heading string) string {
	d.t.Helper()
	before := len(d.reader.terminal.out.String())
	for _, s := range commandsBelow(d.t, "guides/backup.md", heading) {
		d.reader.run(s)
	}
	return d.reader.terminal.out.String()[before:]
}

func (d *drill) run() {
	leaked := bootstrapped(d.t, d.env, bootstrapArgs("Payments", "leaked")...)
	kept := bootstrapped(d.t, d.env, bootstrapArgs("Payments", "kept")...)
	r := serveReady(d.t, d.env)
	token, other := wantToken(d.t, r.url, leaked.key()), wantToken(d.t, r.url, kept.key())
	v := newDrillVerifier(d.t, r.url)
	v.accepts(token)
	v.accepts(other)
	d.reader.terminal = d.reader.open()
	d.do("Back up " + d.database)

	api, err := admin.New(admin.Config{URL: r.url, Credential: leaked.ownerKey().secret})
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := api.RevokeKey(d.t.Context(), "payments", leaked.ClientID, admin.Revocation{}); err != nil {
		d.t.Fatal(err)
	}
	v.denies(token)
	r.kill()
	for _, dir := range d.lost {
		if err := os.RemoveAll(dir); err != nil {
			d.t.Fatal(err)
		}
	}

	d.do("Restore " + d.database)
	wantEnd(d.t, d.env, exitFailure, "", "this database was restored from a backup", "serve")
	said := d.do("Bring back what was revoked since")
	for _, want := range []string{"1 revocation missing: 1 key revoked.", "The backup lacks something.", "1 revocation merged: 1 key revoked."} {
		if !strings.Contains(said, want) {
			d.t.Errorf("restore-check does not say %q:\n%s", want, said)
		}
	}

	r = serveReady(d.t, d.env)
	wantRefusal(d.t, r.url, leaked.key(), "revoked")
	v.denies(token)
	v.accepts(other)
	v.accepts(wantToken(d.t, r.url, kept.key()))
	late := newDrillVerifier(d.t, r.url) // which has seen nothing of before
	late.denies(token)
	late.accepts(other)
	wantEnd(d.t, d.env, exitOK, ": whole.", "", "audit", "verify")
	r.stop()
}

// commandsBelow are the steps of the blocks of shell commands between a heading of a page
// and the next one, which also a page that TestPages does not follow may have.
func commandsBelow(t *testing.T, page, heading string) (found []step) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docs, page))
	if err != nil {
		t.Fatal(err)
	}
	fenced, prose := blocks(string(text))
	begin, end := 0, len(prose)
	for i, line := range prose {
		title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		switch {
		case !strings.HasPrefix(line, "#") || !ok:
		case begin > 0:
			end = min(end, i)
		case title == heading:
			begin = i + 1
		}
	}
	for _, b := range fenced {
		if begin > 0 && b.line > begin && b.line < end+1 && len(b.info) == 1 && b.info[0] == "sh" {
			found = append(found, step{line: b.line, text: b.text})
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s has no commands below %q", page, heading)
	}
	return found
}

// drillVerifier is a service that verifies tokens and follows the feed.
type drillVerifier struct {
	*bearer.Verifier
	t    *testing.T
	feed *bearer.Feed
}

func newDrillVerifier(t *testing.T, base string) *drillVerifier {
	t.Helper()
	const issuer = "https://login.example.com"
	set, err := bearer.NewRemote(bearer.RemoteConfig{Issuer: issuer, JWKSURI: base + "/.well-known/jwks.json"})
	if err != nil {
		t.Fatal(err)
	}
	v := &drillVerifier{t: t}
	v.feed, err = bearer.NewFeed(bearer.FeedConfig{
		Issuer: issuer, URI: base + "/.well-known/revocations", KeysURI: base + "/.well-known/revocations/keys", MaxStaleness: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	if v.Verifier, err = bearer.New(bearer.Config{Issuer: issuer, Audience: issuer, Keys: set, Revocations: v.feed}); err != nil {
		t.Fatal(err)
	}
	return v
}

// accepts wants a token to be good, by the newest feed.
func (v *drillVerifier) accepts(token string) {
	v.t.Helper()
	if err := v.verify(token); err != nil {
		v.t.Errorf("a good token: %v", err)
	}
}

// denies wants a token to be denied once the feed has come that says so.
func (v *drillVerifier) denies(token string) {
	v.t.Helper()
	eventually(v.t, "a verifier that denies the token", func() bool {
		err := v.verify(token)
		return errors.Is(err, bearer.ErrInvalid) && strings.Contains(err.Error(), bearer.ErrRevoked.Error())
	})
}

func (v *drillVerifier) verify(token string) error {
	v.t.Helper()
	if err := v.feed.Refresh(v.t.Context()); err != nil {
		return err
	}
	_, err := v.Verify(v.t.Context(), token)
	return err
}
