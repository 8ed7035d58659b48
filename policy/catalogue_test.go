package policy_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

func TestRoles(t *testing.T) {
	catalogue, err := policy.NewCatalogue(
		map[string][]string{"collectors": {"delete", "read", "create", "read"}, "charts": {"read", "undelete"}},
		map[string][]string{
			"deployer": {"collectors:create", "charts:*"},
			"reader":   {"collectors:read", "*:read"},
			"nobody":   {"*:fly"},
			"empty":    nil,
		})
	if err != nil {
		t.Fatal(err)
	}
	for role, want := range map[string]string{
		"viewer":   "charts:read collectors:read",
		"editor":   "charts:read charts:undelete collectors:create collectors:read",
		"admin":    "charts:read charts:undelete collectors:create collectors:delete collectors:read",
		"deployer": "charts:read charts:undelete collectors:create",
		"reader":   "charts:read collectors:read",
		"nobody":   "",
		"empty":    "",
	} {
		if got, ok := catalogue.Role(role); !ok || got.String() != want {
			t.Errorf("%s: %q, %v; want %q", role, got, ok, want)
		}
	}
	if want := []string{"admin", "deployer", "editor", "empty", "nobody", "reader", "viewer"}; !slices.Equal(catalogue.Roles(), want) {
		t.Errorf("Roles: %q, want %q", catalogue.Roles(), want)
	}
	if got, ok := catalogue.Role("gone"); ok || len(got) > 0 {
		t.Errorf("a role that is not there bundles %q", got)
	}
	p := &policy.Policy{Catalogue: catalogue}
	if got := p.Holds(&keys.Record{OwnerRole: "gone", OwnerScopes: oauth.NewScope("charts:read")}); len(got) > 0 {
		t.Errorf("a service account whose role is gone holds %q", got)
	}
}

func TestOperatorsRoleReplacesABuiltIn(t *testing.T) {
	catalogue, err := policy.NewCatalogue(map[string][]string{"charts": {"read", "update"}},
		map[string][]string{"viewer": {"charts:update"}, "editor": {"charts:read"}})
	if err != nil {
		t.Fatal(err)
	}
	viewer, _ := catalogue.Role("viewer")
	editor, _ := catalogue.Role("editor")
	if viewer.String() != "charts:update" || editor.String() != "charts:read" {
		t.Errorf("viewer %q, editor %q", viewer, editor)
	}
}

// Patterns reach the operator's resources only.
func TestNoRoleHoldsAManagementRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := randomPolicy(t)
		for _, role := range p.Catalogue.Roles() {
			scopes, _ := p.Catalogue.Role(role)
			if !p.Catalogue.All().Contains(scopes) || len(scopes.Intersect(policy.Reserved())) > 0 {
				t.Fatalf("role %s bundles %q of %q", role, scopes, p.Catalogue.All())
			}
		}
	})
}

func TestCatalogueRefuses(t *testing.T) {
	for _, c := range []struct {
		name             string
		resources, roles map[string][]string
		mistake          string
	}{
		{"upper case", map[string][]string{"Charts": {"read"}}, nil, `the resource "Charts": use lower-case`},
		{"digit first", map[string][]string{"1charts": {"read"}}, nil, `the resource "1charts"`},
		{"empty", map[string][]string{"": {"read"}}, nil, `the resource ""`},
		{"line end", map[string][]string{"charts\n": {"read"}}, nil, `the resource "charts\n"`},
		{"long", map[string][]string{strings.Repeat("a", 64): {"read"}}, nil, `the resource "aaa`},
		{"reserved", map[string][]string{"api-keys": {"read"}}, nil, `the resource "api-keys" is Tokenbooth's own: choose another name`},
		{"no actions", map[string][]string{"charts": {}}, nil, `"charts" has no actions`},
		{"wildcard action", map[string][]string{"charts": {"*"}}, nil, `the action "*" of "charts"`},
		{"colon in an action", map[string][]string{"charts": {"read:all"}}, nil, `the action "read:all"`},
		{"role's name", map[string][]string{"charts": {"read"}}, map[string][]string{"Ops": {"*:*"}}, `the role "Ops"`},
		{"no colon", map[string][]string{"charts": {"read"}}, map[string][]string{"ops": {"charts"}}, `the pattern "charts" of role "ops": use resource:action`},
		{"unknown resource", map[string][]string{"charts": {"read"}}, map[string][]string{"ops": {"chart:read"}}, `"chart:read" of role "ops" matches no scope`},
		{"unknown action", map[string][]string{"charts": {"read"}}, map[string][]string{"ops": {"charts:fly"}}, `"charts:fly" of role "ops" matches no scope`},
		{"reserved in a role", map[string][]string{"charts": {"read"}}, map[string][]string{"ops": {"api-keys:*"}}, `"api-keys:*" of role "ops" matches no scope`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := policy.NewCatalogue(c.resources, c.roles); err == nil || !strings.Contains(err.Error(), c.mistake) {
				t.Errorf("error %v; want one that says %q", err, c.mistake)
			}
		})
	}
}

func TestCatalogueNamesEveryMistake(t *testing.T) {
	_, err := policy.NewCatalogue(map[string][]string{"A": {"read"}, "tokens": {"read"}}, map[string][]string{"ops": {"x"}})
	for _, mistake := range []string{`"A"`, `"tokens"`, `"x"`} {
		if err == nil || !strings.Contains(err.Error(), mistake) {
			t.Errorf("error %v does not name %s", err, mistake)
		}
	}
}

func TestMemberRights(t *testing.T) {
	catalogue, err := policy.NewCatalogue(map[string][]string{"charts": {"read", "update"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	everything := func(resource string) string {
		return resource + ":create " + resource + ":delete " + resource + ":read " + resource + ":update"
	}
	owner := "charts:read charts:update workspace:read workspace:update " + everything("members") + " " + everything("service-accounts") + " " + everything("api-keys") +
		" policy:read policy:update quota:read quota:update audit:read tokens:read tokens:report tokens:revoke"
	manager := "charts:read charts:update workspace:read members:read " + everything("service-accounts") + " " + everything("api-keys") +
		" policy:read policy:update quota:read quota:update audit:read tokens:read tokens:report tokens:revoke"
	viewer := "charts:read workspace:read members:read service-accounts:read api-keys:read policy:read quota:read audit:read tokens:read"
	organization := " organization:introspect organization:read organization:update"
	for _, c := range []struct {
		role  workspace.Role
		admin bool
		want  string
	}{
		{workspace.Owner, false, owner},
		{workspace.Manager, false, manager},
		{workspace.Viewer, false, viewer},
		{"", false, ""},
		{"OWNER", false, ""},
		{"admin", false, ""},
		{workspace.Owner, true, owner + organization},
		{workspace.Manager, true, manager + organization},
		{workspace.Viewer, true, viewer + organization},
		{"", true, organization},
	} {
		want := oauth.NewScope(strings.Fields(c.want)...)
		if got := catalogue.MemberRights(c.role, c.admin); !slices.Equal(got, want) {
			t.Errorf("%q, organization admin %v: lacks %q, has too much %q", c.role, c.admin, want.Minus(got), got.Minus(want))
		}
	}
}

// A personal key follows its user: each level of role holds what those below do.
func TestRightsGrowWithTheRole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := randomPolicy(t).Catalogue
		viewer, manager, owner := c.MemberRights(workspace.Viewer, false), c.MemberRights(workspace.Manager, false), c.MemberRights(workspace.Owner, false)
		if !manager.Contains(viewer) || !owner.Contains(manager) || !owner.Contains(c.All()) {
			t.Fatalf("viewer %q, manager %q, owner %q", viewer, manager, owner)
		}
	})
}

func TestReserved(t *testing.T) {
	for _, scope := range policy.Reserved() {
		if !policy.IsReserved(scope) {
			t.Errorf("%s is reserved", scope)
		}
	}
	for scope, want := range map[string]bool{"audit:fly": true, "audit": true, "audits:read": false, "": false, ":audit": false, "Audit:read": false} {
		if policy.IsReserved(scope) != want {
			t.Errorf("IsReserved(%q) = %v", scope, !want)
		}
	}
}
