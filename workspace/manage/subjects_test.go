package manage_test

import (
	"errors"
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

const idp = "https://idp.example.com"

func person(name string, groups ...string) identity.Person {
	return identity.Person{Issuer: idp, Subject: name, Email: name + "@idp.example.com", Name: name, Groups: groups}
}

// acme maps groups of the provider to roles in the house's workspace.
var acme = identity.Mapping{Admins: []string{"ops"}, Workspaces: []identity.MappedWorkspace{
	{Value: "viewers", Workspace: "acme", Role: workspace.Viewer}, {Value: "managers", Workspace: "acme", Role: workspace.Manager},
	{Value: "owners", Workspace: "acme", Role: workspace.Owner}, {Value: "viewers", Workspace: "gone", Role: workspace.Viewer},
}}

func (h *house) enter(p identity.Person) (manage.SignedIn, error) {
	h.t.Helper()
	return h.SignInSubject(h.t.Context(), manage.Origin{Address: "192.0.2.7"}, p, acme, "")
}

func (h *house) mustEnter(p identity.Person) manage.SignedIn {
	h.t.Helper()
	who, err := h.enter(p)
	check(h.t, err)
	return who
}

// role is what a user may do in the workspace; empty: nothing.
func (h *house) role(user workspace.UserID) workspace.Role {
	h.t.Helper()
	member, err := workspace.FindMember(h.t.Context(), h.Database.Reader(), h.ws, user)
	if errors.Is(err, workspace.ErrNotFound) {
		return ""
	}
	check(h.t, err)
	return member.Role
}

func (h *house) actions(chain string) (found []string) {
	for _, e := range h.events(chain) {
		found = append(found, e.Action+" by "+e.ActorKind)
	}
	return found
}

// A user's roles follow their groups at each sign-in.
func TestSubjectsFollowTheirGroups(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		grace := h.mustEnter(person("grace", "managers", "viewers"))
		if grace.Email != "grace@idp.example.com" || grace.Name != "grace" || grace.OrganizationAdmin || h.role(grace.ID) != workspace.Manager {
			t.Fatalf("%+v, %s", grace, h.role(grace.ID))
		}
		for _, step := range []struct {
			groups []string
			role   workspace.Role
			admin  bool
		}{
			{[]string{"viewers"}, workspace.Viewer, false}, {[]string{"owners"}, workspace.Owner, false}, {nil, "", false},
			{[]string{"ops"}, "", true}, {[]string{"ops", "viewers"}, workspace.Viewer, true}, {[]string{"viewers"}, workspace.Viewer, false},
		} {
			h.now = h.now.Add(time.Minute)
			again := h.mustEnter(person("grace", step.groups...))
			if again.ID != grace.ID || h.role(grace.ID) != step.role || again.OrganizationAdmin != step.admin {
				t.Errorf("%q: %s as %q, admin %v", step.groups, again.ID, h.role(again.ID), again.OrganizationAdmin)
			}
		}
		last := h.mustEnter(person("grace", "viewers"))
		if !slices.Contains(last.Notes, "there is no workspace gone") {
			t.Errorf("the log is told %q", last.Notes)
		}
		subjects, err := h.Subjects(t.Context(), manage.User(grace.ID))
		check(t, err)
		if len(subjects) != 1 || subjects[0].Subject != "grace" || !subjects[0].SeenAt.Equal(h.now) || subjects[0].CreatedAt.Equal(h.now) {
			t.Errorf("%+v", subjects)
		}
		for action, chain := range map[string]string{
			"user.create by provider": audit.Instance, "provider.link by provider": audit.Instance, "user.sign_in by user": audit.Instance, "user.update by provider": audit.Instance,
			"member.add by provider": string(h.ws), "member.update by provider": string(h.ws), "member.remove by provider": string(h.ws),
		} {
			if !slices.Contains(h.actions(chain), action) {
				t.Errorf("%s lacks %s: %q", chain, action, h.actions(chain))
			}
		}
	})
}

// Losing a role or everything denies tokens and keys, as it does by hand.
func TestSubjectsLoseTheirKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	grace := h.mustEnter(person("grace", "managers"))
	issued, err := h.CreatePersonalKey(t.Context(), manage.User(grace.ID), h.ws, manage.NewKey{Name: "cli"})
	check(t, err)
	before := h.read(issued.ID).Generation
	h.mustEnter(person("grace", "viewers"))
	if after := h.read(issued.ID).Generation; after <= before {
		t.Errorf("the key's generation stays %d", after)
	}
	h.mustEnter(person("grace"))
	if h.works(issued) && h.read(issued.ID).RevokedAt.IsZero() {
		t.Error("the key of somebody who left still works")
	}
}

// Who gets nothing here is nobody here, and leaves nothing.
func TestSubjectsWithoutAccess(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	before := h.dump()
	for what, groups := range map[string][]string{"no groups": nil, "others": {"sales"}} {
		_, err := h.enter(person("eve", groups...))
		want(t, what, manage.ErrNoAccess, err)
	}
	only := acme
	only.Workspaces = acme.Workspaces[3:]
	_, err := h.SignInSubject(t.Context(), manage.Origin{}, person("eve", "viewers"), only, "")
	want(t, "a workspace that is not there", manage.ErrNoAccess, err)
	_, err = h.SignInSubject(t.Context(), manage.Origin{}, person("eve", "viewers"), acme, "made-up")
	want(t, "an invitation that is none", workspace.ErrNotFound, err)
	if after := h.dump(); after != before || get[int64](h, `SELECT COUNT(*) FROM subjects`) != 0 {
		t.Errorf("something was made:\n%s", after)
	}
}

// An address is nobody: neither the same one nor another says who a person is.
func TestSubjectsAreNoAddresses(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	p := person("mallory", "owners")
	p.Email = "Admin@example.com"
	_, err := h.enter(p)
	want(t, "the address of another user", manage.ErrAddressTaken, err)
	for _, address := range []string{"", "no address", "a@b, c@d"} {
		p := person("someone", "viewers")
		p.Subject, p.Email, p.Name = "sub"+address, address, "\u202e"
		who := h.mustEnter(p)
		if !strings.HasSuffix(who.Email, "@subject.invalid") || who.Name != "" {
			t.Errorf("%q: %+v", address, who.User)
		}
	}
	grace := h.mustEnter(person("grace", "viewers"))
	moved := person("grace", "viewers")
	moved.Email = "owner@example.com"
	if again := h.mustEnter(moved); again.ID != grace.ID || again.Email != grace.Email {
		t.Errorf("another address makes %+v of %+v", again, grace)
	}
	other := person("grace", "viewers")
	other.Issuer, other.Email = "https://other.example.com", "grace@other.example.com"
	if again := h.mustEnter(other); again.ID == grace.ID {
		t.Error("the same subject of another provider is the same person")
	}
}

func TestSubjectsOfDisabledUsers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	grace := h.mustEnter(person("grace", "owners"))
	enabled := false
	_, err := h.UpdateUser(t.Context(), operator, grace.ID, manage.UserChange{Enabled: &enabled})
	check(t, err)
	before := h.dump()
	_, err = h.enter(person("grace", "ops"))
	want(t, "disabled", workspace.ErrForbidden, err)
	check(t, h.DeleteUser(t.Context(), operator, grace.ID))
	_, err = h.enter(person("grace", "ops"))
	want(t, "deleted", workspace.ErrForbidden, err)
	if h.dump() == before {
		t.Error("the deletion did nothing")
	}
}

// Who is the last one in charge stays it, and the log says so.
func TestSubjectsWhoAreLast(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	grace := h.mustEnter(person("grace", "owners", "ops"))
	check(t, h.RemoveMember(t.Context(), operator, h.ws, h.owner))
	check(t, h.DeleteUser(t.Context(), operator, h.admin))
	again := h.mustEnter(person("grace", "viewers"))
	if h.role(grace.ID) != workspace.Owner || !again.OrganizationAdmin || len(again.Notes) != 3 {
		t.Errorf("%s, %+v", h.role(grace.ID), again)
	}
}

// Nothing but what the mapping names is touched.
func TestMappingKeepsToItself(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	grace := h.mustEnter(person("grace", "viewers", "ops"))
	other, err := h.CreateWorkspace(t.Context(), operator, "Other", "")
	check(t, err)
	check(t, h.AddMember(t.Context(), operator, other.ID, grace.ID, workspace.Owner))
	none := identity.Mapping{Workspaces: acme.Workspaces}
	who, err := h.SignInSubject(t.Context(), manage.Origin{}, person("grace"), none, "")
	check(t, err)
	member, err := workspace.FindMember(t.Context(), h.Database.Reader(), other.ID, grace.ID)
	if err != nil || member.Role != workspace.Owner || !who.OrganizationAdmin || h.role(grace.ID) != "" {
		t.Errorf("%+v, %v, %+v", member, err, who)
	}
}

func TestLinkingSubjects(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		viewer, owner := manage.User(h.viewer).Proven(h.Time()), manage.User(h.owner).Proven(h.Time())
		grace := person("grace")
		for _, since := range []time.Time{{}, h.Time().Add(-time.Hour)} {
			want(t, "signed in a while ago", manage.ErrProveAgain, h.LinkSubject(t.Context(), viewer.Proven(since), grace))
			want(t, "signed in a while ago", manage.ErrProveAgain, h.UnlinkSubject(t.Context(), viewer.Proven(since), idp, "grace"))
		}
		check(t, h.LinkSubject(t.Context(), viewer, grace))
		want(t, "twice", workspace.ErrConflict, h.LinkSubject(t.Context(), viewer, grace))
		want(t, "by another", workspace.ErrConflict, h.LinkSubject(t.Context(), owner, grace))
		if who := h.mustEnter(person("grace", "managers")); who.ID != h.viewer || h.role(h.viewer) != workspace.Manager {
			t.Errorf("%+v", who)
		}
		want(t, "somebody else's", workspace.ErrNotFound, h.UnlinkSubject(t.Context(), owner, idp, "grace"))
		want(t, "the last way", workspace.ErrConflict, h.UnlinkSubject(t.Context(), viewer, idp, "grace"))
		check(t, h.LinkSubject(t.Context(), viewer, person("grace2")))
		check(t, h.UnlinkSubject(t.Context(), viewer, idp, "grace"))
		left, err := h.Subjects(t.Context(), viewer)
		check(t, err)
		if len(left) != 1 || left[0].Subject != "grace2" {
			t.Errorf("%+v", left)
		}
		if got := h.actions(audit.Instance); !slices.Contains(got, "provider.link by user") || !slices.Contains(got, "provider.unlink by user") {
			t.Errorf("%q", got)
		}
		issued, err := h.CreatePersonalKey(t.Context(), owner, h.ws, manage.NewKey{Name: "cli"})
		check(t, err)
		bearer := manage.Bearer(h.read(issued.ID).Key, nil)
		want(t, "with a key", workspace.ErrForbidden, h.LinkSubject(t.Context(), bearer, person("x")))
		_, err = h.Subjects(t.Context(), bearer)
		want(t, "with a key", workspace.ErrForbidden, err)
		want(t, "by the operator", workspace.ErrForbidden, h.LinkSubject(t.Context(), operator, person("x")))
	})
}

// An invitation lets somebody in whom no group does, once.
func TestSubjectsComeByInvitation(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	invited, err := h.CreateInvitation(t.Context(), manage.User(h.owner), h.ws, "someone@example.com", workspace.Manager)
	check(t, err)
	none := identity.Mapping{Admins: []string{"ops"}}
	enter := func(name string) (manage.SignedIn, error) {
		return h.SignInSubject(t.Context(), manage.Origin{}, person(name), none, invited.Token)
	}
	grace, err := enter("grace")
	check(t, err)
	if grace.Email != "grace@idp.example.com" || h.role(grace.ID) != workspace.Manager {
		t.Errorf("%+v as %q", grace.User, h.role(grace.ID))
	}
	_, err = enter("eve")
	want(t, "the same invitation", workspace.ErrNotFound, err)
	if got := h.actions(string(h.ws)); !slices.Contains(got, "member.add by provider") {
		t.Errorf("%q", got)
	}
	again, err := h.SignInSubject(t.Context(), manage.Origin{}, person("grace"), none, "")
	if err != nil || again.ID != grace.ID || h.role(grace.ID) != workspace.Manager {
		t.Errorf("%+v, %v", again, err)
	}
	// It is no way into an account that exists.
	another, err := h.CreateInvitation(t.Context(), manage.User(h.owner), h.ws, "admin@example.com", workspace.Viewer)
	check(t, err)
	p := person("mallory")
	p.Email = "admin@example.com"
	_, err = h.SignInSubject(t.Context(), manage.Origin{}, p, none, another.Token)
	want(t, "the address of another user", manage.ErrAddressTaken, err)
}

// What is good once is, until its time is over.
func TestSpend(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		check(t, h.Spend(t.Context(), "a", h.now.Add(time.Minute)))
		want(t, "again", workspace.ErrConflict, h.Spend(t.Context(), "a", h.now.Add(time.Minute)))
		check(t, h.Spend(t.Context(), "b", h.now.Add(time.Minute)))
	})
}
