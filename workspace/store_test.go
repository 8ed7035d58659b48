package workspace_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
)

var noon = workspace.At(time.Date(2030, 1, 2, 12, 0, 0, 123456000, time.UTC))

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// same checks that a row was read as it was stored.
func same[T any](t *testing.T, want T) func(T, error) {
	return func(got T, err error) {
		t.Helper()
		check(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func want(t *testing.T, what string, kind, err error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

// Each kind of thing is read as it was stored; a second of the same name is a
// conflict; what is not there is not found.
func TestStores(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		ctx, w, q := t.Context(), db.Writer(), db.Reader()
		ws := workspace.Workspace{ID: workspace.NewID(), Slug: "acme", Name: "Acme 日本", Generation: 1, CreatedAt: noon, UpdatedAt: noon}
		check(t, workspace.Insert(ctx, w, ws))
		same(t, ws)(workspace.Find(ctx, q, "acme"))
		same(t, ws)(workspace.Find(ctx, q, string(ws.ID)))
		again := ws
		again.ID = workspace.NewID()
		want(t, "the slug again", workspace.ErrConflict, workspace.Insert(ctx, w, again))
		_, err := workspace.Find(ctx, q, "other")
		want(t, "another slug", workspace.ErrNotFound, err)

		user := workspace.User{ID: workspace.NewUserID(), Email: "ada@example.com", Name: "Ada", OrganizationAdmin: true, Generation: 1, CreatedAt: noon, UpdatedAt: noon}
		check(t, workspace.InsertUser(ctx, w, user))
		same(t, user)(workspace.FindUser(ctx, q, user.ID))
		same(t, user)(workspace.UserByEmail(ctx, q, user.Email))
		user2 := user
		user2.ID = workspace.NewUserID()
		want(t, "the address again", workspace.ErrConflict, workspace.InsertUser(ctx, w, user2))
		_, err = workspace.UserByEmail(ctx, q, "bob@example.com")
		want(t, "another address", workspace.ErrNotFound, err)

		member := workspace.Member{WorkspaceID: ws.ID, UserID: user.ID, Role: workspace.Manager, CreatedAt: noon, UpdatedAt: noon}
		check(t, workspace.InsertMember(ctx, w, member))
		same(t, member)(workspace.FindMember(ctx, q, ws.ID, user.ID))
		want(t, "the member again", workspace.ErrConflict, workspace.InsertMember(ctx, w, member))
		_, err = workspace.FindMember(ctx, q, again.ID, user.ID)
		want(t, "in another workspace", workspace.ErrNotFound, err)
	})
}

func TestServiceAccounts(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		ctx, w, q := t.Context(), db.Writer(), db.Reader()
		ws := workspace.Workspace{ID: workspace.NewID(), Slug: "acme", Name: "Acme", Generation: 1, CreatedAt: noon, UpdatedAt: noon}
		check(t, workspace.Insert(ctx, w, ws))
		sa := workspace.ServiceAccount{
			ID: workspace.NewServiceAccountID(), WorkspaceID: ws.ID, Name: "ci", Description: "d", Scopes: "a:b c:d",
			Generation: 1, CreatedAt: noon, CreatedBy: "operator:test", UpdatedAt: noon,
		}
		check(t, workspace.InsertServiceAccount(ctx, w, sa))
		same(t, sa)(workspace.FindServiceAccount(ctx, q, ws.ID, sa.ID))
		same(t, sa)(workspace.ServiceAccountByName(ctx, q, ws.ID, "ci"))
		second := sa
		second.ID = workspace.NewServiceAccountID()
		want(t, "the name again", workspace.ErrConflict, workspace.InsertServiceAccount(ctx, w, second))
		_, err := workspace.FindServiceAccount(ctx, q, "ws_other", sa.ID)
		want(t, "in another workspace", workspace.ErrNotFound, err)

		// A deleted one is not found, and its name is free.
		_, err = w.ExecContext(ctx, `UPDATE service_accounts SET deleted_at = 1 WHERE id = ?`, sa.ID)
		check(t, err)
		_, err = workspace.FindServiceAccount(ctx, q, ws.ID, sa.ID)
		want(t, "a deleted one", workspace.ErrNotFound, err)
		check(t, workspace.InsertServiceAccount(ctx, w, second))
	})
}

// Closing works once; the second time changes nothing and says so.
func TestSuspendOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		ctx, w := t.Context(), db.Writer()
		ws := workspace.Workspace{ID: workspace.NewID(), Slug: "acme", Name: "Acme", Generation: 1, CreatedAt: noon, UpdatedAt: noon}
		check(t, workspace.Insert(ctx, w, ws))
		for i, first := range []bool{true, false} {
			at := workspace.At(noon.Add(time.Duration(i) * time.Hour))
			_, suspended, err := workspace.Suspend(ctx, w, ws.ID, at, at)
			check(t, err)
			if suspended != first {
				t.Errorf("call %d reports %v", i+1, suspended)
			}
		}
		ws.SuspendedAt, ws.Generation = noon, 2
		same(t, ws)(workspace.Find(ctx, db.Reader(), "acme"))
	})
}

func TestInstallationIsMarkedOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		ctx := t.Context()
		_, err := workspace.FindInstallation(ctx, db.Reader())
		want(t, "before", workspace.ErrNotFound, err)
		mark := workspace.Installation{MadeBy: workspace.MadeByDev, Fingerprints: `{"a":"b"}`, DevSecrets: "s"}
		check(t, workspace.InsertInstallation(ctx, db.Writer(), mark, noon))
		want(t, "again", workspace.ErrConflict, workspace.InsertInstallation(ctx, db.Writer(), workspace.Installation{}, noon))
		same(t, mark)(workspace.FindInstallation(ctx, db.Reader()))
	})
}
