package console

import (
	"net/http"
	"net/url"

	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// linkPaths are where links that work once lead to.
var linkPaths = map[identity.LinkKind]string{
	identity.SetupLink: "/setup", identity.InvitationLink: "/invitation", identity.AccessLink: "/access",
}

// LinkURL is the address that a link is, below the issuer.
func LinkURL(issuer string, link manage.NewLink) string {
	return issuer + linkPaths[link.Kind] + "?" + url.Values{"token": {link.Token}}.Encode()
}

func (h *Handler) linkRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{method: get, path: "/setup", run: setUpForm, access: anybody},
		{method: post, path: "/setup", run: setUp, access: anybody},
		{method: get, path: "/invitation", run: invitationForm, access: anybody},
		{method: post, path: "/invitation", run: joinByInvitation, access: anybody},
		{method: post, path: "/invitation/accept", run: acceptInvitation},
		{method: get, path: "/access", run: accessForm, access: anybody},
		{method: post, path: "/access", run: useAccessLink, access: anybody},
	}
}

// linkToken is the token of the link that somebody has opened, or of the form on the
// page that it led to.
func (r *request) linkToken() string {
	if r.Request().Method == http.MethodPost {
		return r.form.Get("token")
	}
	return r.QueryParam("token")
}

// linkOver is shown in the place of a link that was used, withdrawn, is too old, or
// never was one.
func (r *request) linkOver(what, advice string) page {
	return page{status: http.StatusNotFound, template: "link_over", title: "This link does not work any more", data: map[string]string{"What": what, "Advice": advice}}
}

const (
	setUpAdvice  = "If nobody can sign in yet, run “tokenbooth setup-link” on the host: it prints a new one, and so does the server when it starts."
	inviteAdvice = "Ask whoever sent it for another one."
	accessAdvice = "Ask an organization admin for another one, or whoever runs the server: “tokenbooth setup-link --for ADDRESS” makes one."
)
