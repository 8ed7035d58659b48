package manage_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// named makes a key with a name.
func (h *house) named(name string, n manage.NewKey) manage.Issued {
	h.t.Helper()
	n.Name, n.ServiceAccountID = name, h.sa
	issued, err := h.CreateKey(h.t.Context(), operator, h.ws, n)
	check(h.t, err)
	return issued
}

func (h *house) keyList(by manage.Caller, s keys.Selection, offset, limit int) manage.KeyPage {
	h.t.Helper()
	found, err := h.KeyList(h.t.Context(), by, h.ws, s, offset, limit)
	check(h.t, err)
	return found
}

func namesOf(p manage.KeyPage) (names []string) {
	for _, row := range p.Rows {
		names = append(names, row.Name)
	}
	return names
}

// Whoever may read keys gets the list with names; others do not learn of it.
func TestKeyListIsForReaders(t *testing.T) {
	t.Parallel()
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		narrow := oauth.NewScope("collectors:read")
		_, err := h.CreateKey(t.Context(), manage.User(h.owner), h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "narrow", Scopes: &narrow})
		check(t, err)
		h.named("wide", manage.NewKey{})
		_, err = h.CreatePersonalKey(t.Context(), manage.User(h.viewer), h.ws, manage.NewKey{Name: "mine"})
		check(t, err)
		p := h.keyList(manage.User(h.viewer), keys.Selection{Order: keys.ByName}, 0, 10)
		got := []string{}
		for _, row := range p.Rows {
			got = append(got, fmt.Sprint(row.Name, "|", row.OwnerName, "|", row.CreatorName, "|", row.Holds.Has("collectors:delete")))
		}
		rows := []string{"mine|viewer@example.com|viewer@example.com|false", "narrow|ci|owner@example.com|false", "wide|ci||true"}
		if !slices.Equal(got, rows) {
			t.Errorf("%q, want %q", got, rows)
		}
		if p.Total != 3 || p.Counts != (keys.Counts{Live: 3, NeverUsed: 3}) {
			t.Errorf("total %d, counts %+v", p.Total, p.Counts)
		}
		_, err = h.KeyList(t.Context(), manage.User(h.outsider), h.ws, keys.Selection{}, 0, 10)
		want(t, "an outsider", workspace.ErrNotFound, err)
	})
}

// An offset beyond the end shows the last page.
func TestKeyListEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	if p := h.keyList(operator, keys.Selection{}, 40, 2); p.Offset != 0 || len(p.Rows) != 0 || p.Total != 0 {
		t.Errorf("of none: %+v", p)
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		h.named(name, manage.NewKey{})
	}
	for offset, want := range map[int]string{0: "0 [a b]", 2: "2 [c d]", 4: "2 [c d]", 1_000: "2 [c d]"} {
		p := h.keyList(operator, keys.Selection{Order: keys.ByName}, offset, 2)
		if got := fmt.Sprint(p.Offset, " ", namesOf(p)); got != want || p.Total != 4 {
			t.Errorf("from %d: %s of %d, want %s", offset, got, p.Total, want)
		}
	}
	h.named("e", manage.NewKey{})
	if p := h.keyList(operator, keys.Selection{Order: keys.ByName}, 99, 2); p.Offset != 4 || len(p.Rows) != 1 {
		t.Errorf("the last page is from %d and has %v", p.Offset, namesOf(p))
	}
}

// Keys that are rotated are found as long as the old secret works.
func TestKeyListOfRotating(t *testing.T) {
	t.Parallel()
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		issued := h.named("turning", manage.NewKey{})
		h.named("still", manage.NewKey{})
		if p := h.keyList(operator, keys.Selection{Group: keys.GroupRotating}, 0, 9); len(p.Rows) != 0 {
			t.Errorf("before: %v", namesOf(p))
		}
		_, err := h.RotateKey(t.Context(), operator, h.ws, issued.ID, manage.Rotation{Grace: time.Hour})
		check(t, err)
		if p := h.keyList(operator, keys.Selection{Group: keys.GroupRotating}, 0, 9); !slices.Equal(namesOf(p), []string{"turning"}) {
			t.Errorf("meanwhile: %v", namesOf(p))
		}
		h.now = h.now.Add(time.Hour)
		if p := h.keyList(operator, keys.Selection{Group: keys.GroupRotating}, 0, 9); len(p.Rows) != 0 {
			t.Errorf("afterwards: %v", namesOf(p))
		}
	})
}

// Whatever policy says, the keys that it refuses come before those that it does not,
// but for those that end soon.
func TestKeyListPutsRefusedKeysFirst(t *testing.T) {
	t.Parallel()
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		made := h.now
		network := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		for i := range 24 {
			n := manage.NewKey{}
			if i%2 == 0 {
				n.AllowedCIDRs = network
			}
			if i%3 > 0 {
				n.ExpiresAt = made.AddDate(0, 0, 30*(i%3)+100)
			}
			issued := h.named(fmt.Sprint("key-", i), n)
			if i%4 == 0 {
				h.exec(`UPDATE key_secrets SET last_used_at = ? WHERE key_id = ?`, workspace.At(made.Add(50*24*time.Hour)), issued.ID)
			}
			if i%5 == 0 {
				h.exec(`UPDATE keys SET max_uses = 1, uses = 1 WHERE id = ?`, issued.ID)
			}
		}
		_, err := h.CreatePersonalKey(t.Context(), manage.User(h.owner), h.ws, manage.NewKey{Name: "person"})
		check(t, err)
		check(t, h.AddMember(t.Context(), operator, h.ws, h.admin, workspace.Owner))
		exempt, err := h.CreatePersonalKey(t.Context(), manage.User(h.admin), h.ws, manage.NewKey{Name: "admin"})
		check(t, err)
		h.exec(`UPDATE key_secrets SET last_used_at = ? WHERE key_id = ?`, workspace.At(made.Add(51*24*time.Hour)), exempt.ID)
		h.now = made.AddDate(0, 0, 60)
		for _, rules := range []policy.Rules{
			{}, {AllowNever: ptr(false)}, {MaxLifetimeDays: ptr[int64](140)}, {RequireNetworks: ptr(true)}, {IdleDays: ptr[int64](20)}, {IdleDays: ptr[int64](59)},
			{MaxLifetimeDays: ptr[int64](140), RequireNetworks: ptr(true), IdleDays: ptr[int64](20)},
		} {
			_, _, err := h.SetKeyPolicy(t.Context(), operator, "", rules)
			check(t, err)
			p := h.keyList(operator, keys.Selection{}, 0, 100)
			refused, none := 0, false
			for _, row := range p.Rows {
				if len(row.Blocked) > 0 {
					refused++
				}
				if none = none || len(row.Blocked) == 0; none && len(row.Blocked) > 0 {
					t.Fatalf("%+v: %s is refused for %v, and comes after one that is not", rules, row.Name, row.Blocked)
				}
			}
			if len(p.Rows) != 26 || refused == 0 || refused == 26 {
				t.Errorf("%+v: %d of %d are refused, which shows nothing", rules, refused, len(p.Rows))
			}
		}
	})
}

// A page of ten thousand keys costs as many statements as one of ten.
func TestKeyListIsBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, schematest.SQLite(t))
	queries := func() uint64 {
		before := h.Database.Queries()
		h.keyList(manage.User(h.viewer), keys.Selection{}, 0, 50)
		return h.Database.Queries() - before
	}
	h.named("first", manage.NewKey{})
	few := queries()
	h.exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
		INSERT INTO keys (id, workspace_id, service_account_id, name, created_at, created_by, updated_at)
		SELECT 'tbk_' || i, ?, ?, 'key ' || i, i, 'operator:test', i FROM n`, h.ws, h.sa)
	if many := queries(); many != few || many > 8 {
		t.Errorf("%d statements for ten thousand keys, %d for one", many, few)
	}
	if p := h.keyList(operator, keys.Selection{}, 9_950, 50); p.Total != 10_000 || len(p.Rows) != 50 {
		t.Errorf("the last page of %d has %d", p.Total, len(p.Rows))
	}
}
