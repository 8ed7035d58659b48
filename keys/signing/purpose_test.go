package signing_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
)

func feedRing(db *schema.DB, s *signing.Sealer) *signing.Ring {
	return &signing.Ring{Purpose: signing.Feed, Reader: db.Reader(), Sealer: s, Timing: signing.DefaultTiming}
}

// A key signs what it is for. There is no way to a feed that a key for tokens
// signed, nor to a token that one for the feed did.
func TestKeysSignForTheirPurposeOnly(t *testing.T) {
	db, s := schematest.SQLite(t), sealer(t, kek(1))
	addTo(t, db, s, signing.FeedSlot(), signing.Active)
	ring := feedRing(db, s)
	check(t, ring.Load(t.Context()))
	feed, err := ring.Active(t.Context(), signing.FeedAlgorithm)
	check(t, err)
	signed, err := feed.Sign(oauth.FeedType, []byte(`{}`))
	check(t, err)
	_, public, _ := ring.Find(feed.ID)
	parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{jwk.ES256})).Parse(signed, func(*jwt.Token) (any, error) { return public, nil })
	if err != nil || parsed.Header["typ"] != "revocation-feed+jwt" || parsed.Header["kid"] != feed.ID {
		t.Errorf("the feed: %v, %v", parsed, err)
	}
	for _, typ := range []string{oauth.AccessTokenType, oauth.PlainTokenType, "", "other"} {
		if _, err := feed.Sign(typ, []byte(`{}`)); err == nil || !strings.Contains(err.Error(), `purpose "feed"`) {
			t.Errorf("a key for the feed signs %q: %v", typ, err)
		}
	}
	addTo(t, db, s, signing.TokenSlot(jwk.ES256), signing.Active)
	token, err := loaded(t, db, s).Active(t.Context(), jwk.ES256)
	check(t, err)
	if _, err := token.Sign(oauth.FeedType, []byte(`{}`)); err == nil || !strings.Contains(err.Error(), `purpose "token"`) {
		t.Errorf("a key for tokens signs the feed: %v", err)
	}
}

// The rings share a table and nothing else: what is published, held, found and
// active in one is not in the other.
func TestRingsHoldTheKeysOfTheirPurpose(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := sealer(t, kek(1))
		kids := map[signing.Purpose][]string{}
		for _, slot := range []signing.Slot{signing.TokenSlot(jwk.ES256), signing.FeedSlot()} {
			for _, state := range []signing.State{signing.Active, signing.Pending, signing.Retiring} {
				kids[slot.Purpose] = append(kids[slot.Purpose], addTo(t, db, s, slot, state).ID)
			}
		}
		rings := map[signing.Purpose]*signing.Ring{signing.Tokens: loaded(t, db, s), signing.Feed: feedRing(db, s)}
		check(t, rings[signing.Feed].Load(t.Context()))
		for purpose, ring := range rings {
			for _, k := range publishedBy(t, ring) {
				if !slices.Contains(kids[purpose], k.ID) {
					t.Errorf("%s: a key of another purpose is published", purpose)
				}
			}
			if n := len(publishedBy(t, ring)); n != 3 {
				t.Errorf("%s: %d keys are published, want 3", purpose, n)
			}
			key, err := ring.Active(t.Context(), jwk.ES256)
			if err != nil || key.ID != kids[purpose][0] || key.Purpose != purpose {
				t.Errorf("%s: active is %+v, %v", purpose, key, err)
			}
			held := strings.Fields(ring.Holds())
			for of, all := range kids {
				for i, kid := range all {
					if _, _, found := ring.Find(kid); found != (of == purpose) {
						t.Errorf("%s: a key of %s is found: %v", purpose, of, found)
					}
					if slices.Contains(held, kid) != (of == purpose && i < 2) {
						t.Errorf("%s: holds %v", purpose, held)
					}
				}
			}
		}
	})
}

// Whoever can write to the database cannot make a key sign something else: it does
// not open. What a ring has stays.
func TestChangedPurposeDoesNotOpen(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := sealer(t, kek(1))
		token := add(t, db, s, signing.Active)
		feed := addTo(t, db, s, signing.FeedSlot(), signing.Active)
		tokens, feeds := loaded(t, db, s), feedRing(db, s)
		check(t, feeds.Load(t.Context()))
		swap := func(a, b string) {
			exec(t, db, `UPDATE signing_keys SET state = 'removed'`)
			exec(t, db, `UPDATE signing_keys SET purpose = ? WHERE kid = ?`, a, token.ID)
			exec(t, db, `UPDATE signing_keys SET purpose = ? WHERE kid = ?`, b, feed.ID)
			exec(t, db, `UPDATE signing_keys SET state = 'active'`)
		}
		swap("feed", "token")
		for ring, kid := range map[*signing.Ring]string{tokens: token.ID, feeds: feed.ID} {
			keeps(t, ring, kid, 1)
			if err := ring.Load(t.Context()); !errors.Is(err, signing.ErrSealed) {
				t.Errorf("Load: %v, want ErrSealed", err)
			}
		}
		swap("token", "feed")
		check(t, tokens.Load(t.Context()))
		check(t, feeds.Load(t.Context()))
	})
}
