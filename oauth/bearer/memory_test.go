package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/bearer/bearertest"
)

// world is everything that can change around a token.
type world struct {
	signers     []signer
	keys        error // of the key set; nil: it has the signers' keys
	revocations answering
	now         time.Time
}

// verifier makes one that lives in the world.
func (w *world) verifier(t *testing.T, change func(*bearer.Config)) *bearer.Verifier {
	t.Helper()
	return newVerifier(t, func(c *bearer.Config) {
		c.Now, c.Revocations = func() time.Time { return w.now }, &w.revocations
		c.Keys = bearer.KeySetFunc(func(ctx context.Context, kid string) (bearer.Key, error) {
			if w.keys != nil {
				return bearer.Key{}, w.keys
			}
			return keysOf(w.signers...)(ctx, kid)
		})
		if change != nil {
			change(c)
		}
	})
}

// cached checks how many signatures were spared and how many were not.
func cached(t *testing.T, v *bearer.Verifier, hits, misses uint64) {
	t.Helper()
	if h, m := v.Cached(); h != hits || m != misses {
		t.Errorf("%d signatures were spared and %d were not; want %d and %d", h, m, hits, misses)
	}
}

func TestSignaturesAreSpared(t *testing.T) {
	es, ed, rs := newES256(t), newEdDSA(t), newRS256(t)
	for _, s := range []signer{es, ed, rs} {
		t.Run(s.public.Algorithm, func(t *testing.T) {
			w := &world{signers: []signer{es, ed, rs}, now: now}
			v := w.verifier(t, nil)
			token := s.token(t, nil, nil)
			first, err := v.Verify(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			cached(t, v, 0, 1)
			for n, verify := range []func(context.Context, string) (*oauth.Claims, error){v.Verify, v.VerifyFresh, v.Verify} {
				again, err := verify(t.Context(), strings.Clone(token))
				if diff := cmp.Diff(first, again); err != nil || diff != "" {
					t.Errorf("%v, other claims than at first: %s", err, diff)
				}
				cached(t, v, uint64(n)+1, 1)
			}
		})
	}
}

// The middleware spares them as well.
func TestRequireSparesSignatures(t *testing.T) {
	s := newES256(t)
	w := &world{signers: []signer{s}, now: now}
	v := w.verifier(t, nil)
	token := s.token(t, nil, nil)
	for range 2 {
		for _, middleware := range []func(...string) func(http.Handler) http.Handler{v.Require, v.RequireFresh} {
			a := httptest.NewRecorder()
			if middleware("charts:read")(echo).ServeHTTP(a, request("Bearer "+token)); a.Code != 200 {
				t.Fatalf("%d %s", a.Code, a.Body)
			}
		}
	}
	cached(t, v, 3, 1)
}

// A token that is remembered is refused as soon as, and with the words with which,
// one that is not would be. When the reason is gone it is good again.
func TestRememberedTokensAreCheckedAgain(t *testing.T) {
	s, thief := newES256(t), newES256(t)
	thief.public.ID = s.public.ID
	otherwise := s
	otherwise.public.Algorithm = jwk.EdDSA
	invalid, down := bearer.ErrInvalid, errors.New("no route to host")
	later := func(d time.Duration) func(*world) { return func(w *world) { w.now = w.now.Add(d) } }
	for _, c := range []struct {
		name   string
		change func(*world)
		reason string
		kind   error // nil: it is accepted
	}{
		{"its exp and the leeway are past", later(601 * time.Second), "it has expired", invalid},
		{"its exp is past, but not the leeway", later(600 * time.Second), "", nil},
		{"its iat is ahead", later(-20 * time.Second), "its iat is missing or in the future", invalid},
		{"its nbf is ahead", later(-11 * time.Second), "it is not valid yet", invalid},
		{"its key is gone", func(w *world) { w.signers = nil }, "no key with its kid", invalid},
		{"its key has another algorithm", func(w *world) { w.signers = []signer{otherwise} }, "its alg is not the one of its key", invalid},
		{"its key is another one", func(w *world) { w.signers = []signer{thief} }, "signature does not match", invalid},
		{"there are no keys", func(w *world) { w.keys = down }, "keys of " + issuerName, down},
		{"it was revoked", func(w *world) { w.revocations.revoked = bearer.ErrRevoked }, "it was revoked", invalid},
		{"it was revoked, as is learned meanwhile", func(w *world) { w.revocations.learns = bearer.ErrRevoked }, "it was revoked", invalid},
		{"revocations are not known", func(w *world) { w.revocations.revoked = down }, "revocations of " + issuerName, down},
		{"revocations are stale", func(w *world) { w.revocations.fresh = bearer.ErrStale }, "revocations of " + issuerName, bearer.ErrStale},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{signers: []signer{s}, now: now}
			before := *w
			remembering := w.verifier(t, func(c *bearer.Config) { c.Leeway = time.Second })
			forgetting := w.verifier(t, func(c *bearer.Config) { c.Leeway, c.CacheSize = time.Second, -1 })
			token := s.token(t, nil, object{"iat": now.Unix() - 10, "nbf": now.Unix() - 9})
			accepted(t, remembering, token)
			accepted(t, remembering, token)
			cached(t, remembering, 1, 1)

			c.change(w)
			_, err := remembering.VerifyFresh(t.Context(), token)
			_, want := forgetting.VerifyFresh(t.Context(), token)
			if fmt.Sprint(err) != fmt.Sprint(want) {
				t.Errorf("error %v; want %v as without memory", err, want)
			}
			if !errors.Is(err, c.kind) || errors.Is(err, invalid) != errors.Is(c.kind, invalid) || !strings.Contains(fmt.Sprint(err), c.reason) {
				t.Errorf("error %v; want an %v that says %q", err, c.kind, c.reason)
			}

			*w = before
			accepted(t, remembering, token)
			if _, misses := remembering.Cached(); misses > 2 {
				t.Errorf("%d signatures were checked; a token that was accepted stays known", misses)
			}
		})
	}
}

// The same with an issuer's own key set and feed.
func TestEmergenciesEndRememberedTokens(t *testing.T) {
	issuer := bearertest.NewIssuer(t, audience)
	keys, err := bearer.NewRemote(bearer.RemoteConfig{Issuer: issuer.URL()})
	if err != nil {
		t.Fatal(err)
	}
	feed := issuer.Feed()
	v, err := bearer.New(bearer.Config{Issuer: issuer.URL(), Audience: audience, Keys: keys, Revocations: feed})
	if err != nil {
		t.Fatal(err)
	}
	if err := feed.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	denied := issuer.Token(func(c *oauth.Claims) { c.ClientID = "tbk_lost" })
	other := issuer.Token()
	for range 2 {
		accepted(t, v, denied)
		accepted(t, v, other)
	}
	cached(t, v, 2, 2)

	issuer.Revoke(oauth.RevocableKey, "tbk_lost", 0)
	if err := feed.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused(t, v, denied, "it was revoked")
	accepted(t, v, other)

	issuer.Rotate()
	issuer.Forget()
	if err := keys.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused(t, v, other, "no key with its kid")
	accepted(t, v, issuer.Token())
}

// What resembles a token that is remembered is not that token.
func TestOnlyTheTokenItselfIsRemembered(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, nil, s)
	token, other := s.token(t, nil, nil), s.token(t, nil, object{"sub": "sa_2"})
	accepted(t, v, token)
	accepted(t, v, token)
	accepted(t, v, other)
	parts := strings.Split(token, ".")
	head, body, signature := parts[0], parts[1], parts[2]
	for at := range len(signature) - 1 { // the last one has stray bits
		changed := []byte(signature)
		if changed[at] = 'A'; signature[at] == 'A' {
			changed[at] = 'B'
		}
		refused(t, v, head+"."+body+"."+string(changed), "signature does not match")
	}
	for name, c := range map[string]struct{ token, reason string }{
		"without its signature":    {head + "." + body + ".", "signature does not match"},
		"with another's signature": {head + "." + body + "." + strings.Split(other, ".")[2], "signature does not match"},
		"with another's claims":    {withBody(token, other), "signature does not match"},
		"stray bits":               {head + "." + body + "." + stray(signature), "not base64url"},
		"padded":                   {token + "==", "not base64url"},
		"a line end":               {token + "\n", "not base64url"},
		"a space":                  {" " + token, "not base64url"},
		"twice":                    {token + token, "three parts"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, v, c.token, c.reason) })
	}
	// The issuer signed these claims once more: that is a token of its own.
	again := s.sign(t, head, body)
	_, before := v.Cached()
	accepted(t, v, again)
	if _, misses := v.Cached(); again == token || misses != before+1 {
		t.Error("another signature was not checked")
	}
}

// What was refused, or could not be judged, is not remembered.
func TestOnlyGoodTokensAreRemembered(t *testing.T) {
	s := newES256(t)
	for name, change := range map[string]func(*world){
		"expired":  func(w *world) { w.now = w.now.Add(time.Hour) },
		"revoked":  func(w *world) { w.revocations.revoked = bearer.ErrRevoked },
		"unknown":  func(w *world) { w.revocations.revoked = bearer.ErrRevocationsUnknown },
		"stale":    func(w *world) { w.revocations.fresh = bearer.ErrStale },
		"key gone": func(w *world) { w.signers = nil },
		"no keys":  func(w *world) { w.keys = bearer.ErrUnavailable },
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{signers: []signer{s}, now: now}
			before := *w
			v := w.verifier(t, nil)
			token := s.token(t, nil, nil)
			change(w)
			for n := range uint64(2) {
				if _, err := v.VerifyFresh(t.Context(), token); err == nil {
					t.Fatal("accepted")
				}
				cached(t, v, 0, n+1)
			}
			*w = before
			accepted(t, v, token)
			cached(t, v, 0, 3)
			accepted(t, v, token)
			cached(t, v, 1, 3)
		})
	}
}

// The memory knows the CacheSize/2 tokens that were used last, and none that was
// used before the last CacheSize ones.
func TestMemoryIsBounded(t *testing.T) {
	s := newEdDSA(t)
	tokens := make([]string, 24)
	for i := range tokens {
		tokens[i] = s.token(t, nil, object{"sub": fmt.Sprint(i)})
	}
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.IntRange(1, 12).Draw(r, "size")
		v := newVerifier(t, func(c *bearer.Config) { c.CacheSize = size }, s)
		var used []int // each once, the last one first
		for step, i := range rapid.SliceOfN(rapid.IntRange(0, len(tokens)-1), 1, 60).Draw(r, "tokens") {
			before, _ := v.Cached()
			if c, err := v.Verify(t.Context(), tokens[i]); err != nil || c.Subject != fmt.Sprint(i) {
				r.Fatalf("step %d: %+v, %v", step, c, err)
			}
			after, misses := v.Cached()
			if after+misses != uint64(step)+1 {
				r.Fatalf("step %d: %d hits and %d misses", step, after, misses)
			}
			since := slices.Index(used, i)
			switch hit := after > before; {
			case hit && (since < 0 || since >= size):
				r.Fatalf("step %d: of %d tokens one is known that was used %d tokens ago", step, size, since)
			case !hit && since >= 0 && since < (size+1)/2:
				r.Fatalf("step %d: of %d tokens one is forgotten that was used %d tokens ago", step, size, since)
			}
			if since >= 0 {
				used = slices.Delete(used, since, since+1)
			}
			used = slices.Insert(used, 0, i)
		}
	})
}

// Long tokens are not remembered, and push out none that is.
func TestLongTokensAreNotRemembered(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, func(c *bearer.Config) { c.CacheSize = 1 }, s)
	length := func(note int) string { return s.token(t, nil, object{"note": strings.Repeat("n", note)}) }
	short, long := length(2600), length(2900)
	if len(short) > 4096 || len(long) <= 4096 {
		t.Fatalf("tokens of %d and %d bytes", len(short), len(long))
	}
	for range 2 {
		accepted(t, v, short)
		accepted(t, v, long)
	}
	cached(t, v, 1, 3)
}

// A hit is cheap, and without a cache there are none.
func TestMemoryCanBeSwitchedOff(t *testing.T) {
	s := newES256(t)
	token := s.token(t, nil, nil)
	allocated := func(size int) (float64, *bearer.Verifier) {
		v := newVerifier(t, func(c *bearer.Config) { c.CacheSize = size }, s)
		return testing.AllocsPerRun(100, func() { accepted(t, v, token) }), v
	}
	if n, v := allocated(0); n > 12 {
		t.Errorf("%v allocations with memory", n)
	} else {
		cached(t, v, 100, 1) // one call more is for warming up
	}
	if n, v := allocated(-1); n < 40 {
		t.Errorf("%v allocations without memory; that cannot be a signature", n)
	} else {
		cached(t, v, 0, 0)
	}
}

// meddling revocations change the claims that they are asked about.
type meddling struct{}

func (meddling) Revoked(_ context.Context, _ string, c *oauth.Claims) error {
	spoil(c)
	return nil
}

func (meddling) Fresh(context.Context) error { return nil }

// spoil changes all that claims consist of.
func spoil(c *oauth.Claims) {
	for i := range c.Audience {
		c.Audience[i] = "spoilt"
	}
	for i := range c.Scope {
		c.Scope[i] = "spoilt:all"
	}
	_, _ = append(c.Audience, "spoilt"), append(c.Scope, "spoilt:all")
	*c = oauth.Claims{Subject: "spoilt", Expiry: 1, Scope: oauth.NewScope("spoilt:all")}
}

// Whoever gets claims may change them; nobody else sees it.
func TestClaimsAreTheCallers(t *testing.T) {
	s := newES256(t)
	token := s.token(t, nil, object{"aud": []string{audience, "urn:x"}, "scope": "charts:read charts:update"})
	want, err := newVerifier(t, func(c *bearer.Config) { c.CacheSize = -1 }, s).Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, nil, s)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 50 {
				got, err := v.Verify(t.Context(), token)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%v, the claims differ: %s", err, diff)
					return
				}
				spoil(got)
			}
		})
	}
	group.Wait()

	v = newVerifier(t, func(c *bearer.Config) { c.Revocations = meddling{} }, s)
	for range 3 { // the second time they would be those of the first
		accepted(t, v, token)
	}
	cached(t, v, 2, 1)
}

// Claims consist of what a copy of the struct and of these slices separates. Who
// adds a field of another form has to copy it too.
func TestClaimsHaveNothingElseToCopy(t *testing.T) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[oauth.Claims]()) {
		switch f.Type.Kind() {
		case reflect.String, reflect.Int64:
		case reflect.Slice:
			if f.Name != "Audience" && f.Name != "Scope" {
				t.Errorf("field %s is shared between those who get the claims", f.Name)
			}
		default:
			t.Errorf("field %s of type %s: is it copied?", f.Name, f.Type)
		}
	}
}

// Many callers, more tokens than are remembered, revocations that come and go: each
// answer is that of its own token.
func TestMemoryIsShared(t *testing.T) {
	s := newES256(t)
	var mu sync.RWMutex
	denied := ""
	v := newVerifier(t, func(c *bearer.Config) {
		c.CacheSize = 6
		c.Revocations = asking(func(_ string, claims *oauth.Claims) error {
			mu.RLock()
			defer mu.RUnlock()
			if claims.Subject == denied {
				return bearer.ErrRevoked
			}
			return nil
		})
	}, s)
	tokens := make([]string, 8)
	for i := range tokens {
		tokens[i] = s.token(t, nil, object{"sub": fmt.Sprint(i)})
	}
	forged := tokens[0][:strings.LastIndexByte(tokens[0], '.')+1] + strings.Repeat("A", 86)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for n := range 60 {
				i := (worker + n/3) % len(tokens)
				if c, err := v.Verify(t.Context(), tokens[i]); err == nil && c.Subject != fmt.Sprint(i) {
					t.Errorf("token %d has the claims of %s", i, c.Subject)
				} else if err != nil && !strings.Contains(err.Error(), bearer.ErrRevoked.Error()) {
					t.Error(err)
				}
				if n%20 == 0 {
					mu.Lock()
					denied = fmt.Sprint(i)
					mu.Unlock()
					refused(t, v, forged, "signature does not match")
				}
			}
		})
	}
	group.Wait()
	denied = "3"
	refused(t, v, tokens[3], "it was revoked")
	accepted(t, v, tokens[4])
	if hits, misses := v.Cached(); hits == 0 || hits+misses != 8*60+8*3+2 {
		t.Errorf("%d hits and %d misses", hits, misses)
	}
}
