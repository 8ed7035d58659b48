package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// auditEvent is what the page says of an action.
type auditEvent struct {
	action, when, who, subject, detail string
}

const (
	admins     = "an organization admin"
	managers   = "a manager or owner"
	owners     = "an owner"
	themselves = "the person"
	onTheHost  = "the operator"
	aServer    = "a server, on its own"
	keyHolder  = "whoever holds the key"
)

// auditEvents are the actions in the order in which they are read about.
var auditEvents = []auditEvent{
	{"token.issue", "a token was issued", keyHolder, "", "`jti`, `audience`, `scope`"},
	{"token.refuse", "an exchange was refused; `outcome` says why", "whoever asked", "", ""},
	{"token.revoke", "one token was denied before it expires", "the key it was issued to, or whoever holds `tokens:revoke`", "its `jti`", "`jti`, `exp`, `client_id`"},
	{"key.use", "a key was used in the place of a token, at Tokenbooth itself", keyHolder, "", ""},
	{"key.refuse", "the same was refused; `outcome` says why", "whoever asked", "", ""},

	{"key.create", "a key was made", managers + ", of a personal key its person", "the key", "`name`, `owner`, `expires_at`, `scopes`, `audiences`, `allowed_cidrs`, `max_uses`, `exchanges_per_minute`"},
	{"key.update", "a key was changed", managers + ", or its person", "the key", "what was set, by the names of the API: `name`, `description`, `expires_at`, `scopes`, `audiences`, `allowed_cidrs`, `token_ttl_seconds`, `exchanges_per_minute`, `max_uses`"},
	{"key.rotate", "a key got a new secret", managers + ", or its person; " + onTheHost + " with `bootstrap --rotate`", "the key", "`grace_period_seconds`: how long the old one works; `revoke_tokens`"},
	{"key.end_secret", "the old secret was ended before its time", managers + ", or its person", "the key", "`secret`: its ID"},
	{"key.extend_secret", "the old secret was given more time", managers + ", or its person", "the key", "`secret`: its ID; `expires_at`"},
	{"key.revoke", "a key was revoked", managers + ", or its person; whatever removes its owner or their membership", "the key", "`reason`"},
	{"key.delete", "a revoked key was taken out of the lists", managers + ", or its person", "the key", ""},

	{"service_account.create", "a service account was made", managers, "the service account", "`name`, `role`, `scopes`"},
	{"service_account.update", "it was changed", managers, "the service account", "what was set: `name`, `description`, `role`, `scopes`"},
	{"service_account.disable", "it was disabled: its keys and tokens stop", managers, "the service account", "as of `service_account.update`, and `enabled`"},
	{"service_account.enable", "it was enabled", managers, "the service account", "as of `service_account.update`, and `enabled`"},
	{"service_account.delete", "it was deleted, with its keys", managers, "the service account", "`name`"},

	{"member.add", "somebody became a member", owners + "; the provider; whoever accepts an invitation", "the user", "`role`"},
	{"member.update", "a role was changed", owners + "; the provider", "the user", "`role`, and `before`"},
	{"member.remove", "somebody is no member any more", owners + ", or the member; the provider", "the user", "`role`, which they had"},
	{"invitation.create", "an invitation was made", owners, "the invitation", "`email`, `role`"},
	{"invitation.accept", "it was accepted", "whoever had the link", "the invitation", "`email`, `role`, `user`"},
	{"invitation.withdraw", "it was withdrawn, or ended since whoever made it lost their rights", owners, "the invitation", "`email`, `role`"},

	{"workspace.create", "a workspace was made", admins + "; " + onTheHost, "the workspace", "`slug`, `name`"},
	{"workspace.update", "it was renamed", owners + ", or " + admins, "the workspace", "`name`"},
	{"workspace.suspend", "it was suspended: all its keys and tokens stop", admins, "the workspace", ""},
	{"workspace.resume", "it was resumed", admins, "the workspace", ""},
	{"workspace.delete", "it was deleted", admins, "the workspace", ""},

	{"policy.update", "a [policy](policy.md) was changed", admins + "; of a workspace, more narrowly, " + managers, "`keys:` and the workspace, or the organization", "`version`, `before`, `after`: the whole documents"},
	{"quota.update", "a [quota](quotas.md) was changed", admins + "; to a lower one, " + managers, "`quota:` and the workspace", "`version`, `before`, `after`"},
	{"quota.exceed", "something was made although a soft quota was reached", "whoever made it", "`quota:` and the workspace", "`limit`, `most`, `count`"},

	{"user.create", "a user was made", admins + "; " + onTheHost + "; the provider; whoever accepts an invitation", "the user", "`email`, `organization_admin`"},
	{"user.update", "a user was changed, disabled or enabled", admins + "; the provider", "the user", "what was set: `name`, `organization_admin`, `enabled`"},
	{"user.delete", "a user was deleted", admins, "the user", ""},
	{"user.sign_in", "somebody signed in to the console", themselves, "the user", "`method`"},
	{"password.set", "a password was chosen; other sessions end", themselves, "the user", ""},
	{"session.end", "a session was ended, or all others", themselves, "the session, or the user", "`count`, of all others"},
	{"access_link.create", "a link to choose a new password was made", admins + "; " + onTheHost, "the user", "`link`: its ID"},
	{"access_link.use", "it was used", "whoever had the link", "the user", "`link`, `created_by`"},
	{"passkey.add", "a passkey was added", themselves, "the passkey", "`name`"},
	{"passkey.remove", "a passkey was removed", themselves, "the passkey", ""},
	{"passkey.refuse", "a passkey was refused, since there may be a copy of it", "whoever used it", "the passkey", "`reason`"},
	{"provider.link", "a user was linked to a person of the OpenID provider", themselves, "the user", "`issuer`, `subject`"},
	{"provider.unlink", "that was undone", themselves, "the user", "`issuer`, `subject`"},

	{"signing_key.create", "a signing key was made and published", aServer + "; " + onTheHost, "the signing key", "`alg`, `purpose`"},
	{"signing_key.activate", "it signs from now on", aServer, "the signing key", "`alg`, `purpose`"},
	{"signing_key.confirm", "every server has taken it in, or has stopped signing with it", aServer, "the signing key", "`alg`, `purpose`, and `published_at` or `needed_until`"},
	{"signing_key.retire", "it signs no more", aServer + "; " + onTheHost, "the signing key", "`alg`, `purpose`"},
	{"signing_key.remove", "it is published no more, and its private part destroyed", aServer, "the signing key", "`alg`, `purpose`"},
	{"signing_key.distrust", "an emergency rotation has distrusted it", onTheHost, "the signing key", "`alg`, `purpose`"},
	{"signing_key.rewrap", "it was sealed anew, under another key-encryption key", onTheHost, "the signing key", "`alg`, `purpose`, `from`, `to`: the names of the key-encryption keys"},

	{"verifier.remove", "a verifier was forgotten", "the key that reports, or " + admins, "its name", ""},
	{"revocations.epoch", "the copy of the revocations in Redis was begun anew", aServer, "the revocations", "`before`, `after`"},
	{"revocations.merge", "a journal was merged into a restored database", onTheHost, "the revocations", "`revocations`, `renumbered`, `subjects`, `before`, `after`"},
	{"revocations.restore", "one thing was denied again by that", onTheHost, "what is denied", "`effect`, `at`, `generation`"},
	{"installation.create", "the database was begun", onTheHost + ", or the first server", "`installation`", "`made_by`"},
	{"installation.update", "a secret was replaced", onTheHost + ", or the first server that has it", "`installation`", "`fingerprints`: of the secrets, by which a wrong one is noticed"},
	{"setup_link.create", "the one-time address to set up was made", "the first server; " + onTheHost, "the link", ""},
	{"installation.set_up", "somebody used it", "whoever had the link", "the user", ""},

	{"exchanges.batch", "a batch of exchanges was written", aServer, "", "`count`, `root`: of the Merkle tree, and `dropped`, if some were lost"},
	{"exchanges.prune", "exchanges older than `audit.exchange_retention` were removed", aServer, "", "`before`, `batches`"},
}

// TestAuditEventsPage keeps the page of actions what the code records.
func TestAuditEventsPage(t *testing.T) { wantPage(t, "audit-events.md", auditEventsPage()) }

func auditEventsPage() string {
	var b strings.Builder
	b.WriteString(`# Audit events

Every action of the [audit log](audit.md). Who caused an event is in ` + "`actor_kind`" + ` and ` + "`actor_id`" + `; an organization admin may do what an owner
may, in workspaces of which they are a member, and the operator on the host, with the installation's secrets, may do everything.
` + "`subject_id`" + ` is what was changed. A detail that does not apply is left out. A service account acts where it holds the right.

Those with ` + "`token.`" + `, ` + "`key.use`" + ` and ` + "`key.refuse`" + ` are exchanges, except ` + "`token.revoke`" + `; all others are management events.

| action | when | who | subject | detail |
|---|---|---|---|---|
`)
	for _, e := range auditEvents {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", e.action, e.when, e.who, e.subject, e.detail)
	}
	return b.String()
}

// What the code records is on the page, with every detail that it names.
func TestAuditEvents(t *testing.T) {
	recorded := recordedActions(t)
	said := map[string]string{}
	for _, e := range auditEvents {
		if _, twice := said[e.action]; twice {
			t.Errorf("%s is there twice", e.action)
		}
		said[e.action] = e.detail
		if _, ok := recorded[e.action]; !ok {
			t.Errorf("%s is on the page, and nothing records it", e.action)
		}
	}
	for action, details := range recorded {
		detail, known := said[action]
		if !known {
			t.Errorf("%s is recorded, and not on the page: add it to auditEvents", action)
			continue
		}
		for _, name := range details {
			if !strings.Contains(detail, "`"+name+"`") {
				t.Errorf("%s has a detail %s, which the page does not tell", action, name)
			}
		}
	}
}

// recorders are the methods that note an event, and what its action begins with.
var recorders = map[string]string{"record": "", "recordKeyEvent": "key.", "recordKey": "signing_key."}

// actionName is what actions look like. Those that are chosen before they are recorded
// are found by it.
var actionName = regexp.MustCompile(`^[a-z_]+\.[a-z_]+$`)

// recordedActions finds in the code each action with the details that are written where
// it is recorded.
func recordedActions(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	add := func(action string, details ...string) {
		found[action] = append(found[action], details...)
	}
	for _, name := range []string{"workspace/manage/*.go", "workspace/audit/exchange.go"} {
		paths, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(name)))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: there are no files, error %v", name, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool { return record(n, add) })
		}
	}
	return found
}

// record notes the action of a call or of a text; it returns whether to look below.
func record(n ast.Node, add func(string, ...string)) bool {
	switch n := n.(type) {
	case *ast.ValueSpec: // what the webhook calls them
		return n.Names[0].Name != "announcements"
	case *ast.BasicLit:
		if text := textOf(n); actionName.MatchString(text) {
			add(text)
		}
	case *ast.CallExpr:
		method, ok := n.Fun.(*ast.SelectorExpr)
		if !ok || len(n.Args) == 0 {
			return true
		}
		prefix, ok := recorders[method.Sel.Name]
		if text := textOf(n.Args[0]); ok && text != "" && text != prefix {
			add(prefix+text, details(n.Args[len(n.Args)-1])...)
		}
	}
	return true
}

// details are the names in a literal of a map.
func details(e ast.Expr) (names []string) {
	literal, _ := e.(*ast.CompositeLit)
	if literal == nil {
		return nil
	}
	for _, element := range literal.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			names = append(names, textOf(pair.Key))
		}
	}
	return names
}

// textOf is a literal text; empty for anything else.
func textOf(e ast.Expr) string {
	literal, _ := e.(*ast.BasicLit)
	if literal == nil || literal.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(literal.Value) // the parser has checked it
	return text
}
