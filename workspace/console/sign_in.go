package console

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) signInRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{method: get, path: "/sign-in", run: signInForm, access: anybody},
		{method: post, path: "/sign-in", run: signIn, access: anybody},
		{method: get, path: "/sign-out", run: signOutForm, access: anybody},
		{method: post, path: "/sign-out", run: signOut, access: anybody},
	}
}

// signInPage asks who is there.
func (r *request) signInPage() page {
	return page{template: "sign_in", title: "Sign in", data: r.text("email")}
}

func signInForm(r *request) (page, error) {
	if r.signedIn() && r.QueryParam("again") == "" {
		return seeOther(r.h.next(r.QueryParam("next"))), nil
	}
	return r.signInPage(), nil
}

// signIn signs in with a password, or goes on to ask for a passkey.
func signIn(r *request) (page, error) {
	account := typedAccount(r.form.Get("email"))
	if wait := r.h.attempts.spend(r.budgets(account), r.h.Manager.Time()); wait > 0 {
		return r.slowDown(wait), nil
	}
	r.proven = workspace.At(r.h.Manager.Time()) // checking takes a while, in which the password may be changed
	user, second, err := r.h.Manager.CheckPassword(r.ctx, r.form.Get("email"), r.form.Get("password"))
	if errors.Is(err, manage.ErrWrongPassword) {
		r.h.Log.Info("a password was wrong", "address", r.RealIP(), "request_id", r.requestID())
		return r.wrongPassword(), nil
	}
	if err != nil {
		return page{}, err
	}
	r.h.Note(r.Context, slog.String("user", string(user.ID)))
	if second {
		return seeOther(r.h.path("sign-in", "passkey")), r.keep("half", half{UserID: user.ID, Account: account, Next: r.h.next(r.form.Get("next")), Proven: r.proven}, halfFor)
	}
	if err := r.rememberDevice(account, string(user.ID)+r.requestID()); err != nil {
		return page{}, err
	}
	return r.enter(user.ID, identity.ByPassword, r.form.Get("next"))
}

// halfFor is how long a right password counts while a passkey is asked for.
const halfFor = 5 * time.Minute

// enter signs a person in and records it.
func (r *request) enter(user workspace.UserID, by identity.Method, next string) (page, error) {
	if err := r.h.Manager.NoteSignIn(r.ctx, r.origin(), user, by); err != nil {
		return page{}, err
	}
	return r.begin(user, by, next)
}

// wrongPassword tells no more than that: not whether there is such an account.
func (r *request) wrongPassword() page {
	p := r.signInPage()
	p.status = http.StatusUnprocessableEntity
	p.problem = &problem{Title: "That did not work", Items: []mistake{{Field: "email", Text: "The address or the password is wrong."}}}
	return p
}

// proveAgain sends somebody to sign in once more, who wants to change how they do.
func (r *request) proveAgain() page {
	return page{status: http.StatusForbidden, template: "prove_again", title: "Sign in again first", section: "account"}
}

// slowDown asks to come back later.
func (r *request) slowDown(wait time.Duration) page {
	seconds := int64(wait/time.Second) + 1
	r.Response().Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	p := r.signInPage()
	p.status = http.StatusTooManyRequests
	p.problem = &problem{Title: "Too many attempts", Items: []mistake{{
		Text: fmt.Sprintf("The password was not looked at. Try again in %s; nobody is locked out.", readDuration(time.Duration(seconds)*time.Second)),
	}}}
	return p
}

func signOutForm(r *request) (page, error) {
	if !r.signedIn() {
		return seeOther(r.h.path("sign-in")), nil
	}
	return page{template: "sign_out", title: "Sign out"}, nil
}

// signOut ends the session of this browser.
func signOut(r *request) (page, error) {
	return seeOther(r.h.path("sign-in") + "?notice=signed-out"), r.h.Sessions.End(r.ctx)
}
