package console

import (
	"errors"
	"net/url"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const inviteWhat = "An invitation works once, for a week, and until it is withdrawn."

// invitationData is what the page of an invitation shows.
type invitationData struct {
	Token, Name string
	Invitation  manage.Invitation
}

// invitationForm asks whoever has an invitation to accept it: as who they are, if
// they are signed in, or with a new account.
func invitationForm(r *request) (page, error) {
	d := invitationData{Token: r.linkToken(), Name: r.text("name")}
	opened, err := r.h.Manager.OpenInvitation(r.ctx, d.Token)
	if errors.Is(err, workspace.ErrNotFound) {
		return r.linkOver(inviteWhat, inviteAdvice), nil
	}
	d.Invitation = opened
	return page{template: "invitation", title: "Join " + opened.Workspace.Name, data: d}, err
}

// joinByInvitation makes an account and a member of it.
func joinByInvitation(r *request) (page, error) {
	opened, err := r.h.Manager.OpenInvitation(r.ctx, r.linkToken())
	if err != nil {
		return r.invitationAgain(err)
	}
	user, err := r.h.Manager.JoinByInvitation(r.ctx, r.origin(), r.linkToken(), r.text("name"), r.form.Get("password"))
	if err != nil && !pending(err) {
		return r.invitationAgain(err)
	}
	if err := r.rememberDevice(typedAccount(user.Email), string(user.ID)+r.requestID()); err != nil {
		return page{}, err
	}
	return r.enter(user.ID, identity.ByLink, r.h.path("w", opened.Workspace.Slug))
}

// acceptInvitation makes whoever is signed in a member.
func acceptInvitation(r *request) (page, error) {
	opened, err := r.h.Manager.OpenInvitation(r.ctx, r.linkToken())
	if err == nil {
		err = r.h.Manager.AcceptInvitation(r.ctx, r.by, r.linkToken())
	}
	if err != nil && !pending(err) {
		return r.invitationAgain(err)
	}
	return seeOther(r.h.path("w", opened.Workspace.Slug) + "?notice=joined"), nil
}

// invitationAgain shows the page once more, which says if it is the link.
func (r *request) invitationAgain(err error) (page, error) {
	form, failed := invitationForm(r)
	if failed != nil || form.template != "invitation" {
		return form, failed
	}
	return form.again(err)
}

// SignInAndComeBack is the address to sign in and then come back to the page.
func (v view) SignInAndComeBack() string {
	return v.r.h.path("sign-in") + "?" + url.Values{"next": {v.Path}}.Encode()
}
