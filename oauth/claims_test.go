package oauth_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/oauth"
)

func claims() *rapid.Generator[oauth.Claims] {
	return rapid.Custom(func(t *rapid.T) oauth.Claims {
		text := func(name string) string { return rapid.String().Draw(t, name) }
		number := func(name string) int64 { return rapid.Int64().Draw(t, name) }
		return oauth.Claims{
			Issuer: text("iss"), Subject: text("sub"), ClientID: text("client_id"), ID: text("jti"),
			Audience: rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "aud"),
			Expiry:   number("exp"), IssuedAt: number("iat"),
			Scope:       oauth.NewScope(rapid.SliceOfN(rapid.StringMatching(`[!#-\[\]-~]{1,9}`), 1, 4).Draw(t, "scope")...),
			WorkspaceID: text("workspace_id"), Workspace: text("workspace"),
			KeyGeneration: number("key_gen"), SubjectGeneration: number("sub_gen"), WorkspaceGeneration: number("ws_gen"),
		}
	})
}

func TestClaimsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := claims().Draw(t, "claims")
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := oauth.ParseClaims(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(&c, back); diff != "" {
			t.Fatalf("%s: %s", text, diff)
		}
	})
}

func TestClaimsOnTheWire(t *testing.T) {
	c := oauth.Claims{
		Issuer: "https://i", Subject: "sa_1", Audience: oauth.Audience{"https://a"}, ClientID: "tbk_1", Expiry: 2, IssuedAt: 1, ID: "j",
		Scope: oauth.NewScope("b:read", "a:read"), WorkspaceID: "ws_1", Workspace: "acme", KeyGeneration: 3, SubjectGeneration: 4, WorkspaceGeneration: 5,
	}
	const want = `{"iss":"https://i","sub":"sa_1","aud":"https://a","client_id":"tbk_1","exp":2,"iat":1,"jti":"j","scope":"a:read b:read",` +
		`"workspace_id":"ws_1","workspace":"acme","key_gen":3,"sub_gen":4,"ws_gen":5}`
	if text, err := json.Marshal(c); err != nil || string(text) != want {
		t.Errorf("one audience: %s, %v; want %s", text, err, want)
	}
	c.Audience = oauth.Audience{"https://a", "https://b"}
	if text, err := json.Marshal(c); err != nil || !strings.Contains(string(text), `"aud":["https://a","https://b"]`) {
		t.Errorf("two audiences: %s, %v; want an array", text, err)
	}
}

func TestParseClaimsTakesExactNames(t *testing.T) {
	c, err := oauth.ParseClaims([]byte(`{"EXP":9,"Exp":9,"ISS":"x","Sub":"x","AUD":"x","SCOPE":"x","clientId":"x","unknown":{"exp":9}}`))
	if diff := cmp.Diff(&oauth.Claims{}, c); err != nil || diff != "" {
		t.Errorf("names of another case count: %v %s", err, diff)
	}
	c, err = oauth.ParseClaims([]byte(`{"exp":1,"EXP":9}`))
	if err != nil || c.Expiry != 1 {
		t.Errorf("exp beside EXP: %+v, %v", c, err)
	}
}

func TestParseClaimsRefuses(t *testing.T) {
	for text, mistake := range map[string]string{
		`{"exp":1,"exp":2}`:           "twice",
		`[]`:                          "not a JSON object",
		`{"exp":"1"}`:                 "claim exp",
		`{"exp":1e400}`:               "claim exp",
		`{"exp":1.5}`:                 "claim exp",
		`{"exp":9223372036854775808}`: "claim exp",
		`{"exp":true}`:                "claim exp",
		`{"iat":[]}`:                  "claim iat",
		`{"iss":1}`:                   "claim iss",
		`{"iss":["https://i"]}`:       "claim iss",
		`{"sub":{}}`:                  "claim sub",
		`{"scope":["a:read"]}`:        "claim scope",
		`{"scope":"a  b"}`:            "claim scope",
		`{"key_gen":"1"}`:             "claim key_gen",
		`{"aud":1}`:                   "claim aud",
		`{"aud":{"a":1}}`:             "claim aud",
		`{"aud":["a",1]}`:             "claim aud",
		`{"aud":["a",null]}`:          "claim aud",
		`{"aud":[["a"]]}`:             "claim aud",
		`{"aud":true}`:                "claim aud",
	} {
		if c, err := oauth.ParseClaims([]byte(text)); err == nil || c != nil || !strings.Contains(err.Error(), mistake) {
			t.Errorf("%s: %+v, error %v; want one that says %q", text, c, err, mistake)
		}
	}
	if _, err := oauth.ParseClaims([]byte(`null`)); !errors.Is(err, oauth.ErrObject) {
		t.Errorf("null: error %v, want ErrObject", err)
	}
}

func TestAudience(t *testing.T) {
	for text, want := range map[string][]string{
		`"https://a"`:               {"https://a"},
		`""`:                        {""},
		`["https://a"]`:             {"https://a"},
		`["https://a","https://b"]`: {"https://a", "https://b"},
		`[]`:                        nil,
		`null`:                      nil,
	} {
		c, err := oauth.ParseClaims([]byte(`{"aud":` + text + `}`))
		if err != nil {
			t.Errorf("aud %s: %v", text, err)
		} else if !slices.Equal(c.Audience, want) {
			t.Errorf("aud %s: %q, want %q", text, c.Audience, want)
		}
	}
}

func FuzzParseClaims(f *testing.F) {
	for _, s := range []string{
		`{"iss":"https://i","sub":"s","aud":"a","client_id":"k","exp":2,"iat":1,"jti":"j","scope":"a:read"}`,
		`{"aud":["a","b"],"EXP":1}`, `{"aud":null,"exp":null}`, `{"exp":1e3}`, `{"exp":-0}`, `{"scope":""}`, `{}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := oauth.ParseClaims(payload)
		if err != nil {
			if c != nil {
				t.Fatalf("%+v beside the error %v", c, err)
			}
			return
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := oauth.ParseClaims(text)
		if err != nil {
			t.Fatalf("%s, which %q gave: %v", text, payload, err)
		}
		empty := cmp.Transformer("", func(a oauth.Audience) []string { return append([]string{}, a...) })
		if diff := cmp.Diff(c, again, empty); diff != "" {
			t.Fatalf("%q gives %s: %s", payload, text, diff)
		}
	})
}
