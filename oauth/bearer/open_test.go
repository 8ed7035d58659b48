package bearer_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// Open says who signed a token, whatever the token says of itself.
func TestOpen(t *testing.T) {
	s, stranger := newES256(t), newES256(t)
	for name, token := range map[string]string{
		"good":         s.token(t, nil, nil),
		"another typ":  s.token(t, object{"typ": "JWT"}, nil),
		"expired":      s.token(t, nil, object{"exp": 1}),
		"from nowhere": s.token(t, nil, object{"iss": "https://else.example.com", "aud": nil, "exp": nil, "iat": nil}),
		"no object":    s.sign(t, encodeJSON(t, s.header()), encode("hello")),
	} {
		kid, payload, err := bearer.Open(t.Context(), keysOf(s), token)
		if err != nil || kid != s.public.ID || encode(payload) != strings.Split(token, ".")[1] {
			t.Errorf("%s: %q %q, %v", name, kid, payload, err)
		}
	}
	whole := s.token(t, nil, nil)
	for name, token := range map[string]string{
		"nothing":            "",
		"two parts":          whole[:strings.LastIndexByte(whole, '.')],
		"too long":           s.token(t, nil, object{"note": strings.Repeat("a", bearer.MaxTokenLength)}),
		"padded":             whole + "=",
		"crit":               s.token(t, object{"crit": []string{"exp"}}, nil),
		"b64":                s.token(t, object{"b64": true}, nil),
		"zip":                s.token(t, object{"zip": "DEF"}, nil),
		"no typ":             s.token(t, object{"typ": nil}, nil),
		"no kid":             s.token(t, object{"kid": nil}, nil),
		"none":               s.token(t, object{"alg": "none"}, nil),
		"another alg":        s.token(t, object{"alg": "EdDSA"}, nil),
		"an unknown key":     stranger.token(t, nil, nil),
		"signed by another":  stranger.token(t, object{"kid": s.public.ID}, nil),
		"another's contents": withBody(whole, s.token(t, nil, object{"sub": "sa_2"})),
	} {
		if kid, payload, err := bearer.Open(t.Context(), keysOf(s), token); !errors.Is(err, bearer.ErrInvalid) || kid != "" || payload != nil {
			t.Errorf("%s: %q %q, %v", name, kid, payload, err)
		}
	}
	away := errors.New("away")
	none := bearer.KeySetFunc(func(context.Context, string) (bearer.Key, error) { return bearer.Key{}, away })
	if _, _, err := bearer.Open(t.Context(), none, whole); !errors.Is(err, away) || errors.Is(err, bearer.ErrInvalid) {
		t.Errorf("without keys: %v", err)
	}
}

// withBody puts the payload of one token into another.
func withBody(token, other string) string {
	parts := strings.Split(token, ".")
	return parts[0] + "." + strings.Split(other, ".")[1] + "." + parts[2]
}
