package admin_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// Each method of a document sends what it says, where it says, and an empty name of
// a workspace is never the organization.
func TestDocumentMethods(t *testing.T) {
	var method, path, match, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		method, path, match, body = r.Method, r.URL.EscapedPath(), r.Header.Get("If-Match"), string(text)
		_, _ = io.WriteString(w, `{"version": 3, "max_lifetime_days": 90, "max_keys": 5}`)
	}))
	defer server.Close()
	c, err := admin.New(admin.Config{URL: server.URL, Credential: "tbs_x"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, days := t.Context(), int64(90)
	rules, limits := admin.PolicyRules{MaxLifetimeDays: &days}, admin.QuotaLimits{MaxKeys: &days}
	text := func(of any) string {
		b, err := json.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for want, call := range map[string]func() error{
		"GET /policy": func() error {
			p, err := c.OrganizationPolicy(ctx)
			if p.Version != 3 || p.MaxLifetimeDays == nil || *p.MaxLifetimeDays != 90 {
				t.Errorf("%+v", p)
			}
			return err
		},
		`PUT /policy "2" ` + text(rules): func() error {
			_, err := c.SetOrganizationPolicy(ctx, rules, admin.IfMatch(`"2"`))
			return err
		},
		"POST /policy/preview " + text(rules):                 func() error { _, err := c.PreviewOrganizationPolicy(ctx, rules); return err },
		"GET /workspaces/a%2Fb/policy":                        func() error { _, err := c.Policy(ctx, "a/b"); return err },
		"GET /workspaces//policy":                             func() error { _, err := c.Policy(ctx, ""); return err },
		"PUT /workspaces/acme/policy {}":                      func() error { _, err := c.SetPolicy(ctx, "acme", json.RawMessage("{}")); return err },
		"POST /workspaces/acme/policy/preview " + text(rules): func() error { _, err := c.PreviewPolicy(ctx, "acme", rules); return err },
		"GET /workspaces/acme/quota": func() error {
			q, err := c.Quota(ctx, "acme")
			if q.MaxKeys == nil || *q.MaxKeys != 5 {
				t.Errorf("%+v", q)
			}
			return err
		},
		"PUT /workspaces/acme/quota " + text(limits):          func() error { _, err := c.SetQuota(ctx, "acme", limits); return err },
		"POST /workspaces/acme/quota/preview " + text(limits): func() error { _, err := c.PreviewQuota(ctx, "acme", limits); return err },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		got := method + " " + path[len(admin.BasePath):]
		for _, part := range []string{match, body} {
			if part != "" {
				got += " " + part
			}
		}
		if got != want {
			t.Errorf("it sent %s, want %s", got, want)
		}
	}
}
