package manage_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const day = 24 * time.Hour

func ptr[T any](v T) *T { return &v }

// lasting makes a key that ends after so many days; 0 is never.
func (h *house) lasting(days int) manage.Issued {
	h.t.Helper()
	n := manage.NewKey{ServiceAccountID: h.sa, Name: "lasting"}
	if days > 0 {
		n.ExpiresAt = h.now.Add(time.Duration(days) * day)
	}
	issued, err := h.CreateKey(h.t.Context(), operator, h.ws, n)
	check(h.t, err)
	return issued
}

// rule sets the rules of a workspace, or with an empty one of the organization.
func (h *house) rule(in workspace.ID, rules policy.Rules) manage.Impact {
	h.t.Helper()
	_, impact, err := h.SetKeyPolicy(h.t.Context(), operator, in, rules)
	check(h.t, err)
	return impact
}

// A change tells whom it touches before it is saved, and when it is it denies their
// tokens, but it changes no key.
func TestAPolicyTouchesNoKey(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		short, long, forever := h.lasting(30), h.lasting(365), h.lasting(0)
		gone := h.lasting(365)
		check(t, h.RevokeKey(t.Context(), operator, h.ws, gone.ID, ""))
		rules := policy.Rules{MaxLifetimeDays: ptr[int64](90)}
		before := h.dump()
		preview, err := h.PreviewKeyPolicy(t.Context(), operator, "", rules)
		check(t, err)
		if h.dump() != before {
			t.Error("a preview leaves something")
		}
		if preview.Keys != 3 || preview.Blocked != 2 || preview.Narrowed != 0 || preview.Freed != 0 || len(preview.Touched) != 2 {
			t.Errorf("%+v", preview)
		}
		if len(preview.Findings) != 1 || preview.Findings[0].Text != "2 keys live longer than 90 days and would be refused." {
			t.Errorf("%+v", preview.Findings)
		}
		for _, k := range preview.Touched {
			if k.ID != long.ID && k.ID != forever.ID || !slices.Equal(k.Breaks, []policy.Rule{policy.RuleMaxLifetime}) || k.Workspace != "acme" {
				t.Errorf("%+v", k)
			}
		}
		impact := h.rule("", rules)
		if impact.Blocked != 2 {
			t.Errorf("saved: %+v", impact)
		}
		for _, k := range []manage.Issued{short, long, forever} {
			listed, err := h.Key(t.Context(), operator, h.ws, k.ID)
			check(t, err)
			if !listed.ExpiresAt.Equal(k.ExpiresAt.Time) {
				t.Errorf("key %s ended at %s, and now at %s", k.ID, k.ExpiresAt, listed.ExpiresAt)
			}
			blocked, denied := len(listed.Blocked) > 0, listed.Generation > 1
			if touched := k.ID != short.ID; blocked != touched || denied != touched {
				t.Errorf("key %s: touched %v, blocked %v, its tokens are denied %v", k.ID, touched, blocked, denied)
			}
			n := get[int](h, `SELECT count(*) FROM revocations WHERE kind = 'key' AND subject_id = ?`, k.ID)
			cached := get[int](h, `SELECT count(*) FROM changes WHERE seq = ? AND subject_id = ?`, h.seq(), k.ID)
			if (n > 0) != denied || (cached > 0) != denied {
				t.Errorf("key %s: %d denials, %d rows for the caches", k.ID, n, cached)
			}
		}
		if again := h.rule("", rules); again.Blocked != 0 {
			t.Errorf("once more: %+v", again)
		}
		if freed := h.rule("", policy.Rules{}); freed.Freed != 2 || freed.Findings[0].Text != "2 keys are refused now and would work." {
			t.Errorf("taken back: %+v", freed)
		}
	})
}

func TestPolicyBindsWhatIsMade(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		create := func(n manage.NewKey) error {
			n.ServiceAccountID, n.Name = h.sa, "new"
			_, err := h.CreateKey(t.Context(), operator, h.ws, n)
			return err
		}
		inDays := func(days int) time.Time { return h.now.Add(time.Duration(days) * day) }
		old := h.lasting(365)
		h.rule("", policy.Rules{MaxLifetimeDays: ptr[int64](90), DefaultLifetimeDays: ptr[int64](45)})
		want(t, "91 days", policy.ErrPolicy, create(manage.NewKey{ExpiresAt: inDays(91)}))
		want(t, "never", policy.ErrPolicy, create(manage.NewKey{}))
		want(t, "90 days", nil, create(manage.NewKey{ExpiresAt: inDays(90)}))
		byDefault, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "d", DefaultExpiry: true})
		check(t, err)
		if !byDefault.ExpiresAt.Equal(inDays(45)) {
			t.Errorf("by default it ends at %s", byDefault.ExpiresAt)
		}
		update := func(c manage.KeyChange) error {
			_, err := h.UpdateKey(t.Context(), operator, h.ws, old.ID, c)
			return err
		}
		want(t, "rename a key that is too old", nil, update(manage.KeyChange{Name: ptr("renamed")}))
		want(t, "shorten it to 91 days", policy.ErrPolicy, update(manage.KeyChange{ExpiresAt: ptr(inDays(91))}))
		want(t, "shorten it to 90 days", nil, update(manage.KeyChange{ExpiresAt: ptr(inDays(90))}))
		h.now = h.now.Add(60 * day)
		want(t, "30 days more", policy.ErrPolicy, update(manage.KeyChange{ExpiresAt: ptr(inDays(60))}))
		_, err = h.RotateKey(t.Context(), operator, h.ws, old.ID, manage.Rotation{})
		check(t, err)
		want(t, "30 days more for a new secret", nil, update(manage.KeyChange{ExpiresAt: ptr(inDays(60))}))

		networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		h.rule("", policy.Rules{RequireNetworks: ptr(true), MaxGraceSeconds: ptr[int64](60)})
		want(t, "from everywhere", policy.ErrPolicy, create(manage.NewKey{ExpiresAt: inDays(1)}))
		want(t, "from somewhere", nil, create(manage.NewKey{ExpiresAt: inDays(1), AllowedCIDRs: networks}))
		_, err = h.RotateKey(t.Context(), operator, h.ws, old.ID, manage.Rotation{Grace: 61 * time.Second})
		want(t, "61 s of grace", policy.ErrPolicy, err)
		_, err = h.RotateKey(t.Context(), operator, h.ws, old.ID, manage.Rotation{Grace: time.Minute})
		want(t, "60 s of grace", nil, err)
		want(t, "tie it", nil, update(manage.KeyChange{AllowedCIDRs: &networks}))
		want(t, "untie it", policy.ErrPolicy, update(manage.KeyChange{AllowedCIDRs: ptr([]netip.Prefix{})}))

		h.rule("", policy.Rules{Enabled: ptr(false)})
		want(t, "disabled: create", policy.ErrPolicy, create(manage.NewKey{ExpiresAt: inDays(1)}))
		_, err = h.RotateKey(t.Context(), operator, h.ws, old.ID, manage.Rotation{})
		want(t, "disabled: rotate", policy.ErrPolicy, err)
		want(t, "disabled: revoke", nil, h.RevokeKey(t.Context(), operator, h.ws, old.ID, ""))
	})
}

func TestPolicyBoundsScopes(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		impact := h.rule(h.ws, policy.Rules{AllowedScopes: &[]string{"*:read", "collectors:create"}})
		if impact.Narrowed != 1 || len(impact.Touched) != 1 || !slices.Equal(impact.Touched[0].Loses, oauth.NewScope("collectors:delete")) {
			t.Errorf("%+v", impact)
		}
		if h.read(key.ID).Generation != 2 {
			t.Error("its tokens are not denied")
		}
		owner := manage.User(h.owner)
		deleting, creating := oauth.NewScope("collectors:delete"), oauth.NewScope("collectors:create")
		_, err := h.CreateKey(t.Context(), owner, h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "x", Scopes: &deleting})
		want(t, "a key with a scope that the workspace may not hold", policy.ErrPolicy, err)
		_, err = h.CreateServiceAccount(t.Context(), owner, h.ws, manage.NewServiceAccount{Name: "y", Scopes: deleting})
		want(t, "an account with it", policy.ErrPolicy, err)
		_, err = h.CreateServiceAccount(t.Context(), owner, h.ws, manage.NewServiceAccount{Name: "z", Role: "admin"})
		want(t, "an account of a role that bundles it", nil, err)
		_, err = h.CreateKey(t.Context(), owner, h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "x", Scopes: &creating})
		want(t, "a key with another", nil, err)
		check(t, h.AddMember(t.Context(), owner, h.ws, h.outsider, workspace.Manager))
	})
}

// A workspace may bind itself more tightly; what is looser is for organization
// admins, whoever has set what is there.
func TestOnlyAdminsLoosen(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		set := func(by workspace.UserID, in workspace.ID, days *int64) error {
			_, _, err := h.SetKeyPolicy(t.Context(), manage.User(by), in, policy.Rules{MaxLifetimeDays: days})
			return err
		}
		limit := func(by workspace.UserID, l quota.Limits) error {
			_, err := h.SetQuota(t.Context(), manage.User(by), h.ws, l)
			return err
		}
		want(t, "a viewer", workspace.ErrForbidden, set(h.viewer, h.ws, ptr[int64](30)))
		want(t, "an outsider", workspace.ErrNotFound, set(h.outsider, h.ws, ptr[int64](30)))
		want(t, "an owner, the organization's", workspace.ErrForbidden, set(h.owner, "", ptr[int64](30)))
		want(t, "a manager tightens", nil, set(h.manager, h.ws, ptr[int64](60)))
		want(t, "an owner tightens", nil, set(h.owner, h.ws, ptr[int64](30)))
		want(t, "an owner loosens", workspace.ErrForbidden, set(h.owner, h.ws, ptr[int64](31)))
		want(t, "an owner takes it away", workspace.ErrForbidden, set(h.owner, h.ws, nil))
		h.rule("", policy.Rules{MaxLifetimeDays: ptr[int64](30)})
		want(t, "an owner takes it away while the organization says the same", workspace.ErrForbidden, set(h.owner, h.ws, nil))
		h.rule("", policy.Rules{})
		want(t, "an admin who is no member loosens", nil, set(h.admin, h.ws, ptr[int64](90)))
		want(t, "an admin, the organization's", nil, set(h.admin, "", ptr[int64](80)))
		want(t, "an admin, beyond the organization's", workspace.ErrInvalid, set(h.admin, h.ws, ptr[int64](90)))

		want(t, "a viewer limits", workspace.ErrForbidden, limit(h.viewer, quota.Limits{MaxKeys: ptr[int64](10)}))
		want(t, "an owner limits", nil, limit(h.owner, quota.Limits{MaxKeys: ptr[int64](10)}))
		want(t, "an owner allows more", workspace.ErrForbidden, limit(h.owner, quota.Limits{MaxKeys: ptr[int64](11)}))
		want(t, "an owner only counts", workspace.ErrForbidden, limit(h.owner, quota.Limits{MaxKeys: ptr[int64](10), Mode: quota.Soft}))
		want(t, "an admin allows more", nil, limit(h.admin, quota.Limits{MaxKeys: ptr[int64](11), Mode: quota.Soft}))

		for _, by := range []workspace.UserID{h.owner, h.manager, h.viewer, h.admin} {
			_, err := h.KeyPolicy(t.Context(), manage.User(by), h.ws)
			want(t, "read the workspace's", nil, err)
			_, err = h.Quota(t.Context(), manage.User(by), h.ws)
			want(t, "read its quota", nil, err)
			_, err = h.KeyPolicy(t.Context(), manage.User(by), "")
			if by == h.admin {
				want(t, "read the organization's", nil, err)
				continue
			}
			want(t, "read the organization's", workspace.ErrForbidden, err)
		}
		_, err := h.Quota(t.Context(), manage.User(h.outsider), h.ws)
		want(t, "an outsider reads", workspace.ErrNotFound, err)
		_, err = h.SetQuota(t.Context(), manage.User(h.admin), "", quota.Limits{})
		want(t, "a quota of no workspace", workspace.ErrNotFound, err)
	})
}

func TestPolicyVersions(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		set := func(by manage.Caller, days int64) (manage.KeyPolicy, error) {
			after, _, err := h.SetKeyPolicy(t.Context(), by, h.ws, policy.Rules{MaxLifetimeDays: &days})
			return after, err
		}
		_, err := set(operator.If("1"), 60)
		want(t, "of a version that is not there", workspace.ErrChanged, err)
		after, err := set(operator.If("0"), 60)
		check(t, err)
		if after.Version != 1 || after.CreatedBy != "operator:test" || after.Effective.MaxLifetime != 60*day {
			t.Errorf("%+v", after)
		}
		_, err = set(operator.If("0"), 50)
		want(t, "of a version that is not there any more", workspace.ErrChanged, err)
		seq := h.seq()
		if after, err = set(operator, 60); err != nil || after.Version != 1 || h.seq() != seq {
			t.Errorf("the same again: version %d, %v, change %d after %d", after.Version, err, h.seq(), seq)
		}
		events := h.events(string(h.ws))
		last := events[len(events)-1]
		for _, part := range []string{`"before":{"api_keys_enabled":null`, `"after":{`, `"max_lifetime_days":60`, `"version":1`, `"keys_blocked":0`} {
			if last.Action != "policy.update" || !strings.Contains(last.Detail, part) {
				t.Errorf("%s %s does not tell %s", last.Action, last.Detail, part)
			}
		}
		h.exec(`INSERT INTO policies (kind, subject_id, version, document, created_at, created_by) VALUES ('keys', ?, 2, '{"max_lifetime_days":0}', 0, '')`, h.ws)
		if after, err = h.KeyPolicy(t.Context(), operator, h.ws); err != nil || after.Version != 1 {
			t.Errorf("a broken version counts: %d, %v", after.Version, err)
		}
		if after, err = set(operator, 30); err != nil || after.Version != 3 {
			t.Errorf("after a broken version 2: %d, %v", after.Version, err)
		}
	})
}

// Service accounts manage keys only where policy says so, and even then they grant
// only what they hold.
func TestServiceAccountsThatManageKeys(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	robot := h.account("robot", manage.NewServiceAccount{Scopes: oauth.NewScope("api-keys:create", "collectors:read")})
	by := manage.Bearer(h.key(robot).Key, nil)
	create := func(of workspace.ServiceAccountID) error {
		_, err := h.CreateKey(t.Context(), by, h.ws, manage.NewKey{ServiceAccountID: of, Name: "made"})
		return err
	}
	small := h.account("small", manage.NewServiceAccount{Scopes: oauth.NewScope("collectors:read")})
	want(t, "nobody says that it may", workspace.ErrForbidden, create(small))
	h.rule("", policy.Rules{ServiceAccounts: ptr(true)})
	want(t, "the organization says so", nil, create(small))
	want(t, "more than it holds", workspace.ErrForbidden, create(h.sa))
	h.rule(h.ws, policy.Rules{ServiceAccounts: ptr(false)})
	want(t, "the workspace says no", workspace.ErrForbidden, create(small))
}

// A key that was given certain scopes is for what it does where it is.
func TestANarrowKeyMakesNoneElsewhere(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	other, err := h.CreateWorkspace(t.Context(), operator, "Other", "")
	check(t, err)
	check(t, h.AddMember(t.Context(), operator, other.ID, h.owner, workspace.Owner))
	scopes := oauth.NewScope("api-keys:create", "collectors:read")
	for name, c := range map[string]struct {
		scopes *oauth.Scope
		in     workspace.ID
		want   error
	}{
		"narrow, elsewhere": {&scopes, other.ID, workspace.ErrForbidden},
		"narrow, at home":   {&scopes, h.ws, nil},
		"whole, elsewhere":  {nil, other.ID, nil},
	} {
		own, err := h.CreatePersonalKey(t.Context(), manage.User(h.owner), h.ws, manage.NewKey{Name: "own", Scopes: c.scopes})
		check(t, err)
		_, err = h.CreatePersonalKey(t.Context(), manage.Bearer(own.Key, nil), c.in, manage.NewKey{Name: "made", Scopes: &oauth.Scope{"collectors:read"}})
		want(t, name, c.want, err)
	}
}

// Scopes that a key's owner does not hold yet are granted all the same.
func TestScopesForLater(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	small := h.account("small", manage.NewServiceAccount{Scopes: oauth.NewScope("collectors:read")})
	later := oauth.NewScope("collectors:read", "members:create")
	by := manage.User(h.manager) // who does not hold members:create
	_, err := h.CreateKey(t.Context(), by, h.ws, manage.NewKey{ServiceAccountID: small, Name: "x", Scopes: &later})
	want(t, "create", workspace.ErrForbidden, err)
	now := oauth.NewScope("collectors:read")
	key, err := h.CreateKey(t.Context(), by, h.ws, manage.NewKey{ServiceAccountID: small, Name: "x", Scopes: &now})
	check(t, err)
	want(t, "widen", workspace.ErrForbidden, h.SetKeyScopes(t.Context(), by, h.ws, key.ID, &later))
	want(t, "widen as an owner", nil, h.SetKeyScopes(t.Context(), manage.User(h.owner), h.ws, key.ID, &later))
}

// Whoever sets a rule too many can take it back.
func TestAdminsAreNotLockedOut(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	check(t, h.AddMember(t.Context(), operator, h.ws, h.admin, workspace.Owner))
	own, err := h.CreatePersonalKey(t.Context(), manage.User(h.admin), h.ws, manage.NewKey{Name: "own"})
	check(t, err)
	by := manage.Bearer(own.Key, nil)
	_, impact, err := h.SetKeyPolicy(t.Context(), by, "", policy.Rules{Enabled: ptr(false), MaxLifetimeDays: ptr[int64](1)})
	check(t, err)
	if impact.Keys != 1 || impact.Blocked != 0 || h.read(own.ID).Generation != 1 {
		t.Errorf("%+v", impact)
	}
	if listed, err := h.Key(t.Context(), operator, h.ws, own.ID); err != nil || len(listed.Blocked) > 0 {
		t.Errorf("%v, %v", listed.Blocked, err)
	}
	_, err = h.CreatePersonalKey(t.Context(), by, h.ws, manage.NewKey{Name: "another"})
	want(t, "a new key", policy.ErrPolicy, err)
	_, _, err = h.SetKeyPolicy(t.Context(), by, "", policy.Rules{})
	check(t, err)
}

// An old secret does not go on for longer than policy lets a secret live, and not at
// all if its key disabled itself.
func TestRotationUnderPolicy(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	h.rule("", policy.Rules{MaxLifetimeDays: ptr[int64](90), IdleDays: ptr[int64](30)})
	key := h.lasting(90)
	rotate := func(grace time.Duration) (manage.Issued, error) {
		return h.RotateKey(t.Context(), operator, h.ws, key.ID, manage.Rotation{Grace: grace})
	}
	h.now = h.now.Add(31 * day)
	_, err := rotate(time.Hour)
	want(t, "with a grace period, though nobody used it", policy.ErrPolicy, err)
	_, err = rotate(0)
	check(t, err)
	h.rule("", policy.Rules{MaxLifetimeDays: ptr[int64](10)})
	h.now = h.now.Add(9 * day)
	second, err := rotate(7 * day)
	check(t, err)
	if end := second.Secrets[1].ExpiresAt; !end.Equal(h.now.Add(day)) {
		t.Errorf("a secret of nine days ends at %s, want its tenth day", end)
	}
	h.now = h.now.Add(11 * day) // its newest secret is older than policy allows, too
	third, err := rotate(day)
	check(t, err)
	if end := third.Secrets[1].ExpiresAt; end.After(h.now) {
		t.Errorf("a secret that is too old ends at %s", end)
	}
}

// What a workspace may not hold today it may hold one day: who grants it has to hold
// it, whatever policy says meanwhile.
func TestGrantsUnderANarrowPolicy(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	h.rule("", policy.Rules{AllowedScopes: &[]string{"*:read"}, ServiceAccounts: ptr(true)})
	strong := h.account("strong", manage.NewServiceAccount{Role: "admin"})
	robot := h.account("robot", manage.NewServiceAccount{Scopes: oauth.NewScope("api-keys:create", "api-keys:update", "service-accounts:create", "collectors:read")})
	by := manage.Bearer(h.key(robot).Key, nil)
	_, err := h.CreateServiceAccount(t.Context(), by, h.ws, manage.NewServiceAccount{Name: "made", Role: "admin"})
	want(t, "an account of a role that bundles more", workspace.ErrForbidden, err)
	_, err = h.CreateKey(t.Context(), by, h.ws, manage.NewKey{ServiceAccountID: strong, Name: "made"})
	want(t, "a key of one", workspace.ErrForbidden, err)
	_, err = h.RotateKey(t.Context(), by, h.ws, h.key(strong).ID, manage.Rotation{})
	want(t, "the secret of one", workspace.ErrForbidden, err)
}

// A key that names what policy takes from its workspace can be mended all the same.
func TestMendingAKeyThatNamesTooMuch(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	scopes := oauth.NewScope("collectors:delete", "collectors:read")
	key, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "x", Scopes: &scopes})
	check(t, err)
	h.rule("", policy.Rules{AllowedScopes: &[]string{"*:read"}, MaxLifetimeDays: ptr[int64](90)})
	_, err = h.UpdateKey(t.Context(), operator, h.ws, key.ID, manage.KeyChange{ExpiresAt: ptr(h.now.Add(day))})
	want(t, "an expiry", nil, err)
	more := oauth.NewScope("collectors:create", "collectors:delete")
	want(t, "a scope that it did not name", policy.ErrPolicy, h.SetKeyScopes(t.Context(), operator, h.ws, key.ID, &more))
	less := oauth.NewScope("collectors:delete")
	want(t, "fewer of those that it named", nil, h.SetKeyScopes(t.Context(), operator, h.ws, key.ID, &less))
}

// A policy that touches many keys denies the tokens of each.
func TestAPolicyTouchesMany(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		for range 3 {
			h.key(h.sa)
		}
		h.exec(`INSERT INTO keys (id, workspace_id, service_account_id, name, created_at, created_by, updated_at)
			WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
			SELECT 'tbk_many_' || CAST(i AS TEXT), workspace_id, service_account_id, name, created_at, created_by, updated_at FROM n, (SELECT * FROM keys LIMIT 1) AS k`)
		if impact := h.rule("", policy.Rules{AllowNever: ptr(false)}); impact.Keys != 1203 || impact.Blocked != 1203 || len(impact.Touched) != 100 {
			t.Errorf("%d keys, %d blocked, %d named", impact.Keys, impact.Blocked, len(impact.Touched))
		}
		for what, query := range map[string]string{
			"keys of another generation": `SELECT count(*) FROM keys WHERE generation = 2`,
			"denials":                    `SELECT count(DISTINCT subject_id) FROM revocations WHERE kind = 'key' AND generation = 2`,
			"numbers":                    `SELECT MAX(seq) - MIN(seq) + 1 FROM revocations`,
			"the counter":                `SELECT seq FROM revocation_counter`,
			"changes":                    `SELECT count(*) FROM changes WHERE subject_id LIKE 'tbk_%' AND seq = (SELECT seq FROM change_counter)`,
		} {
			if n := get[int](h, query); n != 1203 {
				t.Errorf("%s: %d, want 1203", what, n)
			}
		}
	})
}

// A key that is refused already is denied once more when another rule refuses it, and
// whoever may not list keys learns from a preview how many there are and not which.
func TestImpactOfOneRuleMore(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	key := h.lasting(0)
	h.rule("", policy.Rules{AllowNever: ptr(false)})
	impact := h.rule("", policy.Rules{AllowNever: ptr(false), RequireNetworks: ptr(true)})
	if impact.Blocked != 0 || len(impact.Touched) != 1 || h.read(key.ID).Generation != 3 {
		t.Errorf("%+v, generation %d", impact, h.read(key.ID).Generation)
	}
	h.rule("", policy.Rules{})
	binder := h.key(h.account("binder", manage.NewServiceAccount{Scopes: oauth.NewScope("policy:update")}))
	preview, err := h.PreviewKeyPolicy(t.Context(), manage.Bearer(binder.Key, nil), h.ws, policy.Rules{Enabled: ptr(false)})
	check(t, err)
	if preview.Keys != 2 || len(preview.Touched) != 0 || len(preview.Findings) == 0 {
		t.Errorf("%+v", preview)
	}
}
