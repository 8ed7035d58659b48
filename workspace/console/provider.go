package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// attemptFor is how long somebody may take to sign in at their provider, and then to
// confirm that they want it linked.
const attemptFor = 10 * time.Minute

// attempt is what is kept in the browser of somebody who is at their provider.
type attempt struct {
	identity.Attempt
	Next       string `json:"next"`
	Invitation string `json:"invitation,omitempty"` // the token that they came with
	Session    string `json:"session,omitempty"`    // not to sign in, but to link it to the account of this session
}

// linking is what is kept of a person whom a provider has proven, until whoever is
// signed in says that it is they.
type linking struct {
	identity.Person
	Session string
}

func (h *Handler) providerRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	routes := []route{{method: post, path: "/account/providers/unlink", run: unlinkProvider}}
	if h.Provider == nil {
		return routes
	}
	return append(routes,
		route{method: get, path: "/sign-in/oidc", run: beginProvider, access: anybody},
		route{method: get, path: "/sign-in/oidc/callback", run: finishProvider, access: anybody},
		route{method: get, path: "/account/providers/link", run: confirmLink},
		route{method: post, path: "/account/providers/link", run: linkProvider},
	)
}

// beginProvider sends somebody to their provider: to sign in, or with link to link
// it to their account.
func beginProvider(r *request) (page, error) {
	a := attempt{Next: r.h.next(r.QueryParam("next")), Invitation: r.QueryParam("invitation")}
	if len(a.Invitation) > maxNext {
		a.Invitation = ""
	}
	if r.QueryParam("link") != "" {
		if !r.signedIn() {
			return r.toSignIn(), nil
		}
		a.Session = r.session.ID
	}
	address, made, err := r.h.Provider.NewAttempt(r.ctx)
	if err != nil {
		return r.providerFailed(err)
	}
	a.Attempt = made
	return seeOther(address), r.keep("provider", a, attemptFor)
}

// finishProvider takes back who comes from their provider. The state in the address
// has to be the one that is kept in this browser, and is good once.
func finishProvider(r *request) (page, error) {
	var a attempt
	if !r.kept("provider", &a) || !a.Is(r.QueryParam("state")) {
		return r.attemptOver(), nil
	}
	r.drop("provider")
	err := r.h.Manager.Spend(r.ctx, a.State, r.h.Manager.Time().Add(attemptFor))
	if errors.Is(err, workspace.ErrConflict) {
		return r.attemptOver(), nil
	}
	if err != nil {
		return page{}, err
	}
	person, err := r.h.Provider.Finish(r.ctx, a.Attempt, r.QueryParams())
	if err != nil {
		return r.providerFailed(err)
	}
	if a.Session == "" {
		return r.enterFrom(person, a)
	}
	if !r.signedIn() || r.session.ID != a.Session {
		return r.attemptOver(), nil
	}
	// Only after another click: whoever followed a stranger's link to here has clicked once.
	return seeOther(r.h.path("account", "providers", "link")), r.keep("link", linking{person, a.Session}, attemptFor)
}

// enterFrom signs a person in who is proven by their provider.
func (r *request) enterFrom(person identity.Person, a attempt) (page, error) {
	who, err := r.h.Manager.SignInSubject(r.ctx, r.origin(), person, r.h.Mapping, a.Invitation)
	if err != nil && !pending(err) {
		return r.notLetIn(err, person)
	}
	for _, note := range who.Notes {
		r.h.Log.Warn("the mapping of single sign-on was not followed", "note", note, "user", string(who.ID), "request_id", r.requestID())
	}
	if a.Invitation != "" && !who.Joined {
		a.Next = r.h.path("invitation") + "?" + url.Values{"token": {a.Invitation}}.Encode() // to accept it themselves
	}
	return r.begin(who.ID, identity.ByProvider, a.Next)
}

// providerTrouble is what the page about a failed attempt shows.
type providerTrouble struct {
	Text   string
	Says   string // the provider's own words; anybody may have written them
	Person *identity.Person
	Again  bool // trying again may help
}

func (r *request) trouble(status int, title string, t providerTrouble) page {
	return page{status: status, template: "sign_in_provider", title: title, data: t}
}

// attemptOver is the answer to whoever comes back to nothing: too late, twice, with
// the answer to another attempt, or in another browser.
func (r *request) attemptOver() page {
	return r.trouble(http.StatusBadRequest, "This sign-in is over", providerTrouble{
		Text: "It took too long, was used before, or was begun in another browser or tab. Nobody was signed in.", Again: true,
	})
}

// providerFailed says why nobody comes from the provider.
func (r *request) providerFailed(err error) (page, error) {
	name := r.h.Provider.Name()
	var refused *identity.ProviderRefusal
	switch {
	case errors.As(err, &refused):
		r.h.Log.Info("the provider signed nobody in", "error", shorten(refused.Code), "request_id", r.requestID())
		return r.trouble(http.StatusForbidden, "Nobody was signed in", providerTrouble{
			Text: "The answer of " + name + " was that it does not sign you in. If that is a surprise, ask those who run it.",
			Says: strings.TrimSpace(shorten(refused.Code) + ": " + shorten(refused.Description)), Again: true,
		}), nil
	case errors.Is(err, identity.ErrProviderAnswer):
		r.h.Log.Warn("what came back from the provider was refused", "error", err, "request_id", r.requestID())
		return r.trouble(http.StatusBadRequest, "The answer was refused", providerTrouble{
			Text: "What came back from " + name + " does not belong to this attempt to sign in, so nobody was signed in.", Again: true,
		}), nil
	case errors.Is(err, identity.ErrProviderDown):
		r.h.Log.Error("the provider does not help", "error", err, "request_id", r.requestID())
		r.Response().Header().Set("Retry-After", "5")
		return r.trouble(http.StatusServiceUnavailable, "Single sign-on does not work at the moment", providerTrouble{
			Text: "There is no useful answer from " + name + ". Try again in a moment, or use another way to sign in. If it stays, tell your operator.", Again: true,
		}), nil
	}
	return page{}, err
}

// notLetIn says why somebody who is proven does not get in.
func (r *request) notLetIn(err error, person identity.Person) (page, error) {
	t := providerTrouble{Person: &person}
	switch {
	case errors.Is(err, manage.ErrNoAccess):
		t.Text = "Nobody has given you access here yet. Ask the owner of the workspace that you need for an invitation, or an organization admin."
		return r.trouble(http.StatusForbidden, "You have no access here yet", t), nil
	case errors.Is(err, manage.ErrAddressTaken):
		t.Text = "There is an account with this address, and nothing says that it is yours. If it is, sign in to it as you did so far, and link " +
			r.h.Provider.Name() + " under Account. If you cannot sign in to it, ask an organization admin for a link."
		return r.trouble(http.StatusConflict, "Your address has an account already", t), nil
	case errors.Is(err, workspace.ErrNotFound):
		t.Text = "The invitation is not good any more: it was used, withdrawn, or is too old. Ask whoever sent it for another one."
		return r.trouble(http.StatusNotFound, "The invitation is over", t), nil
	case errors.Is(err, workspace.ErrForbidden):
		t.Text = "Your account here is disabled. Ask an organization admin."
		return r.trouble(http.StatusForbidden, "Your account is disabled", t), nil
	}
	return page{}, err
}

// shorten makes text of strangers fit to be shown.
func shorten(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if runes := []rune(text); len(runes) > 200 {
		text = string(runes[:200]) + "…"
	}
	return text
}

// confirmLink asks whether the person at the provider is whoever is signed in.
func confirmLink(r *request) (page, error) {
	var l linking
	if !r.kept("link", &l) || l.Session != r.session.ID {
		return r.attemptOver(), nil
	}
	return page{template: "provider_link", title: "Link " + r.h.Provider.Name(), section: "account", data: l.Person}, nil
}

// linkProvider links the person at the provider to the account.
func linkProvider(r *request) (page, error) {
	var l linking
	if !r.kept("link", &l) || l.Session != r.session.ID {
		return r.attemptOver(), nil
	}
	if err := r.h.Manager.LinkSubject(r.ctx, r.by, l.Person); err != nil {
		return page{template: "provider_link", title: "Link " + r.h.Provider.Name(), section: "account", data: l.Person}.again(err)
	}
	r.drop("link")
	return seeOther(r.h.path("account") + "?notice=provider-linked"), nil
}

// unlinkProvider takes a person at a provider from the account.
func unlinkProvider(r *request) (page, error) {
	err := r.h.Manager.UnlinkSubject(r.ctx, r.by, r.form.Get("issuer"), r.form.Get("subject"))
	if errors.Is(err, workspace.ErrConflict) {
		return seeOther(r.h.path("account") + "?notice=last-way"), nil
	}
	return seeOther(r.h.path("account") + "?notice=provider-unlinked"), err
}

// shownProvider is a person at a provider, as the account shows them.
type shownProvider struct {
	identity.Subject
	Name string // of the provider
}

// providersShown is what the account shows of single sign-on.
type providersShown struct {
	Linked []shownProvider
	Offer  string // the provider that could be linked; empty: none
}

// Providers is for the account: who the person is at OpenID providers.
func (v view) Providers() (shown providersShown, err error) {
	p := v.r.h.Provider
	if p != nil {
		shown.Offer = p.Name()
	}
	subjects, err := v.r.h.Manager.Subjects(v.r.ctx, v.r.by)
	for _, s := range subjects {
		name := s.Issuer
		if p != nil && s.Issuer == p.Issuer() {
			name, shown.Offer = p.Name(), ""
		}
		shown.Linked = append(shown.Linked, shownProvider{s, name})
	}
	return shown, err
}

// Provider is the name of the OpenID provider to sign in with; empty: there is none.
func (v view) Provider() string {
	if v.r.h.Provider == nil {
		return ""
	}
	return v.r.h.Provider.Name()
}

// Next is the address to go to after signing in, as a part of an address.
func (v view) Next() string {
	next := v.r.form.Get("next")
	if next == "" {
		next = v.r.QueryParam("next")
	}
	if next = v.r.h.next(next); next == v.r.h.path() {
		return ""
	}
	return next
}

// ProviderURL is where signing in with the OpenID provider begins.
func (v view) ProviderURL() string {
	to := v.r.h.path("sign-in", "oidc")
	if next := v.Next(); next != "" {
		to += "?" + url.Values{"next": {next}}.Encode()
	}
	return to
}
