package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/policy"
)

func TestCheckURI(t *testing.T) {
	for uri, mistake := range map[string]string{
		"https://api.example.com":        "",
		"http://localhost:8080":          "",
		"https://api.example.com/v1?a=b": "",
		"https://[2001:db8::1]:8443/":    "",
		"urn:example:alerts":             "",
		"api:charts":                     "",
		"HTTPS://api.example.com":        "",
		"":                               "absolute URI",
		"api":                            "absolute URI",
		"api.example.com":                "absolute URI",
		"/v1":                            "absolute URI",
		"//api.example.com":              "absolute URI",
		"https:":                         "absolute URI",
		"https://":                       "absolute URI",
		"https:///v1":                    "absolute URI",
		"://x":                           "absolute URI",
		"1http://x":                      "absolute URI",
		"https://a:port":                 "absolute URI",
		"https://a%zz":                   "absolute URI",
		"https://api.example.com\n":      "absolute URI",
		"https://api.example.com#f":      "fragment",
		"https://api.example.com#":       "fragment",
		"urn:example:alerts#f":           "fragment",
		"https://api.example.com/a b":    "printable ASCII",
		"https://api.example.com/\u00e9": "printable ASCII",
		"https://\u00e9.example.com":     "printable ASCII",
		`https://api.example.com/"x"`:    "printable ASCII",
		`https://api.example.com/a\b`:    "printable ASCII",
	} {
		err := policy.CheckURI(uri)
		if mistake == "" {
			if err != nil {
				t.Errorf("%q: %v", uri, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), mistake) {
			t.Errorf("%q: error %v; want one that says %q", uri, err, mistake)
		}
	}
}

func TestCheckURIDoesNotQuote(t *testing.T) {
	for _, uri := range []string{"hunter2", "https://hunter2#f", "https://hunter2/ ", "https://hunter2:port"} {
		if err := policy.CheckURI(uri); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: error %v", uri, err)
		}
	}
}

func TestNewAudiences(t *testing.T) {
	api, charts := policy.Audience{Name: "https://api.example.com"}, policy.Audience{Name: "https://charts.example.com"}
	a, err := policy.NewAudiences(issuer, charts.Name, []policy.Audience{api, charts})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{issuer, api.Name, charts.Name}; !slices.Equal(a.Names(), want) || a.Default() != charts.Name {
		t.Errorf("Names %q, Default %q", a.Names(), a.Default())
	}
	a.Names()[0] = "changed"
	if a.Names()[0] != issuer || !a.Known(issuer) || a.Known("https://API.example.com") || a.Known("") {
		t.Errorf("Known, or Names gives its own memory away: %q", a.Names())
	}
	if a, err := policy.NewAudiences(issuer, "", []policy.Audience{api}); err != nil || a.Default() != issuer {
		t.Errorf("without a default: %v, %v", a, err)
	}
	for _, c := range []struct {
		issuer, fallback string
		servers          []policy.Audience
		mistake          string
	}{
		{"a b", "", nil, `the audience "a b": want an absolute URI`},
		{issuer, "", []policy.Audience{{Name: ""}}, `the audience "": want`},
		{issuer, "", []policy.Audience{api, api}, "registered twice"},
		{issuer, "", []policy.Audience{{Name: issuer}}, "registered twice (the issuer always is)"},
		{issuer, charts.Name, []policy.Audience{api}, "the default audience \"https://charts.example.com\" is not registered: registered are " + issuer + ", " + api.Name},
	} {
		if _, err := policy.NewAudiences(c.issuer, c.fallback, c.servers); err == nil || !strings.Contains(err.Error(), c.mistake) {
			t.Errorf("error %v; want one that says %q", err, c.mistake)
		}
	}
}

func TestCarriers(t *testing.T) {
	t.Parallel()
	audiences, err := policy.NewAudiences("https://login.example.com", "", []policy.Audience{{Name: "a", Resources: []string{"collectors"}}, {Name: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	for scope, want := range map[string][]string{
		"collectors:read": {"https://login.example.com", "a", "b"},
		"pipelines:read":  {"https://login.example.com", "b"},
		"members:read":    {"https://login.example.com"},
	} {
		if got := audiences.Carriers(scope); !slices.Equal(got, want) {
			t.Errorf("%s is carried by %v, want %v", scope, got, want)
		}
	}
}
