package console

import (
	"net/http"
	"strings"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) peopleRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	const person = "/organization/people/:user"
	return []route{
		{method: get, path: "/organization/people", run: listPeople},
		{method: get, path: "/organization/people/new", run: newPerson},
		{method: post, path: "/organization/people/new", run: createPerson},
		{method: get, path: person, run: showPerson},
		{method: get, path: person + "/access-link", run: giveAccess},
		{method: post, path: person + "/access-link", run: giveAccess},
		{method: get, path: person + "/admin", run: changeAdmin},
		{method: post, path: person + "/admin", run: changeAdmin},
		{method: get, path: person + "/state", run: changeState},
		{method: post, path: person + "/state", run: changeState},
		{method: get, path: person + "/delete", run: deletePerson},
		{method: post, path: person + "/delete", run: deletePerson},
	}
}

// personRow is a person with the first of the workspaces that they are in.
type personRow struct {
	manage.ListedUser
	More int64 // workspaces that are left out
}

const placesShown = 3

func newPersonRow(u manage.ListedUser) personRow {
	n := min(len(u.Places), placesShown)
	row := personRow{u, int64(len(u.Places) - n)}
	row.Places = u.Places[:n]
	return row
}

// ways says how somebody can sign in; empty: in no way.
func ways(m identity.Methods) string {
	var all []string
	if m.Password {
		all = append(all, "password")
	}
	if m.Passkeys > 0 {
		all = append(all, count(int64(m.Passkeys), "passkey"))
	}
	if m.Subjects > 0 {
		all = append(all, "single sign-on")
	}
	return strings.Join(all, ", ")
}

// Ways is ways, for templates.
func (row personRow) Ways() string { return ways(row.Methods) }

type peopleList struct {
	Query string
	Chips []chip
	Rows  []personRow
	Pager pager
}

// listPeople shows every person to organization admins.
func listPeople(r *request) (page, error) {
	part, err := r.page()
	if err != nil {
		return page{}, err
	}
	kinds := []string{"", "All", "admins", "Organization admins", "disabled", "Disabled"}
	f, yes := workspace.UserFilter{Text: r.QueryParam("q")}, true
	switch r.chosen("show", kinds...) {
	case "admins":
		f.OrganizationAdmin = &yes
	case "disabled":
		f.Disabled = &yes
	}
	list := peopleList{Query: f.Text, Chips: r.chips("show", kinds...)}
	found, err := r.h.Manager.People(r.ctx, r.by, f, part)
	found, list.Pager = shown(r, found, func(p manage.ListedUser) workspace.Position {
		return workspace.Position{At: p.CreatedAt, ID: string(p.ID)}
	})
	for _, p := range found {
		list.Rows = append(list.Rows, newPersonRow(p))
	}
	return page{template: "people", title: "People", section: "people", data: list}, err
}

type personForm struct {
	Email, Name string
	Admin       bool
}

func (r *request) personForm(f personForm) page {
	return page{template: "person_new", title: "Create person", section: "people", data: f}
}

func newPerson(r *request) (page, error) { return r.personForm(personForm{}), r.organizationOnly() }

// createPerson makes a person, and then the link by which they get a way to sign in.
func createPerson(r *request) (page, error) {
	f := personForm{Email: r.text("email"), Name: r.text("name"), Admin: r.form.Get("admin") == "yes"}
	var m mistakes
	if _, err := workspace.NormalEmail(f.Email); err != nil {
		m.add("email", "Give an e-mail address in the form name@example.com.")
	}
	if err := m.err(); err != nil {
		return r.personForm(f).again(err)
	}
	user, err := r.h.Manager.CreateNamedUser(r.ctx, r.by, f.Email, f.Name, f.Admin)
	if err != nil && !pending(err) {
		return r.personForm(f).again(err)
	}
	return r.accessLink(r.by, user)
}
