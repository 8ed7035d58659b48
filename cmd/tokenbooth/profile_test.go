package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// aDoorman is an API that says who asks: the subject is the credential's.
func aDoorman(t *testing.T) (url string) {
	t.Helper()
	env := anAPI(t, func(w http.ResponseWriter, r *http.Request) {
		credential := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		_ = json.NewEncoder(w).Encode(map[string]string{"workspace": "demo", "subject": credential[len(credential)-3:], "client_id": aKeyID})
	})
	return strings.TrimPrefix(env[0], "TOKENBOOTH_URL=")
}

// Flags go before the environment, the environment before the profile.
func TestProfilePrecedence(t *testing.T) {
	t.Parallel()
	url, elsewhere := aDoorman(t), aDoorman(t)
	file := filepath.Join(t.TempDir(), "made", "profiles.yaml")
	env := []string{"TOKENBOOTH_CLI_CONFIG=" + file}
	first, second := aSecret[:len(aSecret)-3]+"AAA", aSecret[:len(aSecret)-3]+"BBB"
	logIn := func(secret, url, name string) {
		t.Helper()
		tool(t, env, secret+"\n", "login", "--client-secret-stdin", "--url", url, "--profile", name).wants(t, "login", exitOK, "logged in to "+url)
	}
	logIn(first, url, "first")
	logIn(second, elsewhere, "second")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if info, err := os.Stat(filepath.Dir(file)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	third := "TOKENBOOTH_CLIENT_SECRET=" + aSecret[:len(aSecret)-3] + "CCC"
	for what, c := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"the current one":                      {nil, nil, "BBB"},
		"one that a flag names":                {nil, []string{"--profile", "first"}, "AAA"},
		"one that the environment names":       {[]string{"TOKENBOOTH_PROFILE=first"}, nil, "AAA"},
		"a flag before the environment":        {[]string{"TOKENBOOTH_PROFILE=first"}, []string{"--profile", "second"}, "BBB"},
		"a secret of the environment":          {[]string{third}, nil, "CCC"},
		"a token of the environment":           {[]string{third, "TOKENBOOTH_TOKEN=a.b.DDD"}, nil, "DDD"},
		"a named profile before a secret":      {[]string{third, "TOKENBOOTH_URL=" + elsewhere, "TOKENBOOTH_TOKEN=a.b.DDD"}, []string{"--profile", "first"}, "AAA"},
		"the profile of a URL of the variable": {[]string{"TOKENBOOTH_URL=" + elsewhere + "/"}, nil, "BBB"},
	} {
		a := tool(t, append(env, c.env...), "", append([]string{"whoami", "-o", "json"}, c.args...)...)
		if a.wants(t, what, exitOK, ""); !strings.Contains(a.out, `"subject": "`+c.want+`"`) {
			t.Errorf("%s: %s, want %s", what, a.out, c.want)
		}
	}
	for what, c := range map[string]struct {
		env  []string
		args []string
		says string
	}{
		"the secret goes to its own URL only":        {nil, []string{"--url", url}, "the secret is missing"},
		"the same by the environment":                {[]string{"TOKENBOOTH_URL=" + url}, nil, "the secret is missing"},
		"the same for a profile that a flag names":   {nil, []string{"--url", url, "--profile", "second"}, "its secret goes nowhere else"},
		"another key than that of the profile":       {[]string{"TOKENBOOTH_CLIENT_ID=tbk_other"}, nil, "the secret is missing"},
		"a profile that there is not":                {nil, []string{"--profile", "frist"}, "did you mean first?"},
		"a profile that there is not, by a variable": {[]string{"TOKENBOOTH_PROFILE=none"}, nil, "there is no profile none"},
	} {
		tool(t, append(env, c.env...), "", append([]string{"whoami"}, c.args...)...).wants(t, what, exitUsage, c.says)
	}
	tool(t, env, "", "profile", "use", "first").wants(t, "use", exitOK, "")
	tool(t, env, "", "logout").wants(t, "logout", exitOK, "the profile first is gone")
	tool(t, env, "", "whoami").wants(t, "nothing current", exitUsage, "tokenbooth login")
	tool(t, env, "", "logout").wants(t, "nothing to leave", exitUsage, "no current profile")
	a := tool(t, env, "", "profile", "list")
	if a.wants(t, "list", exitOK, ""); strings.Contains(a.out, "tbs_") || !strings.Contains(a.out, elsewhere) {
		t.Errorf("profile list: %s", a.out)
	}
}

// The commands that exchange keys use a profile as well.
func TestTokenGetUsesTheProfile(t *testing.T) {
	t.Parallel()
	d := devReady(t)
	env := []string{"TOKENBOOTH_CLI_CONFIG=" + filepath.Join(t.TempDir(), "profiles.yaml")}
	tool(t, env, d.ClientSecret, "login", "--url", d.Issuer, "--client-secret-stdin").wants(t, "login", exitOK, "the profile 127.0.0.1:")
	a := tool(t, env, "", "token", "get")
	if a.wants(t, "token get", exitOK, ""); get(t, d.WhoamiURL, strings.TrimSpace(a.out)).status != http.StatusOK {
		t.Errorf("the token: %s", a.out)
	}
	tool(t, env, "", "jwks").wants(t, "jwks", exitOK, "")
	tool(t, env, "", "keys", "list", "--show-curl").wants(t, "--show-curl", exitOK, "")
}

func TestLoginRefuses(t *testing.T) {
	t.Parallel()
	refusing := anAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusUnauthorized, `{"code":"credentials_not_recognised","detail":"API key not recognised."}`)
	})
	file := filepath.Join(t.TempDir(), "profiles.yaml")
	for what, c := range map[string]struct {
		stdin string
		args  []string
		code  int
		says  string
	}{
		"no secret":        {"\n", nil, exitUsage, "the secret is missing"},
		"a token":          {"a.b.c", nil, exitUsage, "not the secret of an API key"},
		"a bad name":       {aSecret, []string{"--profile", "a/b"}, exitUsage, "--profile"},
		"a secret as flag": {aSecret, []string{"--client-secret", "x"}, exitUsage, "visible to every user"},
		"a wrong secret":   {aSecret, nil, exitRefused, "401 API key not recognised"},
		"in the clear":     {aSecret, []string{"--url", "http://login.example.com"}, exitUsage, "in the clear"},
	} {
		env := []string{refusing[0], "TOKENBOOTH_CLI_CONFIG=" + file}
		tool(t, env, c.stdin, append([]string{"login", "--client-secret-stdin"}, c.args...)...).wants(t, what, c.code, c.says)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a profile was kept all the same")
	}
}

// A file that others may read is not used, and one that is none shows nothing of itself.
func TestProfilesFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "profiles.yaml")
	env := []string{"TOKENBOOTH_CLI_CONFIG=" + file}
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("current: x\n", 0o644)
	tool(t, env, "", "whoami").wants(t, "readable by others", exitFailure, "others may read or write it")
	write("profiles:\n  x: {secret: ["+aSecret+"]}\n", 0o600)
	tool(t, env, "", "whoami").wants(t, "not ours", exitFailure, "is not what tokenbooth login writes")
	d := anAPI(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"workspace":"demo"}`) })
	tool(t, append(env, d...), "", "whoami").wants(t, "nobody needs it", exitOK, "")
}
