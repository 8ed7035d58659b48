package main

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// The rows of an estate are those of keys that work.
func TestEstate(t *testing.T) {
	pepper := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	b := &booth{env: []string{"TOKENBOOTH_SECRETS_PEPPER=1:" + pepper, "TOKENBOOTH_SECRETS_ID_KEY=" + pepper}}
	format, peppers, err := b.secrets()
	check(t, err)
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		e := estate{keys: rowsAtOnce + 5, workspaces: 3, events: 7}
		made, err := e.write(t.Context(), db, format, peppers)
		check(t, err)
		if made.len() != e.keys {
			t.Fatalf("%d credentials, want %d", made.len(), e.keys)
		}
		for i := range e.keys {
			id, text := made.at(i)
			record, err := keys.Read(t.Context(), db.Reader(), keys.ID(id))
			check(t, err)
			secret, err := format.ParseSecret(string(text))
			check(t, err)
			if matches, err := peppers.Matches(record.ID, secret, record.Secrets[0].Digest); !matches || err != nil || !record.Usable(time.Now()) || record.OwnerRole != "editor" {
				t.Fatalf("key %s: secret matches %t (%v), usable %t, role %q", id, matches, err, record.Usable(time.Now()), record.OwnerRole)
			}
			if i < e.workspaces {
				documentsOf(t, db, record.WorkspaceID)
			}
		}
		for query, want := range map[string]int{
			"SELECT COUNT(*) FROM workspaces": 3, "SELECT COUNT(DISTINCT workspace_id) FROM keys": 3,
			"SELECT COUNT(*) FROM exchange_events WHERE key_id IN (SELECT id FROM keys)": 7, "SELECT COUNT(*) FROM audit_events": 1,
		} {
			var n int
			check(t, db.Reader().QueryRowxContext(t.Context(), query).Scan(&n))
			if n != want {
				t.Errorf("%s: %d, want %d", query, n, want)
			}
		}
	})
}

func documentsOf(t *testing.T, db *schema.DB, ws workspace.ID) {
	t.Helper()
	limits, faultQuota, errQuota := policy.Current(t.Context(), db.Reader(), policy.KindQuota, string(ws), quota.ParseLimits)
	rules, faultKeys, errKeys := policy.Current(t.Context(), db.Reader(), policy.KindKeys, string(ws), policy.ParseRules)
	if faultQuota != nil || errQuota != nil || faultKeys != nil || errKeys != nil || limits.Version != 1 || rules.Version != 1 {
		t.Fatalf("quota %v %v, rules %v %v", faultQuota, errQuota, faultKeys, errKeys)
	}
}

// A request that is drawn is that of one key, whichever was drawn before.
func TestDraws(t *testing.T) {
	made := &credentials{}
	for _, c := range []string{"1", "2", "3", "4"} {
		made.add("tbk_"+c, "tbs_secret_"+c)
	}
	next := made.inTurn(4)
	one, other := next(), next()
	for _, test := range []struct {
		of   func() []byte
		want string
	}{{one, "1"}, {one, "2"}, {other, "3"}, {one, "4"}, {other, "1"}} {
		if got := string(test.of()); got != string(loginRequest("tbk_"+test.want, "tbs_secret_"+test.want)) {
			t.Errorf("drew %q, want the request of key %s", got, test.want)
		}
	}
	seen := map[string]bool{}
	draw := made.random(2)()
	for range 100 {
		seen[string(draw())] = true
	}
	for _, c := range []string{"1", "3"} { // two of four, evenly spread
		if !seen[string(loginRequest("tbk_"+c, "tbs_secret_"+c))] {
			t.Errorf("key %s was not drawn", c)
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d requests were drawn, want those of 2 keys", len(seen))
	}
}

// A load sends what is drawn.
func TestLoadDraws(t *testing.T) {
	made := &credentials{}
	for _, c := range []string{"1", "2", "3"} {
		made.add("tbk_"+c, "tbs_"+c)
	}
	seen := make(chan url.Values, 100)
	at := serving(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		seen <- r.Form
		_, _ = w.Write([]byte("x"))
	})
	at.draws = made.inTurn(3)
	_, err := at.send(ourselves(), 4, 30)
	check(t, err)
	close(seen)
	times := map[string]int{}
	for form := range seen {
		if id := form.Get("client_id"); id[4:] != form.Get("client_secret")[4:] {
			t.Errorf("the secret of another key: %v", form)
		}
		times[form.Get("client_id")]++
	}
	if times["tbk_1"] != 10 || times["tbk_2"] != 10 || times["tbk_3"] != 10 {
		t.Errorf("sent %v, want each key 10 times", times)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
