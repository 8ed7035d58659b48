package console

import (
	"net/url"
	"strings"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// fieldHolds says how the permissions of a service account are given: by a role, in
// the field role, or one by one in the picker.
const (
	fieldHolds  = "holds"
	fieldRole   = "role"
	holdsRole   = "role"
	holdsScopes = "scopes"
)

// accountForm is the form of a service account.
type accountForm struct {
	r       *request
	Before  *workspace.ServiceAccount // nil: it is a new one
	Form    url.Values
	Roles   []catalogueRole
	Picker  picker
	Back    string
	options pickerOptions
}

// catalogueRole is a role of the catalogue with what it bundles.
type catalogueRole struct {
	Name   string
	Scopes oauth.Scope
	Why    string // it cannot be chosen; empty: it can
	Chosen bool
}

// ByRole reports whether the permissions are given by a role.
func (f *accountForm) ByRole() bool { return f.Form.Get(fieldHolds) != holdsScopes }

// accountForm begins a form; before is what it changes, if anything.
func (r *request) accountForm(form url.Values, before *workspace.ServiceAccount) (*accountForm, error) {
	rules, err := r.h.Manager.KeyPolicy(r.ctx, r.by, r.ws.ID)
	f := &accountForm{r: r, Before: before, Form: form, Back: r.here("service-accounts"), options: pickerOptions{Bounds: rules.Effective}}
	if before != nil {
		f.Back, f.options.Has = r.here("service-accounts", before.Name), scopesOf(*before)
	}
	return f, err
}

// roles are those of the catalogue. One that bundles what the person does not hold
// cannot be chosen, unless the account has it already.
func (f *accountForm) roles() (found []catalogueRole) {
	catalogue := f.r.h.Manager.Policy.Catalogue
	for _, name := range catalogue.Roles() {
		scopes, _ := catalogue.Role(name)
		one := catalogueRole{Name: name, Scopes: scopes, Chosen: f.Form.Get(fieldRole) == name}
		if missing := scopes.Minus(f.r.rights); len(missing) > 0 && (f.Before == nil || f.Before.Role != name) {
			one.Why = "you do not hold " + missing.String()
		}
		found = append(found, one)
	}
	return found
}

// page shows the form, with what is wrong with it.
func (f *accountForm) page(wrong *problem) page {
	f.Roles, f.Picker = f.roles(), f.r.newPicker(f.Form, wrong, f.options)
	p := page{template: "service_account_form", title: "Create service account", section: "service-accounts", data: f, problem: wrong}
	if f.Before != nil {
		p.title = "Edit " + f.Before.Name
	}
	if wrong != nil {
		p.status = wrong.status
	}
	return p
}

// again shows the form once more.
func (f *accountForm) again(err error) (page, error) {
	wrong := problemOf(err)
	if wrong == nil {
		return page{}, err
	}
	return f.page(wrong), nil
}

// read reads the form; the error is mistakes.
func (f *accountForm) read() (n manage.NewServiceAccount, err error) {
	var m mistakes
	n.Name = strings.TrimSpace(f.Form.Get(fieldName))
	n.Description = strings.TrimSpace(strings.ReplaceAll(f.Form.Get(fieldDescription), "\r\n", "\n"))
	m.of(fieldName, workspace.ServiceAccount{Name: n.Name}.Validate())
	m.of(fieldDescription, workspace.ValidDescription(n.Description))
	if f.ByRole() {
		n.Role = f.Form.Get(fieldRole)
		if _, known := f.r.h.Manager.Policy.Catalogue.Role(n.Role); !known {
			m.add(fieldRole, "Choose a role, or single permissions.")
		}
		return n, m.err()
	}
	scopes, wrong := scopesFrom(f.Form, f.r.h.Manager.Policy.Catalogue.Known())
	m.take(wrong)
	if scopes != nil {
		n.Scopes = *scopes
	}
	if len(n.Scopes) == 0 && wrong == nil {
		m.add(fieldPermissions, "Choose at least one permission: without any, its keys can do nothing.")
	}
	return n, m.err()
}

func newServiceAccount(r *request) (page, error) {
	if err := r.needs("service-accounts:create"); err != nil {
		return page{}, err
	}
	form := url.Values{fieldName: {r.QueryParam(fieldName)}}
	f, err := r.accountForm(form, nil)
	if err != nil {
		return page{}, err
	}
	return f.page(nil), nil
}

func createServiceAccount(r *request) (page, error) {
	if err := r.needs("service-accounts:create"); err != nil {
		return page{}, err
	}
	f, err := r.accountForm(r.form, nil)
	if err != nil {
		return page{}, err
	}
	n, err := f.read()
	if err != nil {
		return f.again(err)
	}
	a, err := r.h.Manager.CreateServiceAccount(r.ctx, r.onceCaller(), r.ws.ID, n)
	if err != nil && !pending(err) {
		return f.again(err)
	}
	return done(err, r.here("service-accounts", a.Name), "service-account-created"), nil
}

// fieldVersion is the state of something that a form has been filled in for.
const fieldVersion = "version"

func editServiceAccount(r *request) (page, error) {
	a, err := r.accountToChange()
	if err != nil {
		return page{}, err
	}
	form := url.Values{
		fieldName: {a.Name}, fieldDescription: {a.Description}, fieldRole: {a.Role}, fieldHolds: {holdsRole}, fieldVersion: {manage.Version(a.UpdatedAt)},
	}
	if a.Role == "" {
		form.Set(fieldHolds, holdsScopes)
	}
	setScopes(form, scopesOf(a), r.h.Manager.Policy.Catalogue.Known())
	f, err := r.accountForm(form, &a)
	if err != nil {
		return page{}, err
	}
	return f.page(nil), nil
}

func (r *request) accountToChange() (a workspace.ServiceAccount, err error) {
	if err := r.needs("service-accounts:update"); err != nil {
		return a, err
	}
	return r.h.Manager.ServiceAccount(r.ctx, r.by, r.ws.ID, r.Param("sa"))
}

func saveServiceAccount(r *request) (page, error) {
	a, err := r.accountToChange()
	if err != nil {
		return page{}, err
	}
	f, err := r.accountForm(r.form, &a)
	if err != nil {
		return page{}, err
	}
	n, err := f.read()
	if err != nil {
		return f.again(err)
	}
	after, err := r.h.Manager.UpdateServiceAccount(r.ctx, r.by.If(r.form.Get(fieldVersion)), r.ws.ID, a.ID, accountChange(n))
	if err != nil && !pending(err) {
		return f.again(err)
	}
	return done(err, r.here("service-accounts", after.Name), "service-account-changed"), nil
}

// accountChange makes a service account what the form says: of role and scopes, the
// one takes the place of the other.
func accountChange(n manage.NewServiceAccount) manage.ServiceAccountChange {
	c := manage.ServiceAccountChange{Name: &n.Name, Description: &n.Description}
	if n.Role != "" {
		c.Role = &n.Role
	} else {
		c.Scopes = &n.Scopes
	}
	return c
}

// Bundles says how much the role is.
func (c catalogueRole) Bundles() string { return count(int64(len(c.Scopes)), "permission") }
