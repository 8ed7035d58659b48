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

func TestParseScope(t *testing.T) {
	numbered := func(n int) string {
		tokens := make([]string, n)
		for i := range tokens {
			tokens[i] = "r:" + strings.Repeat("a", i/26) + string(rune('a'+i%26))
		}
		return strings.Join(tokens, " ")
	}
	for _, c := range []struct {
		name, in, want string
		mistake        string // in the error; empty: there is none
	}{
		{"empty", "", "", ""},
		{"one", "collectors:read", "collectors:read", ""},
		{"sorted", "b:read a:read", "a:read b:read", ""},
		{"each once", "a:read b:read a:read", "a:read b:read", ""},
		{"case counts", "a:READ a:read", "a:READ a:read", ""},
		{"any printable", "!#[]^~ https://x/y?z=1&a='b'", "!#[]^~ https://x/y?z=1&a='b'", ""},
		{"longest", strings.Repeat("x", oauth.MaxScopeLength), strings.Repeat("x", oauth.MaxScopeLength), ""},
		{"space before", " a:read", "", "exactly one space"},
		{"space after", "a:read ", "", "exactly one space"},
		{"two spaces", "a:read  b:read", "", "exactly one space"},
		{"only a space", " ", "", "exactly one space"},
		{"tab", "a:read\tb:read", "", "token 1 has a character that is not allowed at position 7"},
		{"line end", "a:read\n", "", "position 7"},
		{"comma is a character", "a:read,b:read", "a:read,b:read", ""},
		{"double quote", `a:read b:"x"`, "", "token 2 has a character that is not allowed at position 3"},
		{"backslash", `a\b`, "", "position 2"},
		{"NUL", "a\x00", "", "position 2"},
		{"DEL", "a\x7f", "", "position 2"},
		{"not ASCII", "é:read", "", "position 1"},
		{"not UTF-8", "a\xff", "", "position 2"},
		{"too long", strings.Repeat("x", oauth.MaxScopeLength+1), "", "4097 bytes long; at most 4096"},
		{"most tokens", numbered(oauth.MaxScopeTokens), numbered(oauth.MaxScopeTokens), ""},
		{"too many tokens", numbered(oauth.MaxScopeTokens + 1), "", "257 tokens; at most 256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := oauth.ParseScope(c.in)
			if c.mistake == "" {
				if want := oauth.NewScope(strings.Fields(c.want)...); err != nil || !slices.Equal(got, want) {
					t.Errorf("ParseScope: %q, %v; want %q", got, err, want)
				}
				return
			}
			if !errors.Is(err, oauth.ErrScopeSyntax) || !strings.Contains(err.Error(), c.mistake) || got != nil {
				t.Errorf("ParseScope: %q, error %v; want one that says %q", got, err, c.mistake)
			}
		})
	}
}

// scopes generates small sets over few tokens, so that they overlap.
func scopes() *rapid.Generator[oauth.Scope] {
	token := rapid.SampledFrom([]string{"a:read", "a:create", "b:read", "b:delete", "c", "d:e:f", "A:read"})
	return rapid.Map(rapid.SliceOfN(token, 0, 8), func(tokens []string) oauth.Scope { return oauth.NewScope(tokens...) })
}

func TestScopeIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, u := scopes().Draw(t, "s"), scopes().Draw(t, "u")
		before := slices.Clone(s)
		both, either, only := s.Intersect(u), s.Union(u), s.Minus(u)
		for token := range slices.Values(slices.Concat(s, u, oauth.Scope{"z", ""})) {
			inS, inU := slices.Contains(s, token), slices.Contains(u, token)
			if s.Has(token) != inS || both.Has(token) != (inS && inU) || either.Has(token) != (inS || inU) || only.Has(token) != (inS && !inU) {
				t.Fatalf("%q: s %q, u %q: both %q, either %q, only s %q", token, s, u, both, either, only)
			}
		}
		for _, set := range []oauth.Scope{s, both, either, only} {
			if !slices.IsSorted(set) || len(slices.Compact(slices.Clone(set))) != len(set) {
				t.Fatalf("%q is not a sorted set", []string(set))
			}
		}
		if s.Contains(u) != (len(either) == len(s)) || !s.Contains(both) || !either.Contains(s) || !s.Contains(nil) {
			t.Fatalf("Contains: s %q, u %q", s, u)
		}
		if !slices.Equal(s, before) {
			t.Fatalf("s was changed from %q to %q", before, s)
		}
	})
}

func TestNewScopeKeepsItsArguments(t *testing.T) {
	tokens := []string{"b", "a", "b"}
	if got := oauth.NewScope(tokens...); !slices.Equal(got, oauth.Scope{"a", "b"}) || !slices.Equal(tokens, []string{"b", "a", "b"}) {
		t.Errorf("NewScope: %q, and its arguments are now %q", got, tokens)
	}
}

func TestScopeJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := scopes().Draw(t, "s")
		text, err := json.Marshal(s)
		if err != nil || string(text) != `"`+s.String()+`"` {
			t.Fatalf("Marshal %q: %s, %v", s, text, err)
		}
		var back oauth.Scope
		if err := json.Unmarshal(text, &back); err != nil || !slices.Equal(back, s) {
			t.Fatalf("Unmarshal %s: %q, %v", text, back, err)
		}
	})
	for _, text := range []string{`["a:read"]`, `1`, `{}`, `" a"`, `"a  b"`, `"\n"`} {
		kept := oauth.NewScope("kept")
		if err := json.Unmarshal([]byte(text), &kept); err == nil || !kept.Has("kept") {
			t.Errorf("Unmarshal %s: %q, %v; want an error", text, kept, err)
		}
	}
}

func FuzzParseScope(f *testing.F) {
	for _, s := range []string{"", "a:read", "b a b", " a", "a  b", "a\tb", `"`, "\\", "é", "\xff", "~ !"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := oauth.ParseScope(text)
		if err != nil {
			if !errors.Is(err, oauth.ErrScopeSyntax) || s != nil {
				t.Fatalf("%q, %v", s, err)
			}
			return
		}
		again, err := oauth.ParseScope(s.String())
		if err != nil || !slices.Equal(again, s) {
			t.Fatalf("%q gives %q, which reads as %q, %v", text, s, again, err)
		}
		want := slices.Compact(slices.Sorted(slices.Values(strings.Split(text, " "))))
		if text == "" {
			want = nil
		}
		if diff := cmp.Diff(want, []string(s)); diff != "" {
			t.Fatal(diff)
		}
	})
}
