package console

import (
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// invitation is one that waits.
type invitation struct {
	identity.Link
	By who
}

// invitations are those to the workspace that wait.
func (r *request) invitations() (waiting []invitation, err error) {
	links, err := r.h.Manager.Invitations(r.ctx, r.by, r.ws.ID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, link := range links {
		ids = append(ids, creatorID(link.CreatedBy))
	}
	n, err := r.names(ids...)
	for _, link := range links {
		waiting = append(waiting, invitation{link, n.creator(link.CreatedBy)})
	}
	return waiting, err
}

// inviting is the form of an invitation.
type inviting struct {
	Email string
	Role  workspace.Role
	Roles []memberRole
}

func (r *request) invitePage(f inviting) page {
	f.Roles = memberRoles
	return page{template: "member_invite", title: "Invite a member", section: "members", data: f}
}

func inviteForm(r *request) (page, error) {
	return r.invitePage(inviting{Role: workspace.Manager}), r.needs("members:create")
}

// invited is an invitation with its link, which is shown this once.
type invited struct {
	identity.Link
	URL string // empty: it was shown before
}

// invite makes an invitation and shows its link, in the answer to the form and
// nowhere else.
func invite(r *request) (page, error) {
	f := inviting{Email: r.text("email"), Role: workspace.Role(r.text("role"))}
	var m mistakes
	if _, err := workspace.NormalEmail(f.Email); err != nil {
		m.add("email", "Give an e-mail address in the form name@example.com.")
	}
	if strength(f.Role) < 0 {
		m.add("role", "Choose what they may do.")
	}
	if err := m.err(); err != nil {
		return r.invitePage(f).again(err)
	}
	link, err := r.h.Manager.CreateInvitation(r.ctx, r.onceCaller(), r.ws.ID, f.Email, f.Role)
	if err != nil && !pending(err) {
		return r.invitePage(f).again(err)
	}
	shown := invited{Link: link.Link}
	if link.Token != "" { // else the form was sent before
		shown.URL = LinkURL(r.h.Issuer, link)
	}
	return page{template: "member_invited", title: "Send the invitation to " + link.Email, section: "members", data: shown}, nil
}

// withdrawInvitation ends an invitation: its link works no more.
func withdrawInvitation(r *request) (page, error) {
	err := r.h.Manager.WithdrawInvitation(r.ctx, r.by, r.ws.ID, r.Param("id"))
	if err != nil && !pending(err) {
		return page{}, err
	}
	return done(err, r.here("members"), "invitation-withdrawn"), nil
}
