package manage_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func TestNames(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key, other := h.key(h.sa), h.user("other", false)
		left := h.user("left", false)
		check(t, h.AddMember(t.Context(), operator, h.ws, left, workspace.Viewer))
		check(t, h.RemoveMember(t.Context(), operator, h.ws, left))
		gone := h.account("gone", manage.NewServiceAccount{Role: "viewer"})
		check(t, h.DeleteServiceAccount(t.Context(), operator, h.ws, gone))
		check(t, h.DeleteKey(t.Context(), operator, h.ws, key.ID))
		deleted := h.user("deleted", false)
		check(t, h.AddMember(t.Context(), operator, h.ws, deleted, workspace.Viewer))
		check(t, h.DeleteUser(t.Context(), operator, deleted))
		elsewhere, err := h.CreateWorkspace(t.Context(), operator, "Elsewhere", "")
		check(t, err)
		foreign, err := h.CreateServiceAccount(t.Context(), operator, elsewhere.ID, manage.NewServiceAccount{Name: "foreign", Role: "viewer"})
		check(t, err)

		ids := []string{
			string(h.owner), string(left), string(h.admin), string(other), string(deleted), string(h.sa), string(gone), string(foreign.ID),
			string(key.ID), "usr_nobody", "sa_none", "tbk_none", "root", "",
		}
		mail := func(id workspace.UserID) string {
			user, err := workspace.FindUser(t.Context(), db.Reader(), id)
			check(t, err)
			return user.Email
		}
		found, err := h.Names(t.Context(), manage.User(h.viewer), h.ws, ids)
		check(t, err)
		want := map[string]manage.Named{
			string(h.owner): {Name: mail(h.owner)}, string(left): {Name: mail(left)}, string(h.admin): {Name: mail(h.admin)},
			string(deleted): {Gone: true}, string(h.sa): {Name: "ci"}, string(gone): {Name: "gone", Gone: true},
			string(key.ID): {Name: key.Name, Gone: true},
		}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Errorf("in the workspace: %s", diff)
		}

		found, err = h.Names(t.Context(), manage.User(h.admin), "", ids)
		check(t, err)
		if found[string(other)].Name != mail(other) || found[string(h.sa)] != (manage.Named{}) {
			t.Errorf("in the installation: %v", found)
		}
	})
}

func TestNamesAreForWhoeverReadsTheLog(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	ids := []string{string(h.owner)}
	for name, c := range map[string]struct {
		by   workspace.UserID
		in   workspace.ID
		kind error
	}{
		"an outsider":          {h.outsider, h.ws, workspace.ErrNotFound},
		"an admin not in it":   {h.admin, h.ws, workspace.ErrNotFound},
		"of the installation":  {h.owner, "", workspace.ErrForbidden},
		"a viewer in it":       {h.viewer, h.ws, nil},
		"an admin of all that": {h.admin, "", nil},
	} {
		_, err := h.Names(t.Context(), manage.User(c.by), c.in, ids)
		want(t, name, c.kind, err)
	}
}

func TestLogID(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	for text, id := range map[string]string{
		string(h.owner): string(h.owner), "ci": string(h.sa), string(h.sa): string(h.sa), "root": "root",
		"ADMIN@example.com": string(h.admin), "outsider@example.com": "outsider@example.com", "nobody@example.com": "nobody@example.com",
	} {
		if found, err := h.LogID(t.Context(), manage.User(h.viewer), h.ws, text); err != nil || found != id {
			t.Errorf("%s is %s, %v, want %s", text, found, err, id)
		}
	}
	_, err := h.LogID(t.Context(), manage.User(h.viewer), h.ws, "no address@")
	want(t, "no address", workspace.ErrInvalid, err)
}

func TestLiveKeys(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.key(h.sa)
		revoked, expired := h.key(h.sa), h.key(h.sa)
		check(t, h.RevokeKey(t.Context(), operator, h.ws, revoked.ID, ""))
		h.exec(`UPDATE keys SET expires_at = ? WHERE id = ?`, workspace.At(h.now), expired.ID)
		_, err := h.CreatePersonalKey(t.Context(), manage.User(h.owner), h.ws, manage.NewKey{Name: "mine"})
		check(t, err)
		idle := h.account("idle", manage.NewServiceAccount{Role: "viewer"})

		found, err := h.LiveKeys(t.Context(), manage.User(h.viewer), h.ws, []string{string(h.sa), string(h.owner), string(idle), "sa_none"})
		check(t, err)
		if diff := cmp.Diff(map[string]int64{string(h.sa): 1, string(h.owner): 1}, found); diff != "" {
			t.Error(diff)
		}
		elsewhere, err := keys.CountLiveByOwner(t.Context(), db.Reader(), "ws_other", []string{string(h.sa)}, workspace.At(h.now))
		if check(t, err); len(elsewhere) > 0 {
			t.Errorf("in another workspace: %v", elsewhere)
		}
	})
}

func TestAdminsSeeMembers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	found, err := h.Members(t.Context(), manage.User(h.admin), h.ws, workspace.MemberFilter{}, workspace.Page{Limit: 10})
	if check(t, err); len(found) != 3 {
		t.Errorf("%d members, want 3", len(found))
	}
	_, err = h.SetMemberRole(t.Context(), manage.User(h.admin), h.ws, h.viewer, workspace.Owner)
	want(t, "but change nothing", workspace.ErrNotFound, err)
	_, err = h.Members(t.Context(), manage.User(h.outsider), h.ws, workspace.MemberFilter{}, workspace.Page{Limit: 10})
	want(t, "others do not", workspace.ErrNotFound, err)
}
