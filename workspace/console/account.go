package console

import (
	"errors"
	"net/http"

	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) accountRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{method: get, path: "/account", run: account},
		{method: post, path: "/account/password", run: setPassword},
		{method: post, path: "/account/look", run: setLook},
		{method: post, path: "/account/sessions/end-others", run: endOtherSessions},
		{method: post, path: "/account/sessions/:session/end", run: endSession},
	}
}

// ownAccount is a person's own account.
type ownAccount struct {
	Methods  identity.Methods
	Sessions []identity.Session
	Current  string // ID of the session of this browser
}

func (r *request) accountPage() (p page, err error) {
	shown := ownAccount{Current: r.session.ID}
	if shown.Methods, err = r.h.Manager.SignInMethods(r.ctx, r.by, r.me.ID); err != nil {
		return p, err
	}
	shown.Sessions, err = r.h.Manager.Sessions(r.ctx, r.by, r.h.Sessions.Options())
	return page{template: "account", title: "Account", section: "account", data: shown}, err
}

func account(r *request) (page, error) { return r.accountPage() }

// setPassword changes the person's password, and ends their other sessions.
func setPassword(r *request) (page, error) {
	if wait := r.h.attempts.spend([]limited{{"own " + string(r.me.ID), perDevice}}, r.h.Manager.Time()); wait > 0 {
		return r.slowPassword()
	}
	err := r.h.Manager.SetOwnPassword(r.ctx, r.by, r.session, r.form.Get("current"), r.form.Get("password"))
	if err == nil {
		return seeOther(r.h.path("account") + "?notice=password-set"), nil
	}
	if errors.Is(err, manage.ErrWrongPassword) {
		err = mistakes{{"current", "This is not your present password."}}
	}
	p, failed := r.accountPage()
	if failed != nil {
		return p, failed
	}
	return p.again(err)
}

func (r *request) slowPassword() (page, error) {
	p, err := r.accountPage()
	p.status = http.StatusTooManyRequests
	r.Response().Header().Set("Retry-After", "10")
	p.problem = &problem{Title: "Too many attempts", Items: []mistake{{"current", "Nothing was changed. Try again in 10 seconds."}}}
	return p, err
}

// setLook keeps how the console looks and behaves in this browser.
func setLook(r *request) (page, error) {
	l := look{Shortcuts: r.form.Get("shortcuts") != ""}
	if theme := r.form.Get("theme"); theme == "light" || theme == "dark" {
		l.Theme = theme
	}
	r.keepLook(l)
	return seeOther(r.h.path("account") + "?notice=look-kept"), nil
}

func endSession(r *request) (page, error) {
	return seeOther(r.h.path("account") + "?notice=session-ended"), r.h.Manager.EndSession(r.ctx, r.by, r.Param("session"))
}

func endOtherSessions(r *request) (page, error) {
	_, err := r.h.Manager.EndOtherSessions(r.ctx, r.by, r.session.ID)
	return seeOther(r.h.path("account") + "?notice=sessions-ended"), err
}
