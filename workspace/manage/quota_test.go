package manage_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// The count is exact, also when many come at once.
func TestLimitsAreExact(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		_, err := h.SetQuota(t.Context(), operator, h.ws, quota.Limits{MaxKeys: ptr[int64](10), MaxServiceAccounts: ptr[int64](10)})
		check(t, err)
		atOnce(t, 20, 10, func() error {
			_, err := h.CreateKey(t.Context(), manage.User(h.manager), h.ws, manage.NewKey{ServiceAccountID: h.sa, Name: "x"})
			return err
		})
		atOnce(t, 20, 9, func() error { // one is there
			_, err := h.CreateServiceAccount(t.Context(), manage.User(h.manager), h.ws, manage.NewServiceAccount{Name: "sa-" + workspace.Unique(), Role: "viewer"})
			return err
		})
		found, err := h.Quota(t.Context(), operator, h.ws)
		check(t, err)
		if found.Use.Keys != 10 || found.Use.ServiceAccounts != 10 {
			t.Errorf("%+v", found.Use)
		}
		_, err = h.CreateAccountWithKey(t.Context(), operator, h.ws, manage.NewServiceAccount{Name: "both", Role: "viewer"}, manage.NewKey{Name: "both"})
		want(t, "one of each", manage.ErrLimit, err)
		_, err = h.CreatePersonalKey(t.Context(), manage.User(h.owner), h.ws, manage.NewKey{Name: "own"})
		want(t, "a personal key", manage.ErrLimit, err)

		listed, err := h.Keys(t.Context(), operator, h.ws, keys.Filter{}, workspace.Page{Limit: 100})
		check(t, err)
		check(t, h.RevokeKey(t.Context(), operator, h.ws, listed[0].ID, ""))
		_, err = h.CreatePersonalKey(t.Context(), manage.User(h.owner), h.ws, manage.NewKey{Name: "own"})
		want(t, "after one was revoked", nil, err)

		findings, _, err := h.PreviewQuota(t.Context(), operator, h.ws, quota.Limits{MaxKeys: ptr[int64](4), MaxServiceAccounts: ptr[int64](10)})
		check(t, err)
		if len(findings) != 1 || !strings.HasPrefix(findings[0].Text, "The workspace has 10 live API keys, and 4 would be allowed") {
			t.Errorf("%+v", findings)
		}
		_, err = h.SetQuota(t.Context(), operator, h.ws, quota.Limits{MaxKeys: ptr[int64](4), Mode: quota.Soft})
		check(t, err)
		h.key(h.sa)
		events := h.events(string(h.ws))
		if e := events[len(events)-2]; e.Action != "quota.exceed" || !strings.Contains(e.Detail, `"count":11`) {
			t.Errorf("past a soft limit: %s %s", e.Action, e.Detail)
		}
	})
}

// atOnce does something n times at once; so many must succeed, and the others find
// the limit reached.
func atOnce(t *testing.T, n, most int, do func() error) {
	t.Helper()
	results := make(chan error, n)
	var running sync.WaitGroup
	for range n {
		running.Go(func() { results <- do() })
	}
	running.Wait()
	close(results)
	made := 0
	for err := range results {
		if err == nil {
			made++
			continue
		}
		want(t, "past the limit", manage.ErrLimit, err)
	}
	if made != most {
		t.Errorf("%d were made, want %d", made, most)
	}
}

// Limits of a key are widened only by who holds all that it obtains.
func TestWideningLimits(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	strong := h.account("strong", manage.NewServiceAccount{Scopes: oauth.NewScope("members:create")})
	key, err := h.CreateKey(t.Context(), operator, h.ws, manage.NewKey{
		ServiceAccountID: strong, Name: "x", MaxUses: 10, PerMinute: 10, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")},
	})
	check(t, err)
	for name, c := range map[string]struct {
		change manage.KeyChange
		want   error
	}{
		"more uses":      {manage.KeyChange{MaxUses: ptr[int64](11)}, workspace.ErrForbidden},
		"any uses":       {manage.KeyChange{MaxUses: ptr[int64](0)}, workspace.ErrForbidden},
		"fewer uses":     {manage.KeyChange{MaxUses: ptr[int64](9)}, nil},
		"longer tokens":  {manage.KeyChange{TokenTTL: ptr(time.Hour)}, workspace.ErrForbidden},
		"shorter tokens": {manage.KeyChange{TokenTTL: ptr(2 * time.Minute)}, nil},
		"faster":         {manage.KeyChange{PerMinute: ptr[int64](11)}, workspace.ErrForbidden},
		"slower":         {manage.KeyChange{PerMinute: ptr[int64](9)}, nil},
		"a wide network": {manage.KeyChange{AllowedCIDRs: ptr([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})}, workspace.ErrForbidden},
		"a part of it":   {manage.KeyChange{AllowedCIDRs: ptr([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")})}, nil},
	} {
		_, err := h.UpdateKey(t.Context(), manage.User(h.manager), h.ws, key.ID, c.change)
		want(t, name, c.want, err)
	}
	for name, change := range map[string]manage.KeyChange{
		"negative uses": {MaxUses: ptr[int64](-1)}, "endless uses": {MaxUses: ptr[int64](keys.MaxMaxUses + 1)},
		"negative rate": {PerMinute: ptr[int64](-1)}, "endless rate": {PerMinute: ptr[int64](keys.MaxPerMinute + 1)},
	} {
		_, err := h.UpdateKey(t.Context(), operator, h.ws, key.ID, change)
		want(t, name, workspace.ErrInvalid, err)
	}
}
