package oauth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
)

func TestParseObject(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	for _, c := range []struct {
		name, in string
		members  string // their sorted names; "-": refused
	}{
		{"empty", `{}`, ""},
		{"white space", " \t\r\n{ \"a\" : 1 , \"b\" : { } }\n", "a b"},
		{"case makes two members", `{"exp":1,"EXP":2,"Exp":3}`, "EXP Exp exp"},
		{"empty name", `{"":1}`, ""},
		{"duplicates further down are the value's business", `{"a":{"b":1,"b":2}}`, "a"},
		{"null", `{"a":null}`, "a"},
		{"deep", deep(9000), "a"},

		{"duplicate", `{"a":1,"a":1}`, "-"},
		{"duplicate by escape", `{"a":1,"\u0061":1}`, "-"},
		{"duplicate, later", `{"a":1,"b":2,"c":3,"a":4}`, "-"},
		{"too deep", deep(20_000), "-"},
		{"nothing", ``, "-"},
		{"only white space", "  \n", "-"},
		{"array", `[]`, "-"},
		{"array of pairs", `["a",1]`, "-"},
		{"null itself", `null`, "-"},
		{"string", `"{}"`, "-"},
		{"number", `1`, "-"},
		{"unclosed", `{"a":1`, "-"},
		{"cut in a string", `{"a":"b`, "-"},
		{"cut after the colon", `{"a":`, "-"},
		{"closed by a bracket", `{"a":1]`, "-"},
		{"trailing comma", `{"a":1,}`, "-"},
		{"leading comma", `{,"a":1}`, "-"},
		{"two commas", `{"a":1,,"b":2}`, "-"},
		{"no comma", `{"a":1 "b":2}`, "-"},
		{"no colon", `{"a" 1}`, "-"},
		{"two colons", `{"a"::1}`, "-"},
		{"name without quotes", `{a:1}`, "-"},
		{"name in single quotes", `{'a':1}`, "-"},
		{"name is a number", `{1:1}`, "-"},
		{"comment", `{/**/}`, "-"},
		{"NaN", `{"a":NaN}`, "-"},
		{"byte order mark", "\ufeff{}", "-"},
		{"trailing object", `{}{}`, "-"},
		{"trailing brace", `{}}`, "-"},
		{"trailing text", `{} x`, "-"},
		{"trailing NUL", "{}\x00", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			members, err := oauth.ParseObject([]byte(c.in))
			if c.members == "-" {
				if !errors.Is(err, oauth.ErrObject) || members != nil {
					t.Errorf("%d members, error %v; want ErrObject", len(members), err)
				}
				return
			}
			if names := strings.Join(slices.Sorted(maps.Keys(members)), " "); err != nil || names != c.members {
				t.Errorf("members %q, error %v; want %q", names, err, c.members)
			}
		})
	}
}

func TestParseObjectDoesNotQuote(t *testing.T) {
	const secret = "hunter2"
	for _, in := range []string{`{"hunter2":1,"hunter2":2}`, `{"a":hunter2}`, `hunter2`, `{} hunter2`, `{"hunter2`, `{"a":1,hunter2`} {
		if _, err := oauth.ParseObject([]byte(in)); err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "'h'") {
			t.Errorf("%s: error %v; want one that does not quote", in, err)
		}
	}
}

// What ParseObject accepts is what encoding/json reads as an object, without the
// objects in which a name appears twice.
func FuzzParseObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, `{"a":{"b":[null,true,1e9,"\u0000"]}}`, `{"a":1,"a":2}`, `{"a":1,}`, `{} `, `{}x`, `[]`, `{"\ud800":1}`, "{\"\xff\":1}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		members, err := oauth.ParseObject(text)
		var want map[string]json.RawMessage
		errWant := json.Unmarshal(text, &want)
		if err != nil {
			if !errors.Is(err, oauth.ErrObject) {
				t.Fatalf("error %v", err)
			}
			if errWant == nil && want != nil && countMembers(t, text) == len(want) {
				t.Fatalf("%q was refused: %v", text, err)
			}
			return
		}
		if errWant != nil || !maps.EqualFunc(members, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("%q: members %q, want %q, %v", text, members, want, errWant)
		}
		if n := countMembers(t, text); n != len(members) {
			t.Fatalf("%q: %d members of %d", text, len(members), n)
		}
	})
}

// countMembers counts the members of a valid object, duplicates too: the colons
// outside of strings and of nested values.
func countMembers(t *testing.T, text []byte) (n int) {
	t.Helper()
	var depth int
	var quoted, escaped bool
	for _, b := range text {
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = b == '\\', b != '"'
		case b == '"':
			quoted = true
		case b == '{' || b == '[':
			depth++
		case b == '}' || b == ']':
			depth--
		case b == ':' && depth == 1:
			n++
		}
	}
	return n
}
