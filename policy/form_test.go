package policy_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
)

func TestProfiles(t *testing.T) {
	want := map[string]policy.Form{
		"generic":    {Algorithm: "ES256", Type: "at+jwt"},
		"spring":     {Algorithm: "RS256", Type: "JWT"},
		"aws":        {Algorithm: "RS256", Type: "at+jwt"},
		"kubernetes": {Algorithm: "RS256", Type: "at+jwt"},
		"postgrest":  {Algorithm: "ES256", Type: "at+jwt", Claims: `"role":"automation"`},
		"hasura": {Algorithm: "ES256", Type: "at+jwt",
			Claims: `"https://hasura.io/jwt/claims":{"x-hasura-allowed-roles":["automation"],"x-hasura-default-role":"automation"}`},
	}
	if len(policy.Profiles()) != len(want) {
		t.Errorf("the profiles are %v", policy.Profiles())
	}
	for _, name := range policy.Profiles() {
		if form, err := policy.NewForm(policy.FormOptions{Profile: name}); err != nil || form != want[name] {
			t.Errorf("%s: %+v, %v; want %+v", name, form, err, want[name])
		}
	}
	if form, err := policy.NewForm(policy.FormOptions{}); err != nil || form != want["generic"] {
		t.Errorf("no profile: %+v, %v", form, err)
	}
}

func TestNewForm(t *testing.T) {
	form, err := policy.NewForm(policy.FormOptions{
		Profile: "postgrest", Algorithm: "EdDSA", Type: "JWT",
		Claims: map[string]any{"role": "web", "groups": []any{"a", "b"}, "level": 3},
	})
	want := policy.Form{Algorithm: "EdDSA", Type: "JWT", Claims: `"groups":["a","b"],"level":3,"role":"web"`}
	if err != nil || form != want {
		t.Errorf("%+v, %v; want %+v", form, err, want)
	}
	if !json.Valid([]byte("{" + form.Claims + "}")) {
		t.Errorf("the claims are no members of an object: %s", form.Claims)
	}
	for _, test := range []struct {
		options policy.FormOptions
		says    []string
	}{
		{policy.FormOptions{Profile: "kong"}, []string{`the profile "kong": choose one of aws, generic, hasura`}},
		{policy.FormOptions{Algorithm: "HS256", Type: "jwt"}, []string{`the algorithm "HS256": choose one of ES256, RS256, EdDSA`, `the type "jwt": choose one of at+jwt, JWT`}},
		{policy.FormOptions{Algorithm: "none"}, []string{`the algorithm "none"`}},
		{policy.FormOptions{Claims: map[string]any{"": 1}}, []string{`the claim ""`}},
		{policy.FormOptions{Claims: map[string]any{"a": strings.Repeat("x", 1024)}}, []string{"the claims take 1032 bytes: 1024 are allowed"}},
		{policy.FormOptions{Claims: map[string]any{"a": func() {}}}, []string{"the claims:"}},
	} {
		form, err := policy.NewForm(test.options)
		for _, says := range test.says {
			if err == nil || !strings.Contains(err.Error(), says) || form != (policy.Form{}) {
				t.Errorf("%+v: %+v, %v; want an error that says %q", test.options, form, err, says)
			}
		}
	}
	// Whose a token is and what it may do is not for the configuration to say.
	for _, name := range []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "scp", "client_id", "workspace", "workspace_id", "key_gen", "sub_gen", "ws_gen", "cnf", "act", "azp", "EXP", "Scope"} {
		if _, err := policy.NewForm(policy.FormOptions{Claims: map[string]any{name: "x"}}); err == nil || !strings.Contains(err.Error(), "cannot be set") {
			t.Errorf("the claim %s: %v", name, err)
		}
	}
}

// Audiences that want different tokens cannot share one.
func TestFormOfSeveralAudiences(t *testing.T) {
	form := func(profile string) policy.Form {
		f, err := policy.NewForm(policy.FormOptions{Profile: profile})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, err := policy.NewAudiences(issuer, "", []policy.Audience{
		{Name: "api"}, {Name: "spring", Form: form("spring")}, {Name: "boot", Form: form("spring")}, {Name: "rest", Form: form("postgrest")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		chosen []string
		want   string // the profile
	}{
		{[]string{issuer}, "generic"},
		{[]string{issuer, "api"}, "generic"},
		{[]string{"spring", "boot"}, "spring"},
		{[]string{"spring", "api"}, ""},
		{[]string{"api", "rest"}, ""},
	} {
		got, err := a.Form(test.chosen)
		if test.want == "" {
			if !errors.Is(err, policy.ErrAudience) || !strings.Contains(err.Error(), "ask for one of them at a time") {
				t.Errorf("%v: %v", test.chosen, err)
			}
			continue
		}
		if err != nil || got != form(test.want) {
			t.Errorf("%v: %+v, %v", test.chosen, got, err)
		}
	}
	if got := a.Algorithms(); !slices.Equal(got, []string{"ES256", "RS256"}) {
		t.Errorf("algorithms: %v", got)
	}
	if got := a.OfType("JWT"); !slices.Equal(got, []string{"spring", "boot"}) {
		t.Errorf("of type JWT: %v", got)
	}
	if got := a.OfType("at+jwt"); !slices.Equal(got, []string{issuer, "api", "rest"}) {
		t.Errorf("of type at+jwt: %v", got)
	}
}

// No row of the database makes a token that outlives what the rotation of
// signing keys counts on.
func TestNoTokenOutlivesTheBound(t *testing.T) {
	catalogue, err := policy.NewCatalogue(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	audiences, err := policy.NewAudiences(issuer, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &policy.Policy{Catalogue: catalogue, Audiences: audiences, TokenTTL: 24 * time.Hour}
	now := time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, own := range []time.Duration{0, 48 * time.Hour} {
		r := &keys.Record{}
		r.TokenTTL = own
		granted, err := p.Decide(&everything, r, policy.Request{}, now)
		if err != nil || granted.TTL != keys.MaxTokenTTL {
			t.Errorf("a token of %s: it lives for %s, %v", own, granted.TTL, err)
		}
	}
}
