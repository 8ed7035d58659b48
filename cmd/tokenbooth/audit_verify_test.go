package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// What a server records stays after it, whole, and what is done to it is found.
func TestExchangesAreRecorded(t *testing.T) {
	t.Parallel()
	for name, strict := range map[string]string{"behind": "false", "strict": "true"} {
		t.Run("sqlite "+name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			recordAndVerify(t, embedded(data), onSQLite(data, "TOKENBOOTH_AUDIT_STRICT="+strict))
		})
		t.Run("postgres "+name, func(t *testing.T) {
			t.Parallel()
			url := schematest.PostgresURL(t)
			recordAndVerify(t, url, onPostgres(url, "TOKENBOOTH_AUDIT_STRICT="+strict))
		})
	}
}

func recordAndVerify(t *testing.T, url string, env []string) {
	heads := filepath.Join(t.TempDir(), "heads.jsonl")
	env = append(env, "TOKENBOOTH_AUDIT_HEADS="+heads)
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	r := serveReady(t, env)
	token := wantToken(t, r.url, key)
	get(t, r.url+"/api/v1/whoami", key.secret)
	wantRefusal(t, r.url, credential{key.id, key.secret[:len(key.secret)-1] + "!"}, "malformed")
	r.stop()

	db := openDB(t, url)
	for action, want := range map[string]int{audit.TokenIssue: 1, audit.KeyUse: 1, audit.TokenRefuse: 1} {
		if n := query[int](t, db, "SELECT COUNT(*) FROM exchange_events WHERE action = ?", action); n != want {
			t.Errorf("%d exchanges are recorded as %s, want %d", n, action, want)
		}
	}
	jti, _ := claims(t, token)["jti"].(string)
	if n := query[int](t, db, "SELECT COUNT(*) FROM exchange_events WHERE detail LIKE ? AND key_id = ? AND request_id <> ''", "%"+jti+"%", key.id); n != 1 {
		t.Errorf("the token is recorded %d times", n)
	}
	if n := query[int](t, db, "SELECT COUNT(*) FROM exchange_events WHERE detail LIKE ? OR key_id LIKE ?", "%"+key.secret+"%", key.secret); n != 0 {
		t.Error("a secret is recorded")
	}
	exported, err := audit.ReadHeads(heads)
	if err != nil || len(exported) < 3 {
		t.Errorf("the exported heads are %v, error %v", exported, err)
	}
	if p, code := runCommand(t, env, "audit", "verify"); code != exitOK || !strings.HasSuffix(p.out.String(), " 3 exchanges: whole.\n") {
		t.Errorf("verify ended with %d: %s%s", code, &p.out, &p.log)
	}
	if _, err := db.Writer().ExecContext(t.Context(), `UPDATE exchange_bundles SET records = REPLACE(records, '127.0.0.1', '192.0.2.1') WHERE action = ?`, audit.TokenIssue); err != nil {
		t.Fatal(err)
	}
	if p, code := runCommand(t, env, "audit", "verify"); code != exitFailure || !strings.Contains(p.out.String(), "exchanges: exchanges of batch 1 were changed") {
		t.Errorf("verify of what was changed ended with %d: %s%s", code, &p.out, &p.log)
	}
}

// A path that cannot be written shows at once, and stops nothing.
func TestHeadsThatCannotBeExported(t *testing.T) {
	t.Parallel()
	env := onSQLite(t.TempDir(), "TOKENBOOTH_AUDIT_HEADS="+string(os.PathSeparator)+filepath.Join("dev", "null", "heads"))
	r := serveReady(t, env)
	eventually(t, "an error in the log", func() bool {
		_, told := r.event("cannot export the heads of the audit chains; trying again")
		return told
	})
	if r.ready() != http.StatusOK {
		t.Error("the server is not ready")
	}
}
