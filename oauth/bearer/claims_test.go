package bearer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

func TestVerifyRefusesClaims(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, nil, s)
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	for _, c := range []struct {
		name   string
		claims object
		reason string
	}{
		{"no iss", object{"iss": nil}, "another issuer"},
		{"empty iss", object{"iss": ""}, "another issuer"},
		{"null iss", object{"iss": raw("null")}, "another issuer"},
		{"other iss", object{"iss": "https://evil.example.com"}, "another issuer"},
		{"iss with a slash", object{"iss": issuerName + "/"}, "another issuer"},
		{"iss in capitals", object{"iss": strings.ToUpper(issuerName)}, "another issuer"},
		{"iss begins alike", object{"iss": issuerName + ".evil.example"}, "another issuer"},
		{"iss is a list", object{"iss": []string{issuerName}}, "claim iss"},
		{"ISS for iss", object{"iss": nil, "ISS": issuerName}, "another issuer"},

		{"no aud", object{"aud": nil}, "another audience"},
		{"null aud", object{"aud": raw("null")}, "another audience"},
		{"empty aud", object{"aud": ""}, "another audience"},
		{"no aud in the list", object{"aud": []string{}}, "another audience"},
		{"empty aud in the list", object{"aud": []string{""}}, "another audience"},
		{"other aud", object{"aud": "https://charts.example.com"}, "another audience"},
		{"aud begins alike", object{"aud": audience + "/"}, "another audience"},
		{"aud in capitals", object{"aud": strings.ToUpper(audience)}, "another audience"},
		{"auds in one string", object{"aud": audience + " https://charts.example.com"}, "another audience"},
		{"issuer as aud", object{"aud": issuerName}, "another audience"},
		{"aud is a number", object{"aud": 1}, "claim aud"},
		{"aud is an object", object{"aud": object{audience: true}}, "claim aud"},
		{"aud has a number", object{"aud": []any{audience, 1}}, "claim aud"},
		{"aud has null", object{"aud": []any{audience, nil}}, "claim aud"},
		{"Aud for aud", object{"aud": nil, "Aud": audience}, "another audience"},

		{"no exp", object{"exp": nil}, "no exp"},
		{"null exp", object{"exp": raw("null")}, "no exp"},
		{"EXP for exp", object{"exp": nil, "EXP": now.Unix() + 600}, "no exp"},
		{"exp 0", object{"exp": 0}, "no exp"},
		{"exp negative", object{"exp": -1}, "no exp"},
		{"exp smallest", object{"exp": raw("-9223372036854775808")}, "no exp"},
		{"exp now", object{"exp": now.Unix()}, "expired"},
		{"exp long ago", object{"exp": 1}, "expired"},
		{"exp 1e400", object{"exp": raw("1e400")}, "claim exp"},
		{"exp 2^63", object{"exp": raw("9223372036854775808")}, "claim exp"},
		{"exp with a fraction", object{"exp": raw("99999999999.5")}, "claim exp"},
		{"exp in quotes", object{"exp": "99999999999"}, "claim exp"},
		{"exp true", object{"exp": true}, "claim exp"},

		{"no iat", object{"iat": nil}, "iat is missing or in the future"},
		{"iat 0", object{"iat": 0}, "iat is missing or in the future"},
		{"iat negative", object{"iat": -1}, "iat is missing or in the future"},
		{"iat ahead", object{"iat": now.Unix() + 2}, "iat is missing or in the future"},
		{"iat largest", object{"iat": raw("9223372036854775807")}, "iat is missing or in the future"},
		{"iat in quotes", object{"iat": "1"}, "claim iat"},

		{"nbf ahead", object{"nbf": now.Unix() + 1}, "not valid yet"},
		{"nbf in quotes", object{"nbf": "1"}, "claim nbf"},

		{"no sub", object{"sub": nil}, "lacks one of sub"},
		{"empty sub", object{"sub": ""}, "lacks one of sub"},
		{"no client_id", object{"client_id": nil}, "lacks one of sub, client_id"},
		{"no jti", object{"jti": nil}, "lacks one of sub, client_id and jti"},
		{"scope is a list", object{"scope": []string{"charts:read"}}, "claim scope"},
		{"scope with a control", object{"scope": "charts:read\n"}, "claim scope"},
		{"generation in quotes", object{"key_gen": "9"}, "claim key_gen"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, v, s.token(t, nil, c.claims), c.reason) })
	}
	for name, claims := range map[string]object{
		"exp in a second":    {"exp": now.Unix() + 1},
		"exp largest":        {"exp": raw("9223372036854775807")},
		"iat a second ahead": {"iat": now.Unix() + 1},
		"nbf now":            {"nbf": now.Unix()},
		"one aud in a list":  {"aud": []string{audience}},
		"no scope":           {"scope": nil},
		"EXP beside exp":     {"EXP": 1, "nbf": 0, "ISS": "x"},
		"further claims":     {"roles": []string{"x"}, "nested": object{"exp": 1}},
	} {
		t.Run(name, func(t *testing.T) { accepted(t, v, s.token(t, nil, claims)) })
	}
}

// A list of audiences is judged alike each time, wherever ours stands in it.
func TestVerifyManyAudiences(t *testing.T) {
	s := newES256(t)
	v := newVerifier(t, func(c *bearer.Config) { c.OtherAudiences = []string{"urn:example:old-name"} }, s)
	good := []string{
		s.token(t, nil, object{"aud": []string{"https://charts.example.com", audience, "urn:x"}}),
		s.token(t, nil, object{"aud": []string{"https://charts.example.com", "urn:x", "urn:example:old-name"}}),
		s.token(t, nil, object{"aud": "urn:example:old-name"}),
	}
	bad := s.token(t, nil, object{"aud": []string{"https://charts.example.com", "urn:x", "", issuerName}})
	for range 1000 / len(good) {
		for _, token := range good {
			accepted(t, v, token)
		}
		refused(t, v, bad, "another audience")
		if t.Failed() {
			return
		}
	}
}

func TestVerifyLeeway(t *testing.T) {
	s := newES256(t)
	clock := time.Unix(1_772_366_400, 0)
	v := newVerifier(t, func(c *bearer.Config) {
		c.Leeway, c.Now = 30*time.Second, func() time.Time { return clock }
	}, s)
	accepted(t, v, s.token(t, nil, object{"iat": clock.Unix() - 600, "exp": clock.Unix() - 29}))
	refused(t, v, s.token(t, nil, object{"iat": clock.Unix() - 600, "exp": clock.Unix() - 30}), "expired")
	accepted(t, v, s.token(t, nil, object{"iat": clock.Unix() + 31}))
	refused(t, v, s.token(t, nil, object{"iat": clock.Unix() + 32}), "in the future")

	token := s.token(t, nil, object{"iat": clock.Unix(), "exp": clock.Unix() + 10})
	clock = clock.Add(40*time.Second - 1)
	accepted(t, v, token)
	clock = clock.Add(1)
	refused(t, v, token, "expired")
}

func TestVerifyWithoutKeysIsNotARefusal(t *testing.T) {
	s, down := newES256(t), errors.New("no route to host")
	v := newVerifier(t, func(c *bearer.Config) {
		c.Keys = bearer.KeySetFunc(func(context.Context, string) (bearer.Key, error) { return bearer.Key{}, down })
	})
	_, err := v.Verify(t.Context(), s.token(t, nil, nil))
	if !errors.Is(err, down) || errors.Is(err, bearer.ErrInvalid) || !strings.Contains(err.Error(), issuerName) {
		t.Errorf("error %v; want the set's own", err)
	}
	// A set that answers with a key that nothing can be verified with.
	for _, broken := range []any{nil, "a string", []byte("secret"), struct{}{}} {
		v := newVerifier(t, func(c *bearer.Config) {
			c.Keys = bearer.KeySetFunc(func(_ context.Context, kid string) (bearer.Key, error) {
				return bearer.Key{ID: kid, Algorithm: jwk.ES256, Public: broken}, nil
			})
		})
		refused(t, v, s.token(t, nil, nil), "signature does not match")
	}
}

// asking are revocations that a function decides.
type asking func(kid string, claims *oauth.Claims) error

func (f asking) Revoked(_ context.Context, kid string, claims *oauth.Claims) error {
	return f(kid, claims)
}

func (f asking) Fresh(context.Context) error { return nil }

// Revocations are asked last, about good tokens only, and its answer counts.
func TestVerifyAsksForRevocations(t *testing.T) {
	s, down := newES256(t), errors.New("the feed is away")
	var answer error
	asked := 0
	v := newVerifier(t, func(c *bearer.Config) {
		c.Revocations = asking(func(kid string, claims *oauth.Claims) error {
			asked++
			if kid != s.public.ID || claims.ClientID != "tbk_1" || claims.KeyGeneration != 3 {
				t.Errorf("asked about %s, %+v", kid, claims)
			}
			return answer
		})
	}, s)
	good := s.token(t, nil, nil)
	accepted(t, v, good)
	answer = fmt.Errorf("key tbk_1: %w", bearer.ErrRevoked)
	refused(t, v, good, "it was revoked")
	answer = down
	if _, err := v.Verify(t.Context(), good); !errors.Is(err, down) || errors.Is(err, bearer.ErrInvalid) {
		t.Errorf("error %v; want the hook's own", err)
	}
	refused(t, v, s.token(t, nil, object{"aud": "other"}), "another audience")
	refused(t, v, newES256(t).token(t, object{"kid": s.public.ID}, nil), "signature does not match")
	if asked != 3 {
		t.Errorf("asked %d times, want for the good token only", asked)
	}
}

// An audience may be registered with tokens of typ JWT; each takes its own only.
func TestVerifyTakesOneType(t *testing.T) {
	s := newES256(t)
	plain := newVerifier(t, func(c *bearer.Config) { c.Type = oauth.PlainTokenType }, s)
	accepted(t, plain, s.token(t, object{"typ": "JWT"}, nil))
	accepted(t, plain, s.token(t, object{"typ": "jwt"}, nil))
	refused(t, plain, s.token(t, nil, nil), "its typ is not JWT")
	refused(t, plain, s.token(t, object{"typ": nil}, nil), "no typ")
}

func TestNewRefuses(t *testing.T) {
	good := bearer.Config{Issuer: issuerName, Audience: audience, Keys: keysOf()}
	for _, c := range []struct {
		name, mistake string
		change        func(*bearer.Config)
	}{
		{"no issuer", "Issuer is empty", func(c *bearer.Config) { c.Issuer = "" }},
		{"no audience", "an audience is empty", func(c *bearer.Config) { c.Audience = "" }},
		{"an empty further audience", "an audience is empty", func(c *bearer.Config) { c.OtherAudiences = []string{"urn:x", ""} }},
		{"only further audiences", "an audience is empty", func(c *bearer.Config) { c.Audience, c.OtherAudiences = "", []string{"urn:x"} }},
		{"keys from nowhere", "Issuer is not an https URL", func(c *bearer.Config) { c.Keys, c.Issuer = nil, "http://tokens.example.com" }},
		{"a realm that is none", "Realm has a quote", func(c *bearer.Config) { c.Realm = `a" error="` }},
		{"negative leeway", "Leeway -1s: use 0 to 1m0s", func(c *bearer.Config) { c.Leeway = -time.Second }},
		{"long leeway", "Leeway 1m0.000000001s", func(c *bearer.Config) { c.Leeway = bearer.MaxLeeway + 1 }},
		{"too large a cache", "CacheSize 1000001: use up to 1000000, 0 for 10000, or -1", func(c *bearer.Config) { c.CacheSize = bearer.MaxCacheSize + 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := good
			c.change(&config)
			if v, err := bearer.New(config); err == nil || v != nil || !strings.Contains(err.Error(), c.mistake) {
				t.Errorf("error %v; want one that says %q", err, c.mistake)
			}
		})
	}
	if _, err := bearer.New(good); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
}

// The caller may go on using its slices.
func TestNewKeepsItsOwnAudiences(t *testing.T) {
	s := newES256(t)
	others := append(make([]string, 0, 8), "urn:example:a")
	v := newVerifier(t, func(c *bearer.Config) { c.OtherAudiences = others }, s)
	others[0] = "urn:example:b"
	refused(t, v, s.token(t, nil, object{"aud": "urn:example:b"}), "another audience")
	accepted(t, v, s.token(t, nil, object{"aud": "urn:example:a"}))
}
