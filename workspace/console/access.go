package console

import (
	"errors"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

const accessWhat = "An access link works once, for a day, and until there is a newer one."

// accessData is what the form for a new password shows.
type accessData struct {
	Token string
	User  workspace.User
}

// accessForm asks whoever has an access link for a new password.
func accessForm(r *request) (page, error) {
	user, err := r.h.Manager.OpenAccessLink(r.ctx, r.linkToken())
	if errors.Is(err, workspace.ErrNotFound) {
		return r.linkOver(accessWhat, accessAdvice), nil
	}
	return page{template: "access", title: "Set a new password", data: accessData{r.linkToken(), user}}, err
}

// useAccessLink sets the password and signs in.
func useAccessLink(r *request) (page, error) {
	user, err := r.h.Manager.UseAccessLink(r.ctx, r.origin(), r.linkToken(), r.form.Get("password"))
	if err != nil && !pending(err) {
		form, failed := accessForm(r) // which says if it is the link
		if failed != nil || form.template != "access" {
			return form, failed
		}
		return form.again(err)
	}
	if err := r.rememberDevice(typedAccount(user.Email), string(user.ID)+r.requestID()); err != nil {
		return page{}, err
	}
	return r.enter(user.ID, identity.ByLink, r.h.path("account")+"?notice=access-used")
}
