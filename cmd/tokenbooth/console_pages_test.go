package main

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/jmoiron/sqlx"
)

// Every page that links lead to is one that a browser does not complain about, that
// everybody can use, light and dark, and that fits on a phone.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	d, url := furnished(t)
	b := newTab(t)
	b.open(d.ConsoleURL)
	before := contents(t, url)
	seen, judged := map[string]bool{}, map[string]bool{}
	for queue := []string{"/", "/w/demo", "/nowhere"}; len(queue) > 0; queue = queue[1:] {
		here := queue[0]
		if kind := kindOfPage(here); seen[kind] {
			continue
		} else {
			seen[kind] = true
		}
		b.open(d.Issuer + here)
		if strings.Contains(b.text("h1"), "Something went wrong") {
			t.Errorf("%s: %s", here, b.outline())
		}
		b.clean("404 (Not Found)") // a page of its own, for what is not there
		if path, _, _ := strings.Cut(kindOfPage(here), "?"); !judged[path] {
			judged[path] = true // with another query it is made of the same parts
			b.accessible()
			b.fits()
		}
		for _, link := range ask(b, chromedp.Evaluate[[]string](`[...document.querySelectorAll("a[href]:not([download])")].map(a => a.href)`)) {
			if to, ours := pageOf(d.Issuer, link); ours {
				queue = append(queue, to)
			}
		}
	}
	for _, page := range []string{
		"/", "/w/demo", "/w/demo/keys", "/w/demo/keys/new", "/w/demo/keys/ID", "/w/demo/keys/ID/rotate", "/w/demo/keys/ID/edit", "/w/demo/keys/ID/revoke",
		"/w/demo/service-accounts", "/w/demo/service-accounts/new", "/w/demo/service-accounts/ID", "/w/demo/members", "/w/demo/audit", "/w/demo/usage",
		"/w/demo/policy", "/w/demo/settings", "/w/demo/my-keys", "/w/demo/my-keys/new", "/account",
		"/organization/workspaces", "/organization/workspaces/new", "/organization/people", "/organization/people/ID", "/organization/policy",
		"/organization/signing-keys", "/organization/verifiers", "/organization/audit",
	} {
		if !seen[page] {
			t.Errorf("no link leads to %s", page)
		}
	}
	t.Logf("%d kinds of pages", len(seen))
	for table, rows := range contents(t, url) {
		if rows != before[table] {
			t.Errorf("looking at pages has changed %s", table)
		}
	}
}

// contents is what is in the tables that only people change.
func contents(t *testing.T, url string) map[string]string {
	t.Helper()
	db := openDB(t, url)
	found := map[string]string{}
	for _, table := range []string{
		"workspaces", "users", "members", "service_accounts", "(SELECT id, name, description, scopes, generation, expires_at, revoked_at, deleted_at, updated_at FROM keys)", "signing_keys", "policies", "passwords", "subjects", "passkeys", "links", "revocations",
		"idempotency", "verifiers", "(SELECT * FROM audit_events WHERE chain <> 'exchanges')",
	} {
		rows, err := db.Reader().QueryxContext(t.Context(), "SELECT * FROM "+table+" AS t ORDER BY 1, 2")
		if err != nil {
			t.Fatal(err)
		}
		found[table] = everyRow(t, rows)
	}
	return found
}

// everyRow is what a query has found, a line each.
func everyRow(t *testing.T, rows *sqlx.Rows) (text string) {
	t.Helper()
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		row, err := rows.SliceScan()
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintln(row...)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return text
}

// identifier is an ID in an address.
var identifier = regexp.MustCompile(`^[a-z]+_[0-9a-z]{26}$`)

// kindOfPage is what pages have in common that differ in IDs and queries only. A
// page with another set of parameters is another kind.
func kindOfPage(address string) string {
	path, query, _ := strings.Cut(address, "?")
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if identifier.MatchString(part) {
			parts[i] = "ID"
		}
	}
	kind := strings.Join(parts, "/")
	names := []string{}
	if values, err := url.ParseQuery(query); err == nil {
		for name := range values {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return kind
	}
	slices.Sort(names)
	return kind + "?" + strings.Join(names, "&")
}

// pageOf is the path of a link of the console; downloads and the pages of others
// are none.
func pageOf(issuer, link string) (string, bool) {
	to, ours := strings.CutPrefix(link, issuer)
	to, _, _ = strings.Cut(to, "#")
	if !ours || !strings.HasPrefix(to, "/") {
		return "", false
	}
	path, _, _ := strings.Cut(to, "?")
	for _, not := range []string{"/api/", "/.well-known/", "/errors/", "/sign-in/demo"} {
		if strings.HasPrefix(path, not) {
			return "", false
		}
	}
	return to, !strings.HasSuffix(path, ".csv") && !strings.HasSuffix(path, ".jsonl")
}
