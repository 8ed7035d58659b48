package endpoint_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// repeats says whether a parameter may have several values.
func repeats(name string) bool { return name == "resource" || name == "audience" }

// checkParameters holds for whatever a parser accepts or refuses.
func checkParameters(t *testing.T, parameters map[string][]string, err error) {
	t.Helper()
	var wire *oauth.Error
	if err != nil && (!errors.As(err, &wire) || wire.Status != http.StatusBadRequest || !printable.MatchString(wire.Description)) {
		t.Errorf("the error is %v", err)
	}
	for name, values := range parameters {
		if slices.Contains(values, "") || len(values) == 0 || (len(values) > 1 && !repeats(name)) {
			t.Errorf("%q has the values %q", name, values)
		}
	}
}

// FuzzForm: what is read from a form is what is in it, once.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{"", "grant_type=client_credentials&client_id=a&client_secret=b", "a=1&a=2", "resource=x&resource=y", "a=%zz", "a;b", "=", "&&", "%00=%ff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		parameters, err := endpoint.ParseForm(body)
		checkParameters(t, parameters, err)
		if err != nil {
			return
		}
		again, err := endpoint.ParseForm(url.Values(parameters).Encode())
		if err != nil || !equalParameters(parameters, again) {
			t.Errorf("%q reads as %q and then as %q: %v", body, parameters, again, err)
		}
	})
}

// FuzzQuery: our reading of a form is that of net/url, values without a name and
// names without a value among them.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "&", "=", "=&=", "a", "a=", "=a", "a=b=c", "a=1&b=2&a=3", "a=1&&b=2&", "a+b=c+d", "+", "%41=%42", "a=%", "a=%4", "%zz=1", "a=%zz&b=%41",
		"a;b", "a=1;b=2", "a=1&b;c&d=2", "a=%3B", "a=%26%3d%25", "\x00=\xff", "a=\n", "é=ü", "a= b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		want, wantErr := url.ParseQuery(query)
		got, err := endpoint.ParseQuery(query)
		switch {
		case (err == nil) != (wantErr == nil):
			t.Errorf("%q: %v, and net/url says %v", query, err, wantErr)
		case err == nil && !maps.EqualFunc(got, want, slices.Equal):
			t.Errorf("%q reads as %q, and by net/url as %q", query, got, want)
		}
	})
}

func equalParameters(a, b map[string][]string) bool {
	return len(a) == len(b) && url.Values(a).Encode() == url.Values(b).Encode()
}

// FuzzJSON: what is read from an object is what encoding/json finds in it.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"clientId":"a","clientSecret":"b"}`, `{"client_id":"a","grant_type":"client_credentials"}`, `{"a":1,"a":2}`,
		`{"resource":["x","y"]}`, `{"scope":null}`, `{"scope":["a"]}`, `[]`, `{"a":{"b":[]}}`, `{"clientId":"a","client_id":"b"}`, `{"resource":[""]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		parameters, err := endpoint.ParseJSON(body)
		checkParameters(t, parameters, err)
		if err != nil {
			return
		}
		var members map[string]any
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatalf("%q is not an object: %v", body, err)
		}
		for member, name := range map[string]string{
			"client_id": "client_id", "clientId": "client_id", "client_secret": "client_secret", "clientSecret": "client_secret", "scope": "scope",
		} {
			if want, ok := members[member].(string); ok && want != "" && !slices.Equal(parameters[name], []string{want}) {
				t.Errorf("%q: %s is %q, want %q", body, name, parameters[name], want)
			}
		}
	})
}

// FuzzBasic: what is read from a header gives, written again, the same.
func FuzzBasic(f *testing.F) {
	for _, seed := range []string{"", "Basic", "Basic YTpi", "basic  YTpi", "Bearer YTpi", "Basic YTo6Yg==", "Basic !", "Basic JTQxOiU0Mg=="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authorization string) {
		id, secret, ok := endpoint.ParseBasic(authorization)
		if !ok {
			return
		}
		if !strings.HasPrefix(strings.ToLower(authorization), "basic ") {
			t.Errorf("%q was read as Basic", authorization)
		}
		text := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
		again, secretAgain, ok := endpoint.ParseBasic("Basic " + base64.StdEncoding.EncodeToString([]byte(text)))
		if !ok || again != id || secretAgain != secret {
			t.Errorf("%q reads as %q, %q and then as %q, %q", authorization, id, secret, again, secretAgain)
		}
	})
}

// FuzzLogin sends anything at all to the token endpoint: it answers JSON that is
// not stored, with no server error, and never repeats a secret (send checks all
// but the status). A placeholder in the input stands for the right credentials.
func FuzzLogin(f *testing.F) {
	b := newBooth(f, options{idle: true})
	good := "grant_type=client_credentials&client_id=ID&client_secret=SECRET"
	for _, seed := range [][3]string{
		{formType, good, ""}, {formType, "grant_type=client_credentials", "Basic SUQ6U0VDUkVU"}, {formType, good + "&scope=SECRET", ""},
		{formType, good + "&audience=https://xSECRETx", ""}, {formType, good + "&resource=SECRET:a&scope=collectors:SECRET", ""},
		{"application/json", `{"clientId":"ID","clientSecret":"SECRET","scope":"a"}`, ""}, {"application/json", `{"clientId":"SECRET"`, ""},
		{"text/plain; a=b", "SECRET", "Bearer SECRET"}, {"", "", "\x00"}, {formType + "; SECRET", "%SECRET", "Digest SECRET"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	right := strings.NewReplacer("ID", string(b.active.ID), "SECRET", b.active.Secret.Reveal())
	f.Fuzz(func(t *testing.T, contentType, body, authorization string) {
		defer func(outer testing.TB) { b.TB = outer }(b.TB)
		b.TB = t // what is wrong is this input's fault
		r := httptest.NewRequest(http.MethodPost, endpoint.LoginPath, strings.NewReader(right.Replace(body)))
		r.Header.Set("Content-Type", right.Replace(contentType))
		if authorization != "" {
			r.Header.Set("Authorization", right.Replace(authorization))
		}
		if a := b.send(r); a.status >= http.StatusInternalServerError {
			t.Errorf("status %d: %s", a.status, a.body)
		}
		b.checkLog()
	})
}
