package console

import (
	"net/http"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// person is what the page of a person shows.
type person struct {
	manage.ListedUser
	Myself bool
	Keys   []personKey
}

// personKey is a personal key; what is in other workspaces is listed here and opened
// by its members only.
type personKey struct {
	manage.PersonKey
	Kind, State string // of its pill
	Mine        bool   // the reader can open it
}

func (r *request) personID() workspace.UserID { return workspace.UserID(r.Param("user")) }

func showPerson(r *request) (page, error) {
	found, err := r.h.Manager.ListedUser(r.ctx, r.by, r.personID())
	if err != nil {
		return page{}, err
	}
	listed, err := r.h.Manager.KeysOfPerson(r.ctx, r.by, found.ID)
	shown := person{ListedUser: found, Myself: found.ID == r.me.ID}
	for _, k := range listed {
		shown.Keys = append(shown.Keys, r.personKey(k))
	}
	return page{template: "person", title: called(found.User), section: "people", data: shown}, err
}

func (r *request) personKey(k manage.PersonKey) personKey {
	shown := personKey{PersonKey: k, Kind: "ok", State: "Active"}
	switch {
	case len(k.Blocked) > 0:
		shown.Kind, shown.State = "danger", "Refused by policy"
	case k.Status(r.h.Manager.Time()) == keys.StatusExpiring:
		shown.Kind, shown.State = "warn", "Expires soon"
	}
	for _, m := range r.me.Memberships {
		shown.Mine = shown.Mine || m.ID == k.WorkspaceID
	}
	return shown
}

// Ways says how they sign in.
func (p person) Ways() string { return ways(p.Methods) }

// called is how people call a user.
func called(u workspace.User) string {
	if u.Name != "" {
		return u.Name
	}
	return u.Email
}

// changing reads the person that a page asks about. What is asked is about the
// version that was seen.
func (r *request) changing() (user workspace.User, back asking, err error) {
	user, err = r.h.Manager.User(r.ctx, r.by, r.personID())
	back = asking{
		Back: r.personPath(user), BackText: called(user),
		Hidden: map[string]string{"version": manage.Version(user.UpdatedAt)},
	}
	if r.Request().Method == http.MethodPost {
		r.by = r.by.If(r.text("version"))
	}
	return user, back, err
}

// changeAdmin makes a person an organization admin, or ends that.
func changeAdmin(r *request) (page, error) {
	user, a, err := r.changing()
	if err != nil {
		return page{}, err
	}
	admin := !user.OrganizationAdmin
	title, notice := "Make "+called(user)+" an organization admin", "admin-made"
	a.Button, a.Effects = "Make organization admin", []string{
		"They see every workspace, and can suspend and delete it.",
		"They set the key policy of the organization, and replace its signing keys.",
		"They manage everybody who can sign in, and can make other organization admins.",
	}
	if !admin {
		title, notice = "Stop "+called(user)+" from being an organization admin", "admin-ended"
		a.Button, a.Danger, a.Effects = "End organization admin", true, []string{
			"They see only the workspaces that they are a member of, with the role that they have there.",
			"They are signed out everywhere, and the tokens of their personal keys are denied within seconds. Their keys go on working.",
		}
	}
	return r.answered(title, "people", a, func() error {
		_, err := r.h.Manager.UpdateUser(r.ctx, r.by, user.ID, manage.UserChange{OrganizationAdmin: &admin})
		return err
	}, a.Back, notice)
}

// changeState disables a person, or lets them in again.
func changeState(r *request) (page, error) {
	user, a, err := r.changing()
	if err != nil {
		return page{}, err
	}
	enabled := !user.DisabledAt.IsZero()
	title, notice := "Let "+called(user)+" in again", "person-enabled"
	a.Button, a.Effects = "Enable", []string{
		"They can sign in again, and their personal keys work again.",
		"Sessions and tokens from before stay ended.",
	}
	if !enabled {
		title, notice = "Disable "+called(user), "person-disabled"
		a.Button, a.Danger, a.Effects = "Disable", true, []string{
			"They are signed out everywhere at once, and cannot sign in.",
			"Their personal keys stop working in every workspace, and the tokens of these are denied within seconds.",
			"Service accounts and keys that they created go on working.",
			"Nothing is lost: you can enable them again.",
		}
	}
	return r.answered(title, "people", a, func() error {
		_, err := r.h.Manager.UpdateUser(r.ctx, r.by, user.ID, manage.UserChange{Enabled: &enabled})
		return err
	}, a.Back, notice)
}

// deletePerson ends a person for good.
func deletePerson(r *request) (page, error) {
	user, a, err := r.changing()
	if err != nil {
		return page{}, err
	}
	a.Button, a.Danger, a.Type = "Delete", true, user.Email
	a.Lead = "This cannot be undone. To keep them out for a while, disable them instead."
	a.Effects = []string{
		"They are signed out everywhere at once, and cannot sign in.",
		"They leave every workspace, and their personal keys there are revoked for good.",
		"Service accounts and keys that they created go on working.",
		"What they did stays in the audit log. Their address is free for a new person.",
	}
	return r.answered("Delete "+called(user), "people", a, func() error {
		return r.h.Manager.DeleteUser(r.ctx, r.by, user.ID)
	}, r.h.path("organization", "people"), "person-deleted")
}
