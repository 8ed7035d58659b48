package manage_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// What organization admins see of all workspaces is right, and nobody else sees it.
func TestOrganizationView(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		other, err := h.CreateWorkspace(t.Context(), operator, "Beta", "")
		check(t, err)
		gone, err := h.CreateWorkspace(t.Context(), operator, "Gone", "")
		check(t, err)
		for _, ws := range []workspace.ID{other.ID, gone.ID} {
			check(t, h.AddMember(t.Context(), operator, ws, h.owner, workspace.Owner))
		}
		live, revoked := h.key(h.sa), h.key(h.sa)
		check(t, h.RevokeKey(t.Context(), operator, h.ws, revoked.ID, ""))
		_, err = h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "short", ExpiresAt: h.now.Add(time.Hour)})
		check(t, err)
		mine, err := h.CreatePersonalKey(t.Context(), manage.User(h.owner), other.ID, manage.NewKey{Name: "mine"})
		check(t, err)
		check(t, h.DeleteWorkspace(t.Context(), operator, gone.ID))
		h.now = h.now.Add(2 * time.Hour) // the short one has ended

		for _, by := range []manage.Caller{operator, manage.User(h.admin)} {
			sizes, err := h.WorkspaceSizes(t.Context(), by, []workspace.ID{h.ws, other.ID})
			check(t, err)
			want := map[workspace.ID]manage.WorkspaceSize{h.ws: {Members: 3, Keys: 1}, other.ID: {Members: 1, Keys: 1}}
			if diff := cmp.Diff(want, sizes); diff != "" {
				t.Errorf("%s: %s (%s lives)", by, diff, live.ID)
			}
			l, err := h.ListedUser(t.Context(), by, h.owner)
			check(t, err)
			if len(l.Places) != 2 || l.Places[0].Name != "Acme" || l.Places[1].Slug != "beta" || l.Places[1].Role != workspace.Owner {
				t.Errorf("%s: the owner is in %+v", by, l.Places)
			}
			listed, err := h.KeysOfPerson(t.Context(), by, h.owner)
			if check(t, err); len(listed) != 1 || listed[0].ID != mine.ID || listed[0].Workspace.Slug != "beta" {
				t.Errorf("%s: personal keys %+v", by, listed)
			}
		}
		for _, user := range []workspace.UserID{h.owner, h.outsider} {
			by := manage.User(user)
			_, err := h.WorkspaceSizes(t.Context(), by, nil)
			want(t, "sizes", workspace.ErrForbidden, err)
			_, err = h.People(t.Context(), by, workspace.UserFilter{}, workspace.Page{Limit: 10})
			want(t, "people", workspace.ErrForbidden, err)
			_, err = h.ListedUser(t.Context(), by, user)
			want(t, "a person", workspace.ErrForbidden, err)
			_, err = h.KeysOfPerson(t.Context(), by, user)
			want(t, "keys of a person", workspace.ErrForbidden, err)
			_, err = h.SigningKeys(t.Context(), by)
			want(t, "signing keys", workspace.ErrForbidden, err)
			want(t, "forgetting a verifier", workspace.ErrForbidden, h.ForgetVerifier(t.Context(), by, "", "x"))
		}
	})
}

// How people sign in and when they did last is read of many at once.
func TestPeopleSignIn(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		check(t, identity.SetPassword(t.Context(), db.Writer(), h.owner, "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", workspace.At(h.now)))
		for _, at := range []time.Time{h.now.Add(time.Hour), h.now.Add(2 * time.Hour)} {
			h.now = at
			check(t, h.NoteSignIn(t.Context(), manage.Origin{}, h.owner, identity.ByPassword))
		}
		people, err := h.People(t.Context(), manage.User(h.admin), workspace.UserFilter{}, workspace.Page{Limit: 10})
		check(t, err)
		if len(people) != 5 {
			t.Errorf("%d people, want 5", len(people))
		}
		for _, p := range people {
			want, at := identity.Methods{}, workspace.Time{}
			if p.ID == h.owner {
				want, at = identity.Methods{Password: true}, workspace.At(h.now)
			}
			if p.Methods != want || !p.SignedIn.Equal(at.Time) {
				t.Errorf("%s: %+v, last %s", p.Email, p.Methods, p.SignedIn)
			}
			one, err := h.SignInMethods(t.Context(), operator, p.ID)
			if check(t, err); one != p.Methods {
				t.Errorf("%s: %+v alone", p.Email, one)
			}
		}
	})
}

// The history tells who made each version as people know them, also of what cannot
// be understood.
func TestKeyPolicyHistory(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		days := int64(30)
		for _, by := range []manage.Caller{operator, manage.User(h.owner)} {
			_, _, err := h.SetKeyPolicy(t.Context(), by, h.ws, policy.Rules{MaxLifetimeDays: &days})
			check(t, err)
			days--
		}
		check(t, policy.InsertDocument(t.Context(), db.Writer(), policy.Stored{Kind: policy.KindKeys, Subject: string(h.ws), Version: 3, Text: `{"nonsense":1}`, CreatedAt: workspace.At(h.now), CreatedBy: "user:usr_nobody"}))
		found, err := h.KeyPolicyHistory(t.Context(), manage.User(h.viewer), h.ws)
		check(t, err)
		if len(found) != 3 {
			t.Fatalf("%d versions, want 3", len(found))
		}
		for i, want := range []struct {
			author string
			fault  bool
			days   int64
		}{{"", true, 0}, {"owner@example.com", false, 29}, {"the operator test", false, 30}} {
			v := found[i]
			if v.Version != int64(3-i) || v.Author != want.author || (v.Fault != nil) != want.fault || (!want.fault && *v.Value.MaxLifetimeDays != want.days) {
				t.Errorf("version %d by %q, fault %v: %+v", v.Version, v.Author, v.Fault, v.Value)
			}
		}
		_, err = h.KeyPolicyHistory(t.Context(), manage.User(h.outsider), h.ws)
		want(t, "an outsider", workspace.ErrNotFound, err)
		_, err = h.KeyPolicyHistory(t.Context(), manage.User(h.owner), "")
		want(t, "an owner asks of the organization", workspace.ErrForbidden, err)
	})
}

// Nobody gets the private part of a signing key, sealed or not.
func TestSigningKeysWithoutPrivateParts(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	check(t, h.EnsureSigningKeys(t.Context(), operator))
	found, err := h.SigningKeys(t.Context(), manage.User(h.admin))
	check(t, err)
	for _, k := range found {
		if k.Sealed != nil || k.PublicJWK == "" {
			t.Errorf("key %s: %d bytes sealed", k.ID, len(k.Sealed))
		}
	}
	if len(found) != 2 {
		t.Errorf("%d keys, want 2", len(found))
	}
}

// An admin's policy page in a workspace tells apart what the organization says.
func TestKeyPolicyTellsTheOrganizations(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	most, own := int64(180), int64(90)
	_, _, err := h.SetKeyPolicy(t.Context(), operator, "", policy.Rules{MaxLifetimeDays: &most})
	check(t, err)
	_, _, err = h.SetKeyPolicy(t.Context(), operator, h.ws, policy.Rules{MaxLifetimeDays: &own})
	check(t, err)
	found, err := h.KeyPolicy(t.Context(), manage.User(h.viewer), h.ws)
	if check(t, err); found.Organization.MaxLifetime != 180*24*time.Hour || found.Effective.MaxLifetime != 90*24*time.Hour {
		t.Errorf("the organization says %s, in force is %s", found.Organization.MaxLifetime, found.Effective.MaxLifetime)
	}
}
