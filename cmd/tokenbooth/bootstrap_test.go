package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

func TestBootstrap(t *testing.T) {
	t.Parallel()
	env := onSQLite(t.TempDir())
	first, code := runCommand(t, env, bootstrapArgs("Payments", "gitlab-ci", "--scope", "collectors:read")...)
	var members map[string]any
	var made bootstrapAnswer
	for _, into := range []any{&members, &made} {
		if err := json.Unmarshal([]byte(first.out.String()), into); err != nil || code != exitOK {
			t.Fatalf("exit code %d, output %q: %v\n%s", code, &first.out, err, &first.log)
		}
	}
	want := []string{"client_id", "client_secret", "created", "owner_client_id", "owner_id", "owner_secret", "service_account_id", "workspace_id"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(members))); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if !made.Created {
		t.Error("created is false at the first run")
	}

	// A running server takes new keys in at once, also of a workspace it has not seen.
	r := serveReady(t, env)
	for name, c := range map[string]credential{"service account": made.key(), "owner": made.ownerKey()} {
		token := wantToken(t, r.url, c)
		who := get(t, r.url+"/api/v1/whoami", token)
		if who.status != http.StatusOK || who.text("workspace_id") != made.WorkspaceID {
			t.Errorf("%s: whoami answers %d %v", name, who.status, who.body)
		}
	}
	if !strings.HasPrefix(*made.OwnerSecret, "tbp_") || !strings.HasPrefix(*made.ClientSecret, "tbs_") {
		t.Error("the owner's key is not a personal key, or the service account's is")
	}
	if got := claims(t, wantToken(t, r.url, made.key())); got["scope"] != "collectors:read" || got["sub"] != made.ServiceAccountID {
		t.Errorf("claims of the service account: %v", got)
	}
	if got := claims(t, wantToken(t, r.url, made.ownerKey())); got["sub"] != made.OwnerID || !strings.Contains(got["scope"].(string), "api-keys:create") {
		t.Errorf("claims of the owner: %v", got)
	}

	again := bootstrapped(t, env, bootstrapArgs("Payments", "gitlab-ci", "--scope", "collectors:read")...)
	same := made
	same.ClientSecret, same.OwnerSecret, same.Created = nil, nil, false
	if diff := cmp.Diff(same, again); diff != "" {
		t.Errorf("the second run (-want +got):\n%s", diff)
	}
	more := bootstrapped(t, env, bootstrapArgs("Billing", "jenkins")...)
	wantToken(t, r.url, more.key())
	if more.OwnerID != made.OwnerID || more.WorkspaceID == made.WorkspaceID {
		t.Errorf("a second workspace of the owner: %+v", more)
	}
}

// Of two at the same moment, one makes everything and one finds it.
func TestBootstrapAtOnce(t *testing.T) {
	t.Parallel()
	env := onPostgres(schematest.PostgresURL(t))
	var both []*process
	for range 2 {
		both = append(both, start(t, env, bootstrapArgs("Payments", "ci")...))
	}
	var answers []bootstrapAnswer
	for _, p := range both {
		var a bootstrapAnswer
		if code := p.wait(); code != exitOK || json.Unmarshal([]byte(p.out.String()), &a) != nil {
			t.Fatalf("exit code %d, output %q\n%s", code, &p.out, &p.log)
		}
		answers = append(answers, a)
	}
	made, found := answers[0], answers[1]
	if found.Created {
		made, found = found, made
	}
	if !made.Created || found.Created || found.ClientSecret != nil || found.OwnerSecret != nil {
		t.Fatal("not exactly one of them has made everything")
	}
	if found.ClientID != made.ClientID || found.OwnerClientID != made.OwnerClientID || found.WorkspaceID != made.WorkspaceID {
		t.Errorf("they name different things: %s and %s", made.ClientID, found.ClientID)
	}
	r := serveReady(t, env)
	wantToken(t, r.url, made.key())
	wantToken(t, r.url, made.ownerKey())
}
