package manage_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// invite is an invitation by the owner.
func (h *house) invite(email string, role workspace.Role) manage.NewLink {
	h.t.Helper()
	link, err := h.CreateInvitation(h.t.Context(), manage.User(h.owner), h.ws, email, role)
	check(h.t, err)
	return link
}

// waiting are the addresses of the invitations that are open.
func (h *house) waiting() (addresses []string) {
	h.t.Helper()
	found, err := h.Invitations(h.t.Context(), operator, h.ws)
	check(h.t, err)
	for _, l := range found {
		addresses = append(addresses, l.Email)
	}
	return addresses
}

func TestInvitations(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		link := h.invite(" New@Example.COM", workspace.Manager)
		if link.Email != "new@example.com" || link.Role != workspace.Manager || link.WorkspaceID != h.ws || link.CreatedBy != "user:"+string(h.owner) ||
			!link.ExpiresAt.Equal(h.now.Add(7*24*time.Hour)) || len(link.Token) != 43 || strings.Contains(h.dump(), link.Token) {
			t.Errorf("%+v", link)
		}
		found, err := h.Invitations(t.Context(), manage.User(h.viewer), h.ws)
		if check(t, err); len(found) != 1 || found[0] != link.Link {
			t.Errorf("%+v", found)
		}
		second := h.invite("new@example.com", workspace.Viewer)
		_, err = h.OpenInvitation(t.Context(), link.Token)
		want(t, "the one before", workspace.ErrNotFound, err)
		before := h.dump()
		opened, err := h.OpenInvitation(t.Context(), second.Token)
		if check(t, err); opened.Link != second.Link || opened.Workspace.ID != h.ws || h.dump() != before {
			t.Errorf("%+v, or something was changed", opened)
		}
		want(t, "withdraw another", workspace.ErrNotFound, h.WithdrawInvitation(t.Context(), manage.User(h.owner), h.ws, "lnk_none"))
		want(t, "withdraw none", workspace.ErrNotFound, h.WithdrawInvitation(t.Context(), manage.User(h.owner), h.ws, ""))
		want(t, "withdraw as a viewer", workspace.ErrForbidden, h.WithdrawInvitation(t.Context(), manage.User(h.viewer), h.ws, second.ID))
		if len(h.waiting()) != 1 {
			t.Fatalf("open are %q", h.waiting())
		}
		check(t, h.WithdrawInvitation(t.Context(), manage.User(h.owner), h.ws, second.ID))
		_, err = h.JoinByInvitation(t.Context(), nowhere, second.Token, "", good)
		want(t, "join by a withdrawn one", workspace.ErrNotFound, err)
		if len(h.waiting()) != 0 || !slices.Contains(h.actions(string(h.ws)), "invitation.withdraw by user") {
			t.Errorf("open are %q, recorded %q", h.waiting(), h.actions(string(h.ws)))
		}
	})
}

func TestWhoInvites(t *testing.T) {
	t.Parallel()
	h := newGate(t, schematest.SQLite(t))
	issued, err := h.CreatePersonalKey(t.Context(), manage.User(h.owner), h.ws, manage.NewKey{Name: "cli"})
	check(t, err)
	before := h.dump()
	for what, c := range map[string]struct {
		by   manage.Caller
		kind error
	}{
		"a manager": {manage.User(h.manager), workspace.ErrForbidden}, "a viewer": {manage.User(h.viewer), workspace.ErrForbidden},
		"an outsider": {manage.User(h.outsider), workspace.ErrNotFound}, "a key of the owner": {manage.Bearer(issued.Key, nil), workspace.ErrForbidden},
	} {
		_, err := h.CreateInvitation(t.Context(), c.by, h.ws, "new@example.com", workspace.Viewer)
		want(t, what, c.kind, err)
	}
	_, err = h.Invitations(t.Context(), manage.User(h.outsider), h.ws)
	want(t, "an outsider lists", workspace.ErrNotFound, err)
	for what, c := range map[string]struct {
		email string
		role  workspace.Role
		kind  error
	}{
		"no address": {"new", workspace.Viewer, workspace.ErrInvalid}, "bytes": {"\xff@example.com", workspace.Viewer, workspace.ErrInvalid},
		"two lines": {"a@example.com\r\nBcc: b@example.com", workspace.Viewer, workspace.ErrInvalid},
		"long":      {strings.Repeat("a", 300) + "@example.com", workspace.Viewer, workspace.ErrInvalid},
		"no role":   {"new@example.com", "", workspace.ErrInvalid}, "an unknown role": {"new@example.com", "boss", workspace.ErrInvalid},
		"a member": {"Viewer@example.com", workspace.Manager, workspace.ErrConflict},
	} {
		_, err := h.CreateInvitation(t.Context(), manage.User(h.owner), h.ws, c.email, c.role)
		want(t, what, c.kind, err)
	}
	if after := h.dump(); after != before {
		t.Errorf("left is\n%s\ninstead of\n%s", after, before)
	}
}

func TestInvitationIsShownOnce(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		by := manage.User(h.owner).Once(manage.Once{Key: "form:1", Request: "x", Hide: true})
		first, err := h.CreateInvitation(t.Context(), by, h.ws, "new@example.com", workspace.Viewer)
		check(t, err)
		again, err := h.CreateInvitation(t.Context(), by, h.ws, "new@example.com", workspace.Viewer)
		if check(t, err); again.Link != first.Link || again.Token != "" || len(h.waiting()) != 1 {
			t.Errorf("%+v, then %+v", first, again)
		}
		_, err = h.OpenInvitation(t.Context(), first.Token)
		want(t, "open the first", nil, err)
	})
}

// Whoever is signed in joins as themself, whatever the address on the invitation.
func TestAcceptInvitation(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		link := h.invite("somebody@example.com", workspace.Manager)
		check(t, h.AcceptInvitation(t.Context(), manage.User(h.outsider), link.Token))
		if h.role(h.outsider) != workspace.Manager {
			t.Errorf("they are %q", h.role(h.outsider))
		}
		want(t, "another", workspace.ErrNotFound, h.AcceptInvitation(t.Context(), manage.User(h.admin), link.Token))
		want(t, "again", workspace.ErrNotFound, h.AcceptInvitation(t.Context(), manage.User(h.outsider), link.Token))
		events := h.events(string(h.ws))
		accepted, added := events[len(events)-2], events[len(events)-1]
		if accepted.Action != "invitation.accept" || accepted.SubjectID != link.ID || accepted.ActorID != string(h.outsider) || added.Action != "member.add" || added.SubjectID != string(h.outsider) {
			t.Errorf("recorded are %+v and %+v", accepted, added)
		}
		for what, by := range map[string]manage.Caller{"a key": manage.Bearer(h.key(h.sa).Key, nil), "the operator": operator} {
			want(t, what, workspace.ErrForbidden, h.AcceptInvitation(t.Context(), by, h.invite("x@example.com", workspace.Viewer).Token))
		}
	})
}

// A member gains by an invitation, and never loses.
func TestAcceptInvitationAsMember(t *testing.T) {
	for _, c := range []struct{ has, gets, becomes workspace.Role }{
		{workspace.Viewer, workspace.Manager, workspace.Manager}, {workspace.Viewer, workspace.Owner, workspace.Owner}, {workspace.Manager, workspace.Owner, workspace.Owner},
		{workspace.Viewer, workspace.Viewer, workspace.Viewer}, {workspace.Manager, workspace.Viewer, workspace.Manager}, {workspace.Owner, workspace.Viewer, workspace.Owner},
	} {
		t.Run(string(c.has)+" by one for "+string(c.gets), func(t *testing.T) {
			eachGate(t, func(t *testing.T, h *house) {
				member := map[workspace.Role]workspace.UserID{workspace.Viewer: h.viewer, workspace.Manager: h.manager, workspace.Owner: h.owner}[c.has]
				link := h.invite("other-address@example.com", c.gets)
				cookie, _ := h.signIn(member)
				check(t, h.AcceptInvitation(t.Context(), manage.User(member), link.Token))
				if h.role(member) != c.becomes || !h.signedIn(cookie) {
					t.Errorf("they are %q, signed in: %v", h.role(member), h.signedIn(cookie))
				}
				if gained := c.has != c.becomes; gained == (len(h.waiting()) == 1) {
					t.Errorf("they gained: %v, and open are %q", gained, h.waiting())
				}
			})
		})
	}
}

func TestJoinByInvitation(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		link := h.invite("new@example.com", workspace.Manager)
		before := h.dump()
		for what, c := range map[string][2]string{
			"a short password": {"New", "short"}, "the address as password": {"New", "new@example.com"}, "bytes": {"New", "four random words \xff"},
			"a name in bytes": {"\xff", good}, "a long name": {strings.Repeat("long ", 1000), good}, "a name of two lines": {"a\nb", good},
		} {
			_, err := h.JoinByInvitation(t.Context(), nowhere, link.Token, c[0], c[1])
			want(t, what, workspace.ErrInvalid, err)
		}
		if after := h.dump(); after != before {
			t.Fatalf("refusals leave\n%s\ninstead of\n%s", after, before)
		}
		user, err := h.JoinByInvitation(t.Context(), nowhere, link.Token, "New One", good)
		check(t, err)
		if user.Email != "new@example.com" || user.Name != "New One" || user.OrganizationAdmin || h.role(user.ID) != workspace.Manager || !h.knows("new@example.com", good) {
			t.Errorf("%+v as %q", user, h.role(user.ID))
		}
		_, err = h.JoinByInvitation(t.Context(), nowhere, link.Token, "New One", good)
		want(t, "again", workspace.ErrNotFound, err)
		late := h.invite("late@example.com", workspace.Viewer)
		h.now = h.now.Add(7 * 24 * time.Hour)
		_, err = h.JoinByInvitation(t.Context(), nowhere, late.Token, "", good)
		want(t, "late", workspace.ErrNotFound, err)
	})
}

// An invitation to an address is no way into the account that has it.
func TestInvitationOpensNoAccount(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		h.give(h.outsider)
		link := h.invite("OUTSIDER@example.com", workspace.Owner)
		before := h.dump()
		user, err := h.JoinByInvitation(t.Context(), nowhere, link.Token, "Mallory", better)
		want(t, "join", workspace.ErrConflict, err)
		if user.ID == h.outsider || !strings.Contains(err.Error(), "sign in") {
			t.Errorf("%+v, %v", user, err)
		}
		if after := h.dump(); after != before || !h.knows("outsider@example.com", good) {
			t.Errorf("left is\n%s\ninstead of\n%s", after, before)
		}
		check(t, h.AcceptInvitation(t.Context(), manage.User(h.outsider), link.Token)) // it is still good
	})
}

// What somebody has prepared ends with their right to it, and what others have does not.
func TestInvitationsEndWithRights(t *testing.T) {
	for _, c := range losses {
		if !c.ends {
			continue
		}
		t.Run(c.what, func(t *testing.T) {
			eachGate(t, func(t *testing.T, h *house) {
				who := c.who(h)
				theirs, err := h.CreateInvitation(t.Context(), manage.User(who), h.ws, "back-door@example.com", workspace.Owner)
				check(t, err)
				other := h.invite("honest@example.com", workspace.Viewer)
				check(t, c.take(h, who))
				want(t, "accept", workspace.ErrNotFound, h.AcceptInvitation(t.Context(), manage.User(h.outsider), theirs.Token))
				_, err = h.JoinByInvitation(t.Context(), nowhere, theirs.Token, "", good)
				want(t, "join", workspace.ErrNotFound, err)
				_, err = h.OpenInvitation(t.Context(), other.Token)
				want(t, "open what somebody else has made", nil, err)
			})
		})
	}
}

// Nobody joins a workspace that is gone, nor as somebody who is.
func TestInvitationFromBefore(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		link, no := h.invite("new@example.com", workspace.Viewer), false
		_, err := h.UpdateUser(t.Context(), operator, h.outsider, manage.UserChange{Enabled: &no})
		check(t, err)
		want(t, "disabled", workspace.ErrForbidden, h.AcceptInvitation(t.Context(), manage.User(h.outsider), link.Token))
		check(t, h.SuspendWorkspace(t.Context(), operator, h.ws))
		check(t, h.DeleteWorkspace(t.Context(), operator, h.ws))
		_, err = h.OpenInvitation(t.Context(), link.Token)
		want(t, "open", workspace.ErrNotFound, err)
		want(t, "accept", workspace.ErrNotFound, h.AcceptInvitation(t.Context(), manage.User(h.admin), link.Token))
		_, err = h.JoinByInvitation(t.Context(), nowhere, link.Token, "", good)
		want(t, "join", workspace.ErrNotFound, err)
		if _, err := workspace.UserByEmail(t.Context(), h.Database.Reader(), "new@example.com"); err == nil {
			t.Error("an account is left")
		}
	})
}

func TestInvitationIsUsedOnce(t *testing.T) {
	eachGate(t, func(t *testing.T, h *house) {
		people := []workspace.UserID{h.outsider, h.admin, h.user("third", false), h.user("fourth", false)}
		link := h.invite("new@example.com", workspace.Viewer)
		won := race(t, func(ctx context.Context, i int) error {
			return h.AcceptInvitation(ctx, manage.User(people[i]), link.Token)
		}, workspace.ErrNotFound)
		if n := get[int](h, `SELECT count(*) FROM members WHERE workspace_id = ?`, h.ws); won != 1 || n != 4 {
			t.Errorf("%d have accepted, and there are %d members", won, n)
		}
		fifth := h.user("fifth", false)
		link = h.invite("new@example.com", workspace.Viewer)
		won = race(t, func(ctx context.Context, i int) error {
			if i == 0 {
				return h.AcceptInvitation(ctx, manage.User(fifth), link.Token)
			}
			_, err := h.JoinByInvitation(ctx, nowhere, link.Token, "", good)
			return err
		}, workspace.ErrNotFound, workspace.ErrConflict)
		if n := get[int](h, `SELECT count(*) FROM members WHERE workspace_id = ?`, h.ws); won != 1 || n != 5 {
			t.Errorf("%d have joined, and there are %d members", won, n)
		}
	})
}
