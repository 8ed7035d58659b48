package console_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// roleOf is what a user is in the workspace; empty: no member.
func (s *site) roleOf(user workspace.User) workspace.Role {
	s.t.Helper()
	m, _ := s.manager.Member(s.t.Context(), s.operator, s.ws.ID, user.ID)
	return m.Role
}

// member makes a user who is in the workspace.
func (s *site) member(email, name string, role workspace.Role) workspace.User {
	s.t.Helper()
	user, err := s.manager.CreateNamedUser(s.t.Context(), s.operator, email, name, false)
	fatal(s.t, err)
	s.join(s.ws, user, role)
	return user
}

func (s *site) members(rest string) string { return "/w/" + s.ws.Slug + "/members" + rest }

func (s *site) membersOf(user workspace.User, rest string) string {
	return s.members("/" + string(user.ID) + "/" + rest)
}

func TestMembers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bob := s.member("bob@example.com", hostile, workspace.Viewer)
	no := false
	_, err := s.manager.UpdateUser(t.Context(), s.operator, bob.ID, manage.UserChange{Enabled: &no})
	fatal(t, err)
	ada := s.as(s.owner)
	ada.get(s.members("")).want(t, http.StatusOK, html.EscapeString(hostile), "bob@example.com", "Disabled", ">You</span>", "Leave…",
		"<option selected>viewer</option>", "Invite a member", "What roles may do").without(t, "<script>alert")
	ada.get(s.members("?q=BOB")).want(t, http.StatusOK, "bob@example.com").without(t, ">You</span>")
	ada.get(s.members("?role=owner")).want(t, http.StatusOK, ">You</span>").without(t, "bob@example.com")
	ada.get(s.members("?q=nobody")).want(t, http.StatusOK, "Nobody matches").without(t, "<table class")
}

// What gives is done at once; what takes away is asked first.
func TestChangeRole(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bob := s.member("bob@example.com", "", workspace.Viewer)
	ada := s.as(s.owner)
	is := func(want workspace.Role) {
		t.Helper()
		if role := s.roleOf(bob); role != want {
			t.Errorf("bob is %s, want %s", role, want)
		}
	}
	ada.post(s.membersOf(bob, "role"), url.Values{"role": {"owner"}}).location(t)
	is(workspace.Owner)
	asked := ada.post(s.membersOf(bob, "role"), url.Values{"role": {"viewer"}}).want(t, http.StatusOK,
		"Change the role of bob@example.com to viewer?", "From owner to viewer", `name="sure" value="yes"`)
	is(workspace.Owner)
	form := url.Values{"role": {"viewer"}, "sure": {"yes"}, "version": {asked.found(t, versionIn)}}
	ada.post(s.membersOf(bob, "role"), form).location(t)
	is(workspace.Viewer)

	form.Set("role", "manager")
	ada.post(s.membersOf(bob, "role"), form).want(t, http.StatusConflict, "Somebody else changed it meanwhile")
	ada.post(s.membersOf(bob, "role"), url.Values{"role": {hostile}}).want(t, http.StatusUnprocessableEntity, "owner, manager or viewer").without(t, "<script>alert")
	ada.post(s.membersOf(workspace.User{ID: "usr_none"}, "role"), form).want(t, http.StatusNotFound)
	ada.get(s.membersOf(bob, "role")).want(t, http.StatusMethodNotAllowed)
	is(workspace.Viewer)
}

func TestLastOwnerStays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.as(s.owner)
	ada.post(s.membersOf(s.owner, "role"), url.Values{"role": {"viewer"}}).want(t, http.StatusOK, "Change your own role to viewer?", "This is you")
	ada.post(s.membersOf(s.owner, "role"), url.Values{"role": {"viewer"}, "sure": {"yes"}}).want(t, http.StatusConflict, "last owner of the workspace")
	ada.post(s.membersOf(s.owner, "remove"), url.Values{"confirm": {s.ws.Slug}}).want(t, http.StatusConflict, "last owner of the workspace")
	if role := s.roleOf(s.owner); role != workspace.Owner {
		t.Errorf("the owner is %q", role)
	}
}

func TestRemoveMember(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bob := s.member("bob@example.com", hostile, workspace.Owner)
	_, err := s.manager.CreatePersonalKey(t.Context(), manage.User(bob.ID), s.ws.ID, manage.NewKey{Name: "laptop"})
	fatal(t, err)
	ada := s.as(s.owner)
	ada.get(s.membersOf(bob, "remove")).want(t, http.StatusOK, "Remove "+html.EscapeString(hostile), "1 live personal key", "bob@example.com is owner of").without(t, "<script>alert")
	if s.roleOf(bob) == "" {
		t.Fatal("GET removed him")
	}
	if to := ada.post(s.membersOf(bob, "remove"), url.Values{}).location(t); to != s.members("?notice=member-removed") {
		t.Errorf("sent to %s", to)
	}
	if role := s.roleOf(bob); role != "" {
		t.Errorf("bob is still %s", role)
	}
	ada.post(s.membersOf(bob, "remove"), url.Values{}).want(t, http.StatusNotFound)
}

// Nobody removes themselves by accident.
func TestLeave(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bob := s.member("bob@example.com", "", workspace.Owner)
	b := s.as(bob)
	b.get(s.membersOf(bob, "remove")).want(t, http.StatusOK, "Leave "+s.ws.Name+"?", "This is you", "Type “"+s.ws.Slug+"” to confirm")
	b.post(s.membersOf(bob, "remove"), url.Values{}).want(t, http.StatusUnprocessableEntity, "so that it is not done by accident")
	if s.roleOf(bob) != workspace.Owner {
		t.Fatal("he left")
	}
	if to := b.post(s.membersOf(bob, "remove"), url.Values{"confirm": {s.ws.Slug}}).location(t); to != "/sign-in?notice=left" {
		t.Errorf("sent to %s", to)
	}
	s.as(bob).get(s.members("")).want(t, http.StatusNotFound)
}

// Only owners change members; organization admins see them.
func TestMembersOfOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	bob := s.member("bob@example.com", "", workspace.Viewer)
	manager, outsider, admin := s.member("manager@example.com", "", workspace.Manager), s.user("outsider@example.com", false), s.user("admin@example.com", true)
	paths := []string{s.membersOf(bob, "role"), s.membersOf(bob, "remove"), s.members("/invite")}
	form := url.Values{"role": {"owner"}, "sure": {"yes"}, "email": {"eve@example.com"}}
	for _, user := range []workspace.User{bob, manager, admin} {
		s.as(user).get(s.members("")).want(t, http.StatusOK, "bob@example.com").without(t, "Invite", "Remove", "<select", ">Change<", "Pending")
		for _, path := range paths {
			if a := s.as(user).post(path, form); a.status != http.StatusForbidden && a.status != http.StatusNotFound {
				t.Errorf("%s posts to %s: %d", user.Email, path, a.status)
			}
		}
		s.as(user).get(paths[1]).want(t, http.StatusForbidden)
		s.as(user).get(paths[2]).want(t, http.StatusForbidden)
	}
	s.as(outsider).get(s.members("")).want(t, http.StatusNotFound)
	for _, path := range paths {
		s.as(outsider).post(path, form).want(t, http.StatusNotFound)
	}
	if role := s.roleOf(bob); role != workspace.Viewer {
		t.Errorf("bob is %q", role)
	}
}

var invitationIn = regexp.MustCompile(`value="([^"]*/invitation\?token=[^"]+)"`)

func TestInviteMember(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.as(s.owner)
	shown := ada.get(s.members("/invite")).want(t, http.StatusOK, "manager</strong>", `id="role-manager" name="role" value="manager" checked`)
	form := url.Values{"once": {shown.found(t, onceIn)}, "email": {" Bob@example.com "}, "role": {"viewer"}}
	made := ada.post(s.members("/invite"), form).want(t, http.StatusOK, "Send the invitation to bob@example.com", "It works once", "Copy")
	if made.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control: %s", made.header.Get("Cache-Control"))
	}
	link := made.found(t, invitationIn)
	s.visitor().get(strings.TrimPrefix(link, s.url)).want(t, http.StatusOK, s.ws.Name)

	// Sent again it makes nothing and shows nothing.
	ada.post(s.members("/invite"), form).want(t, http.StatusOK, "sent before").without(t, "token=")
	pending := ada.get(s.members("")).want(t, http.StatusOK, "bob@example.com", "Pending invitations", `data-label="Invited by"><a`).without(t, "token=")
	withdraw := pending.found(t, regexp.MustCompile(`action="([^"]+/withdraw)"`))
	if strings.Count(pending.body, "/withdraw") != 1 {
		t.Errorf("there are more than one:\n%s", pending.body)
	}
	ada.get(withdraw).want(t, http.StatusMethodNotAllowed)
	viewer := s.member("viewer@example.com", "", workspace.Viewer)
	s.as(viewer).post(withdraw, url.Values{}).want(t, http.StatusForbidden)
	ada.get(ada.post(withdraw, url.Values{}).location(t)).want(t, http.StatusOK, "The invitation is withdrawn", "None. An invitation")
	s.visitor().get(strings.TrimPrefix(link, s.url)).want(t, http.StatusNotFound)
	ada.post(withdraw, url.Values{}).want(t, http.StatusNotFound)
}

func TestInviteMistakes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.member("bob@example.com", "", workspace.Viewer)
	for _, c := range []struct {
		email, role, text string
		status            int
	}{
		{"", "viewer", "name@example.com", http.StatusUnprocessableEntity},
		{hostile, "viewer", html.EscapeString(hostile), http.StatusUnprocessableEntity},
		{"eve@example.com", "", "Choose what they may do", http.StatusUnprocessableEntity},
		{"eve@example.com", "boss", "Choose what they may do", http.StatusUnprocessableEntity},
		{"bob@example.com", "viewer", "is in the workspace already", http.StatusConflict},
	} {
		s.as(s.owner).post(s.members("/invite"), url.Values{"email": {c.email}, "role": {c.role}}).
			want(t, c.status, c.text, `value="`+html.EscapeString(c.email)+`"`).without(t, "<script>alert", "token=")
	}
	found, err := s.manager.Invitations(t.Context(), s.operator, s.ws.ID)
	if fatal(t, err); len(found) > 0 {
		t.Errorf("there are %v", found)
	}
}
