package manage_test

import (
	"net/http"
	"net/http/httptest"
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

// limits are those of sessions, by the house's clock.
func (h *house) limits() identity.SessionOptions {
	return identity.SessionOptions{Lifetime: 12 * time.Hour, Idle: 2 * time.Hour, Now: func() time.Time { return h.now }}
}

func (h *house) desk() *identity.Sessions {
	return identity.NewSessions(h.Database.Reader(), h.Database.Writer(), h.limits())
}

// begin signs a user in and returns the cookie; finish stores it.
func (h *house) begin(user workspace.UserID) (session identity.Session, finish func() string) {
	h.t.Helper()
	desk := h.desk()
	ctx, _, _, err := desk.Load(httptest.NewRequestWithContext(h.t.Context(), http.MethodPost, "https://booth.example.com/", nil))
	check(h.t, err)
	session, err = desk.Start(ctx, identity.Session{UserID: user, Method: identity.ByPassword})
	check(h.t, err)
	return session, func() string {
		w := httptest.NewRecorder()
		check(h.t, desk.Save(ctx, w))
		return w.Result().Cookies()[0].Value
	}
}

func (h *house) signIn(user workspace.UserID) (cookie string, session identity.Session) {
	h.t.Helper()
	session, finish := h.begin(user)
	return finish(), session
}

// signedIn reports whether a cookie is good for a request.
func (h *house) signedIn(cookie string) bool {
	h.t.Helper()
	r := httptest.NewRequestWithContext(h.t.Context(), http.MethodGet, "https://booth.example.com/", nil)
	r.AddCookie(&http.Cookie{Name: identity.SessionCookie, Value: cookie})
	_, _, found, err := h.desk().Load(r)
	check(h.t, err)
	return found
}

// loss takes something from a user.
type loss struct {
	what string
	who  func(*house) workspace.UserID
	take func(*house, workspace.UserID) error
	ends bool // whatever they had begun with it
}

// losses are all the ways in which a user comes to hold less, and some in which not.
var losses = []loss{
	{"disabled", (*house).secondOwner, changes(manage.UserChange{Enabled: ptr(false)}), true},
	{"deleted", (*house).secondOwner, func(h *house, id workspace.UserID) error { return h.DeleteUser(h.t.Context(), operator, id) }, true},
	{"removed", (*house).secondOwner, func(h *house, id workspace.UserID) error { return h.RemoveMember(h.t.Context(), operator, h.ws, id) }, true},
	{"made a manager", (*house).secondOwner, becomes(workspace.Manager), true},
	{"made a viewer", (*house).secondOwner, becomes(workspace.Viewer), true},
	{"no admin any more", (*house).adminInside, changes(manage.UserChange{OrganizationAdmin: ptr(false)}), true},
	{"renamed", (*house).secondOwner, changes(manage.UserChange{Name: ptr("Renamed")}), false},
	{"made an admin", (*house).secondOwner, changes(manage.UserChange{OrganizationAdmin: ptr(true)}), false},
	{"made an owner", func(h *house) workspace.UserID { return h.viewer }, becomes(workspace.Owner), false},
	{"an admin made a member", func(h *house) workspace.UserID { return h.admin }, func(h *house, id workspace.UserID) error {
		return h.AddMember(h.t.Context(), operator, h.ws, id, workspace.Viewer)
	}, false},
}

func changes(c manage.UserChange) func(*house, workspace.UserID) error {
	return func(h *house, id workspace.UserID) error {
		_, err := h.UpdateUser(h.t.Context(), operator, id, c)
		return err
	}
}

func becomes(role workspace.Role) func(*house, workspace.UserID) error {
	return func(h *house, id workspace.UserID) error {
		_, err := h.SetMemberRole(h.t.Context(), operator, h.ws, id, role)
		return err
	}
}

// secondOwner is one more, who may be removed.
func (h *house) secondOwner() workspace.UserID {
	h.t.Helper()
	id := h.user("second", false)
	check(h.t, h.AddMember(h.t.Context(), operator, h.ws, id, workspace.Owner))
	return id
}

// adminInside is an organization admin who owns the workspace, and not the only one.
func (h *house) adminInside() workspace.UserID {
	h.t.Helper()
	h.user("another-admin", true)
	check(h.t, h.AddMember(h.t.Context(), operator, h.ws, h.admin, workspace.Owner))
	return h.admin
}

// Whoever comes to hold less signs in anew; nobody else does.
func TestSessionsEndWithRights(t *testing.T) {
	for _, c := range losses {
		t.Run(c.what, func(t *testing.T) {
			eachGate(t, func(t *testing.T, h *house) {
				who := c.who(h)
				cookie, _ := h.signIn(who)
				other, _ := h.signIn(h.manager)
				check(t, c.take(h, who))
				if h.signedIn(cookie) == c.ends || !h.signedIn(other) {
					t.Errorf("they are signed in: %v, and somebody else: %v", h.signedIn(cookie), h.signedIn(other))
				}
			})
		})
	}
}

// A provider that takes a role ends what was begun with it, as a person does.
func TestSessionsEndByTheProvider(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	grace := h.mustEnter(person("grace", "managers"))
	cookie, _ := h.signIn(grace.ID)
	h.mustEnter(person("grace", "managers"))
	if !h.signedIn(cookie) {
		t.Error("coming again with the same groups ends a session")
	}
	h.mustEnter(person("grace", "viewers"))
	if h.signedIn(cookie) {
		t.Error("the session goes on with a lesser role")
	}
}

func TestOwnSessions(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		viewer := manage.User(h.viewer)
		here, session := h.signIn(h.viewer)
		h.now = h.now.Add(time.Second)
		there, other := h.signIn(h.viewer)
		foreign, alien := h.signIn(h.manager)
		found, err := h.Sessions(t.Context(), viewer, h.limits())
		check(t, err)
		if len(found) != 2 || found[0].ID != other.ID || found[1].ID != session.ID {
			t.Errorf("%+v", found)
		}
		for _, id := range []string{alien.ID, "ses_none", "", here} {
			want(t, "end "+id, workspace.ErrNotFound, h.EndSession(t.Context(), viewer, id))
		}
		check(t, h.EndSession(t.Context(), viewer, other.ID))
		want(t, "end it again", workspace.ErrNotFound, h.EndSession(t.Context(), viewer, other.ID))
		if !h.signedIn(here) || h.signedIn(there) || !h.signedIn(foreign) {
			t.Error("not the session that was named has ended")
		}
		h.signIn(h.viewer)
		n, err := h.EndOtherSessions(t.Context(), viewer, session.ID)
		if check(t, err); n != 1 || !h.signedIn(here) || !h.signedIn(foreign) {
			t.Errorf("%d others have ended", n)
		}
		before := h.seq()
		if n, err := h.EndOtherSessions(t.Context(), viewer, session.ID); err != nil || n != 0 || h.seq() != before {
			t.Errorf("with no others: %d, %v", n, err)
		}
		events := h.events(audit.Instance)
		if got := events[len(events)-1]; got.Action != "session.end" || got.ActorID != string(h.viewer) || got.OwnerID != string(h.viewer) || got.Detail != `{"count":1}` {
			t.Errorf("%+v", got)
		}
	})
}

// Sessions are a person's own, and nothing for keys.
func TestSessionsAreForPersons(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	_, session := h.signIn(h.owner)
	issued, err := h.CreatePersonalKey(t.Context(), manage.User(h.owner), h.ws, manage.NewKey{Name: "cli"})
	check(t, err)
	for what, by := range map[string]manage.Caller{
		"a personal key": manage.Bearer(issued.Key, nil), "a key": manage.Bearer(h.key(h.sa).Key, nil), "the operator": operator,
	} {
		_, err := h.Sessions(t.Context(), by, h.limits())
		want(t, what+" lists", workspace.ErrForbidden, err)
		want(t, what+" ends", workspace.ErrForbidden, h.EndSession(t.Context(), by, session.ID))
		_, err = h.EndOtherSessions(t.Context(), by, "")
		want(t, what+" ends others", workspace.ErrForbidden, err)
		want(t, what+" sets a password", workspace.ErrForbidden, h.SetOwnPassword(t.Context(), by, session, "", good))
	}
}

func TestNoteSignIn(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		from := manage.Origin{Address: "192.0.2.7", Agent: strings.Repeat("x", 1000) + "\xff", RequestID: "r1"}
		check(t, h.NoteSignIn(t.Context(), from, h.viewer, identity.ByPassword))
		events := h.events(audit.Instance)
		got := events[len(events)-1]
		if got.Action != "user.sign_in" || got.ActorKind != "user" || got.ActorID != string(h.viewer) || got.SubjectID != string(h.viewer) ||
			got.Address != "192.0.2.7" || got.Detail != `{"method":"password"}` {
			t.Errorf("%+v", got)
		}
		no := false
		_, err := h.UpdateUser(t.Context(), operator, h.viewer, manage.UserChange{Enabled: &no})
		check(t, err)
		want(t, "somebody disabled", workspace.ErrForbidden, h.NoteSignIn(t.Context(), from, h.viewer, identity.ByPassword))
		want(t, "nobody", workspace.ErrForbidden, h.NoteSignIn(t.Context(), from, "usr_none", identity.ByPassword))
	})
}

func TestSignInsAreForgotten(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		h.signIn(h.viewer)
		_, err := h.AccessLink(t.Context(), operator, h.viewer)
		check(t, err)
		check(t, h.Spend(t.Context(), "state", h.now.Add(time.Hour)))
		rows := func() int {
			return get[int](h, `SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM links) + (SELECT count(*) FROM spent)`)
		}
		if check(t, h.ForgetSignIns(t.Context())); rows() != 3 {
			t.Errorf("%d of 3 are left at once", rows())
		}
		h.now = h.now.Add(25 * time.Hour)
		if check(t, h.ForgetSignIns(t.Context())); rows() != 0 {
			t.Errorf("%d are left", rows())
		}
	})
}
