package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// tokenFormat is how a token is written for whoever takes it.
type tokenFormat struct{ name, shell, variable string }

var (
	tokenFormats = []string{"raw", "json", "env", "header", "exec-credential", "git", "github", "gitlab"}
	shells       = []string{"bash", "fish", "powershell"}
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func (f *tokenFormat) addFlags(c *cobra.Command) {
	c.Flags().StringVarP(&f.name, "output", "o", "raw", "the `FORMAT`: "+strings.Join(tokenFormats, ", "))
	c.Flags().StringVar(&f.shell, "shell", "bash", "with -o env, the `SHELL`: "+strings.Join(shells, ", ")+"; bash is any POSIX shell")
	c.Flags().StringVar(&f.variable, "var", "", "the `NAME` of the variable (default "+tokenVariable+") or of GitHub's output (default token)")
	for flag, words := range map[string][]string{"output": tokenFormats, "shell": shells} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
}

// check judges the command line.
func (f *tokenFormat) check(c *cobra.Command, args []string) error {
	switch {
	case !slices.Contains(tokenFormats, f.name):
		return usagef(c, "-o: %q is none of %s", f.name, strings.Join(tokenFormats, ", "))
	case !slices.Contains(shells, f.shell):
		return usagef(c, "--shell: %q is none of %s", f.shell, strings.Join(shells, ", "))
	case f.variable != "" && !variableName.MatchString(f.variable):
		return usagef(c, "--var: a name has letters, digits and underscores, and begins with no digit")
	case f.name == "git" && len(args) != 1:
		return usagef(c, "-o git is for git, which adds get, store or erase")
	case f.name != "git" && len(args) > 0:
		return usagef(c, "nothing goes after the options: a key comes from the environment")
	}
	return nil
}

// ready checks what the format needs of the surroundings, before anything is
// asked for; git's request is read.
func (f *tokenFormat) ready(c *cobra.Command, env *environment) error {
	switch f.name {
	case "github":
		if env.getenv("GITHUB_OUTPUT") == "" {
			return usagef(c, "-o github works in a job of GitHub Actions, where GITHUB_OUTPUT names a file")
		}
	case "gitlab":
		if trace := env.getenv("CI_DEBUG_TRACE"); trace == "true" || trace == "1" {
			return exitWith(exitFailure, errors.New("CI_DEBUG_TRACE is on: the job's log would show the token"), "GitLab masks configured variables only; turn the trace off, or use tokenbooth exec")
		}
	case "git":
		return readGitRequest(env.stdin)
	}
	return nil
}

// readGitRequest reads what git says about the place that asks (gitcredentials(7)).
// The token goes only where it is encrypted on the way.
func readGitRequest(in io.Reader) error {
	lines := bufio.NewScanner(io.LimitReader(in, 64<<10))
	protocol, host := "", ""
	for lines.Scan() && lines.Text() != "" {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch name {
		case "protocol":
			protocol = value
		case "host":
			host, _, _ = strings.Cut(value, ":")
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read git's request: %w", err)
	}
	if protocol == "http" && !isLoopback(host) {
		return exitWith(exitFailure, errors.New("git asks for a token to send in the clear (http): it gets none"), "use an https remote")
	}
	return nil
}

// write makes the text for standard output.
func (f *tokenFormat) write(env *environment, t accessToken, now time.Time) (string, error) {
	switch f.name {
	case "json":
		return t.json(now)
	case "env", "gitlab":
		return f.assignment(t), nil
	case "header":
		return "Authorization: Bearer " + t.AccessToken + "\n", nil
	case "exec-credential":
		return t.execCredential(env.getenv("KUBERNETES_EXEC_INFO"))
	case "git":
		return fmt.Sprintf("username=tokenbooth\npassword=%s\npassword_expiry_utc=%d\n", t.AccessToken, t.ExpiresAt.Unix()), nil
	case "github":
		return f.github(env, t)
	}
	return t.AccessToken + "\n", nil
}

func (t accessToken) json(now time.Time) (string, error) {
	text, err := json.Marshal(struct {
		Version      int         `json:"version"`
		AccessToken  string      `json:"access_token"`
		TokenType    string      `json:"token_type"`
		ExpiresIn    int64       `json:"expires_in"` // seconds from now
		ExpiresAt    time.Time   `json:"expires_at"`
		Scope        oauth.Scope `json:"scope"`
		KeyExpiresAt *string     `json:"key_expires_at"` // null: never
	}{1, t.AccessToken, t.TokenType, int64(t.ExpiresAt.Sub(now) / time.Second), t.ExpiresAt, t.Scope, orNil(t.KeyExpiresAt)})
	return string(text) + "\n", err
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// assignment is for eval. A token has no character that a shell would take for
// anything else.
func (f *tokenFormat) assignment(t accessToken) string {
	name := cmp.Or(f.variable, tokenVariable)
	switch f.shell {
	case "fish":
		return fmt.Sprintf("set -gx %s '%s';\n", name, t.AccessToken)
	case "powershell":
		return fmt.Sprintf("$Env:%s = '%s'\n", name, t.AccessToken)
	}
	return fmt.Sprintf("export %s='%s'\n", name, t.AccessToken)
}

// execCredential answers kubectl in the version that it asks for
// (client.authentication.k8s.io).
func (t accessToken) execCredential(info string) (string, error) {
	const v1, v1beta1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"
	var request struct {
		APIVersion string `json:"apiVersion"`
	}
	if info != "" && json.Unmarshal([]byte(info), &request) != nil {
		return "", errors.New("KUBERNETES_EXEC_INFO is not JSON: is this called by kubectl?")
	}
	version := cmp.Or(request.APIVersion, v1)
	if version != v1 && version != v1beta1 {
		return "", fmt.Errorf("kubectl asks for %s; there are %s and %s", oauth.Printable(version), v1, v1beta1)
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": version, "kind": "ExecCredential",
		"status": map[string]any{"token": t.AccessToken, "expirationTimestamp": t.ExpiresAt.Format(time.RFC3339)},
	})
	return string(text) + "\n", err
}

// github sets an output of the step. The mask has to be on standard output, where
// the runner looks for it, and before anything else.
func (f *tokenFormat) github(env *environment, t accessToken) (string, error) {
	path := env.getenv("GITHUB_OUTPUT")
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("GITHUB_OUTPUT: %w", err)
	}
	_, err = fmt.Fprintf(file, "%s=%s\n", cmp.Or(f.variable, "token"), t.AccessToken)
	if err := errors.Join(err, file.Close()); err != nil {
		return "", fmt.Errorf("GITHUB_OUTPUT: %w", err)
	}
	return "::add-mask::" + t.AccessToken + "\n", nil
}
