package manage_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// eachEmpty runs f on both databases with nothing in the house.
func eachEmpty(t *testing.T, f func(*testing.T, *house)) {
	t.Helper()
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := &house{t: t, now: time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)}
		h.Manager = newManager(t, db, func() time.Time { return h.now })
		h.Passwords = quick
		f(t, h)
	})
}

// setUpLink is a link that is needed.
func (h *house) setUpLink() manage.NewLink {
	h.t.Helper()
	link, needed, err := h.SetUpLink(h.t.Context(), operator)
	if check(h.t, err); !needed {
		h.t.Fatal("no link is needed")
	}
	return link
}

func ada(in string) manage.SetUpPerson {
	return manage.SetUpPerson{Email: " Ada@Example.com ", Name: "Ada", Password: good, Workspace: in}
}

func TestSetUp(t *testing.T) {
	eachEmpty(t, func(t *testing.T, h *house) {
		link := h.setUpLink()
		if link.Kind != identity.SetupLink || len(link.Token) != 43 || !link.ExpiresAt.Equal(h.now.Add(30*time.Minute)) || strings.Contains(h.dump(), link.Token) {
			t.Errorf("%+v", link)
		}
		other, before := h.setUpLink(), h.dump()
		for what, p := range map[string]manage.SetUpPerson{
			"a short password": {Email: "ada@example.com", Password: "short"}, "no address": {Email: "ada", Password: good}, "nothing": {},
			"a name in bytes": {Email: "ada@example.com", Name: "\xff", Password: good}, "the name of a workspace in bytes": {Email: "ada@example.com", Password: good, Workspace: "\xff"},
			"a long name of a workspace": {Email: "ada@example.com", Password: good, Workspace: strings.Repeat("x", 1000)},
		} {
			_, _, err := h.SetUp(t.Context(), nowhere, link.Token, p)
			want(t, what, workspace.ErrInvalid, err)
		}
		if has, err := h.OpenSetUp(t.Context(), link.Token); err != nil || has || h.dump() != before {
			t.Fatalf("there is a workspace: %v, %v; or something was changed", has, err)
		}
		user, ws, err := h.SetUp(t.Context(), nowhere, link.Token, ada("Acme"))
		check(t, err)
		h.ws = ws.ID
		if user.Email != "ada@example.com" || !user.OrganizationAdmin || user.Name != "Ada" || ws.Slug != "acme" || h.role(user.ID) != workspace.Owner || !h.knows("ada@example.com", good) {
			t.Errorf("%+v in %+v", user, ws)
		}
		for _, token := range []string{link.Token, other.Token} {
			_, _, err = h.SetUp(t.Context(), nowhere, token, manage.SetUpPerson{Email: "eve@example.com", Password: good})
			want(t, "again", workspace.ErrNotFound, err)
		}
		if _, needed, err := h.SetUpLink(t.Context(), operator); needed || err != nil {
			t.Errorf("a link is needed: %v, %v", needed, err)
		}
		for _, e := range h.events(audit.Instance) {
			if e.Action == "installation.set_up" && e.ActorKind == "operator" && e.Address == nowhere.Address && e.SubjectID == string(user.ID) {
				return
			}
		}
		t.Errorf("recorded is %q", h.actions(audit.Instance))
	})
}

func TestSetUpLinkIsForTheOperator(t *testing.T) {
	t.Parallel()
	h := newGate(t, schematest.SQLite(t))
	for what, by := range map[string]manage.Caller{"an admin": manage.User(h.admin), "a key": manage.Bearer(h.key(h.sa).Key, nil)} {
		link, needed, err := h.SetUpLink(t.Context(), by)
		want(t, what, workspace.ErrForbidden, err)
		if link.Token != "" || needed {
			t.Errorf("%s: %+v", what, link)
		}
	}
}

// A link is needed until some active organization admin can sign in.
func TestSetUpLinkIsNeeded(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) { // in which a viewer has a password
		needed := func(expected bool) {
			t.Helper()
			if _, got, err := h.SetUpLink(t.Context(), operator); err != nil || got != expected {
				t.Errorf("needed: %v, %v", got, err)
			}
		}
		needed(true)
		link := h.setUpLink()
		h.passkey(h.admin)
		needed(false)
		before := h.dump()
		_, _, err := h.SetUp(t.Context(), nowhere, link.Token, ada(""))
		want(t, "set up when somebody can sign in", workspace.ErrConflict, err)
		if after := h.dump(); after != before {
			t.Errorf("left is\n%s\ninstead of\n%s", after, before)
		}
		h.exec(`UPDATE users SET disabled_at = 1 WHERE id = ?`, h.admin)
		needed(true)
	})
}

// The address of somebody who is known, such as by bootstrap, makes them the one:
// whatever they were and had.
func TestSetUpOfSomebodyKnown(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		no := false
		h.passkey(h.outsider)
		cookie, _ := h.signIn(h.outsider)
		_, err := h.UpdateUser(t.Context(), operator, h.outsider, manage.UserChange{Enabled: &no})
		check(t, err)
		link := h.setUpLink()
		if has, err := h.OpenSetUp(t.Context(), link.Token); err != nil || !has {
			t.Errorf("there is a workspace: %v, %v", has, err)
		}
		h.now = h.now.Add(time.Second)
		user, ws, err := h.SetUp(t.Context(), nowhere, link.Token, manage.SetUpPerson{Email: "Outsider@example.com", Name: "Out", Password: better, Workspace: "Second"})
		check(t, err)
		if user.ID != h.outsider || !user.OrganizationAdmin || !user.DisabledAt.IsZero() || user.Name != "Out" || ws.ID != "" || h.signedIn(cookie) || !h.knows("outsider@example.com", better) {
			t.Errorf("%+v in %+v", user, ws)
		}
		methods, err := h.SignInMethods(t.Context(), operator, h.outsider)
		if check(t, err); methods != (identity.Methods{Password: true}) {
			t.Errorf("%+v", methods)
		}
		if n := get[int](h, `SELECT count(*) FROM workspaces`); n != 1 || !slices.Contains(h.actions(audit.Instance), "user.update by operator") {
			t.Errorf("%d workspaces, recorded is %q", n, h.actions(audit.Instance))
		}
	})
}

func TestSetUpIsDoneOnce(t *testing.T) {
	eachEmpty(t, func(t *testing.T, h *house) {
		link := h.setUpLink()
		late := h.setUpLink()
		won := race(t, func(ctx context.Context, i int) error {
			_, _, err := h.SetUp(ctx, nowhere, link.Token, manage.SetUpPerson{Email: fmt.Sprintf("person%d@example.com", i), Password: good, Workspace: "Acme"})
			return err
		}, workspace.ErrNotFound)
		if n := get[int](h, `SELECT count(*) FROM users`) + get[int](h, `SELECT count(*) FROM workspaces`); won != 1 || n != 2 {
			t.Errorf("%d have set up, and there are %d users and workspaces", won, n)
		}
		_, err := h.OpenSetUp(t.Context(), late.Token)
		want(t, "another link", workspace.ErrNotFound, err)
	})
	eachEmpty(t, func(t *testing.T, h *house) {
		link := h.setUpLink()
		h.now = h.now.Add(30 * time.Minute)
		_, _, err := h.SetUp(t.Context(), nowhere, link.Token, ada("Acme"))
		want(t, "late", workspace.ErrNotFound, err)
	})
}
