package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// Yesterday's backup is put back. No server serves with it before what was revoked
// since is revoked again.
func TestRestoreOfABackup(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		data := t.TempDir()
		restoreDrill(t, embedded(data), onSQLite(data))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := schematest.PostgresURL(t)
		restoreDrill(t, url, onPostgres(url))
	})
}

func restoreDrill(t *testing.T, url string, env []string) {
	journal := filepath.Join(t.TempDir(), "revocations.jsonl")
	env = append(env, "TOKENBOOTH_REVOCATION_JOURNAL="+journal)
	leaked := bootstrapped(t, env, bootstrapArgs("Payments", "leaked")...)
	kept := bootstrapped(t, env, bootstrapArgs("Payments", "kept")...)
	r := serveReady(t, env)
	wantToken(t, r.url, leaked.key())
	r.stop()
	restore := schematest.Backup(t, url)

	r = serveReady(t, env)
	token := wantToken(t, r.url, leaked.key())
	api, err := admin.New(admin.Config{URL: r.url, Credential: leaked.ownerKey().secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.RevokeKey(t.Context(), "payments", leaked.ClientID, admin.Revocation{}); err != nil {
		t.Fatal(err)
	}
	wantInJournal(t, journal, leaked.ClientID)
	wantRefusal(t, r.url, leaked.key(), "revoked")
	r.kill()
	restore()

	if p, code := runCommand(t, env, "migrate"); code != exitOK {
		t.Errorf("migrate ended with %d: %s", code, &p.log)
	}
	wantEnd(t, env, exitFailure, "", "this database was restored from a backup", "serve")
	wantEnd(t, env, exitFailure, "1 revocation missing: 1 key revoked.\n", "the database lacks what the journals have", "restore-check")
	wantEnd(t, env, exitFailure, `"needed": true`, "run this again with --apply", "restore-check", "-o", "json")
	wantEnd(t, env, exitOK, "1 revocation merged: 1 key revoked.\n", "", "restore-check", "--apply")
	wantEnd(t, env, exitOK, "Nothing is missing", "", "restore-check", "--apply")

	r = serveReady(t, env)
	wantRefusal(t, r.url, leaked.key(), "revoked")
	if a := get(t, r.url+"/api/v1/whoami", token); a.status != http.StatusUnauthorized {
		t.Errorf("a token of the revoked key is answered with %d", a.status)
	}
	wantToken(t, r.url, kept.key())
	wantEnd(t, env, exitOK, "Nothing is missing", "", "restore-check")
	wantEnd(t, env, exitFailure, "", "a server is running with the journal "+journal, "restore-check", "--apply")
	if !strings.HasPrefix(url, "sqlite:") {
		wantEnd(t, env, exitFailure, "", "each replica needs a file of its own", "serve")
	}
	r.stop()
}

// wantInJournal wants a key's revocation in the file.
func wantInJournal(t *testing.T, path, key string) {
	t.Helper()
	recorded, err := revocation.ReadJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range recorded.Entries() {
		if e.SubjectID == key && e.Cause == revocation.Revoked {
			return
		}
	}
	t.Errorf("the revocation of %s is acknowledged and not in the journal: %v", key, recorded.Entries())
}

// wantEnd runs a command and checks its exit code, what it prints, and what it says
// besides.
func wantEnd(t *testing.T, env []string, code int, prints, says string, args ...string) {
	t.Helper()
	p, got := runCommand(t, env, args...)
	if got != code || !strings.Contains(p.out.String(), prints) || !strings.Contains(p.log.String(), says) {
		t.Errorf("%s ended with %d, want %d with %q and %q:\n%s%s", strings.Join(args, " "), got, code, prints, says, &p.out, &p.log)
	}
	if len(args) > 1 && args[1] == "-o" && !json.Valid([]byte(p.out.String())) {
		t.Errorf("this is not JSON: %s", &p.out)
	}
}
