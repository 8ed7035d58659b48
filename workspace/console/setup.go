package console

import (
	"errors"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const setUpWhat = "A set-up link works once, for 30 minutes."

// setUpData is what the form to set up shows.
type setUpData struct {
	Token, Email, Name, Workspace string
	HasWorkspace                  bool // there is one, so none is asked for
}

// setUpForm asks the first person who they are.
func setUpForm(r *request) (page, error) {
	d := setUpData{Token: r.linkToken(), Email: r.text("email"), Name: r.text("name"), Workspace: r.text("workspace")}
	has, err := r.h.Manager.OpenSetUp(r.ctx, d.Token)
	if errors.Is(err, workspace.ErrNotFound) {
		return r.linkOver(setUpWhat, setUpAdvice), nil
	}
	d.HasWorkspace = has
	return page{template: "setup", title: "Set up Tokenbooth", data: d}, err
}

// setUp makes the first organization admin with their workspace, and signs them in.
func setUp(r *request) (page, error) {
	user, ws, err := r.h.Manager.SetUp(r.ctx, r.origin(), r.linkToken(), manage.SetUpPerson{
		Email: r.text("email"), Name: r.text("name"), Password: r.form.Get("password"), Workspace: r.text("workspace"),
	})
	if err != nil && !pending(err) {
		form, failed := setUpForm(r) // which says if it is the link
		if failed != nil || form.template != "setup" {
			return form, failed
		}
		return form.again(err)
	}
	next := r.h.path()
	if ws.Slug != "" {
		next = r.h.path("w", ws.Slug)
	}
	if err := r.rememberDevice(typedAccount(user.Email), string(user.ID)+r.requestID()); err != nil {
		return page{}, err
	}
	return r.enter(user.ID, identity.ByLink, next)
}
