package grant_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// recorded writes what was noted and reads it back, the oldest first.
func (b *booth) recorded(t *testing.T) (found []audit.Exchange) {
	t.Helper()
	check(t, b.Exchanges.Flush(t.Context()))
	check(t, sqlx.SelectContext(t.Context(), b.db.Reader(), &found, `SELECT id, at, workspace_id, key_id, owner_id, secret_id, action, outcome,
		address, agent, request_id, detail, count FROM exchange_events ORDER BY batch, position`))
	return found
}

func TestExchangesAreRecorded(t *testing.T) {
	b := newBooth(t)
	verifier := b.open(t)
	k := b.key(t, manage.NewKey{})
	revoked := b.key(t, manage.NewKey{})
	check(t, b.manager.RevokeKey(t.Context(), operator, b.ws.ID, revoked.ID, ""))
	token := must(b.Issue(t.Context(), request(k, policy.Request{})))(t)
	claims := must(verifier.Verify(t.Context(), token.AccessToken))(t)
	unknown := b.Format.NewID()
	for _, r := range []grant.Request{
		request(k, policy.Request{Scope: oauth.NewScope("nowhere:read")}),
		request(revoked, policy.Request{}),
		{Credentials: b.wrong(k), Origin: home},
		{Credentials: grant.Credentials{ID: string(unknown), Secret: b.Format.NewSecret(unknown, keys.ServiceKey).Reveal()}, Origin: home},
	} {
		if _, err := b.Issue(t.Context(), r); err == nil {
			t.Fatalf("%+v: no error", r)
		}
	}
	of := func(id keys.ID, secret, outcome string) audit.Exchange {
		return audit.Exchange{
			At: workspace.At(b.now()), WorkspaceID: b.ws.ID, KeyID: string(id), OwnerID: string(b.sa.ID), SecretID: secret, Action: audit.TokenRefuse,
			Outcome: outcome, Address: "10.1.2.3", Agent: "curl/8", RequestID: "req_1", Detail: "{}", Count: 1,
		}
	}
	issued := of(k.ID, token.Client.SecretID, "issued")
	issued.Action = audit.TokenIssue
	issued.Detail = fmt.Sprintf(`{"audience":[%q],"jti":%q,"scope":"charts:read charts:update"}`, audience, claims.ID)
	nobody := audit.Exchange{At: workspace.At(b.now()), Action: audit.TokenRefuse, Outcome: "wrong_credentials", Address: "10.1.2.3", Detail: "{}", Count: 1}
	got := b.recorded(t)
	for i := range got {
		got[i].ID = ""
	}
	if len(got) == 5 && got[2].SecretID != "" {
		got[2].SecretID = "sec"
	}
	want := []audit.Exchange{issued, of(k.ID, token.Client.SecretID, "scope"), of(revoked.ID, "sec", "revoked"), of(k.ID, "", "wrong_credentials"), nobody}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A key that is used directly is noted and recorded as a token's would be.
func TestDirect(t *testing.T) {
	b := newBooth(t)
	k := b.key(t, manage.NewKey{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	client := must(b.Direct(t.Context(), grant.Credentials{Secret: k.Secret.Reveal()}, home))(t)
	if used, _ := b.notes(t, k); client.ID != k.ID || !used.At.Equal(b.now()) || used.Address != "10.1.2.3" {
		t.Errorf("%+v, noted %+v", client, used)
	}
	_, err := b.Direct(t.Context(), right(k), abroad)
	wantRefused(t, err, grant.Address, "Address not allowed")
	if _, err := b.Direct(t.Context(), grant.Credentials{}, abroad); !errors.Is(err, grant.ErrCredentials) {
		t.Errorf("without a key: %v", err)
	}
	var got []string
	for _, e := range b.recorded(t) {
		got = append(got, fmt.Sprint(e.Action, " ", e.Outcome, " ", e.KeyID == string(k.ID)))
	}
	if want := []string{"key.use issued true", "key.refuse address true", "key.refuse wrong_credentials false"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What cannot be recorded is not answered, when the record is strict.
func TestStrictRecord(t *testing.T) {
	b := newBooth(t)
	b.open(t)
	k := b.key(t, manage.NewKey{MaxUses: 10})
	b.Exchanges = audit.NewWriter(b.db, audit.WriterOptions{Interval: time.Millisecond, Strict: true})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { b.Exchanges.Run(ctx); close(ran) }()
	defer func() { stop(); <-ran }()
	must(b.Issue(t.Context(), request(k, policy.Request{})))(t)
	b.exec(t, `ALTER TABLE exchange_bundles RENAME TO away`)
	b.pass(time.Minute)
	for name, r := range map[string]grant.Request{
		"right": request(k, policy.Request{}), "wrong": {Credentials: b.wrong(k), Origin: abroad}, "unknown": {Origin: abroad},
	} {
		token, err := b.Issue(t.Context(), r)
		if token != nil || !errors.Is(err, keys.ErrUnavailable) || !errors.Is(err, audit.ErrNotRecorded) || errors.Is(err, grant.ErrCredentials) || grant.Outcome(err) != "unavailable" {
			t.Errorf("%s: %v, %v", name, token, err)
		}
	}
	if _, err := b.Direct(t.Context(), right(k), home); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("a key used directly: %v", err)
	}
	if used, _ := b.notes(t, k); used.At.Equal(b.now()) {
		t.Error("an exchange that was not answered is noted as a use")
	}
	b.exec(t, `ALTER TABLE away RENAME TO exchange_bundles`)
	must(b.Issue(t.Context(), request(k, policy.Request{})))(t)
	if uses := must(keys.Read(t.Context(), b.db.Reader(), k.ID))(t).Uses; uses != 2 {
		t.Errorf("%d uses are counted of two that were answered", uses)
	}
}

func TestStanding(t *testing.T) {
	b := newBooth(t)
	verifier := b.open(t)
	k := b.key(t, manage.NewKey{})
	token := must(b.Issue(t.Context(), request(k, policy.Request{})))(t)
	claims := must(verifier.Verify(t.Context(), token.AccessToken))(t)
	if record := must(b.Standing(t.Context(), claims))(t); record.ID != k.ID {
		t.Errorf("%+v", record)
	}
	for name, change := range map[string][2]string{
		"key":               {`UPDATE keys SET generation = 2`, `UPDATE keys SET generation = 1`},
		"owner":             {`UPDATE service_accounts SET generation = 2`, `UPDATE service_accounts SET generation = 1`},
		"workspace":         {`UPDATE workspaces SET generation = 2`, `UPDATE workspaces SET generation = 1`},
		"owner deleted":     {`UPDATE service_accounts SET deleted_at = 1`, `UPDATE service_accounts SET deleted_at = NULL`},
		"workspace deleted": {`UPDATE workspaces SET deleted_at = 1`, `UPDATE workspaces SET deleted_at = NULL`},
	} {
		b.exec(t, change[0])
		if record, err := b.Standing(t.Context(), claims); !errors.Is(err, bearer.ErrInvalid) || record != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.exec(t, change[1])
	}
	must(b.Standing(t.Context(), claims))(t)
	gone := *claims
	gone.ClientID = string(b.Format.NewID())
	if _, err := b.Standing(t.Context(), &gone); !errors.Is(err, bearer.ErrInvalid) {
		t.Errorf("a key that does not exist: %v", err)
	}
	check(t, b.db.Close())
	if _, err := b.Standing(t.Context(), claims); !errors.Is(err, keys.ErrUnavailable) || errors.Is(err, bearer.ErrInvalid) {
		t.Errorf("without the database: %v", err)
	}
}

func TestKeysOfADeletedWorkspace(t *testing.T) {
	b := newBooth(t)
	k := b.key(t, manage.NewKey{})
	b.exec(t, `UPDATE workspaces SET deleted_at = 0`)
	wantRefused(t, b.authenticate(t, right(k), home), grant.Deleted, "The API key was revoked, because its workspace was deleted at 1970-01-01T00:00:00Z.")
}
