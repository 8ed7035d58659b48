package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) revealRoutes() []route {
	return []route{
		{method: http.MethodPost, path: "/w/:ws/keys/env", run: downloadEnv},
		{method: http.MethodGet, path: "/w/:ws/keys/:client_id/first-use", run: firstUse},
	}
}

// revealOptions say how a key came by its secret.
type revealOptions struct {
	Rotated bool  // it existed before
	Pending error // of a use case: it is not in force everywhere yet; nil: it is
}

// revealed is a key with its new secret, or without it when the form was sent before.
type revealed struct {
	shownKey
	revealOptions
	Secret, Env string
	OldUntil    workspace.Time // of a rotated key: when its old secret ends; zero: it has ended
	Snippets    []snippet
	Login       string // address of the token endpoint
	Claims      []claim
}

// reveal shows a secret, this once: it is in the answer to the form and nowhere else.
// A form that is sent again gets the page that says so.
func (r *request) reveal(issued manage.Issued, o revealOptions) page {
	data := revealed{
		shownKey: r.showKey(issued.Listed), revealOptions: o, Secret: issued.Secret.Reveal(),
		OldUntil: rotatingUntil(issued.Listed, r.h.Manager.Time()), Login: r.h.path("api", "login"), Claims: claims,
	}
	p := page{template: "reveal", title: "Save the secret of " + issued.Name, section: "keys"}
	if data.Personal {
		p.section = "my-keys"
	}
	if data.Secret == "" {
		p.template, p.title = "reveal_gone", "This secret cannot be shown again"
	} else {
		data.Env = envFile(r.h.Issuer, string(issued.ID), data.Secret)
		data.Snippets = snippets(r.h.Issuer, string(issued.ID))
	}
	p.data = data
	return p
}

// NotYet is until when some replica may act by what was before; zero: it is not known,
// or none does.
func (o revealOptions) NotYet() workspace.Time {
	var late *manage.PendingError
	if errors.As(o.Pending, &late) {
		return workspace.At(late.Until)
	}
	return workspace.Time{}
}

// envFile is a key as a file of environment variables, as the tools read them. IDs,
// secrets and addresses need no quotes in one.
func envFile(issuer, id, secret string) string {
	return "TOKENBOOTH_URL=" + issuer + "\nTOKENBOOTH_CLIENT_ID=" + id + "\nTOKENBOOTH_CLIENT_SECRET=" + secret + "\n"
}

// downloadEnv sends back a secret as a file to save. It comes in the body of a form,
// so that it is in no address and no log, and is looked up nowhere.
func downloadEnv(r *request) (page, error) {
	secret, err := r.h.Manager.Format.ParseSecret(r.text("client_secret"))
	if err != nil {
		return page{}, errForm
	}
	id, err := r.h.Manager.Format.ID(secret)
	if err != nil || string(id) != r.text("client_id") {
		return page{}, errForm
	}
	return page{
		content: []byte(envFile(r.h.Issuer, string(id), secret.Reveal())), contentType: "text/plain; charset=utf-8",
		filename: cmp.Or(workspace.Slug(r.text("name")), string(id)) + ".env",
	}, nil
}

// firstUse tells whether the newest secret of a key was used, for the page that waits
// for that.
func firstUse(r *request) (page, error) {
	key, err := r.h.Manager.Key(r.ctx, r.by, r.ws.ID, keys.ID(r.Param("client_id")))
	if err != nil {
		return page{}, err
	}
	var use struct {
		UsedAt  *time.Time `json:"used_at"` // null: not yet
		Address string     `json:"address"`
		Agent   string     `json:"agent"`
	}
	if len(key.Secrets) > 0 && !key.Secrets[0].LastUsedAt.IsZero() {
		newest := key.Secrets[0]
		use.UsedAt, use.Address, use.Agent = &newest.LastUsedAt.Time, newest.LastUsedAddress, shortAgent(newest.LastUsedAgent)
	}
	content, err := json.Marshal(use)
	return page{content: content, contentType: "application/json"}, err
}

// shortAgent is what a User-Agent begins with; what all browsers say is no name.
func shortAgent(agent string) string {
	first, _, _ := strings.Cut(agent, " ")
	if strings.HasPrefix(first, "Mozilla/") {
		return "a browser"
	}
	return first
}

// claim is a claim of a token, for people who have not met it.
type claim struct{ Name, Meaning string }

// claims are those that the page explains when it shows a token.
var claims = []claim{
	{"iss", "Who issued the token: verifiers accept this address alone."},
	{"sub", "For whom it speaks: the service account, or the person of a personal key."},
	{"aud", "Where it is good: the resource servers that may accept it."},
	{"client_id", "The key that it was issued for."},
	{"scope", "What it may do."},
	{"workspace_id", "The workspace that it belongs to, for good."},
	{"workspace", "The workspace’s short name."},
	{"iat", "When it was issued."},
	{"exp", "When it expires. Ask for the next one about 30 seconds before."},
	{"jti", "Its own ID, by which it is found in the audit log or revoked."},
	{"key_gen", "A number that grows when all tokens of this key are revoked. Those with a smaller one are refused."},
	{"sub_gen", "The same of the service account or person."},
	{"ws_gen", "The same of the workspace."},
}
