package console

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
)

// The permissions of a form are a level for each resource, in the field level.RESOURCE.
// The levels none, read and write stand for their actions; only with the level custom
// the ticked boxes of the field scope count. Boxes that say something else than the
// level are a mistake: nobody can tell which of the two is meant.
//
// Without any resource, the field permissions with the value held says that a key may
// do whatever its owner may, now and later.
const (
	levelPrefix = "level."
	levelNone   = "none"
	levelRead   = "read"
	levelWrite  = "write"
	levelCustom = "custom"

	fieldPermissions = "permissions"
	permissionsHeld  = "held"
)

// resource is one with its scopes.
type resource struct {
	name   string
	scopes oauth.Scope
}

// resourcesOf groups scopes by their resources.
func resourcesOf(scopes oauth.Scope) []resource {
	var found []resource
	for _, scope := range scopes {
		name, _, _ := strings.Cut(scope, ":")
		if last := len(found) - 1; last >= 0 && found[last].name == name {
			found[last].scopes = append(found[last].scopes, scope)
			continue
		}
		found = append(found, resource{name, oauth.Scope{scope}})
	}
	return found
}

// of are the scopes that a level stands for; not those of custom.
func (o resource) of(level string) oauth.Scope {
	switch level {
	case levelRead:
		return slices.DeleteFunc(slices.Clone(o.scopes), func(scope string) bool { return !onlyReads(scope) })
	case levelWrite:
		return o.scopes
	}
	return nil
}

// level is the one that stands for scopes of the resource.
func (o resource) level(scopes oauth.Scope) string {
	for _, level := range []string{levelNone, levelRead, levelWrite} {
		if slices.Equal(o.of(level), scopes) {
			return level
		}
	}
	return levelCustom
}

// setScopes puts scopes into a form.
func setScopes(form url.Values, scopes, known oauth.Scope) {
	form.Del("scope")
	for _, o := range resourcesOf(known) {
		chosen := o.scopes.Intersect(scopes)
		form.Set(levelPrefix+o.name, o.level(chosen))
		if o.level(chosen) == levelCustom {
			form["scope"] = append(form["scope"], chosen...)
		}
	}
}

// scopesFrom reads the scopes of a form, of those that are known; nil is whatever the
// owner holds. The error is mistakes.
func scopesFrom(form url.Values, known oauth.Scope) (*oauth.Scope, error) {
	if form.Get(fieldPermissions) == permissionsHeld {
		return nil, nil
	}
	var m mistakes
	ticked, chosen := oauth.NewScope(form["scope"]...), oauth.Scope{}
	for _, o := range resourcesOf(known) {
		level, boxes := form.Get(levelPrefix+o.name), o.scopes.Intersect(ticked)
		if level == levelCustom {
			chosen = chosen.Union(boxes)
			continue
		}
		if len(boxes) > 0 && !slices.Equal(boxes, o.of(level)) {
			m.add("level-"+o.name, fmt.Sprintf("Single actions of %s are ticked, and its level is another: choose Custom to use them, or untick them.", o.name))
		}
		chosen = chosen.Union(o.of(level))
	}
	return &chosen, m.err()
}

// pickerOptions say which permissions can be picked.
type pickerOptions struct {
	Owner    string        // whose permissions a key may have all of: "its service account", "you"; empty: that is not offered
	Bounds   policy.Bounds // of the workspace
	Has      oauth.Scope   // what a key has already, which may stay even if one does not hold it oneself
	Personal bool          // for a person, not for a service account
}

// picker is the part that permissions are picked in.
type picker struct {
	Owner     string
	Held      bool // whatever the owner holds is chosen
	Resources []pickedResource
	Rights    []pickedResource // management rights
	Open      bool             // some of those are chosen
	Wrong     string
}

// pickedResource is a resource with what is chosen of it.
type pickedResource struct {
	Name      string
	Levels    []pickedLevel
	Actions   []pickedAction
	Custom    bool
	Audiences []string // whose tokens carry it; empty: all do
	Words     string   // by which it is found
	Wrong     string
}

type pickedLevel struct {
	Value, Text string
	Why         string // it cannot be chosen; empty: it can
	Risky       string // what it takes away for good
	Chosen      bool
}

type pickedAction struct {
	Scope, Action, Why string
	Chosen, Risky      bool
}

// newPicker makes the part for a form.
func (r *request) newPicker(form url.Values, p *problem, o pickerOptions) picker {
	picked := picker{Owner: o.Owner, Held: form.Get(fieldPermissions) == permissionsHeld, Wrong: p.In(fieldPermissions)}
	for _, one := range resourcesOf(r.h.Manager.Policy.Catalogue.All()) {
		picked.Resources = append(picked.Resources, r.pickedResource(one, form, p, o))
	}
	for _, one := range resourcesOf(policy.Reserved()) {
		if len(one.scopes.Intersect(r.rights.Union(o.Has))) == 0 {
			continue
		}
		row := r.pickedResource(one, form, p, o)
		picked.Open = picked.Open || row.Wrong != "" || !row.Levels[0].Chosen
		picked.Rights = append(picked.Rights, row)
	}
	return picked
}

func (r *request) pickedResource(one resource, form url.Values, p *problem, o pickerOptions) pickedResource {
	level := form.Get(levelPrefix + one.name)
	if level == "" {
		level = levelNone
	}
	row := pickedResource{Name: one.name, Custom: level == levelCustom, Words: one.words(), Wrong: p.In("level-" + one.name)}
	if all := r.h.Manager.Policy.Audiences; len(all.Names()) > 1 && !policy.IsReserved(one.scopes[0]) {
		if carriers := all.Carriers(one.scopes[0]); len(carriers) < len(all.Names()) {
			row.Audiences = carriers
		}
	}
	for _, l := range one.levels() {
		l.Chosen = l.Value == level
		for _, scope := range one.of(l.Value) {
			if risky(scope) {
				_, l.Risky, _ = strings.Cut(scope, ":")
			}
			if why := r.whyNot(scope, o); l.Why == "" {
				l.Why = why
			}
		}
		row.Levels = append(row.Levels, l)
	}
	for _, scope := range one.scopes {
		_, action, _ := strings.Cut(scope, ":")
		row.Actions = append(row.Actions, pickedAction{
			Scope: scope, Action: action, Why: r.whyNot(scope, o), Risky: risky(scope), Chosen: slices.Contains(form["scope"], scope),
		})
	}
	return row
}

// levels are those that differ.
func (o resource) levels() []pickedLevel {
	found := []pickedLevel{{Value: levelNone, Text: "None"}}
	reads := o.of(levelRead)
	if len(reads) > 0 {
		found = append(found, pickedLevel{Value: levelRead, Text: "Read"})
	}
	if len(reads) < len(o.scopes) {
		found = append(found, pickedLevel{Value: levelWrite, Text: "Write"})
	}
	return found
}

// methods are how actions look in many APIs, for people who search by that.
var methods = map[string]string{"read": "GET", "list": "GET", "get": "GET", "view": "GET", "create": "POST", "update": "PATCH PUT", "delete": "DELETE"}

func (o resource) words() string {
	words := []string{o.name}
	for _, scope := range o.scopes {
		_, action, _ := strings.Cut(scope, ":")
		words = append(words, scope, action)
		for method := range strings.FieldsSeq(methods[action]) {
			words = append(words, method+" /"+o.name)
		}
	}
	return strings.Join(words, " ")
}

// risky reports whether an action takes something away for good, by its name.
func risky(scope string) bool {
	_, action, _ := strings.Cut(scope, ":")
	return slices.Contains([]string{"delete", "destroy", "purge", "remove", "revoke"}, action)
}

// whyNot says why a scope is not offered; empty: it is. What is done, the use case
// decides.
func (r *request) whyNot(scope string, o pickerOptions) string {
	name, _, _ := strings.Cut(scope, ":")
	switch {
	case o.Has.Has(scope):
	case !r.can(scope):
		return "you do not hold this"
	case len(o.Bounds.Keep(oauth.Scope{scope})) == 0:
		return "policy does not allow this here"
	case !o.Personal && !o.Bounds.ServiceAccounts && !onlyReads(scope) && (name == "api-keys" || name == "service-accounts"):
		return "policy does not let service accounts do this"
	}
	return ""
}

// offered are the scopes of the catalogue that can be chosen.
func (r *request) offered(o pickerOptions) oauth.Scope {
	return slices.DeleteFunc(slices.Clone(r.h.Manager.Policy.Catalogue.All()), func(scope string) bool { return r.whyNot(scope, o) != "" })
}
