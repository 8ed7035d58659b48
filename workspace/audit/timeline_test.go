package audit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

func list(t testing.TB, db *schema.DB, f audit.Filter, after audit.Position, limit int) []audit.Entry {
	t.Helper()
	entries, err := audit.List(t.Context(), db.Reader(), f, after, limit)
	check(t, err)
	return entries
}

// minute is an instant after noon.
func minute(n int) workspace.Time { return workspace.At(noon.Add(time.Duration(n) * time.Minute)) }

// timeline fills ws_1 with an entry a minute, the odd ones exchanges, and other
// chains with what must not be seen.
func timeline(t testing.TB, db *schema.DB) {
	t.Helper()
	w := writer(db)
	for n := range 10 {
		e := event("ws_1", []string{"key.create", "keyring.read"}[n/2%2])
		e.At, e.SubjectID = minute(n), fmt.Sprint("tbk_", n)
		x := use(fmt.Sprint("tbk_", n), 0)
		x.At, x.Address = minute(n), "192.0.2.9"
		if n%2 == 0 {
			appendEvents(t, db, e)
		} else {
			check(t, w.Record(t.Context(), x))
		}
		x.WorkspaceID = "ws_2"
		check(t, w.Record(t.Context(), x))
	}
	appendEvents(t, db, event("ws_2", "key.create"), event(audit.Instance, "user.create"))
	check(t, w.Record(t.Context(), nobody("192.0.2.66")))
	check(t, w.Flush(t.Context()))
}

// minutes are those of some entries.
func minutes(entries []audit.Entry) (found []int) {
	for _, e := range entries {
		found = append(found, int(e.At.Sub(noon.Time)/time.Minute))
	}
	return found
}

// Both kinds come in one order, page by page, each once.
func TestListPages(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		timeline(t, db)
		for limit := 1; limit <= 11; limit++ {
			var all []audit.Entry
			var after audit.Position
			for {
				page := list(t, db, audit.Filter{Chain: "ws_1"}, after, limit)
				if len(page) == 0 {
					break
				}
				all = append(all, page...)
				after = audit.Position{At: page[len(page)-1].At, ID: page[len(page)-1].ID}
			}
			if got := minutes(all); !slices.Equal(got, []int{9, 8, 7, 6, 5, 4, 3, 2, 1, 0}) {
				t.Errorf("%d a page: %v", limit, got)
			}
		}
	})
}

// Entries of the same instant come each once too.
func TestListPagesWithinAnInstant(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		for range 7 {
			appendEvents(t, db, event("ws_1", "key.create"))
			check(t, w.Record(t.Context(), use("tbk_1", 0)))
		}
		check(t, w.Flush(t.Context()))
		seen := map[string]bool{}
		var after audit.Position
		for range 5 {
			for _, e := range list(t, db, audit.Filter{Chain: "ws_1"}, after, 3) {
				seen[e.ID] = true
				after = audit.Position{At: e.At, ID: e.ID}
			}
		}
		if len(seen) != 14 {
			t.Errorf("%d of 14 were seen", len(seen))
		}
	})
}

func TestListShowsBothKinds(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		timeline(t, db)
		got := list(t, db, audit.Filter{Chain: "ws_1"}, audit.Position{}, 2)
		want := []audit.Entry{
			{At: minute(9), Chain: "ws_1", Action: "token.issue", ActorKind: "service_account", ActorID: "sa_1", KeyID: "tbk_9", SubjectID: "tbk_9",
				OwnerID: "sa_1", Outcome: "issued", Address: "192.0.2.9", Agent: "curl/8", RequestID: "req_1", Detail: `{"jti":"x"}`, Count: 1},
			{At: minute(8), Chain: "ws_1", Seq: 5, Action: "key.create", ActorKind: "user", ActorID: "usr_1", KeyID: "tbk_2", SubjectID: "tbk_8",
				OwnerID: "sa_1", Address: "192.0.2.1", Agent: "curl/8", RequestID: "req_1", Detail: got[1].Detail, Count: 1},
		}
		for i := range got {
			if prefix := []string{"exc_", "evt_"}[i]; !strings.HasPrefix(got[i].ID, prefix) {
				t.Errorf("ID %s, want %s…", got[i].ID, prefix)
			}
			got[i].ID = ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		instance := list(t, db, audit.Filter{Chain: audit.Instance}, audit.Position{}, 9)
		if len(instance) != 2 || instance[0].Address != "192.0.2.66" || instance[0].Chain != audit.Instance || instance[0].ActorKind != "" {
			t.Errorf("%+v", instance)
		}
	})
}

func TestListFilters(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		timeline(t, db)
		for name, test := range map[string]struct {
			filter audit.Filter
			want   []int
		}{
			"owner":                 {audit.Filter{OwnerID: "sa_1"}, []int{9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
			"owner as the actor":    {audit.Filter{OwnerID: "usr_1"}, []int{8, 6, 4, 2, 0}},
			"owner as the subject":  {audit.Filter{OwnerID: "tbk_4"}, []int{4}},
			"key as the subject":    {audit.Filter{KeyID: "tbk_4"}, []int{4}},
			"key that was used":     {audit.Filter{KeyID: "tbk_2"}, []int{8, 6, 4, 2, 0}},
			"key of an exchange":    {audit.Filter{KeyID: "tbk_3"}, []int{3}},
			"actor":                 {audit.Filter{ActorID: "sa_1"}, []int{9, 7, 5, 3, 1}},
			"subject":               {audit.Filter{SubjectID: "tbk_5"}, []int{5}},
			"action":                {audit.Filter{Action: "token.issue"}, []int{9, 7, 5, 3, 1}},
			"actions that begin so": {audit.Filter{Action: "key.*"}, []int{8, 4, 0}},
			"a star without a dot":  {audit.Filter{Action: "key*"}, nil},
			"a pattern of SQL":      {audit.Filter{Action: "key_.%"}, nil},
			"since":                 {audit.Filter{Since: minute(7).Time}, []int{9, 8, 7}},
			"since a little later":  {audit.Filter{Since: minute(7).Add(1)}, []int{9, 8}},
			"until":                 {audit.Filter{Until: minute(2).Time}, []int{1, 0}},
			"events alone":          {audit.Filter{Only: audit.OnlyEvents}, []int{8, 6, 4, 2, 0}},
			"uses alone":            {audit.Filter{Only: audit.OnlyUses}, []int{9, 7, 5, 3, 1}},
			"all together":          {audit.Filter{OwnerID: "sa_1", KeyID: "tbk_2", Action: "key.*", Since: minute(1).Time, Until: minute(9).Time}, []int{8, 4}},
			"what there is not":     {audit.Filter{OwnerID: "sa_2"}, nil},
		} {
			test.filter.Chain = "ws_1"
			if got := minutes(list(t, db, test.filter, audit.Position{}, 20)); !slices.Equal(got, test.want) {
				t.Errorf("%s: %v, want %v", name, got, test.want)
			}
		}
	})
}

func TestUsage(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		w := writer(db)
		for n, key := range []string{"tbk_1", "tbk_1", "tbk_2", "tbk_1"} {
			e := use(key, n/2)
			check(t, w.Record(t.Context(), e))
			e.Action = audit.KeyUse
			check(t, w.Record(t.Context(), e)) // not an exchange
		}
		for range 5 {
			check(t, w.Record(t.Context(), guessed("tbk_1", "192.0.2.1")))
		}
		check(t, w.Flush(t.Context()))
		usage := func(key string, since, until time.Time, bucket time.Duration) []audit.UsageRow {
			rows, err := audit.Usage(t.Context(), db.Reader(), "ws_1", key, since, until, bucket)
			check(t, err)
			return rows
		}
		twelve := workspace.At(noon.Truncate(time.Hour))
		one := workspace.At(twelve.Add(time.Hour))
		want := []audit.UsageRow{{twelve, "tbk_1", "issued", 2}, {twelve, "tbk_1", "wrong_credentials", 5}, {one, "tbk_1", "issued", 1}, {one, "tbk_2", "issued", 1}}
		if diff := cmp.Diff(want, usage("", twelve.Time, one.Add(time.Hour), time.Hour)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(want[3:], usage("tbk_2", time.Time{}, time.Time{}, time.Hour)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(want[:2], usage("", time.Time{}, one.Time, time.Hour)); diff != "" {
			t.Error(diff)
		}
		day := workspace.At(noon.Truncate(24 * time.Hour))
		if diff := cmp.Diff([]audit.UsageRow{{day, "tbk_1", "issued", 3}, {day, "tbk_1", "wrong_credentials", 5}}, usage("tbk_1", time.Time{}, time.Time{}, 24*time.Hour)); diff != "" {
			t.Error(diff)
		}
	})
}
