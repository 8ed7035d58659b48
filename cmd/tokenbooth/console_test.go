package main

import (
	"regexp"
	"strings"
	"testing"
)

// What dev prints signs in as the owner of the demo.
func TestConsoleOfDev(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	b := newTab(t)
	b.open(d.ConsoleURL)
	b.shows("Workspaces")
	b.open(d.ConsoleURL + "&next=/w/demo/keys")
	b.shows("demo-ci")
	b.clean()
}

// setUpURL is what the first start prints.
var setUpURL = regexp.MustCompile(`(?m)^https://\S+/setup\?token=\S+$`)

// consoleReady is a server that nobody has set up yet, and the address to do so.
func consoleReady(t *testing.T, more ...string) (*replica, string) {
	t.Helper()
	return setUpReady(t, onSQLite(t.TempDir(), more...))
}

// setUpReady is consoleReady for an installation.
func setUpReady(t *testing.T, env []string) (*replica, string) {
	t.Helper()
	r := serveReady(t, env)
	eventually(t, "the address to set up", func() bool { return setUpURL.MatchString(r.out.String()) })
	printed := setUpURL.FindString(r.out.String())
	_, token, _ := strings.Cut(printed, "token=")
	t.Cleanup(func() {
		if strings.Contains(r.log.String(), token) {
			t.Error("the log has the token of the set-up link")
		}
	})
	_, path, _ := strings.Cut(printed, "/setup")
	return r, r.url + "/setup" + path
}

const consolePassword = "violet ladder quiet harbour"

// setUp makes the first organization admin with a workspace.
func (b *tab) setUp(address string) {
	b.t.Helper()
	b.open(address)
	b.shows("Set up Tokenbooth")
	b.fill("#email", "ada@example.com")
	b.fill("#name", "Ada")
	b.fill("#password", consolePassword)
	b.fill("#workspace", "Payments")
	b.press("main form button")
	if b.path() != "/w/payments" {
		b.t.Fatalf("set up, and now at %s", b.outline())
	}
}

// newKey fills in the form for a key that reads collectors, and sends it.
func (b *tab) newKey(url, name string) credential {
	b.t.Helper()
	b.open(url + "/w/payments/keys/new?scope=collectors:read&name=" + name)
	b.press("main form[method=post] button[type=submit]")
	b.shows("Save the secret of " + name)
	return credential{b.value("#key-id"), b.value("#secret")}
}

// From the first start to a key that is issued, used, rotated and revoked, in a
// browser with and without script.
func TestConsoleFromFirstStartToRevocation(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]bool{"with script": true, "without script": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, address := consoleReady(t)
			b := newTab(t)
			if !script {
				b.noScript()
			}
			b.acceptDialogs()
			judge := func() {
				t.Helper()
				if script {
					b.accessible()
					b.fits()
				}
			}
			for _, page := range []string{address, r.url + "/sign-in"} {
				b.open(page)
				judge()
			}
			b.setUp(address)
			b.open(address)
			b.shows("This link does not work any more")
			judge()
			b.clean("404 (Not Found)")

			key := b.newKey(r.url, "gitlab-ci")
			judge()
			page := r.url + "/w/payments/keys/" + key.id
			token := wantToken(t, r.url, key)
			if got := claims(t, token)["scope"]; got != "collectors:read" {
				t.Errorf("the key's token has scope %v", got)
			}
			if script {
				b.shows("First exchange")
				b.shows("Go-http-client")
				b.click("[data-stored]")
				b.press("[data-done]")
			} else {
				b.press("[data-done]")
				eventually(t, "the first use on the key's page", func() bool {
					b.open(page)
					return b.has("Go-http-client")
				})
			}
			b.clean()

			b.open(page + "/rotate")
			b.press("main form[method=post] button.primary")
			b.shows("Save the secret of gitlab-ci")
			fresh := credential{b.value("#key-id"), b.value("#secret")}
			if fresh.id != key.id || fresh.secret == key.secret {
				t.Fatalf("rotated from %s to %s", key.id, fresh.id)
			}
			for _, both := range []credential{key, fresh} {
				wantToken(t, r.url, both)
			}
			judge()
			b.open(page)
			b.shows("Rotating")
			judge()
			b.press("main .callout a[href$='/end']")
			b.press("main form[method=post] button")
			b.shows("The old secret has ended")
			wantRefusal(t, r.url, key, "")
			wantToken(t, r.url, fresh)
			b.clean()

			eventually(t, "the uses on the page that revokes", func() bool {
				b.open(page + "/revoke")
				return b.has("Used 4 times in the last 24 hours")
			})
			b.fill("#confirm", "gitlab-runner")
			b.press("main form[method=post] button.danger")
			b.shows("Something is not right yet")
			judge()
			wantToken(t, r.url, fresh)
			b.clean("422 (Unprocessable Entity)")
			b.fill("#confirm", "gitlab-ci")
			b.press("main form[method=post] button.danger")
			b.shows("Revoked")
			b.shows("Dead everywhere by")
			judge()
			wantRefusal(t, r.url, fresh, "revoked")
			b.clean()
		})
	}
}
