package bearer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/bearer/bearertest"
)

// What a hostile token costs is bounded by what is looked at.
func TestHostileTokensCostLittle(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, nil, s)
	good := s.token(t, nil, nil)
	head, body := encodeJSON(t, s.header()), encodeJSON(t, goodClaims())
	nested := encode(strings.Repeat(`{"a":`, 1200) + "1" + strings.Repeat("}", 1200))
	for name, c := range map[string]struct {
		token string
		bytes uint64 // that may be allocated for it
	}{
		"a million dots":         {strings.Repeat(".", 1_000_000), 1 << 10},
		"a million bytes":        {head + "." + strings.Repeat("A", 1_000_000) + "." + body, 1 << 10},
		"as many dots as can be": {strings.Repeat(".", bearer.MaxTokenLength), 1 << 10},
		"a deep header":          {nested + "." + body + ".AA", 128 << 10},
		"many members":           {encode("{"+strings.Repeat(`"a":1,`, 900)+`"b":1}`) + "." + body + ".AA", 128 << 10},
		"a long kid":             {encode(`{"alg":"ES256","typ":"at+jwt","kid":"`+strings.Repeat("k", 5000)+`"}`) + "." + body + ".AA", 128 << 10},
		"a bad signature":        {good[:strings.LastIndexByte(good, '.')+1] + strings.Repeat("A", 86), 128 << 10},
	} {
		const rounds = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			if _, err := v.Verify(t.Context(), c.token); err == nil {
				t.Fatalf("%s: accepted", name)
			}
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > c.bytes {
			t.Errorf("%s: %d bytes are allocated for it, want at most %d", name, each, c.bytes)
		}
	}
}

// A kid is a name in a map and nothing else.
func TestKidInjection(t *testing.T) {
	s := newES256(t)
	asked := map[string]bool{}
	v := newVerifier(t, func(c *bearer.Config) {
		inner := c.Keys
		c.Keys = bearer.KeySetFunc(func(ctx context.Context, kid string) (bearer.Key, error) {
			asked[kid] = true
			return inner.Key(ctx, kid)
		})
	}, s)
	for _, kid := range []string{
		"../../../../dev/null", "/etc/passwd", "key' OR '1'='1", `key" UNION SELECT 'secret`, "https://evil.example.com/keys", "file:///dev/null",
		"x\x00" + s.public.ID, s.public.ID + "\x00", " " + s.public.ID, strings.ToLower(s.public.ID), s.public.ID + "=", "%00", "${jndi:ldap://evil}", "\r\nSet-Cookie: a=b", "$(id)", strings.Repeat("k", 4000),
	} {
		refused(t, v, s.token(t, object{"kid": kid}, nil), "no key with its kid")
		if !asked[kid] {
			t.Errorf("the set was asked for something else than %q", kid)
		}
	}
}

// revoking makes a feed of an issuer that denies that many keys of others.
func revoking(t testing.TB, issuer string, entries int) *bearer.Feed {
	t.Helper()
	f, err := bearer.NewFeed(bearer.FeedConfig{Issuer: issuer, Source: sourceFunc(func(context.Context, oauth.Position, time.Duration) (bearer.FeedUpdate, error) {
		u := updateOf(1, int64(entries), 0, time.Now())
		for i := range entries {
			u.Entries = append(u.Entries, oauth.FeedEntry{Hash: oauth.RevocationHash(issuer, oauth.RevocableKey, strconv.Itoa(i)), Expiry: u.At.Unix() + 600})
		}
		return u, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// Asking a feed that denies nothing costs nothing, and one that denies much no
// more than the hashes of a token.
func TestAskingTheFeedCostsLittle(t *testing.T) {
	claims := claimsOf("tbk_1", 1)
	for entries, most := range map[int]float64{0: 0, 10_000: 10} {
		f := revoking(t, issuerName, entries)
		allocated := testing.AllocsPerRun(100, func() {
			if err := f.Revoked(t.Context(), "kid_1", claims); err != nil {
				t.Fatal(err)
			}
			if err := f.Fresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		if allocated > most {
			t.Errorf("with %d entries: %v allocations, want at most %v", entries, allocated, most)
		}
	}
}

// BenchmarkVerify reports what a verifier makes of one token as a multiple of what
// nobody can avoid who does not know it, measured in turns so that a busy machine
// slows both:
//
//	go test ./oauth/bearer -run '^$' -bench Verify
//
// The names say where keys and revocations come from, and that the token is
// remembered.
func BenchmarkVerify(b *testing.B) {
	issuer := bearertest.NewIssuer(b, audience)
	token := issuer.Token(func(c *oauth.Claims) { c.Scope = oauth.NewScope("charts:read", "charts:update", "collectors:read") })
	keys, err := bearer.ParseKeys(issuer.Keys())
	if err != nil {
		b.Fatal(err)
	}
	raw := rawVerify(b, issuer.Keys(), token)
	for _, c := range []struct {
		name   string
		change func(*bearer.Config)
	}{
		{"static-keys", func(c *bearer.Config) { c.Keys = keys }},
		{"remote-keys", func(*bearer.Config) {}},
		{"feed-of-0", func(c *bearer.Config) { c.Keys, c.Revocations = keys, revoking(b, issuer.URL(), 0) }},
		{"feed-of-100k", func(c *bearer.Config) { c.Keys, c.Revocations = keys, revoking(b, issuer.URL(), 100_000) }},
	} {
		for _, size := range []int{-1, 0} {
			name := c.name
			if size == 0 {
				name += "/remembered"
			}
			b.Run(name, func(b *testing.B) {
				config := bearer.Config{Issuer: issuer.URL(), Audience: audience, CacheSize: size}
				c.change(&config)
				v, err := bearer.New(config)
				if err != nil {
					b.Fatal(err)
				}
				inTurns(b, raw, func() {
					if _, err := v.Verify(b.Context(), token); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}

// inTurns reports the time of ours as a multiple of that of raw.
func inTurns(b *testing.B, raw, ours func()) {
	b.Helper()
	ours() // fetches what is fetched once
	var unavoidable, spent time.Duration
	for b.Loop() {
		began := time.Now()
		raw()
		between := time.Now()
		ours()
		unavoidable, spent = unavoidable+between.Sub(began), spent+time.Since(between)
	}
	b.ReportMetric(float64(spent)/float64(unavoidable), "raw/verify")
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "ns/verify")
}

// rawVerify is the work that nobody can avoid: the hash, the signature, and the
// claims as encoding/json reads them.
func rawVerify(b *testing.B, document []byte, token string) func() {
	b.Helper()
	set, err := jwk.ParseSet(document)
	if err != nil {
		b.Fatal(err)
	}
	public, err := set.Keys[0].Public()
	if err != nil {
		b.Fatal(err)
	}
	end := strings.LastIndexByte(token, '.')
	signature, errSignature := base64.RawURLEncoding.DecodeString(token[end+1:])
	payload, errPayload := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err := errors.Join(errSignature, errPayload); err != nil {
		b.Fatal(err)
	}
	return func() {
		sum := sha256.Sum256([]byte(token[:end]))
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if !ecdsa.Verify(public.(*ecdsa.PublicKey), sum[:], r, s) {
			b.Fatal("it does not verify")
		}
		var claims oauth.Claims
		if err := json.Unmarshal(payload, &claims); err != nil {
			b.Fatal(err)
		}
	}
}
