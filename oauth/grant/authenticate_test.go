package grant_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func TestAuthenticateRecognises(t *testing.T) {
	b := newBooth(t)
	k := b.key(t, manage.NewKey{})
	for name, c := range map[string]grant.Credentials{
		"ID and secret":    right(k),
		"the secret alone": {Secret: k.Secret.Reveal()},
	} {
		client, err := b.Authenticate(t.Context(), c, home)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if client.ID != k.ID || client.OwnerID() != string(b.sa.ID) || client.SecretID == "" || !client.At.Equal(b.now()) {
			t.Errorf("%s: %+v", name, client)
		}
	}
}

func TestAuthenticateRefusesCredentials(t *testing.T) {
	b := newBooth(t)
	k, other := b.key(t, manage.NewKey{}), b.key(t, manage.NewKey{})
	id, secret := string(k.ID), k.Secret.Reveal()
	nowhere := b.Format.NewID() // well formed, but of no key
	personal := strings.Replace(secret, "tbs_", "tbp_", 1)
	for _, c := range []struct {
		name string
		grant.Credentials
		want error
	}{
		{"wrong secret", b.wrong(k), grant.ErrCredentials},
		{"wrong secret alone", grant.Credentials{Secret: b.wrong(k).Secret}, grant.ErrCredentials},
		{"unknown ID", grant.Credentials{ID: string(nowhere), Secret: b.Format.NewSecret(nowhere, keys.ServiceKey).Reveal()}, grant.ErrCredentials},
		{"unknown ID alone", grant.Credentials{Secret: b.Format.NewSecret(nowhere, keys.ServiceKey).Reveal()}, grant.ErrCredentials},
		{"invented ID", grant.Credentials{ID: "tbk_00000000000000000000000000", Secret: secret}, grant.ErrCredentials},
		{"foreign ID", grant.Credentials{ID: "admin", Secret: secret}, grant.ErrCredentials},
		{"secret as the ID", grant.Credentials{ID: secret, Secret: secret}, grant.ErrCredentials},
		{"ID of another key", grant.Credentials{ID: string(other.ID), Secret: secret}, grant.ErrCredentials},
		{"ID in capitals", grant.Credentials{ID: strings.ToUpper(id), Secret: secret}, grant.ErrCredentials},
		{"ID with a space", grant.Credentials{ID: id + " ", Secret: secret}, grant.ErrCredentials},
		{"no secret", grant.Credentials{ID: id}, grant.ErrCredentials},
		{"nothing", grant.Credentials{}, grant.ErrCredentials},
		{"foreign secret", grant.Credentials{ID: id, Secret: "hunter2"}, grant.ErrCredentials},
		{"ID as the secret", grant.Credentials{ID: id, Secret: id}, grant.ErrCredentials},
		{"secret cut off", grant.Credentials{ID: id, Secret: secret[:40]}, keys.ErrMalformedSecret},
		{"secret with more", grant.Credentials{ID: id, Secret: secret + "x"}, keys.ErrMalformedSecret},
		{"secret in capitals", grant.Credentials{ID: id, Secret: "tbs_" + strings.ToUpper(secret[4:])}, keys.ErrMalformedSecret},
		{"secret of the other kind", grant.Credentials{ID: id, Secret: personal}, keys.ErrMalformedSecret},
		{"malformed for an unknown ID", grant.Credentials{ID: string(nowhere), Secret: secret[:40]}, keys.ErrMalformedSecret},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.pass(time.Hour) // the budget of failures is whole again
			err := b.authenticate(t, c.Credentials, home)
			if !errors.Is(err, c.want) || (errors.Is(c.want, grant.ErrCredentials) && err.Error() != c.want.Error()) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if strings.Contains(err.Error(), secret[:40]) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error gives a secret away: %v", err)
			}
		})
	}
	check(t, b.authenticate(t, right(k), home))
}

// wantRefused checks for a refusal that only the holder of the right secret sees.
func wantRefused(t *testing.T, err error, reason grant.Reason, text string) {
	t.Helper()
	var refused *grant.RefusedError
	switch {
	case !errors.As(err, &refused):
		t.Fatalf("error %v, want a refusal: %s", err, reason)
	case refused.Reason != reason || !strings.Contains(refused.Text, text):
		t.Fatalf("refused as %s: %q; want %s: %q", refused.Reason, refused.Text, reason, text)
	case grant.Outcome(err) != string(reason):
		t.Fatalf("outcome %s, want %s", grant.Outcome(err), reason)
	}
}

// Each step adds a reason that counts before those of the steps above it. To
// somebody with a wrong secret nothing of it shows.
func TestRefusalsInTheirOrder(t *testing.T) {
	b := newBooth(t)
	k := b.key(t, manage.NewKey{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ExpiresAt: b.now().Add(time.Hour)})
	check(t, b.authenticate(t, right(k), home))
	check(t, b.authenticate(t, right(k), grant.Origin{Address: netip.MustParseAddr("::ffff:10.1.2.3")}))
	ctx := t.Context()
	for i, step := range []struct {
		reason  grant.Reason
		text    string
		arrange func()
	}{
		{grant.Address, "may not be used from 192.0.2.1.", func() {}},
		{grant.Suspended, "Workspace is suspended: ask an organization admin.", func() {
			check(t, b.manager.SuspendWorkspace(ctx, operator, b.ws.ID))
		}},
		{grant.Disabled, "Service account is disabled: enable it", func() {
			check(t, b.manager.DisableServiceAccount(ctx, operator, b.ws.ID, b.sa.ID))
		}},
		{grant.Removed, "The API key was revoked, because its service account was deleted", func() {
			b.exec(t, `UPDATE service_accounts SET deleted_at = 1 WHERE id = ?`, b.sa.ID)
		}},
		{grant.Replaced, "ended at 2026-03-01T12:00:00Z, when the key was rotated: use its newer secret.", func() {
			must(b.manager.RotateKey(ctx, operator, b.ws.ID, k.ID, manage.Rotation{}))(t)
		}},
		{grant.Expired, "The API key expired at 2026-03-01T13:00:00Z: create a new one.", func() { b.pass(time.Hour) }},
		{grant.Revoked, "The API key was revoked at 2026-03-01T13:00:00Z: create a new one.", func() {
			check(t, b.manager.RevokeKey(ctx, operator, b.ws.ID, k.ID, "leaked"))
		}},
	} {
		step.arrange()
		wantRefused(t, b.authenticate(t, right(k), abroad), step.reason, step.text)
		elsewhere := grant.Origin{Address: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})} // with a budget of its own
		if err := b.authenticate(t, b.wrong(k), elsewhere); !errors.Is(err, grant.ErrCredentials) {
			t.Errorf("%s with a wrong secret: %v", step.reason, err)
		}
	}
}

func TestPersonalKeysFollowTheirUser(t *testing.T) {
	b := newBooth(t)
	ctx := t.Context()
	user := must(b.manager.CreateUser(ctx, operator, "ada@example.com", false))(t)
	check(t, b.manager.AddMember(ctx, operator, b.ws.ID, user.ID, workspace.Viewer))
	k := must(b.manager.CreateKey(ctx, operator, b.ws.ID, manage.NewKey{UserID: user.ID, Name: "laptop"}))(t)
	check(t, b.authenticate(t, right(k), home))
	b.exec(t, `UPDATE users SET disabled_at = 1 WHERE id = ?`, user.ID)
	wantRefused(t, b.authenticate(t, right(k), home), grant.Disabled, "The owner of this personal key is disabled.")
	b.exec(t, `DELETE FROM members WHERE user_id = ?`, user.ID)
	wantRefused(t, b.authenticate(t, right(k), home), grant.Removed, "The owner of this personal key is no longer a member")
}

func TestRotationKeepsTheOldSecretForTheGracePeriod(t *testing.T) {
	b := newBooth(t)
	k := b.key(t, manage.NewKey{})
	next := must(b.manager.RotateKey(t.Context(), operator, b.ws.ID, k.ID, manage.Rotation{Grace: time.Hour}))(t)
	b.pass(time.Hour - time.Microsecond)
	check(t, b.authenticate(t, right(k), home))
	check(t, b.authenticate(t, right(next), home))
	b.pass(time.Microsecond)
	wantRefused(t, b.authenticate(t, right(k), home), grant.Replaced, "use its newer secret")
	check(t, b.authenticate(t, right(next), home))
}

func TestExpiryCountsAfterTheLookUp(t *testing.T) {
	b := newBooth(t)
	k := b.key(t, manage.NewKey{ExpiresAt: b.now().Add(2 * time.Second)})
	b.lookup = func() { b.pass(3 * time.Second) } // a slow database
	wantRefused(t, b.authenticate(t, right(k), home), grant.Expired, "expired")
}

func TestFailureBudget(t *testing.T) {
	b := newBooth(t)
	first, second := b.key(t, manage.NewKey{}), b.key(t, manage.NewKey{})
	aims := []grant.Credentials{b.wrong(first), b.wrong(second), {ID: string(first.ID), Secret: first.Secret.Reveal()[:30]}}
	for i := range budget { // whatever is aimed at, the source is one
		if err := b.authenticate(t, aims[i%len(aims)], abroad); !errors.Is(err, grant.ErrCredentials) && !errors.Is(err, keys.ErrMalformedSecret) {
			t.Fatalf("failure %d: %v", i+1, err)
		}
	}
	for _, c := range append(aims, grant.Credentials{}) {
		var failures *grant.TooManyFailuresError
		err := b.authenticate(t, c, abroad)
		if !errors.As(err, &failures) || failures.RetryAfter != time.Minute || failures.Cause == nil || errors.Is(err, grant.ErrCredentials) {
			t.Fatalf("over the budget: %v", err)
		}
	}
	if err := b.authenticate(t, b.wrong(first), home); !errors.Is(err, grant.ErrCredentials) {
		t.Errorf("another source pays for it: %v", err)
	}
	check(t, b.authenticate(t, right(first), abroad))
	b.pass(time.Minute)
	if err := b.authenticate(t, b.wrong(first), abroad); !errors.Is(err, grant.ErrCredentials) {
		t.Errorf("a minute later: %v", err)
	}
}

// Nobody can be locked out: not by a flood from where they are, nor by one that
// is aimed at their key from elsewhere.
func TestTheRightSecretAlwaysWins(t *testing.T) {
	b := newBooth(t)
	b.cached.Store(true)
	k := b.key(t, manage.NewKey{})
	for i := range 5000 {
		if err := b.authenticate(t, b.wrong(k), abroad); err == nil {
			t.Fatal("a wrong secret was accepted")
		}
		if i%1000 == 999 {
			check(t, b.authenticate(t, right(k), abroad))
			check(t, b.authenticate(t, right(k), home))
		}
	}
}

func TestRefusalsDoNotSpendTheBudget(t *testing.T) {
	b := newBooth(t)
	k := b.key(t, manage.NewKey{})
	check(t, b.manager.RevokeKey(t.Context(), operator, b.ws.ID, k.ID, ""))
	for range 10 * budget {
		wantRefused(t, b.authenticate(t, right(k), abroad), grant.Revoked, "revoked")
	}
	for i := range budget {
		if err := b.authenticate(t, b.wrong(k), abroad); !errors.Is(err, grant.ErrCredentials) {
			t.Fatalf("failure %d: %v", i+1, err)
		}
	}
}

func TestDatabaseDownIsNotARefusal(t *testing.T) {
	b := newBooth(t)
	k := b.key(t, manage.NewKey{})
	check(t, b.db.Close())
	for name, c := range map[string]grant.Credentials{"right": right(k), "wrong": b.wrong(k)} {
		for range 2 * budget { // nor does it spend the budget
			err := b.authenticate(t, c, home)
			if !errors.Is(err, keys.ErrUnavailable) || errors.Is(err, grant.ErrCredentials) || grant.Outcome(err) != "unavailable" {
				t.Fatalf("%s secret: %v", name, err)
			}
		}
	}
	// What needs no look-up is still answered.
	elsewhere := b.Format.NewSecret(b.Format.NewID(), keys.ServiceKey).Reveal()
	for _, c := range []grant.Credentials{{ID: "admin", Secret: "admin"}, {ID: string(k.ID), Secret: elsewhere}} {
		if err := b.authenticate(t, c, home); !errors.Is(err, grant.ErrCredentials) {
			t.Errorf("credentials that cannot be right: %v", err)
		}
	}
}

func TestErrorsReadWell(t *testing.T) {
	failures := &grant.TooManyFailuresError{RetryAfter: 3 * time.Second, Cause: grant.ErrCredentials}
	if want := "too many failures, retry after 3s: unknown key ID or wrong secret"; failures.Error() != want {
		t.Errorf("%q, want %q", failures, want)
	}
	refused := &grant.RefusedError{Reason: grant.Expired, Text: "It has."}
	if text := fmt.Sprint(error(refused)); text != "expired: It has." {
		t.Errorf("%q", text)
	}
}
