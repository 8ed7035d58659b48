package manage_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// attempt is something that a caller tries.
type attempt struct {
	name string
	do   func(ctx context.Context, by manage.Caller) error
}

// inWorkspace lists the use cases of a workspace, each of which would succeed
// for the operator. The key belongs to a service account of role admin.
func inWorkspace(h *house, in workspace.ID, key manage.Issued) []attempt {
	some := oauth.NewScope("collectors:read")
	return []attempt{
		{"add a member", func(ctx context.Context, by manage.Caller) error {
			return h.AddMember(ctx, by, in, h.outsider, workspace.Viewer)
		}},
		{"create a service account", func(ctx context.Context, by manage.Caller) error {
			_, err := h.CreateServiceAccount(ctx, by, in, manage.NewServiceAccount{Name: workspace.Unique(), Role: "viewer"})
			return err
		}},
		{"create a key", func(ctx context.Context, by manage.Caller) error {
			_, err := h.CreateKey(ctx, by, in, manage.NewKey{ServiceAccountID: h.sa, Name: "x"})
			return err
		}},
		{"rotate a key", func(ctx context.Context, by manage.Caller) error {
			_, err := h.RotateKey(ctx, by, in, key.ID, manage.Rotation{})
			return err
		}},
		{"narrow a key", func(ctx context.Context, by manage.Caller) error {
			return h.SetKeyScopes(ctx, by, in, key.ID, &some)
		}},
		{"revoke a key", func(ctx context.Context, by manage.Caller) error {
			return h.RevokeKey(ctx, by, in, key.ID, "lost")
		}},
		{"disable a service account", func(ctx context.Context, by manage.Caller) error {
			return h.DisableServiceAccount(ctx, by, in, h.sa)
		}},
	}
}

// inInstallation lists the use cases that belong to no workspace.
func inInstallation(h *house) []attempt {
	return []attempt{
		{"create a workspace", func(ctx context.Context, by manage.Caller) error {
			_, err := h.CreateWorkspace(ctx, by, "W "+workspace.Unique(), "")
			return err
		}},
		{"create a user", func(ctx context.Context, by manage.Caller) error {
			_, err := h.CreateUser(ctx, by, workspace.Unique()+"@example.com", true)
			return err
		}},
		{"make a signing key", func(ctx context.Context, by manage.Caller) error { return h.EnsureSigningKeys(ctx, by) }},
		{"mark the installation", func(ctx context.Context, by manage.Caller) error {
			return h.MarkInstallation(ctx, by, workspace.Installation{Fingerprints: "{}"})
		}},
		{"suspend the workspace", func(ctx context.Context, by manage.Caller) error { return h.SuspendWorkspace(ctx, by, h.ws) }},
	}
}

// all tries everything and wants one kind of answer, and if that is a refusal,
// nothing changed.
func all(t *testing.T, h *house, who string, by manage.Caller, attempts []attempt, kind error) {
	t.Helper()
	before := h.dump()
	for _, a := range attempts {
		want(t, who+": "+a.name, kind, a.do(t.Context(), by))
	}
	if after := h.dump(); (after == before) != (kind != nil) {
		t.Errorf("%s: changed is %v", who, after != before)
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		here, installation := inWorkspace(h, h.ws, key), inInstallation(h)
		disabled := h.user("disabled", true)
		check(t, h.AddMember(t.Context(), operator, h.ws, disabled, workspace.Owner))
		h.exec(`UPDATE users SET disabled_at = 1 WHERE id = ?`, disabled)
		everything := append(append([]attempt{}, here...), installation...)
		for who, by := range map[string]manage.Caller{
			"a disabled owner": manage.User(disabled), "an unknown user": manage.User("usr_unknown"), "nobody": manage.User(""), "no caller": {},
		} {
			all(t, h, who, by, everything, workspace.ErrForbidden)
		}
		all(t, h, "an outsider", manage.User(h.outsider), here, workspace.ErrNotFound)
		all(t, h, "an admin who is no member", manage.User(h.admin), here, workspace.ErrNotFound)
		all(t, h, "a viewer", manage.User(h.viewer), here, workspace.ErrForbidden)
		all(t, h, "a manager", manage.User(h.manager), here[:1], workspace.ErrForbidden)
		for _, id := range []workspace.UserID{h.outsider, h.viewer, h.manager, h.owner} {
			all(t, h, "a member", manage.User(id), installation, workspace.ErrForbidden)
		}
		for _, ws := range []workspace.ID{"ws_unknown", "acme"} { // not by its slug either
			all(t, h, "the operator elsewhere", operator, inWorkspace(h, ws, key), workspace.ErrNotFound)
		}
		want(t, "suspend by slug", workspace.ErrNotFound, h.SuspendWorkspace(t.Context(), operator, "acme"))
		other, err := h.CreateWorkspace(t.Context(), operator, "Other", "")
		check(t, err)
		all(t, h, "the operator in another workspace", operator, inWorkspace(h, other.ID, key)[2:], workspace.ErrNotFound)

		all(t, h, "a manager", manage.User(h.manager), here[1:], nil)
		all(t, h, "an admin", manage.User(h.admin), installation, nil)
	})
}

func TestOwnerMayDoEverythingInTheWorkspace(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	all(t, h, "an owner", manage.User(h.owner), inWorkspace(h, h.ws, h.key(h.sa)), nil)
}

// Nobody grants what they do not hold, nor is handed a secret for it. Taking
// away needs no more than the right to change keys.
func TestNobodyGrantsWhatTheyDoNotHold(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		ctx, manager, owner := t.Context(), manage.User(h.manager), manage.User(h.owner)
		members, admin := oauth.NewScope("members:create"), oauth.NewScope("organization:update")
		strong := h.account("strong", manage.NewServiceAccount{Scopes: oauth.NewScope("members:create", "collectors:read")})
		key := h.key(strong)

		_, err := h.CreateServiceAccount(ctx, manager, h.ws, manage.NewServiceAccount{Name: "x", Scopes: members})
		want(t, "a manager makes an account for members:create", workspace.ErrForbidden, err)
		if err == nil || !strings.Contains(err.Error(), "you do not hold members:create") {
			t.Errorf("the refusal does not say what is missing: %v", err)
		}
		_, err = h.CreateServiceAccount(ctx, owner, h.ws, manage.NewServiceAccount{Name: "y", Scopes: members})
		want(t, "an owner does", nil, err)
		_, err = h.CreateServiceAccount(ctx, owner, h.ws, manage.NewServiceAccount{Name: "z", Scopes: admin})
		want(t, "an owner makes an account for organization:update", workspace.ErrForbidden, err)
		_, err = h.CreateKey(ctx, manager, h.ws, manage.NewKey{ServiceAccountID: strong, Name: "x"})
		want(t, "a manager makes a key of a stronger account", workspace.ErrForbidden, err)
		_, err = h.CreateKey(ctx, manager, h.ws, manage.NewKey{UserID: h.owner, Name: "x"})
		want(t, "a manager makes a key of an owner", workspace.ErrForbidden, err)
		_, err = h.CreateKey(ctx, owner, h.ws, manage.NewKey{UserID: h.viewer, Name: "x"})
		want(t, "an owner makes a key that speaks for a viewer", workspace.ErrForbidden, err)
		personal, err := h.CreateKey(ctx, owner, h.ws, manage.NewKey{UserID: h.owner, Name: "x"})
		want(t, "an owner makes a key of their own", nil, err)
		_, err = h.RotateKey(ctx, manager, h.ws, personal.ID, manage.Rotation{})
		want(t, "a manager gets a secret that speaks for an owner", workspace.ErrForbidden, err)
		_, err = h.RotateKey(ctx, manager, h.ws, key.ID, manage.Rotation{})
		want(t, "a manager gets a secret of a stronger key", workspace.ErrForbidden, err)
		if !h.works(key) {
			t.Error("the secret ended although rotation was refused")
		}

		less := oauth.NewScope("members:create")
		want(t, "a manager narrows a stronger key", nil, h.SetKeyScopes(ctx, manager, h.ws, key.ID, &less))
		none := oauth.NewScope()
		want(t, "to nothing", nil, h.SetKeyScopes(ctx, manager, h.ws, key.ID, &none))
		want(t, "and back", workspace.ErrForbidden, h.SetKeyScopes(ctx, manager, h.ws, key.ID, &less))
		want(t, "to whatever it holds", workspace.ErrForbidden, h.SetKeyScopes(ctx, manager, h.ws, key.ID, nil))
		read := oauth.NewScope("collectors:read")
		want(t, "to what the manager holds", nil, h.SetKeyScopes(ctx, manager, h.ws, key.ID, &read))
		_, err = h.CreateKey(ctx, manager, h.ws, manage.NewKey{ServiceAccountID: strong, Name: "x", Scopes: &read})
		want(t, "a manager makes a narrow key of a stronger account", nil, err)
		want(t, "a manager revokes", nil, h.RevokeKey(ctx, manager, h.ws, key.ID, ""))
	})
}

// Rights are read anew in every transaction.
func TestLostRightsAreLostAtOnce(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	rotate := func() error {
		_, err := h.RotateKey(t.Context(), manage.User(h.manager), h.ws, h.key(h.sa).ID, manage.Rotation{Grace: time.Hour})
		return err
	}
	check(t, rotate())
	h.exec(`UPDATE members SET role = 'viewer' WHERE user_id = ?`, h.manager)
	want(t, "as a viewer", workspace.ErrForbidden, rotate())
	h.exec(`DELETE FROM members WHERE user_id = ?`, h.manager)
	want(t, "as no member", workspace.ErrNotFound, rotate())
}

func TestBadInputIsRefused(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		ctx, unknown := t.Context(), oauth.NewScope("collectors:read", "collectors:fly")
		_, errWorkspace := h.CreateWorkspace(ctx, operator, "!!!", "")
		_, errTaken := h.CreateWorkspace(ctx, operator, "ACME", "")
		_, errUser := h.CreateUser(ctx, operator, "nobody", false)
		_, errUserTaken := h.CreateUser(ctx, operator, "OWNER@example.com", false)
		_, errRole := h.CreateServiceAccount(ctx, operator, h.ws, manage.NewServiceAccount{Name: "x", Role: "king"})
		_, errScope := h.CreateServiceAccount(ctx, operator, h.ws, manage.NewServiceAccount{Name: "x", Scopes: unknown})
		_, errName := h.CreateServiceAccount(ctx, operator, h.ws, manage.NewServiceAccount{Name: "ci", Role: "viewer"})
		newKey := func(n manage.NewKey) error {
			_, err := h.CreateKey(ctx, operator, h.ws, n)
			return err
		}
		for name, test := range map[string]struct{ kind, err error }{
			"a workspace without letters": {workspace.ErrInvalid, errWorkspace},
			"a slug twice":                {workspace.ErrConflict, errTaken},
			"no address":                  {workspace.ErrInvalid, errUser},
			"an address twice":            {workspace.ErrConflict, errUserTaken},
			"an unknown role":             {workspace.ErrInvalid, errRole},
			"an unknown scope":            {workspace.ErrInvalid, errScope},
			"a name twice":                {workspace.ErrConflict, errName},
			"an unknown member's role":    {workspace.ErrInvalid, h.AddMember(ctx, operator, h.ws, h.outsider, "king")},
			"a member twice":              {workspace.ErrConflict, h.AddMember(ctx, operator, h.ws, h.owner, workspace.Viewer)},
			"an unknown member":           {workspace.ErrNotFound, h.AddMember(ctx, operator, h.ws, "usr_unknown", workspace.Viewer)},
			"a key without a name":        {workspace.ErrInvalid, newKey(manage.NewKey{ServiceAccountID: h.sa})},
			"a key of nobody":             {workspace.ErrInvalid, newKey(manage.NewKey{Name: "x"})},
			"a key of an unknown account": {workspace.ErrNotFound, newKey(manage.NewKey{Name: "x", ServiceAccountID: "sa_unknown"})},
			"a key of no member":          {workspace.ErrNotFound, newKey(manage.NewKey{Name: "x", UserID: h.outsider})},
			"a key for an unknown scope":  {workspace.ErrInvalid, newKey(manage.NewKey{Name: "x", ServiceAccountID: h.sa, Scopes: &unknown})},
			"a key for nowhere":           {workspace.ErrInvalid, newKey(manage.NewKey{Name: "x", ServiceAccountID: h.sa, Audiences: []string{"https://nowhere"}})},
			"a key that has ended":        {workspace.ErrInvalid, newKey(manage.NewKey{Name: "x", ServiceAccountID: h.sa, ExpiresAt: h.now})},
			"a wider key":                 {workspace.ErrInvalid, h.SetKeyScopes(ctx, operator, h.ws, h.key(h.sa).ID, &unknown)},
		} {
			if !errors.Is(test.err, test.kind) {
				t.Errorf("%s: %v, want %v", name, test.err, test.kind)
			}
		}
	})
}
