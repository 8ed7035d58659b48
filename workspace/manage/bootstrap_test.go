package manage_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

var first = manage.Bootstrap{OwnerEmail: "Ada@example.com", Workspace: "Acme Payments", ServiceAccount: "ci"}

// bare is an installation in which there is nothing yet.
func bare(t testing.TB, db *schema.DB) *house {
	t.Helper()
	h := &house{t: t, now: time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)}
	h.Manager = newManager(t, db, func() time.Time { return h.now })
	return h
}

func TestBootstrap(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := bare(t, db)
		got, err := h.Bootstrap(t.Context(), operator, first)
		check(t, err)
		if !got.Created || !h.works(got.OwnerKey) || !h.works(got.Key) {
			t.Errorf("created %v, secrets work: %v and %v", got.Created, h.works(got.OwnerKey), h.works(got.Key))
		}
		owner := h.read(got.OwnerKey.ID)
		if owner.OwnerID() != string(got.OwnerID) || !owner.OwnerIsAdmin || owner.OwnerRole != "owner" || owner.WorkspaceSlug != "acme-payments" {
			t.Errorf("the owner's key is %+v", owner)
		}
		key := h.read(got.Key.ID)
		if key.OwnerID() != string(got.ServiceAccount.ID) || key.OwnerRole != "viewer" || key.WorkspaceID != got.WorkspaceID {
			t.Errorf("the service account's key is %+v", key)
		}
		if n := get[int](h, `SELECT count(*) FROM changes WHERE seq = 1`); n != 5 || h.seq() != 1 {
			t.Errorf("%d subjects changed in %d changes, want five in one: user, workspace, service account, two keys", n, h.seq())
		}

		before := h.dump()
		again, err := h.Bootstrap(t.Context(), operator, first)
		check(t, err)
		if again.Created || again.Key.Secret != (keys.Secret{}) || again.OwnerKey.Secret != (keys.Secret{}) {
			t.Error("the second time something was made")
		}
		if again.Key.ID != got.Key.ID || again.OwnerKey.ID != got.OwnerKey.ID || again.OwnerID != got.OwnerID || again.WorkspaceID != got.WorkspaceID {
			t.Errorf("the second time it is %+v, want %+v", again, got)
		}
		if h.dump() != before {
			t.Error("the second time something changed")
		}
	})
}

// Only what is missing is made.
func TestBootstrapAddsWhatIsMissing(t *testing.T) {
	h := bare(t, schematest.SQLite(t))
	got, err := h.Bootstrap(t.Context(), operator, first)
	check(t, err)
	second := first
	second.ServiceAccount, second.Scopes = "cd", oauth.NewScope("collectors:create")
	more, err := h.Bootstrap(t.Context(), operator, second)
	check(t, err)
	if !more.Created || more.OwnerKey.ID != got.OwnerKey.ID || more.OwnerKey.Secret != (keys.Secret{}) || !h.works(more.Key) || more.Key.ID == got.Key.ID {
		t.Errorf("the second account: %+v", more)
	}
	if sa := h.read(more.Key.ID); sa.OwnerRole != "" || sa.OwnerScopes.String() != "collectors:create" {
		t.Errorf("it holds role %q and scopes %q", sa.OwnerRole, sa.OwnerScopes)
	}
}

// A name whose slug is another workspace's is not taken for that one.
func TestBootstrapEntersNoOtherWorkspace(t *testing.T) {
	h := bare(t, schematest.SQLite(t))
	_, err := h.Bootstrap(t.Context(), operator, first)
	check(t, err)
	before, alike := h.dump(), first
	alike.Workspace, alike.OwnerEmail = first.Workspace+"!", "mallory@example.com"
	_, err = h.Bootstrap(t.Context(), operator, alike)
	want(t, "a name with the same slug", workspace.ErrConflict, err)
	if h.dump() != before {
		t.Error("something changed")
	}
}

// Scopes are checked, and not changed behind anyone's back.
func TestBootstrapChecksScopes(t *testing.T) {
	h := bare(t, schematest.SQLite(t))
	_, err := h.Bootstrap(t.Context(), operator, first)
	check(t, err)
	before := h.dump()
	for scope, kind := range map[string]error{"collectors:fly": workspace.ErrInvalid, "collectors:create": workspace.ErrConflict} {
		other := first
		other.Scopes = oauth.NewScope(scope)
		_, err := h.Bootstrap(t.Context(), operator, other)
		want(t, scope, kind, err)
	}
	if h.dump() != before {
		t.Error("something changed")
	}
}

// Lost secrets are replaced when that is asked for; revoked keys are not found.
func TestBootstrapRotates(t *testing.T) {
	h := bare(t, schematest.SQLite(t))
	got, err := h.Bootstrap(t.Context(), operator, first)
	check(t, err)
	again := first
	again.Rotate = true
	rotated, err := h.Bootstrap(t.Context(), operator, again)
	check(t, err)
	if rotated.Key.ID != got.Key.ID || !h.works(rotated.Key) || !h.works(rotated.OwnerKey) || h.works(got.Key) || h.works(got.OwnerKey) {
		t.Errorf("rotated: %+v", rotated)
	}
	check(t, h.RevokeKey(t.Context(), operator, got.WorkspaceID, got.Key.ID, "lost"))
	remade, err := h.Bootstrap(t.Context(), operator, first)
	check(t, err)
	if remade.Key.ID == got.Key.ID || !h.works(remade.Key) || remade.OwnerKey.Secret != (keys.Secret{}) {
		t.Errorf("after the key was revoked: %+v", remade)
	}
}

// However many start at once, one makes everything and has the secrets.
func TestConcurrentBootstraps(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := bare(t, db)
		results := make([]manage.Bootstrapped, 6)
		var running sync.WaitGroup
		for i := range results {
			running.Go(func() {
				var err error
				if results[i], err = h.Bootstrap(t.Context(), operator, first); err != nil {
					t.Errorf("Bootstrap: %v", err)
				}
			})
		}
		running.Wait()
		made := 0
		for _, r := range results {
			if r.Key.ID != results[0].Key.ID || r.OwnerKey.ID != results[0].OwnerKey.ID {
				t.Errorf("two results: %s and %s", r.Key.ID, results[0].Key.ID)
			}
			secrets := r.Key.Secret != (keys.Secret{}) && r.OwnerKey.Secret != (keys.Secret{})
			if secrets != r.Created {
				t.Errorf("created is %v, with secrets %v", r.Created, secrets)
			}
			if r.Created {
				made++
				if !h.works(r.Key) || !h.works(r.OwnerKey) {
					t.Error("the secrets do not work")
				}
			}
		}
		if n := get[int](h, `SELECT count(*) FROM key_secrets`); made != 1 || n != 2 {
			t.Errorf("%d made something, and there are %d secrets; want 1 and 2", made, n)
		}
	})
}

// All or nothing: when the last step fails, the first ones are undone.
func TestFailedBootstrapLeavesNothing(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := bare(t, db)
		before := h.dump()
		for name, change := range map[string]func(*manage.Bootstrap){
			"an unknown scope": func(b *manage.Bootstrap) { b.Scopes = oauth.NewScope("collectors:fly") },
			"a bad account":    func(b *manage.Bootstrap) { b.ServiceAccount = "C I" },
			"a bad workspace":  func(b *manage.Bootstrap) { b.Workspace = "!!!" },
			"a bad address":    func(b *manage.Bootstrap) { b.OwnerEmail = "ada" },
		} {
			bad := first
			change(&bad)
			_, err := h.Bootstrap(t.Context(), operator, bad)
			want(t, name, workspace.ErrInvalid, err)
			if after := h.dump(); after != before {
				t.Errorf("%s left\n%s", name, after)
			}
		}
		h.exec(`ALTER TABLE key_secrets RENAME TO gone`)
		if _, err := h.Bootstrap(t.Context(), operator, first); err == nil {
			t.Error("it succeeds without key_secrets")
		}
		h.exec(`ALTER TABLE gone RENAME TO key_secrets`)
		if after := h.dump(); after != before {
			t.Errorf("a failing database left\n%s", after)
		}
		got, err := h.Bootstrap(t.Context(), operator, first)
		check(t, err)
		if !got.Created || !strings.HasPrefix(string(got.Key.ID), "tbk_") {
			t.Errorf("after the failures: %+v", got)
		}
	})
}

func TestOnlyTheOperatorBootstraps(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	for _, by := range []manage.Caller{manage.User(h.owner), manage.User(h.admin), {}} {
		_, err := h.Bootstrap(t.Context(), by, first)
		want(t, by.String(), workspace.ErrForbidden, err)
	}
}
