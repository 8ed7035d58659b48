package console

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// fieldFrom names a key to begin with a copy of, and fieldTemplate a set of
// permissions.
const (
	fieldFrom     = "from"
	fieldTemplate = "template"
)

// prefill fills the form in as an address says, and returns what of that is passed
// over, in sentences.
func (d *keyDraft) prefill(query url.Values) (notes []string, err error) {
	d.Form = url.Values{fieldExpiresIn: {defaultExpiry(d.Bounds)}}
	scopes := oauth.Scope{}
	if from := query.Get(fieldFrom); from != "" {
		scopes, err = d.copyFrom(keys.ID(from))
		switch {
		case errors.Is(err, workspace.ErrNotFound):
			notes = append(notes, "There is no key “"+from+"” here to copy.")
		case err != nil:
			return nil, err
		}
	}
	for _, field := range []string{fieldName, fieldDescription, fieldExpiresIn, fieldExpiresOn, fieldTokenTTL, fieldPerMinute, fieldMaxUses, fieldPermissions} {
		if query.Has(field) {
			d.Form.Set(field, query.Get(field))
		}
	}
	for _, field := range []string{fieldNetworksOf, fieldAudience} {
		if query.Has(field) {
			d.Form[field] = query[field]
		}
	}
	notes = append(notes, d.prefillAccount(query.Get(fieldAccount))...)
	if asked := oauth.NewScope(query["scope"]...); len(asked) > 0 {
		scopes = asked
	} else if template := query.Get(fieldTemplate); template != "" {
		scopes = d.template(template)
	}
	return append(notes, d.prefillScopes(scopes)...), nil
}

// copyFrom fills the form in with what a key is, and returns its scopes.
func (d *keyDraft) copyFrom(id keys.ID) (oauth.Scope, error) {
	k, err := d.r.h.Manager.Key(d.r.ctx, d.r.by, d.r.ws.ID, id)
	if err != nil {
		return nil, err
	}
	d.Form.Set(fieldName, k.Name)
	d.Form.Set(fieldDescription, k.Description)
	d.Form.Set(fieldAccount, string(k.ServiceAccountID))
	for _, network := range k.AllowedCIDRs {
		d.Form.Add(fieldNetworksOf, network.String())
	}
	d.Form[fieldAudience] = k.Audiences
	for field, n := range map[string]int64{fieldTokenTTL: int64(k.TokenTTL / time.Second), fieldPerMinute: k.PerMinute, fieldMaxUses: k.MaxUses} {
		if n > 0 {
			d.Form.Set(field, strconv.FormatInt(n, 10))
		}
	}
	if k.Scopes == nil {
		d.Form.Set(fieldPermissions, permissionsHeld)
		return nil, nil
	}
	return *k.Scopes, nil
}

// prefillAccount chooses the service account that an address names by ID or name, or
// that of the copied key.
func (d *keyDraft) prefillAccount(named string) (notes []string) {
	if named = cmp.Or(named, d.Form.Get(fieldAccount)); named == "" || d.Personal {
		return nil
	}
	d.Form.Del(fieldAccount)
	for _, a := range d.Accounts {
		if string(a.ID) == named || a.Name == named {
			d.Form.Set(fieldAccount, string(a.ID))
			return nil
		}
	}
	return []string{"There is no service account “" + named + "” here: the key would get a new one."}
}

// prefillScopes chooses those of the scopes that can be.
func (d *keyDraft) prefillScopes(scopes oauth.Scope) (notes []string) {
	known := d.r.h.Manager.Policy.Catalogue.Known()
	if unknown := scopes.Minus(known); len(unknown) > 0 {
		notes = append(notes, "These permissions do not exist and are left out: "+strings.Join(unknown, ", ")+".")
	}
	scopes = scopes.Intersect(known)
	possible := slices.DeleteFunc(slices.Clone(scopes), func(scope string) bool { return d.r.whyNot(scope, d.options()) != "" })
	if lacking := scopes.Minus(possible); len(lacking) > 0 {
		notes = append(notes, "You cannot grant these, so they are left out: "+strings.Join(lacking, ", ")+".")
	}
	setScopes(d.Form, possible, known)
	return notes
}

func (d *keyDraft) options() pickerOptions {
	o := pickerOptions{Bounds: d.Bounds, Personal: d.Personal}
	switch {
	case d.Personal:
		o.Owner = "you"
	case len(d.Accounts) > 0:
		o.Owner = "its service account"
	}
	return o
}

// keyTemplate is a set of permissions to begin with.
type keyTemplate struct {
	Name, Text string
	Actions    string // for the script: a level, or actions
}

var keyTemplates = []keyTemplate{
	{"read", "Read-only", levelRead},
	{"deploy", "CI deploy", "read list get view create update"},
	{"full", "Full", levelWrite},
}

// template are the scopes of a template, as far as they can be chosen.
func (d *keyDraft) template(name string) oauth.Scope {
	return slices.DeleteFunc(slices.Clone(d.r.offered(d.options())), func(scope string) bool {
		_, action, _ := strings.Cut(scope, ":")
		switch name {
		case "read":
			return !onlyReads(scope)
		case "deploy":
			return !onlyReads(scope) && action != "create" && action != "update"
		}
		return name != "full"
	})
}

// summary says in a sentence what the form would make.
func (d *keyDraft) summary() string {
	name := cmp.Or(d.name(), "This key")
	scopes, _ := scopesFrom(d.Form, d.r.h.Manager.Policy.Catalogue.Known())
	can := ""
	switch {
	case scopes == nil && d.Personal:
		can = " can do whatever you can"
	case scopes == nil:
		can = " can do whatever its service account can"
	case len(*scopes) == 0:
		return name + " can do nothing yet: choose at least one permission."
	default:
		can = " can " + readScopes(*scopes)
	}
	where := ""
	if networks := strings.Fields(strings.Join(d.Form[fieldNetworksOf], " ")); len(networks) > 0 {
		where = ", only from " + andList(networks)
		if len(networks) > 2 {
			where = fmt.Sprintf(", only from %d networks", len(networks))
		}
	}
	return name + can + " in workspace " + d.r.ws.Name + where + d.until() + "."
}

// until says when the key ends.
func (d *keyDraft) until() string {
	end, err := expiryFrom(d.Form, d.Bounds, d.now)
	switch {
	case err != nil:
		return "; when it ends is still to be chosen"
	case end.IsZero():
		return ", for ever"
	}
	days := int64(end.Sub(d.now).Hours()/24 + 0.5)
	return " until " + date(end) + " (" + count(max(days, 1), "day") + ")"
}

// readScopes puts scopes into words: "read collectors, and create and update
// pipelines". Resources with the same actions are told together.
func readScopes(scopes oauth.Scope) string {
	var order []string
	resources := map[string][]string{} // by their actions
	for _, o := range resourcesOf(scopes) {
		var actions []string
		for _, scope := range o.scopes {
			_, action, _ := strings.Cut(scope, ":")
			actions = append(actions, action)
		}
		words := andList(actions)
		if resources[words] == nil {
			order = append(order, words)
		}
		resources[words] = append(resources[words], o.name)
	}
	var phrases []string
	for _, words := range order {
		phrases = append(phrases, words+" "+andList(resources[words]))
	}
	if last := len(phrases) - 1; last > 0 {
		return strings.Join(phrases[:last], ", ") + ", and " + phrases[last]
	}
	return strings.Join(phrases, "")
}

// andList is a list in a sentence.
func andList(items []string) string {
	last := len(items) - 1
	if last <= 0 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:last], ", ") + " and " + items[last]
}

// keyNew is what the page shows.
type keyNew struct {
	*keyDraft
	Action       string
	Picker       picker
	Expiry       expiry
	Restrictions restrictions
	Templates    []keyTemplate
	Copies       []keys.Listed // to begin with a copy of
	Summary      string
	Twin         string
	Notes        []string
}

// page shows the form as it is filled in.
func (d *keyDraft) page(wrong *problem, notes []string) (page, error) {
	r := d.r
	data := keyNew{
		keyDraft: d, Action: r.here("keys", "new"), Summary: d.summary(), Notes: notes, Templates: keyTemplates,
		Picker: r.newPicker(d.Form, wrong, d.options()), Expiry: newExpiry(d.Form, wrong, d.Bounds, d.now),
		Restrictions: r.newRestrictions(d.Form, wrong, d.Bounds),
	}
	p := page{template: "key_new", title: "Create API key", section: "keys", problem: wrong}
	if d.Personal {
		data.Action, p.title, p.section = r.here("my-keys", "new"), "Create personal key", "my-keys"
	}
	if wrong != nil {
		p.status = wrong.status
	}
	var err error
	if data.Twin, err = d.twin(); err != nil {
		return p, err
	}
	if data.Copies, err = d.copies(); err != nil {
		return p, err
	}
	p.data = data
	return p, nil
}

// copies are the keys that there are to begin with a copy of.
func (d *keyDraft) copies() ([]keys.Listed, error) {
	if d.Personal {
		return d.r.h.Manager.PersonalKeys(d.r.ctx, d.r.by, d.r.ws.ID, workspace.Page{Limit: mostListed})
	}
	found, err := d.r.h.Manager.Keys(d.r.ctx, d.r.by, d.r.ws.ID, keys.Filter{}, workspace.Page{Limit: mostListed})
	return slices.DeleteFunc(found, func(k keys.Listed) bool { return k.UserID != "" }), err
}

// With is the address of the form with another template and what is filled in that an
// address can carry.
func (n keyNew) With(template string) string {
	query := url.Values{fieldTemplate: {template}}
	for _, field := range []string{fieldName, fieldDescription, fieldAccount, fieldExpiresIn, fieldExpiresOn, fieldNetworksOf, fieldAudience, fieldTokenTTL, fieldPerMinute, fieldMaxUses} {
		if n.Form.Get(field) != "" {
			query[field] = n.Form[field]
		}
	}
	return n.Action + "?" + query.Encode()
}
