package manage_test

import (
	"slices"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// Whoever speaks through a key holds nothing any more as soon as the key could not
// be exchanged, although it could when they were recognised.
func TestKeysThatEndWhileTheyAreUsed(t *testing.T) {
	for name, end := range map[string]func(*house, keys.Key) error{
		"revoked":   func(h *house, k keys.Key) error { return h.RevokeKey(t.Context(), operator, h.ws, k.ID, "") },
		"deleted":   func(h *house, k keys.Key) error { return h.DeleteKey(t.Context(), operator, h.ws, k.ID) },
		"expired":   func(h *house, _ keys.Key) error { h.now = h.now.Add(2 * time.Hour); return nil },
		"suspended": func(h *house, _ keys.Key) error { return h.SuspendWorkspace(t.Context(), operator, h.ws) },
		"disabled": func(h *house, k keys.Key) error {
			no := false
			_, err := h.UpdateUser(t.Context(), operator, k.UserID, manage.UserChange{Enabled: &no})
			return err
		},
		"removed": func(h *house, k keys.Key) error { return h.RemoveMember(t.Context(), operator, h.ws, k.UserID) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, schematest.SQLite(t))
			key, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{UserID: h.manager, Name: "mine", ExpiresAt: h.now.Add(time.Hour)})
			check(t, err)
			by := manage.Bearer(key.Key, nil)
			_, err = h.Keys(t.Context(), by, h.ws, keys.Filter{}, workspace.Page{Limit: 10})
			check(t, err)
			check(t, end(h, key.Key))
			_, err = h.Keys(t.Context(), by, h.ws, keys.Filter{}, workspace.Page{Limit: 10})
			want(t, "read", workspace.ErrForbidden, err)
			_, err = h.CreateKey(t.Context(), by, h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "x"})
			want(t, "create", workspace.ErrForbidden, err)
			_, err = h.Me(t.Context(), by)
			want(t, "profile", workspace.ErrForbidden, err)
		})
	}
}

// A person sees the workspaces that they are in; through a key, that of the key.
func TestWhichWorkspacesAreSeen(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	other, err := h.CreateWorkspace(t.Context(), operator, "Other", "")
	check(t, err)
	third, err := h.CreateWorkspace(t.Context(), operator, "Third", "")
	check(t, err)
	check(t, h.AddMember(t.Context(), operator, other.ID, h.viewer, workspace.Viewer))
	key := func(scopes *oauth.Scope) manage.Caller {
		issued, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{UserID: h.viewer, Name: "x", Scopes: scopes})
		check(t, err)
		return manage.Bearer(issued.Key, nil)
	}
	seen := func(by manage.Caller) (ids []workspace.ID) {
		found, err := h.Workspaces(t.Context(), by, workspace.Filter{}, workspace.Page{Limit: 10})
		check(t, err)
		for _, ws := range found {
			ids = append(ids, ws.ID)
		}
		slices.Sort(ids)
		return ids
	}
	for name, c := range map[string]struct {
		by   manage.Caller
		want []workspace.ID
	}{
		"a person":    {manage.User(h.viewer), []workspace.ID{h.ws, other.ID}},
		"a key":       {key(nil), []workspace.ID{h.ws}},
		"an admin":    {manage.User(h.admin), []workspace.ID{h.ws, other.ID, third.ID}},
		"an outsider": {manage.User(h.outsider), nil},
		"an operator": {operator, []workspace.ID{h.ws, other.ID, third.ID}},
	} {
		if got := seen(c.by); !slices.Equal(got, c.want) {
			t.Errorf("%s sees %v, want %v", name, got, c.want)
		}
	}
	little := oauth.NewScope("collectors:read")
	_, err = h.Workspaces(t.Context(), key(&little), workspace.Filter{}, workspace.Page{Limit: 10})
	want(t, "a key of little", workspace.ErrForbidden, err)
	for name, c := range map[string]struct {
		by   manage.Caller
		want int
	}{"a person": {manage.User(h.viewer), 2}, "a key": {key(nil), 1}} {
		if p, err := h.Me(t.Context(), c.by); err != nil || len(p.Memberships) != c.want {
			t.Errorf("%s is shown %d memberships, %v; want %d", name, len(p.Memberships), err, c.want)
		}
	}
}

// An Idempotency-Key is one caller's, of one credential, in one workspace.
func TestWhoseRequestItWas(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	other, err := h.CreateWorkspace(t.Context(), operator, "Other", "")
	check(t, err)
	check(t, h.AddMember(t.Context(), operator, other.ID, h.owner, workspace.Owner))
	once := manage.Once{Key: "k", Request: "r"}
	personal := func(name string) manage.Caller {
		issued, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{UserID: h.owner, Name: name})
		check(t, err)
		return manage.Bearer(issued.Key, nil)
	}
	one, two := personal("one"), personal("two")
	seen := map[workspace.ServiceAccountID]string{}
	for i, c := range []struct {
		who string
		by  manage.Caller
		in  workspace.ID
	}{
		{"an owner", manage.User(h.owner), h.ws}, {"elsewhere", manage.User(h.owner), other.ID}, {"a manager", manage.User(h.manager), h.ws},
		{"by a key", one, h.ws}, {"by another key", two, h.ws},
	} {
		n := manage.NewServiceAccount{Name: "n" + string(rune('0'+i)), Role: "viewer"}
		for range 2 {
			sa, err := h.CreateServiceAccount(t.Context(), c.by.Once(once), c.in, n)
			if err != nil {
				t.Errorf("%s: %v", c.who, err)
			}
			if before, again := seen[sa.ID]; again && before != c.who {
				t.Errorf("%s is answered what %s was", c.who, before)
			}
			seen[sa.ID] = c.who
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d service accounts were made, want 5", len(seen))
	}
}
