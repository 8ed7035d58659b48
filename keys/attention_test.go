package keys_test

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

const day = 24 * time.Hour

// shelf is a workspace with keys that a test puts there.
type shelf struct {
	*house
	now workspace.Time
}

func newShelf(t *testing.T, db *schema.DB) *shelf {
	t.Helper()
	return &shelf{house: newHouse(t, db), now: workspace.At(time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC))}
}

// standing is how a key of a test is; durations are from now, and a zero one is none.
type standing struct {
	name              string
	made, ends, used  time.Duration
	revoked           time.Duration
	maxUses, uses     int64
	networks, creator string
}

// put stores keys as they stand.
func (s *shelf) put(list ...standing) {
	s.t.Helper()
	uses := keys.NewUsageWriter(s.Database.Writer(), time.Hour, slog.New(slog.DiscardHandler))
	s.inTx(func(tx sqlx.ExtContext) error {
		for _, k := range list {
			if secret := s.store(tx, k); k.used != 0 {
				uses.Used(keys.Use{SecretID: secret, At: s.at(k.used)})
			}
		}
		return nil
	})
	uses.Flush(s.t.Context())
}

// at is an instant so far from now; none for a zero distance.
func (s *shelf) at(d time.Duration) workspace.Time {
	if d == 0 {
		return workspace.Time{}
	}
	return workspace.At(s.now.Add(d))
}

// store stores one, and returns its secret's ID.
func (s *shelf) store(tx sqlx.ExtContext, k standing) string {
	key := keys.Key{
		ID: s.Format.NewID(), WorkspaceID: s.ws.ID, ServiceAccountID: s.sa.ID, Name: k.name, Generation: 1,
		MaxUses: k.maxUses, ExpiresAt: s.at(k.ends), CreatedAt: s.at(k.made - time.Second), CreatedBy: cmp.Or(k.creator, "operator:test"), UpdatedAt: s.now,
	}
	if k.networks != "" {
		key.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix(k.networks)}
	}
	check(s.t, keys.Insert(s.t.Context(), tx, key))
	secret := "sec_" + workspace.Unique()
	check(s.t, keys.InsertSecret(s.t.Context(), tx, key.ID, keys.StoredSecret{ID: secret, Digest: keys.Digest{Pepper: 1, Sum: []byte{1}}, CreatedAt: key.CreatedAt}))
	if k.revoked != 0 || k.uses != 0 {
		_, err := tx.ExecContext(s.t.Context(), `UPDATE keys SET uses = ?, revoked_at = ? WHERE id = ?`, k.uses, s.at(k.revoked), key.ID)
		check(s.t, err)
	}
	return secret
}

// list is the names of the keys of a selection, in its order, and the counts.
func (s *shelf) list(choice keys.Selection) (string, keys.Counts) {
	s.t.Helper()
	choice.Now = s.now
	found, counts, err := keys.Attention(s.t.Context(), s.Database.Reader(), s.ws.ID, choice, 0, 100)
	check(s.t, err)
	var names []string
	for _, k := range found {
		names = append(names, k.Name)
	}
	return strings.Join(names, " "), counts
}

// wants checks which keys a selection has, in order, and that it counts as many.
func (s *shelf) wants(choice keys.Selection, names string) {
	s.t.Helper()
	got, counts := s.list(choice)
	if got != names {
		s.t.Errorf("%+v:\n %s, want\n %s", choice, got, names)
	}
	if n := counts.Of(choice.Group); int(n) != len(strings.Fields(names)) {
		s.t.Errorf("%+v: counted %d, want %d", choice, n, len(strings.Fields(names)))
	}
}

func TestKeysThatNeedAttentionComeFirst(t *testing.T) {
	t.Parallel()
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := newShelf(t, db)
		s.put(
			standing{name: "fresh"}, standing{name: "forgotten", made: -200 * day},
			standing{name: "oily", made: -100 * day, used: -day}, standing{name: "busy", made: -100 * day, ends: 60 * day, used: -time.Minute},
			standing{name: "sleeping", made: -400 * day, used: -120 * day},
			standing{name: "spent", used: -2 * day, maxUses: 3, uses: 3}, standing{name: "limited", used: -3 * day, maxUses: 3, uses: 2},
			standing{name: "oil-13-days", ends: 13 * day, used: -time.Second}, standing{name: "oil-1-day", ends: day},
			standing{name: "oil-15-days", ends: 15 * day, used: -4 * day},
			standing{name: "gone", made: -90 * day, ends: -day, used: -2 * day}, standing{name: "revoked", made: -90 * day, ends: day, revoked: -time.Hour},
			standing{name: "long-revoked", made: -90 * day, revoked: -30 * day},
		)
		deleted := s.key()
		check(t, s.DeleteKey(t.Context(), operator, s.ws.ID, deleted.ID))

		live := "oil-1-day oil-13-days spent busy oily limited oil-15-days sleeping forgotten fresh"
		s.wants(keys.Selection{}, live)
		s.wants(keys.Selection{Group: keys.GroupLive, Order: keys.ByAttention}, live)
		s.wants(keys.Selection{Group: keys.GroupAll}, live+" revoked gone long-revoked")
		s.wants(keys.Selection{Group: keys.GroupExpiring}, "oil-1-day oil-13-days")
		s.wants(keys.Selection{Group: keys.GroupUnused}, "sleeping forgotten")
		s.wants(keys.Selection{Group: keys.GroupNeverUsed}, "oil-1-day forgotten fresh")
		s.wants(keys.Selection{Group: keys.GroupExpired}, "gone")
		s.wants(keys.Selection{Group: keys.GroupRevoked}, "revoked long-revoked")
		s.wants(keys.Selection{Text: "OIL"}, "oil-1-day oil-13-days oily oil-15-days")
		s.wants(keys.Selection{Text: "%"}, "")
		s.wants(keys.Selection{Owner: string(s.sa.ID), Group: keys.GroupRevoked}, "revoked long-revoked")
		s.wants(keys.Selection{Owner: "sa_other"}, "")

		s.wants(keys.Selection{Group: keys.GroupRevoked, Order: keys.ByName}, "long-revoked revoked")
		s.wants(keys.Selection{Group: keys.GroupRevoked, Order: keys.ByName, Reverse: true}, "revoked long-revoked")
		s.wants(keys.Selection{Text: "oil", Order: keys.ByUse}, "oil-13-days oily oil-15-days oil-1-day")
		s.wants(keys.Selection{Text: "oil", Order: keys.ByUse, Reverse: true}, "oil-15-days oily oil-13-days oil-1-day")
		s.wants(keys.Selection{Text: "oil", Order: keys.ByExpiry}, "oil-1-day oil-13-days oil-15-days oily")
		s.wants(keys.Selection{Text: "oil", Order: keys.ByExpiry, Reverse: true}, "oil-15-days oil-13-days oil-1-day oily")
	})
}

// A list is ordered by what policy refuses too, in the ways in which keys differ.
func TestKeysThatPolicyRefusesComeEarly(t *testing.T) {
	t.Parallel()
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := newShelf(t, db)
		s.put(
			standing{name: "good", made: -10 * day, ends: 20 * day, used: -time.Minute, networks: "10.0.0.0/8"},
			standing{name: "endless", made: -10 * day, used: -day, networks: "10.0.0.0/8"},
			standing{name: "everywhere", made: -10 * day, ends: 20 * day, used: -2 * day},
			standing{name: "long", made: -10 * day, ends: 40 * day, used: -3 * day, networks: "10.0.0.0/8"},
			standing{name: "idle", made: -200 * day, ends: 20 * day, used: -60 * day, networks: "10.0.0.0/8"},
			standing{name: "unused", made: -50 * day, ends: 20 * day, networks: "10.0.0.0/8"},
		)
		for _, c := range []struct {
			blocks keys.Blocks
			want   string
		}{
			{keys.Blocks{}, "good endless everywhere long idle unused"},
			{keys.Blocks{Never: true}, "endless good everywhere long idle unused"},
			{keys.Blocks{Anywhere: true}, "everywhere good endless long idle unused"},
			{keys.Blocks{Lifetime: 49 * day}, "long idle unused good endless everywhere"},
			{keys.Blocks{Idle: 40 * day}, "idle unused good endless everywhere long"},
			{keys.Blocks{Idle: 55 * day, Anywhere: true}, "everywhere idle good endless long unused"},
		} {
			s.wants(keys.Selection{Blocks: c.blocks}, c.want)
		}
	})
}

// Whoever made or owns a key is found by name and address.
func TestKeysAreFoundByPeople(t *testing.T) {
	t.Parallel()
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := newShelf(t, db)
		ada, err := s.CreateNamedUser(t.Context(), operator, "ada@example.com", "Ada Lovelace", false)
		check(t, err)
		check(t, s.AddMember(t.Context(), operator, s.ws.ID, ada.ID, workspace.Viewer))
		s.put(
			standing{name: "by-ada", made: -time.Hour, creator: "user:" + string(ada.ID)}, standing{name: "by-account", made: -time.Minute, creator: "service_account:" + string(s.sa.ID)},
			standing{name: "by-operator", creator: "operator:bootstrap"},
		)
		for text, want := range map[string]string{
			"ada@example": "by-ada", "LOVELACE": "by-ada", string(ada.ID): "by-ada", "bootstrap": "by-operator", "user:": "", string(s.sa.ID): "by-account",
			s.sa.Name: "by-ada by-account by-operator",
		} {
			s.wants(keys.Selection{Text: text}, want)
		}
		found, _, err := keys.Attention(t.Context(), db.Reader(), s.ws.ID, keys.Selection{Order: keys.ByName, Now: s.now}, 0, 10)
		check(t, err)
		var got []string
		for _, k := range found {
			got = append(got, fmt.Sprint(k.Name, " ", k.OwnerName, " ", k.OwnerRole, " ", k.CreatorName))
		}
		if want := []string{"by-account ci admin ci", "by-ada ci admin Ada Lovelace", "by-operator ci admin "}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// Ten thousand keys are listed in pages without a gap or a repetition, in a bounded
// number of statements.
func TestTenThousandKeys(t *testing.T) {
	t.Parallel()
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := newShelf(t, db)
		const all, size = 10_000, 500
		list := make([]standing, all)
		for i := range list {
			list[i] = standing{name: fmt.Sprintf("key-%05d", i), made: -time.Duration(i%300) * day, used: -time.Duration(i%150) * day}
			if i%100 == 0 {
				list[i].ends = time.Duration(1+i%13) * day
			}
		}
		s.put(list...)
		seen := map[keys.ID]bool{}
		for offset := 0; offset < all; offset += size {
			before := db.Queries()
			found, _, err := keys.Attention(t.Context(), db.Reader(), s.ws.ID, keys.Selection{Now: s.now}, offset, size)
			check(t, err)
			if n := db.Queries() - before; n > 2 {
				t.Fatalf("%d statements for a page", n)
			}
			for i, k := range found {
				if soon := k.Status(s.now.Time) == keys.StatusExpiring; soon != (offset+i < all/100) {
					t.Fatalf("number %d: soon is %v", offset+i, soon)
				}
				seen[k.ID] = true
			}
		}
		if len(seen) != all {
			t.Errorf("saw %d keys, want %d", len(seen), all)
		}
		s.counts(keys.Counts{Live: all, Expiring: all / 100, Unused: s.count(list, func(k standing) bool { return k.made <= -90*day && (k.used == 0 || k.used <= -90*day) }), NeverUsed: s.count(list, func(k standing) bool { return k.used == 0 })})
	})
}

func (s *shelf) count(list []standing, is func(standing) bool) (n int64) {
	for _, k := range list {
		if is(k) {
			n++
		}
	}
	return n
}

func (s *shelf) counts(want keys.Counts) {
	s.t.Helper()
	for _, none := range []string{"", "nothing is called so"} {
		_, got := s.list(keys.Selection{Text: none})
		if none != "" {
			want = keys.Counts{}
		}
		if got != want {
			s.t.Errorf("counts %+v, want %+v", got, want)
		}
	}
}
