package console

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// challengeFor is how long somebody may take to use a passkey.
const challengeFor = 5 * time.Minute

func (h *Handler) passkeyRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	routes := []route{
		{method: get, path: "/account/passkeys/:passkey/remove", run: confirmPasskeyRemoval},
		{method: post, path: "/account/passkeys/:passkey/remove", run: removePasskey},
		{method: get, path: "/sign-in/passkey", run: secondPage, access: anybody},
	}
	if h.passkeys == nil {
		return routes
	}
	return append(routes,
		route{method: post, path: "/account/passkeys/begin", run: beginPasskey},
		route{method: post, path: "/account/passkeys", run: addPasskey},
		route{method: post, path: "/sign-in/passkey/begin", run: askPasskey, access: anybody},
		route{method: post, path: "/sign-in/passkey", run: usePasskey, access: anybody},
	)
}

// options answers the script with what the browser needs, and keeps the challenge.
func (r *request) options(name string, options json.RawMessage, c identity.Challenge) (page, error) {
	return page{content: options, contentType: echo.MIMEApplicationJSON}, r.keep(name, c, challengeFor)
}

// refusal tells the script, in a sentence, why there are no options.
func refusal(err error) (page, error) {
	wrong := problemOf(err)
	if wrong == nil {
		return page{}, err
	}
	text, err := json.Marshal(map[string]string{"error": wrong.Items[0].Text})
	return page{status: wrong.status, content: text, contentType: echo.MIMEApplicationJSON}, err
}

// spendChallenge takes out what was kept, to be used now and never again.
func (r *request) spendChallenge(name string) (c identity.Challenge, err error) {
	if !r.kept(name, &c) {
		return c, errChallengeOver
	}
	r.drop(name)
	err = r.h.Manager.Spend(r.ctx, c.Text, r.h.Manager.Time().Add(challengeFor))
	if errors.Is(err, workspace.ErrConflict) {
		err = errChallengeOver
	}
	return c, err
}

var errChallengeOver = mistakes{{Text: "It took too long, or was sent before. Try again."}}

// passkeyProblem is what the person reads of an answer that was not accepted; the
// reason is in the log.
func (r *request) passkeyProblem(err error) error {
	if !errors.Is(err, identity.ErrPasskey) {
		return err
	}
	r.h.Log.Info("a passkey was not accepted", "error", err, "request_id", r.requestID())
	if errors.Is(err, identity.ErrClonedPasskey) {
		return mistakes{{Text: "This passkey was not accepted: its counter has gone back, as it does when there is a copy of it. Use another way to sign in, remove it under Account, and add it anew."}}
	}
	return mistakes{{Text: "This passkey was not accepted. It may have been removed here. Try another one, or use another way to sign in."}}
}

// beginPasskey answers with what the browser needs to make a passkey.
func beginPasskey(r *request) (page, error) {
	options, c, err := r.h.Manager.BeginPasskey(r.ctx, r.by, r.h.passkeys)
	if err != nil {
		return refusal(err)
	}
	return r.options("passkey-new", options, c)
}

// addPasskey stores what the browser made.
func addPasskey(r *request) (page, error) {
	p := page{template: "passkey_new", title: "Add a passkey", section: "account", data: r.text("name")}
	c, err := r.spendChallenge("passkey-new")
	if err == nil {
		err = r.passkeyProblem(r.h.Manager.AddPasskey(r.ctx, r.by, r.h.passkeys, r.text("name"), c, []byte(r.form.Get("answer"))))
	}
	if err != nil {
		return p.again(err)
	}
	return seeOther(r.h.path("account") + "?notice=passkey-added"), nil
}

// findPasskey is the passkey of the person that the path names.
func (r *request) findPasskey() (identity.Passkey, error) {
	found, err := r.h.Manager.Passkeys(r.ctx, r.by)
	for _, p := range found {
		if p.ID == r.Param("passkey") {
			return p, nil
		}
	}
	return identity.Passkey{}, errors.Join(err, workspace.ErrNotFound)
}

func confirmPasskeyRemoval(r *request) (page, error) {
	found, err := r.findPasskey()
	return page{template: "passkey_remove", title: "Remove passkey " + found.Name, section: "account", data: found}, err
}

func removePasskey(r *request) (page, error) {
	p, err := confirmPasskeyRemoval(r)
	if err != nil {
		return p, err
	}
	if err := r.h.Manager.RemovePasskey(r.ctx, r.by, r.Param("passkey")); err != nil {
		return p.again(err)
	}
	return seeOther(r.h.path("account") + "?notice=passkey-removed"), nil
}

// passkeySignIn is what the page for a passkey shows.
type passkeySignIn struct {
	Second bool // after a password
	Next   string
}

func (r *request) passkeyPage(second bool) page {
	p := page{template: "sign_in_passkey", title: "Sign in with a passkey", data: passkeySignIn{second, r.form.Get("next")}}
	if second {
		p.title = "Confirm with a passkey"
	}
	return p
}

// secondPage asks for a passkey after the password was right.
func secondPage(r *request) (page, error) {
	if _, begun := r.half(); !begun {
		return seeOther(r.h.path("sign-in")), nil
	}
	return r.passkeyPage(true), nil
}

// askPasskey answers with what the browser needs to sign with a passkey: with one of
// whoever has given their password, or with any.
func askPasskey(r *request) (page, error) {
	var user workspace.UserID
	if r.QueryParam("second") != "" {
		half, begun := r.half()
		if !begun {
			return refusal(errChallengeOver)
		}
		user = half.UserID
	}
	options, c, err := r.h.Manager.AskPasskey(r.ctx, r.h.passkeys, user)
	if err != nil {
		return refusal(err)
	}
	return r.options("passkey", options, c)
}

// usePasskey signs in whom the answer of a passkey proves.
func usePasskey(r *request) (page, error) {
	if wait := r.h.attempts.spend([]limited{{"passkey " + sourceOf(r.RealIP()), perSource}}, r.h.Manager.Time()); wait > 0 {
		return r.slowDown(wait), nil // each leaves a row behind
	}
	c, err := r.spendChallenge("passkey")
	second := r.form.Get("second") != "" || c.User != ""
	if err != nil {
		return r.passkeyPage(second).again(err)
	}
	half, begun := r.half()
	if c.User != "" && (!begun || half.UserID != c.User) {
		return r.passkeyPage(false).again(errChallengeOver)
	}
	user, err := r.h.Manager.UsePasskey(r.ctx, r.origin(), r.h.passkeys, c, []byte(r.form.Get("answer")))
	if err != nil && !pending(err) {
		return r.passkeyPage(second).again(r.passkeyProblem(err))
	}
	r.drop("half")
	r.proven = half.Proven // a password that was changed since opens nothing
	if c.User == "" {
		r.proven = workspace.Time{}
		return r.begin(user, identity.ByPasskey, r.form.Get("next"))
	}
	if err := r.rememberDevice(half.Account, string(user)+r.requestID()); err != nil {
		return page{}, err
	}
	return r.begin(user, identity.ByPasswordAndPasskey, half.Next)
}

// passkeysShown is what the account shows of passkeys.
type passkeysShown struct {
	Possible bool // the service has a name
	Own      []identity.Passkey
}

// Passkeys is for the account: the person's passkeys.
func (v view) Passkeys() (shown passkeysShown, err error) {
	shown.Possible = v.r.h.passkeys != nil
	shown.Own, err = v.r.h.Manager.Passkeys(v.r.ctx, v.r.by)
	return shown, err
}

// PasskeysPossible reports whether the service has a name, which passkeys need.
func (v view) PasskeysPossible() bool { return v.r.h.passkeys != nil }

// half is somebody who has given their password and still has to use a passkey.
type half struct {
	UserID  workspace.UserID
	Account string // as it was typed
	Next    string
	Proven  workspace.Time // when the password was right
}

func (r *request) half() (h half, begun bool) {
	begun = r.kept("half", &h)
	return h, begun
}
