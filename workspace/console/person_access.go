package console

import (
	"net/http"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// giveAccess makes a link by which a person gets a way to sign in.
func giveAccess(r *request) (page, error) {
	user, err := r.h.Manager.User(r.ctx, r.by, r.personID())
	if err != nil {
		return page{}, err
	}
	p := ask("Access link for "+called(user), "people", asking{
		Lead:   "With the link they choose a new password, whatever they had before.",
		Button: "Create access link", Danger: true,
		Effects: []string{
			"You see the link once, and send it to them yourself. Whoever opens it first gets in as them.",
			"When it is used, they are signed out everywhere else, and their passkeys are removed.",
			"Until it is used, nothing changes for them. A link from before stops working.",
		},
		Back: r.personPath(user), BackText: called(user), Hidden: map[string]string{onceName: r.onceField()},
	})
	if r.Request().Method != http.MethodPost {
		return p, nil
	}
	shown, err := r.accessLink(r.onceCaller(), user)
	if err != nil {
		return p.again(err)
	}
	return shown, nil
}

// personLink is a link to hand to somebody.
type personLink struct {
	User workspace.User
	Back string
	Link string // empty: it was shown before
	Ends workspace.Time
}

// accessLink makes the link, and shows it this once.
func (r *request) accessLink(by manage.Caller, user workspace.User) (page, error) {
	made, err := r.h.Manager.AccessLink(r.ctx, by, user.ID)
	if err != nil && !pending(err) {
		return page{}, err
	}
	shown := personLink{User: user, Back: r.personPath(user), Ends: made.ExpiresAt}
	if made.Token != "" {
		shown.Link = LinkURL(r.h.Issuer, made)
	}
	return page{template: "person_link", title: "Access link for " + called(user), section: "people", data: shown}, nil
}

func (r *request) personPath(user workspace.User) string {
	return r.h.path("organization", "people", string(user.ID))
}
