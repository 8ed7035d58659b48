package bearer_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// What is not a good feed leaves everything as it was.
func TestFeedRefuses(t *testing.T) {
	s, token, rs := newES256(t), newES256(t), newRS256(t)
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	member := func(name string, value any) string { return s.feed(t, nil, object{"seq": 6, name: value}) }
	entry := func(text string) string { return member("entries", raw("["+text+"]")) }
	hash := oauth.RevocationHash(issuerName, oauth.RevocableKey, "tbk_2")
	newer := s.feed(t, nil, object{"seq": 6, "entries": []any{}})
	payload := encodeJSON(t, with(feedClaims(), object{"seq": 6}))
	head := encodeJSON(t, s.feedHeader())
	hs := func(head object) string {
		return signWith(t, "HS256", []byte(jsonText(t, s.public)), encodeJSON(t, with(s.feedHeader(), head)), payload)
	}
	for name, c := range map[string]struct {
		text string
		kind bearer.FeedFailure
		says string
	}{
		"nothing":                     {"", bearer.FeedRefused, "three parts"},
		"a page":                      {"<html>log in</html>", bearer.FeedRefused, "three parts"},
		"truncated":                   {newer[:len(newer)-1], bearer.FeedRefused, "not base64url"},
		"half":                        {newer[:len(newer)/2], bearer.FeedRefused, ""},
		"without signature":           {head + "." + payload + ".", bearer.FeedRefused, "signature"},
		"forged":                      {head + "." + payload + newer[strings.LastIndexByte(newer, '.'):], bearer.FeedRefused, "signature"},
		"signed by a token key":       {token.feed(t, nil, object{"seq": 6}), bearer.FeedRefused, "no key with its kid"},
		"a token key, another's kid":  {token.feed(t, object{"kid": s.public.ID}, object{"seq": 6}), bearer.FeedRefused, "signature"},
		"unknown kid":                 {s.feed(t, object{"kid": "x"}, object{"seq": 6}), bearer.FeedRefused, "no key with its kid"},
		"no kid":                      {s.feed(t, object{"kid": nil}, object{"seq": 6}), bearer.FeedRefused, "no kid"},
		"alg none":                    {encodeJSON(t, with(s.feedHeader(), object{"alg": "none"})) + "." + payload + ".", bearer.FeedRefused, "its alg"},
		"alg HS256 by the public key": {hs(object{"alg": "HS256"}), bearer.FeedRefused, "its alg"},
		"HS256 that claims ES256":     {hs(nil), bearer.FeedRefused, "signature"},
		"alg RS256":                   {signWith(t, jwk.RS256, rs.private, encodeJSON(t, with(s.feedHeader(), object{"alg": "RS256"})), payload), bearer.FeedRefused, "its alg"},
		"typ of a token":              {s.feed(t, object{"typ": "at+jwt"}, object{"seq": 6}), bearer.FeedRefused, "typ is not revocation-feed+jwt"},
		"typ JWT":                     {s.feed(t, object{"typ": "JWT"}, object{"seq": 6}), bearer.FeedRefused, "typ is not"},
		"no typ":                      {s.feed(t, object{"typ": nil}, object{"seq": 6}), bearer.FeedRefused, "no typ"},
		"crit":                        {s.feed(t, object{"crit": []string{"exp"}}, object{"seq": 6}), bearer.FeedRefused, "crit"},
		"a long header":               {s.feed(t, object{"x": strings.Repeat("x", 9000)}, object{"seq": 6}), bearer.FeedRefused, "header is longer"},
		"too long":                    {strings.Repeat("x", 64<<20+1), bearer.FeedRefused, "more than 67108864 bytes"},

		"another issuer":      {member("iss", "https://evil.example.com"), bearer.FeedRefused, "evil.example.com"},
		"issuer with a slash": {member("iss", issuerName+"/"), bearer.FeedRefused, "equal to the byte"},
		"no iss":              {member("iss", nil), bearer.FeedRefused, "no iss"},
		"exp past":            {member("exp", now.Unix()-60), bearer.FeedRefused, "was to be used until"},
		"iat to come":         {member("iat", now.Unix()+62), bearer.FeedRefused, "in the future"},
		"iat 0":               {member("iat", 0), bearer.FeedRefused, "iat is missing"},

		"lower seq":             {s.feed(t, nil, object{"seq": 4, "iat": now.Unix()}), bearer.FeedBackwards, "4 of epoch 2, and 5 of epoch 2 is known"},
		"lower epoch":           {s.feed(t, nil, object{"epoch": 1, "seq": 9, "iat": now.Unix()}), bearer.FeedBackwards, "9 of epoch 1"},
		"a delta too far":       {s.feed(t, nil, object{"seq": 9, "from": 6}), bearer.FeedGap, "what follows 6"},
		"a delta of an epoch":   {s.feed(t, nil, object{"epoch": 3, "seq": 9, "from": 5}), bearer.FeedGap, "epoch 3"},
		"seq less than from":    {s.feed(t, nil, object{"seq": 6, "from": 7}), bearer.FeedRefused, "less than its from"},
		"negative seq":          {member("seq", -1), bearer.FeedRefused, "its seq"},
		"negative epoch":        {member("epoch", -1), bearer.FeedRefused, "its epoch"},
		"seq with a fraction":   {member("seq", raw("6.0")), bearer.FeedRefused, "its seq"},
		"seq in quotes":         {member("seq", "6"), bearer.FeedRefused, "its seq"},
		"seq 2^63":              {member("seq", raw("9223372036854775808")), bearer.FeedRefused, "its seq"},
		"seq over 10^15":        {member("seq", int64(1e15)+1), bearer.FeedRefused, "more than 1000000000000000"},
		"epoch to come":         {s.feed(t, nil, object{"epoch": now.Unix() + 86401, "seq": 0}), bearer.FeedRefused, "more than a day to come"},
		"epoch 2^63-1":          {member("epoch", raw("9223372036854775807")), bearer.FeedRefused, "more than a day to come"},
		"no from":               {member("from", nil), bearer.FeedRefused, "its from"},
		"null from":             {member("from", raw("null")), bearer.FeedRefused, "its from"},
		"no entries":            {member("entries", nil), bearer.FeedRefused, "entries are not a list"},
		"null entries":          {member("entries", raw("null")), bearer.FeedRefused, "entries are not a list"},
		"entries are an object": {member("entries", object{}), bearer.FeedRefused, "entries are not a list"},
		"SEQ for seq":           {s.feed(t, nil, object{"seq": nil, "SEQ": 6}), bearer.FeedRefused, "its seq"},
		"seq twice":             {s.sign(t, head, encode(strings.Replace(jsonText(t, feedClaims()), `"seq"`, `"seq":6,"seq"`, 1))), bearer.FeedRefused, "twice"},
		"no object":             {s.sign(t, head, encode("[]")), bearer.FeedRefused, "not a JSON object"},
		"two objects":           {s.sign(t, head, encode(jsonText(t, feedClaims())+"{}")), bearer.FeedRefused, "not a JSON object"},

		"an entry is a string": {entry(`"x"`), bearer.FeedRefused, "entry 0"},
		"h twice":              {entry(`{"h":"` + hash + `","h":"x","g":0,"exp":9}`), bearer.FeedRefused, "twice"},
		"no h":                 {entry(`{"g":0,"exp":9}`), bearer.FeedRefused, "h is not"},
		"h is a number":        {entry(`{"h":1,"g":0,"exp":9}`), bearer.FeedRefused, "h is not"},
		"h too short":          {entry(`{"h":"` + hash[:21] + `","g":0,"exp":9}`), bearer.FeedRefused, "h is not a hash of 22 base64url characters"},
		"h with padding":       {entry(`{"h":"` + hash + `==","g":0,"exp":9}`), bearer.FeedRefused, "h is not"},
		"h in base64":          {entry(`{"h":"` + hash[:20] + `+A","g":0,"exp":9}`), bearer.FeedRefused, "h is not"},
		"h with a line end":    {entry(`{"h":"` + hash[:21] + `\n","g":0,"exp":9}`), bearer.FeedRefused, "h is not"},
		"h with stray bits":    {entry(`{"h":"` + hash[:21] + `_","g":0,"exp":9}`), bearer.FeedRefused, "h is not"},
		"g over 10^15":         {entry(`{"h":"` + hash + `","g":1000000000000001,"exp":9999999999}`), bearer.FeedRefused, "not 0 to 1000000000000000"},
		"no g":                 {entry(`{"h":"` + hash + `","exp":9}`), bearer.FeedRefused, "g is not"},
		"g negative":           {entry(`{"h":"` + hash + `","g":-1,"exp":9}`), bearer.FeedRefused, "g is not"},
		"no exp in an entry":   {entry(`{"h":"` + hash + `","g":0}`), bearer.FeedRefused, "exp is not"},
		"the second entry":     {entry(`{"h":"` + hash + `","g":0,"exp":9999999999},{}`), bearer.FeedRefused, "entry 1"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newFeedNetwork(t, s)
			n.says(s.feed(t, nil, nil))
			var events []bearer.FeedEvent
			f := newFeed(t, n, func(c *bearer.FeedConfig) { c.Observe = func(e bearer.FeedEvent) { events = append(events, e) } })
			refresh(t, f)
			before := f.Status()
			n.says(c.text)
			err := f.Refresh(t.Context())
			failure := (*bearer.FeedError)(nil)
			if !errors.As(err, &failure) || failure.Kind != c.kind || !strings.Contains(err.Error(), c.says) || errors.Is(err, bearer.ErrInvalid) {
				t.Fatalf("error %v, want one of the kind %s that says %q", err, c.kind, c.says)
			}
			if last := events[len(events)-1]; last.Failure != c.kind || last.Err == nil || last.Moved || last.Entries != 1 {
				t.Errorf("event %+v", last)
			}
			after := f.Status()
			if after.Failure == nil || after.Position != before.Position || after.Entries != before.Entries || !after.IssuedAt.Equal(before.IssuedAt) || after.Age < before.Age {
				t.Errorf("before %+v, after %+v", before, after)
			}
			denies(t, f, claimsOf("tbk_1", 3), bearer.ErrRevoked)
			denies(t, f, claimsOf("tbk_2", 3), nil)
			n.says(newer)
			refresh(t, f)
			if status := f.Status(); status.Failure != nil || status.Position.Sequence != 6 {
				t.Errorf("after a good one: %+v", status)
			}
		})
	}
}

// What is at the edge of being refused is not.
func TestFeedTakes(t *testing.T) {
	s := newES256(t)
	for name, text := range map[string]string{
		"exp just past":    s.feed(t, nil, object{"exp": now.Unix() - 59}),
		"iat just to come": s.feed(t, nil, object{"iat": now.Unix() + 60}),
		"more members":     s.feed(t, object{"x": 1}, object{"x": object{"seq": 1}, "entries": []any{with(entryOf("key", "tbk_1", 4, 9), object{"note": "x"})}}),
		"a line end":       s.feed(t, nil, nil) + "\n",
		"a long typ":       s.feed(t, object{"typ": "application/revocation-feed+jwt"}, nil),
		"the last epoch":   s.feed(t, nil, object{"epoch": now.Unix() + 86400}),
		"large numbers":    s.feed(t, nil, object{"seq": int64(1e15), "entries": []any{entryOf("key", "tbk_1", 1e15, 600)}}),
		"nothing revoked":  s.feed(t, nil, object{"epoch": 0, "seq": 0, "entries": []any{}}),
	} {
		t.Run(name, func(t *testing.T) {
			n := newFeedNetwork(t, s)
			n.says(text)
			f := newFeed(t, n, nil)
			refresh(t, f)
			fresh(t, f, nil)
		})
	}
}

// What is wrong with the server is a failure of another kind than what is wrong
// with its answer.
func TestFeedThatDoesNotAnswer(t *testing.T) {
	s := newES256(t)
	for name, c := range map[string]struct {
		status int
		header http.Header
		keys   string
		kind   bearer.FeedFailure
		says   string
	}{
		"away":         {0, nil, documentOf(t, s), bearer.FeedUnreachable, "no route to host"},
		"unavailable":  {503, http.Header{"Retry-After": {"7"}}, documentOf(t, s), bearer.FeedUnreachable, "it answers 503"},
		"not found":    {404, nil, documentOf(t, s), bearer.FeedUnreachable, "it answers 404"},
		"unchanged":    {304, nil, documentOf(t, s), bearer.FeedUnreachable, "it answers 304"},
		"moved":        {302, http.Header{"Location": {"https://evil.example.com/"}}, documentOf(t, s), bearer.FeedUnreachable, "redirects to https://evil.example.com/, which is not followed"},
		"without keys": {200, nil, `{"keys":[]}`, bearer.FeedNoKeys, "its keys"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newFeedNetwork(t)
			n.keys, n.header = c.keys, c.header
			n.replies(func(url.Values) (int, string) { return c.status, s.feed(t, nil, nil) })
			f := newFeed(t, n, nil)
			err := f.Refresh(t.Context())
			failure := (*bearer.FeedError)(nil)
			if !errors.As(err, &failure) || failure.Kind != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want one of the kind %s that says %q", err, c.kind, c.says)
			}
			if c.status == 503 && failure.RetryAfter != 7*time.Second {
				t.Errorf("it asks to be left alone for %s", failure.RetryAfter)
			}
			denies(t, f, claimsOf("tbk_1", 3), bearer.ErrRevocationsUnknown)
			fresh(t, f, bearer.ErrStale)
		})
	}
}

func TestNewFeedRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		config bearer.FeedConfig
		says   string
	}{
		"no issuer":       {bearer.FeedConfig{}, "Issuer is empty"},
		"in the clear":    {bearer.FeedConfig{Issuer: "http://tokens.example.com"}, "not an https URL"},
		"keys in clear":   {bearer.FeedConfig{Issuer: "http://tokens.example.com", URI: "https://a.example/feed"}, "not an https URL"},
		"no URL":          {bearer.FeedConfig{Issuer: issuerName, URI: "feed"}, "URI and KeysURI are URLs"},
		"no URL of keys":  {bearer.FeedConfig{Issuer: issuerName, KeysURI: "ftp://a.example"}, "URI and KeysURI are URLs"},
		"too strict":      {bearer.FeedConfig{Issuer: issuerName, MaxStaleness: time.Second}, "MaxStaleness 1s: use 5s to 10m0s"},
		"too lax":         {bearer.FeedConfig{Issuer: issuerName, MaxStaleness: time.Hour}, "MaxStaleness 1h0m0s"},
		"waits too long":  {bearer.FeedConfig{Issuer: issuerName, Wait: time.Minute}, "Wait 1m0s: use 1s to 25s"},
		"waits too short": {bearer.FeedConfig{Issuer: issuerName, Wait: time.Millisecond}, "Wait 1ms"},
		"asks too often":  {bearer.FeedConfig{Issuer: issuerName, Poll: time.Millisecond}, "Poll 1ms: use 1s or more"},
		"two sources":     {bearer.FeedConfig{Issuer: issuerName, Source: sourceFunc(nil), URI: "https://a.example"}, "leave URI"},
	} {
		if f, err := bearer.NewFeed(c.config); err == nil || f != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, c.says)
		}
	}
	inside := bearer.FeedConfig{Issuer: "http://tokens.internal", URI: "http://tokens.internal/feed", KeysURI: "http://tokens.internal/keys"}
	feed, err := bearer.NewFeed(inside)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bearer.New(bearer.Config{Issuer: issuerName, Audience: audience, Revocations: feed}); err == nil || !strings.Contains(err.Error(), `those of the issuer "http://tokens.internal"`) {
		t.Errorf("the feed of another issuer: %v", err)
	}
}

// Who leaves the error of NewFeed out is told so when the service starts.
func TestNewRefusesNilRevocations(t *testing.T) {
	feed, _ := bearer.NewFeed(bearer.FeedConfig{}) // which fails
	if _, err := bearer.New(bearer.Config{Issuer: issuerName, Audience: audience, Revocations: feed}); err == nil || !strings.Contains(err.Error(), "Revocations are a nil *bearer.Feed") {
		t.Errorf("a nil feed: %v", err)
	}
}

// A source of one's own says nothing either that no issuer does.
func TestFeedRefusesOfAnySource(t *testing.T) {
	for name, change := range map[string]func(*bearer.FeedUpdate){
		"epoch to come":  func(u *bearer.FeedUpdate) { u.Epoch = 1<<63 - 1 },
		"seq over 10^15": func(u *bearer.FeedUpdate) { u.Sequence = 1<<63 - 1 },
		"a hash":         func(u *bearer.FeedUpdate) { u.Entries[0].Hash = "tbk_1" },
		"a generation":   func(u *bearer.FeedUpdate) { u.Entries[0].Generation = 1<<63 - 1 },
	} {
		bad := true
		f := makeFeed(t, bearer.FeedConfig{Issuer: issuerName, Source: sourceFunc(func(context.Context, oauth.Position, time.Duration) (bearer.FeedUpdate, error) {
			u := updateOf(1, 1, 0, time.Now(), "tbk_1")
			if bad {
				change(&u)
			}
			return u, nil
		})})
		failure := (*bearer.FeedError)(nil)
		if err := f.Refresh(t.Context()); !errors.As(err, &failure) || failure.Kind != bearer.FeedRefused {
			t.Errorf("%s: %v, want that it is refused", name, err)
		}
		bad = false
		refresh(t, f)
		denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked)
	}
}

// Whatever the issuer signs, nothing panics, and what is taken in is sound.
func FuzzFeed(f *testing.F) {
	f.Add(`{"iss":"https://tokens.example.com","iat":1772366390,"exp":1772370000,"epoch":1,"seq":2,"from":0,"entries":[{"h":"AAAAAAAAAAAAAAAAAAAAAA","g":3,"exp":1772367000}]}`)
	f.Add(`{"iss":"https://tokens.example.com","iat":1772366390,"exp":1772370000,"epoch":1,"seq":2,"from":3,"entries":[]}`)
	f.Add(`{"iss":"https://tokens.example.com","iat":1,"exp":9223372036854775807,"epoch":9223372036854775807,"seq":9223372036854775807,"from":0,"entries":[{"h":"\u0000","g":0,"exp":1}]}`)
	f.Add(`{"entries":[[[[{}]]]],"seq":-0,"seq":1e3}`)
	f.Fuzz(func(t *testing.T, payload string) {
		s := newES256(t)
		n := newFeedNetwork(t, s)
		n.says(s.sign(t, encodeJSON(t, s.feedHeader()), encode(payload)))
		feed := newFeed(t, n, nil)
		err := feed.Refresh(t.Context())
		status := feed.Status()
		if status.Loaded != (err == nil) || status.Age < 0 || status.Position.Epoch < 0 || status.Position.Sequence < 0 || (err != nil && status.Entries > 0) {
			t.Errorf("error %v, status %+v", err, status)
		}
		if err := feed.Revoked(t.Context(), "kid_1", claimsOf("tbk_1", 1)); status.Loaded && err != nil && !errors.Is(err, bearer.ErrRevoked) {
			t.Error(err)
		}
	})
}
