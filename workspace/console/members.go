package console

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) membersRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	const members = "/w/:ws/members"
	return []route{
		{method: get, path: members, run: listMembers},
		{method: post, path: members + "/:user/role", run: changeRole},
		{method: get, path: members + "/:user/remove", run: removeMember},
		{method: post, path: members + "/:user/remove", run: removeMember},
		{method: get, path: members + "/invite", run: inviteForm},
		{method: post, path: members + "/invite", run: invite},
		{method: post, path: members + "/invitations/:id/withdraw", run: withdrawInvitation},
	}
}

// memberRole is a role with what it lets people do.
type memberRole struct {
	Role workspace.Role
	Text string
}

// memberRoles are the roles of members, the strongest first.
var memberRoles = []memberRole{
	{workspace.Owner, "does everything in the workspace: also members, invitations and its name"},
	{workspace.Manager, "issues, rotates and revokes keys, and manages service accounts and the key policy; only reads members"},
	{workspace.Viewer, "reads everything, and changes nothing"},
}

// strength orders roles; the smaller holds more.
func strength(role workspace.Role) int {
	return slices.IndexFunc(memberRoles, func(m memberRole) bool { return m.Role == role })
}

// memberRow is a member in the list.
type memberRow struct {
	workspace.Membership
	Me bool
}

// Disabled reports whether the person cannot sign in.
func (m memberRow) Disabled() bool { return !m.DisabledAt.IsZero() }

type memberList struct {
	Query       string
	Chips       []chip
	Rows        []memberRow
	Pager       pager
	Roles       []memberRole
	Invitations []invitation
	Any         bool // nothing is filtered
}

// listMembers shows who is in a workspace, and who is invited.
func listMembers(r *request) (page, error) {
	list := memberList{Query: r.QueryParam("q"), Roles: memberRoles}
	part, err := r.page()
	if err != nil {
		return page{}, err
	}
	choices := []string{"", "All", "owner", "Owners", "manager", "Managers", "viewer", "Viewers"}
	f := workspace.MemberFilter{Text: list.Query, Role: workspace.Role(r.chosen("role", choices...))}
	list.Chips, list.Any = r.chips("role", choices...), f == workspace.MemberFilter{}
	found, err := r.h.Manager.Members(r.ctx, r.by, r.ws.ID, f, part)
	if err != nil {
		return page{}, err
	}
	found, list.Pager = shown(r, found, func(m workspace.Membership) workspace.Position {
		return workspace.Position{At: m.CreatedAt, ID: string(m.UserID)}
	})
	for _, m := range found {
		list.Rows = append(list.Rows, memberRow{m, r.isMe(m.UserID)})
	}
	if r.can("members:create") {
		list.Invitations, err = r.invitations()
	}
	return page{template: "members", title: "Members", section: "members", data: list}, err
}

// member is the one of the path.
func (r *request) member() (workspace.Membership, error) {
	return r.h.Manager.Member(r.ctx, r.by, r.ws.ID, workspace.UserID(r.Param("user")))
}

// memberName is what people call a member.
func memberName(m workspace.Membership) string {
	if m.Name != "" {
		return m.Name
	}
	return m.Email
}

// changeRole gives a member another role. What takes rights away is asked first, on
// a page that sends the same form with the answer.
func changeRole(r *request) (page, error) {
	role := workspace.Role(r.text("role"))
	if err := (workspace.Member{Role: role}).Validate(); err != nil {
		return page{}, err
	}
	m, err := r.member()
	if err != nil {
		return page{}, err
	}
	asked := r.askRole(m, role)
	if strength(role) > strength(m.Role) && r.form.Get("sure") != "yes" {
		return asked, r.needs("members:update")
	}
	by := r.by
	if seen := r.form.Get("version"); seen != "" {
		by = by.If(seen)
	}
	_, err = r.h.Manager.SetMemberRole(r.ctx, by, r.ws.ID, m.UserID, role)
	if err != nil && !pending(err) {
		return asked.again(err)
	}
	return done(err, r.here("members"), "role-changed"), nil
}

func (r *request) askRole(m workspace.Membership, role workspace.Role) page {
	a := asking{
		Effects: []string{"From " + string(m.Role) + " to " + string(role) + ", who " + memberRoles[strength(role)].Text + "."},
		Button:  "Change to " + string(role), Back: r.here("members"), BackText: "Members",
		Hidden: map[string]string{"role": string(role), "sure": "yes", "version": manage.Version(m.UpdatedAt)},
	}
	if strength(role) > strength(m.Role) {
		a.Danger = true
		a.Effects = append(a.Effects, "Their personal keys in this workspace keep only what the new role holds, and the tokens of those keys stop within seconds. They are signed out, and can sign in again.")
	}
	if r.isMe(m.UserID) {
		a.Lead = "This is you. You cannot take it back yourself: another owner has to."
		return ask("Change your own role to "+string(role)+"?", "members", a)
	}
	return ask("Change the role of "+memberName(m)+" to "+string(role)+"?", "members", a)
}

// needs refuses a page whose use case would refuse what it sends, so that nobody
// fills it in for nothing.
func (r *request) needs(right string) error {
	if r.can(right) {
		return nil
	}
	return fmt.Errorf("%w: this needs %s", workspace.ErrForbidden, right)
}

// removeMember takes somebody out of a workspace. Whoever takes out themselves types
// the workspace's name in addresses, so that it is no accident.
func removeMember(r *request) (page, error) {
	if err := r.needs("members:delete"); err != nil {
		return page{}, err
	}
	m, err := r.member()
	if err != nil {
		return page{}, err
	}
	keys, err := r.h.Manager.LiveKeys(r.ctx, r.by, r.ws.ID, []string{string(m.UserID)})
	if err != nil {
		return page{}, err
	}
	a := asking{
		Lead:    m.Email + " is " + string(m.Role) + " of " + r.ws.Name + ".",
		Effects: leaving(keys[string(m.UserID)]), Button: "Remove " + memberName(m), Danger: true, Back: r.here("members"), BackText: "Members",
	}
	title, to, notice := "Remove "+memberName(m)+"?", r.here("members"), "member-removed"
	if r.isMe(m.UserID) {
		title, to, notice = "Leave "+r.ws.Name+"?", r.h.path("sign-in"), "left" // sessions end with rights
		a.Lead = "This is you: you are about to remove yourself. You cannot come back on your own."
		a.Button, a.Type = "Leave "+r.ws.Name, r.ws.Slug
	}
	return r.answered(title, "members", a, func() error {
		return r.h.Manager.RemoveMember(r.ctx, r.by, r.ws.ID, m.UserID)
	}, to, notice)
}

func leaving(keys int64) []string {
	personal := "They have no live personal key here."
	if keys > 0 {
		personal = "Their " + count(keys, "live personal key") + " in this workspace: revoked for good, and tokens stop within seconds."
	}
	return []string{
		"They lose access to this workspace at once, and are signed out.", personal,
		"Service accounts and the keys of those go on working, also those that they created.",
		"Their entries in the audit log stay.",
	}
}
