package manage_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// useCase is one thing that may be done. do returns the chain and the subject
// of the event.
type useCase struct {
	action string
	denies bool
	do     func(ctx context.Context, h *house) (chain, subject string, err error)
}

// useCases needs a house with the given key.
func useCases(key manage.Issued) []useCase {
	scopes := oauth.NewScope("collectors:read")
	return []useCase{
		{"workspace.create", false, func(ctx context.Context, h *house) (string, string, error) {
			ws, err := h.CreateWorkspace(ctx, operator, "Other", "")
			return string(ws.ID), string(ws.ID), err
		}},
		{"user.create", false, func(ctx context.Context, h *house) (string, string, error) {
			user, err := h.CreateUser(ctx, operator, "Bob@example.com", false)
			return audit.Instance, string(user.ID), err
		}},
		{"member.add", false, func(ctx context.Context, h *house) (string, string, error) {
			return string(h.ws), string(h.outsider), h.AddMember(ctx, operator, h.ws, h.outsider, workspace.Viewer)
		}},
		{"invitation.create", false, func(ctx context.Context, h *house) (string, string, error) {
			link, err := h.CreateInvitation(ctx, operator, h.ws, "carol@example.com", workspace.Viewer)
			return string(h.ws), link.ID, err
		}},
		{"access_link.create", false, func(ctx context.Context, h *house) (string, string, error) {
			_, err := h.AccessLink(ctx, operator, h.viewer)
			return audit.Instance, string(h.viewer), err
		}},
		{"setup_link.create", false, func(ctx context.Context, h *house) (string, string, error) {
			link, _, err := h.SetUpLink(ctx, operator)
			return audit.Instance, link.ID, err
		}},
		{"service_account.create", false, func(ctx context.Context, h *house) (string, string, error) {
			sa, err := h.CreateServiceAccount(ctx, operator, h.ws, manage.NewServiceAccount{Name: "cd", Scopes: scopes})
			return string(h.ws), string(sa.ID), err
		}},
		{"key.create", false, func(ctx context.Context, h *house) (string, string, error) {
			issued, err := h.CreateKey(ctx, operator, h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "new", Scopes: &scopes})
			return string(h.ws), string(issued.ID), err
		}},
		{"key.rotate", true, func(ctx context.Context, h *house) (string, string, error) {
			_, err := h.RotateKey(ctx, operator, h.ws, key.ID, manage.Rotation{Grace: time.Hour})
			return string(h.ws), string(key.ID), err
		}},
		{"key.extend_secret", false, func(ctx context.Context, h *house) (string, string, error) {
			secrets := h.read(key.ID).Secrets
			return string(h.ws), string(key.ID), h.ExtendSecret(ctx, operator, h.ws, key.ID, secrets[min(1, len(secrets)-1)].ID, h.now.Add(2*time.Hour))
		}},
		{"key.end_secret", true, func(ctx context.Context, h *house) (string, string, error) {
			secrets := h.read(key.ID).Secrets
			return string(h.ws), string(key.ID), h.EndSecret(ctx, operator, h.ws, key.ID, secrets[len(secrets)-1].ID)
		}},
		{"key.update", true, func(ctx context.Context, h *house) (string, string, error) {
			return string(h.ws), string(key.ID), h.SetKeyScopes(ctx, operator, h.ws, key.ID, &scopes)
		}},
		{"policy.update", true, func(ctx context.Context, h *house) (string, string, error) {
			_, _, err := h.SetKeyPolicy(ctx, operator, h.ws, policy.Rules{MaxGraceSeconds: ptr[int64](60)})
			return string(h.ws), "policy:" + string(h.ws), err
		}},
		{"policy.update", true, func(ctx context.Context, h *house) (string, string, error) {
			_, _, err := h.SetKeyPolicy(ctx, operator, "", policy.Rules{IdleDays: ptr[int64](60)})
			return audit.Instance, "policy:organization", err
		}},
		{"quota.update", true, func(ctx context.Context, h *house) (string, string, error) {
			_, err := h.SetQuota(ctx, operator, h.ws, quota.Limits{MaxKeys: ptr[int64](100)})
			return string(h.ws), "quota:" + string(h.ws), err
		}},
		{"key.revoke", true, func(ctx context.Context, h *house) (string, string, error) {
			return string(h.ws), string(key.ID), h.RevokeKey(ctx, operator, h.ws, key.ID, "lost")
		}},
		{"key.delete", true, func(ctx context.Context, h *house) (string, string, error) {
			return string(h.ws), string(key.ID), h.DeleteKey(ctx, operator, h.ws, key.ID)
		}},
		{"service_account.update", true, func(ctx context.Context, h *house) (string, string, error) {
			name := "renamed"
			_, err := h.UpdateServiceAccount(ctx, operator, h.ws, h.sa, manage.ServiceAccountChange{Name: &name})
			return string(h.ws), string(h.sa), err
		}},
		{"service_account.disable", true, func(ctx context.Context, h *house) (string, string, error) {
			return string(h.ws), string(h.sa), h.DisableServiceAccount(ctx, operator, h.ws, h.sa)
		}},
		{"service_account.enable", true, func(ctx context.Context, h *house) (string, string, error) {
			yes := true
			_, err := h.UpdateServiceAccount(ctx, operator, h.ws, h.sa, manage.ServiceAccountChange{Enabled: &yes})
			return string(h.ws), string(h.sa), err
		}},
		{"service_account.delete", true, func(ctx context.Context, h *house) (string, string, error) {
			return string(h.ws), string(h.sa), h.DeleteServiceAccount(ctx, operator, h.ws, h.sa)
		}},
		{"member.update", true, func(ctx context.Context, h *house) (string, string, error) {
			_, err := h.SetMemberRole(ctx, operator, h.ws, h.viewer, workspace.Manager)
			return string(h.ws), string(h.viewer), err
		}},
		{"member.remove", true, func(ctx context.Context, h *house) (string, string, error) {
			return string(h.ws), string(h.viewer), h.RemoveMember(ctx, operator, h.ws, h.viewer)
		}},
		{"user.update", true, func(ctx context.Context, h *house) (string, string, error) {
			no := false
			_, err := h.UpdateUser(ctx, operator, h.viewer, manage.UserChange{Enabled: &no})
			return audit.Instance, string(h.viewer), err
		}},
		{"user.delete", true, func(ctx context.Context, h *house) (string, string, error) {
			return audit.Instance, string(h.viewer), h.DeleteUser(ctx, operator, h.viewer)
		}},
		{"workspace.update", false, func(ctx context.Context, h *house) (string, string, error) {
			_, err := h.RenameWorkspace(ctx, operator, h.ws, "Renamed")
			return string(h.ws), string(h.ws), err
		}},
		{"workspace.suspend", true, func(ctx context.Context, h *house) (string, string, error) {
			return string(h.ws), string(h.ws), h.SuspendWorkspace(ctx, operator, h.ws)
		}},
		{"workspace.resume", true, func(ctx context.Context, h *house) (string, string, error) {
			return string(h.ws), string(h.ws), h.ResumeWorkspace(ctx, operator, h.ws)
		}},
		{"workspace.delete", true, func(ctx context.Context, h *house) (string, string, error) {
			return string(h.ws), string(h.ws), h.DeleteWorkspace(ctx, operator, h.ws)
		}},
		{"signing_key.create", false, func(ctx context.Context, h *house) (string, string, error) {
			err := h.EnsureSigningKeys(ctx, operator)
			published, _ := signing.Published(context.WithoutCancel(ctx), h.Database.Reader())
			for _, key := range published {
				if key.Slot() == signing.FeedSlot() { // the last that is made
					return audit.Instance, signing.Subject(key.ID), err
				}
			}
			return "", "", err
		}},
		{"installation.create", false, func(ctx context.Context, h *house) (string, string, error) {
			return audit.Instance, "installation", h.MarkInstallation(ctx, operator, workspace.Installation{MadeBy: "dev", Fingerprints: "{}"})
		}},
		{"installation.update", false, func(ctx context.Context, h *house) (string, string, error) {
			return audit.Instance, "installation", h.SetFingerprints(ctx, operator, map[string]string{"pepper.2": "abc"})
		}},
	}
}

// Each use case is one change, one row for the caches and one event; those that
// deny something wait for every replica, the others for none.
func TestEachUseCaseIsRecorded(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.Timing.Lease = 300 * time.Millisecond // what is waited for is looked at: a busy machine needs its time
		for _, c := range useCases(h.key(h.sa)) {
			h.exec(`INSERT INTO replicas (id, host, renewals, acked_seq, renewed_at) VALUES ('dead', '', 0, 0, 0)`)
			before := h.seq()
			chain, subject, err := c.do(t.Context(), h)
			if err != nil {
				t.Errorf("%s: %v", c.action, err)
				continue
			}
			if got := h.seq(); got != before+1 {
				t.Errorf("%s: the counter went from %d to %d", c.action, before, got)
			}
			if n := get[int](h, `SELECT count(*) FROM changes WHERE seq = ? AND subject_id = ?`, before+1, subject); n != 1 {
				t.Errorf("%s: %d rows tell the caches of %s", c.action, n, subject)
			}
			events := h.events(chain)
			last := events[len(events)-1]
			if last.Action != c.action || last.SubjectID != subject || last.ActorKind != "operator" || last.ActorID != "test" || !last.At.Equal(h.now) {
				t.Errorf("%s: the last event is %+v", c.action, last)
			}
			if !json.Valid([]byte(last.Detail)) || !strings.HasPrefix(last.Detail, "{") {
				t.Errorf("%s: the detail %s is no JSON object", c.action, last.Detail)
			}
			if left := get[int](h, `SELECT count(*) FROM replicas`); (left == 0) != c.denies {
				t.Errorf("%s: waited for replicas: %v, want %v", c.action, left == 0, c.denies)
			}
			h.exec(`DELETE FROM replicas`)
		}
	})
}

// What has no effect leaves no trace: no number, no event, no wait.
func TestDoingItAgainChangesNothing(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		again := map[string]bool{
			"key.revoke": true, "service_account.disable": true, "service_account.update": true, "service_account.enable": true, "member.update": true,
			"user.update": true, "workspace.update": true, "workspace.resume": true, "workspace.suspend": true, "signing_key.create": true, "installation.create": true, "installation.update": true,
		}
		for _, c := range useCases(key) {
			if !again[c.action] {
				continue
			}
			_, _, err := c.do(t.Context(), h)
			check(t, err)
			before := h.dump()
			h.now = h.now.Add(time.Hour)
			_, _, err = c.do(t.Context(), h)
			want(t, c.action, nil, err)
			if after := h.dump(); after != before {
				t.Errorf("%s again changes\n%s\nto\n%s", c.action, before, after)
			}
		}
	})
}

// A database that holds every use case's traces holds no secret.
func TestSecretsAreNotStored(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		rotated, err := h.RotateKey(t.Context(), operator, h.ws, key.ID, manage.Rotation{Grace: time.Hour})
		check(t, err)
		for _, c := range useCases(key) {
			_, _, err := c.do(t.Context(), h)
			check(t, err)
		}
		dump := h.dump()
		for _, secret := range []string{key.Secret.Reveal(), rotated.Secret.Reveal()} {
			if strings.Contains(dump, secret[31:74]) { // its random part
				t.Error("a secret is in the database")
			}
		}
		if !strings.Contains(dump, string(key.ID)) || !strings.Contains(dump, rotated.Secret.Hint()) {
			t.Error("the dump does not show what is stored")
		}
	})
}
