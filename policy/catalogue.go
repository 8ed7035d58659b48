package policy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// name is the form of resources, actions and roles.
var name = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// reserved are the management rights: resources of Tokenbooth itself. They come
// from a person's role in a workspace, never from a role's patterns.
var reserved = map[string][]string{
	"workspace":        {"read", "update"},
	"members":          {"read", "create", "update", "delete"},
	"service-accounts": {"read", "create", "update", "delete"},
	"api-keys":         {"read", "create", "update", "delete"},
	"policy":           {"read", "update"},
	"quota":            {"read", "update"},
	"audit":            {"read"},
	"tokens":           {"read", "revoke", "report"},
	"organization":     {"read", "update", "introspect"},
}

// builtinRoles apply unless the operator defines roles of these names.
var builtinRoles = map[string][]string{
	"viewer": {"*:read"},
	"admin":  {"*:*"},
}

// editor is built in too: all but delete. A pattern cannot say that.
const editor = "editor"

// Catalogue is what the operator configured: which scopes exist and which roles
// bundle them. It is immutable, and what exchanges ask of it is computed once.
type Catalogue struct {
	all    oauth.Scope // every scope of the operator's resources
	known  oauth.Scope // and every management right
	roles  map[string]oauth.Scope
	rights map[member]oauth.Scope
}

// member is what a person's rights in a workspace depend on.
type member struct {
	role              workspace.Role // empty: none
	organizationAdmin bool
}

// NewCatalogue makes a catalogue of resources with their actions, and roles as
// patterns over them: "collectors:read", "collectors:*", "*:read". The error joins
// everything that is wrong (errors.Join), each a sentence for the operator.
func NewCatalogue(resources, roles map[string][]string) (*Catalogue, error) {
	c := &Catalogue{roles: map[string]oauth.Scope{}}
	var mistakes []error
	for _, resource := range slices.Sorted(maps.Keys(resources)) {
		scopes, err := scopesOf(resource, resources[resource])
		mistakes = append(mistakes, err)
		c.all = c.all.Union(scopes)
	}
	c.roles[editor] = keep(c.all, func(scope string) bool { return !strings.HasSuffix(scope, ":delete") })
	for _, set := range []map[string][]string{builtinRoles, roles} {
		for _, role := range slices.Sorted(maps.Keys(set)) {
			scopes, err := c.expand(role, set[role])
			mistakes = append(mistakes, err)
			c.roles[role] = scopes
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	c.known = c.all.Union(Reserved())
	c.rights = map[member]oauth.Scope{}
	for _, role := range []workspace.Role{"", workspace.Owner, workspace.Manager, workspace.Viewer} {
		for _, admin := range []bool{false, true} {
			c.rights[member{role, admin}] = c.memberRights(role, admin)
		}
	}
	return c, nil
}

const nameForm = "use lower-case letters, digits and hyphens, beginning with a letter"

func scopesOf(resource string, actions []string) (oauth.Scope, error) {
	if !name.MatchString(resource) {
		return nil, fmt.Errorf("the resource %q: %s", resource, nameForm)
	}
	if _, taken := reserved[resource]; taken {
		return nil, fmt.Errorf("the resource %q is Tokenbooth's own: choose another name", resource)
	}
	if len(actions) == 0 {
		return nil, fmt.Errorf("the resource %q has no actions: list at least one, such as read", resource)
	}
	var scopes []string
	for _, action := range actions {
		if !name.MatchString(action) {
			return nil, fmt.Errorf("the action %q of %q: %s", action, resource, nameForm)
		}
		scopes = append(scopes, resource+":"+action)
	}
	return oauth.NewScope(scopes...), nil
}

func (c *Catalogue) expand(role string, patterns []string) (oauth.Scope, error) {
	if !name.MatchString(role) {
		return nil, fmt.Errorf("the role %q: %s", role, nameForm)
	}
	var scopes oauth.Scope
	for _, pattern := range patterns {
		resource, _, ok := strings.Cut(pattern, ":")
		if !ok {
			return nil, fmt.Errorf("the pattern %q of role %q: use resource:action, with * for any", pattern, role)
		}
		matched := keep(c.all, func(scope string) bool { return covers(pattern, scope) })
		if len(matched) == 0 && resource != "*" {
			return nil, fmt.Errorf("the pattern %q of role %q matches no scope of the catalogue", pattern, role)
		}
		scopes = scopes.Union(matched)
	}
	return scopes, nil
}

// All is every scope of the operator's resources.
func (c *Catalogue) All() oauth.Scope { return c.all }

// Known is every scope that exists: those of the operator's resources and the
// management rights.
func (c *Catalogue) Known() oauth.Scope { return c.known }

// Role returns what a role bundles, and whether it exists.
func (c *Catalogue) Role(role string) (oauth.Scope, bool) {
	scopes, ok := c.roles[role]
	return scopes, ok
}

// Roles lists the names of the roles.
func (c *Catalogue) Roles() []string { return slices.Sorted(maps.Keys(c.roles)) }

// Reserved returns every management right.
func Reserved() oauth.Scope {
	var out []string
	for resource, actions := range reserved {
		for _, action := range actions {
			out = append(out, resource+":"+action)
		}
	}
	return oauth.NewScope(out...)
}

// IsReserved reports whether a scope is a management right.
func IsReserved(scope string) bool {
	resource, _, _ := strings.Cut(scope, ":")
	_, ok := reserved[resource]
	return ok
}

// MemberRights is what a person holds in a workspace: by role, every scope of
// the catalogue for owners and managers and the reading ones for viewers, with
// the management rights of the role; organization admins hold organization:*
// besides.
func (c *Catalogue) MemberRights(role workspace.Role, organizationAdmin bool) oauth.Scope {
	if rights, ok := c.rights[member{role, organizationAdmin}]; ok {
		return rights
	}
	return c.rights[member{"", organizationAdmin}] // an unknown role gives nothing
}

func (c *Catalogue) memberRights(role workspace.Role, organizationAdmin bool) oauth.Scope {
	rights := rolesRights(role)
	switch role {
	case workspace.Owner, workspace.Manager:
		rights = rights.Union(c.all)
	case workspace.Viewer:
		rights = rights.Union(keep(c.all, readsOnly))
	}
	if organizationAdmin {
		rights = rights.Union(keep(Reserved(), func(scope string) bool { return strings.HasPrefix(scope, "organization:") }))
	}
	return rights
}

// rolesRights is the management side of a member's role: everything for owners,
// all but members and workspace settings for managers, reading for viewers.
func rolesRights(role workspace.Role) oauth.Scope {
	return keep(Reserved(), func(scope string) bool {
		resource, _, _ := strings.Cut(scope, ":")
		if resource == "organization" {
			return false
		}
		switch role {
		case workspace.Owner:
			return true
		case workspace.Manager:
			return readsOnly(scope) || (resource != "members" && resource != "workspace")
		case workspace.Viewer:
			return readsOnly(scope)
		}
		return false
	})
}

func readsOnly(scope string) bool { return strings.HasSuffix(scope, ":read") }

// keep is the part of a scope for which f holds: often all of it, and then the same
// memory, which nobody changes.
func keep(s oauth.Scope, f func(string) bool) oauth.Scope {
	first := slices.IndexFunc(s, func(scope string) bool { return !f(scope) })
	if first < 0 {
		return s
	}
	kept := append(make(oauth.Scope, 0, len(s)-1), s[:first]...)
	for _, scope := range s[first+1:] {
		if f(scope) {
			kept = append(kept, scope)
		}
	}
	return kept
}
