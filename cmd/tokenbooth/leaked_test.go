package main

import (
	"os/exec"
	"strings"
	"testing"
)

// Somebody whose key has leaked follows the guide: each of its commands does what the
// guide says.
func TestLeakedKey(t *testing.T) {
	t.Parallel()
	env := onSQLite(t.TempDir())
	leaked := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...)
	r := serveReady(t, env)
	token := wantToken(t, r.url, leaked.key())
	reader := newReader(t)
	reader.env = append(reader.env, "TOKENBOOTH_URL="+r.url, "TOKENBOOTH_CLIENT_SECRET="+leaked.ownerKey().secret)
	reader.terminal = reader.open()
	run := func(text string) { reader.run(step{text: text}) }
	run("git init -q && git config user.email a@example.com && git config user.name A\n")
	run("printf 'SECRET=tbs_" + strings.Repeat("0", 26) + "_" + strings.Repeat("A", 49) + "\\n' >env && git add env && git commit -qm 'a secret' && git rm -q env && git commit -qm 'no secret'\n")
	run("echo " + leaked.ClientID + "\n") // as the finder sees it: fills the gap in the page

	do := func(heading string, says ...string) {
		t.Helper()
		before := len(reader.terminal.out.String())
		for _, s := range commandsBelow(t, "guides/key-leaked.md", heading) {
			reader.run(s)
		}
		for _, want := range says {
			if said := reader.terminal.out.String()[before:]; !strings.Contains(said, want) {
				t.Errorf("below %q nothing says %q:\n%s", heading, want, said)
			}
		}
	}
	do("Minute 1: stop it", leaked.ClientID, "leaked, ticket 4711", "dead by")
	wantRefusal(t, r.url, leaked.key(), "revoked")
	if a := get(t, r.url+"/api/v1/whoami", token); a.status != 401 {
		t.Errorf("its token is answered with %d", a.status)
	}
	eventually(t, "a record of the refusal", func() bool {
		p, code := runCommand(t, []string{"TOKENBOOTH_URL=" + r.url, "TOKENBOOTH_CLIENT_SECRET=" + leaked.ownerKey().secret}, "audit", "list", "--client-id", leaked.ClientID)
		return code == exitOK && strings.Contains(p.out.String(), "token.refuse")
	})
	do("Minute 5: has everybody heard, and who used it", "token.issue", "token.refuse", `"127.0.0.1"`)
	do("Minute 60: so that it is the last one", "tbs_"+strings.Repeat("0", 26))
}

// The expression for scanners finds the secrets that there are.
func TestScannerFindsSecrets(t *testing.T) {
	t.Parallel()
	var pattern string
	for _, s := range commandsBelow(t, "guides/key-leaked.md", "Minute 60: so that it is the last one") {
		if _, after, ok := strings.Cut(s.text, "git grep -nE '"); ok {
			pattern, _, _ = strings.Cut(after, "'")
		}
	}
	a := bootstrapped(t, onSQLite(t.TempDir()), bootstrapArgs("Payments", "ci")...)
	for text, want := range map[string]bool{a.key().secret: true, a.ownerKey().secret: true, a.ClientID: false, a.key().secret[:60]: false} {
		grep := exec.Command("grep", "-qE", pattern)
		grep.Stdin = strings.NewReader("SECRET=" + text + "\n")
		if found := grep.Run() == nil; found != want {
			t.Errorf("%q finds a text of %d characters: %t", pattern, len(text), found)
		}
	}
}
