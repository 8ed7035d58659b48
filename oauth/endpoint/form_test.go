package endpoint_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// Parameters are found by their whole name, the first of several first.
func TestParameters(t *testing.T) {
	const body = "resource=z&scope=s&audience=&resource=a&client_id=c&resources=x&resource="
	for name, want := range map[string][]string{
		"resource": {"z", "a"}, "scope": {"s"}, "audience": nil, "client_id": {"c"}, "resources": {"x"}, "r": nil, "": nil, "zz": nil,
	} {
		first, all := endpoint.Get(body, name)
		if !slices.Equal(all, want) || first != append(slices.Clone(want), "")[0] {
			t.Errorf("%q: %q, %q; want %q", name, first, all, want)
		}
	}
}

// A form of credentials is one list; one of as many parameters as fit is read in time.
func TestFormsAllocateLittle(t *testing.T) {
	body := "grant_type=client_credentials&client_id=tbk_1&client_secret=tbs_1&scope=collectors:read"
	n := testing.AllocsPerRun(100, func() { endpoint.ReadForm(body) })
	if n > 1 {
		t.Errorf("%v objects", n)
	}
	var many strings.Builder
	for i := range endpoint.MaxBody / 4 {
		many.WriteString(string([]byte{'a' + byte(i%26), 'a' + byte(i/26%26), 'a' + byte(i/26/26), '&'}))
	}
	if _, err := endpoint.ParseForm(many.String()); err != nil {
		t.Error(err)
	}
}
