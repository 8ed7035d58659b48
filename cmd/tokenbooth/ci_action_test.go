package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// action is what deploy/action/action.yml says.
type action struct {
	Inputs map[string]struct {
		Required bool
		Default  string
	}
	Outputs map[string]struct{ Value string }
	Runs    struct {
		Using string
		Steps []struct {
			ID, Shell, Run string
			Env            map[string]string
		}
	}
}

func readAction(t *testing.T) (a action) {
	t.Helper()
	text, err := os.ReadFile(actionFile)
	check(t, err)
	check(t, yaml.Unmarshal(text, &a))
	if a.Runs.Using != "composite" || len(a.Runs.Steps) != 1 || a.Runs.Steps[0].Shell != "bash" {
		t.Fatalf("the action is no composite one with one step of bash: %+v", a.Runs)
	}
	return a
}

var inputExpression = regexp.MustCompile(`\$\{\{ inputs\.([a-z-]+) \}\}`)

// run does what GitHub's runner does with the action: the inputs, or their defaults,
// into the environment, and the step's text into a file for bash. It returns the log,
// the outputs that the action declares, and the exit code.
func (a action) run(t *testing.T, inputs map[string]string) (log string, outputs map[string]string, code int) {
	t.Helper()
	step := a.Runs.Steps[0]
	if strings.Contains(step.Run, "${{") {
		t.Error("an expression is pasted into the command: what is in an input would be shell text")
	}
	folder, err := filepath.Abs(filepath.Dir(actionFile))
	check(t, err)
	directory := t.TempDir()
	file, script := filepath.Join(directory, "output"), filepath.Join(directory, "step.sh")
	check(t, os.WriteFile(script, []byte(step.Run), 0o600))
	env := []string{"GITHUB_ACTIONS=true", "GITHUB_OUTPUT=" + file, "GITHUB_ACTION_PATH=" + folder}
	for name, value := range step.Env {
		env = append(env, name+"="+inputExpression.ReplaceAllStringFunc(value, func(expression string) string {
			input := inputExpression.FindStringSubmatch(expression)[1]
			declared, ok := a.Inputs[input]
			if !ok {
				t.Errorf("there is no input %s", input)
			}
			if given, ok := inputs[input]; ok {
				return given
			}
			return declared.Default
		}))
	}
	done := shellRun(t, env, []string{"bash", "--noprofile", "--norc", "-eo", "pipefail", script})
	return done.out + done.errors, a.outputs(t, step.ID, file), done.code
}

// outputs are those of the step, by what the action declares of them.
func (a action) outputs(t *testing.T, step, file string) map[string]string {
	t.Helper()
	set := map[string]string{}
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		set[fmt.Sprintf("${{ steps.%s.outputs.%s }}", step, name)] = value
	}
	outputs := map[string]string{}
	for name, declared := range a.Outputs {
		if value, ok := set[declared.Value]; ok {
			outputs[name] = value
		} else if len(set) > 0 {
			t.Errorf("the step does not set %s", declared.Value)
		}
	}
	return outputs
}

// The action masks the token before it does anything else with it, and hands it on.
func TestAction(t *testing.T) {
	t.Parallel()
	s, a := startCIServer(t), readAction(t)
	key := s.expiring("soon", "3d")
	front := newFaultyFront(t, s.url, busy(503, "temporarily_unavailable", "1"))
	log, outputs, code := a.run(t, map[string]string{"url": front.url, "client-secret": key.secret, "scope": "collectors:read"})
	token := outputs["token"]
	if code != exitOK || token == "" {
		t.Fatalf("it ended with %d and set %v:\n%s", code, outputs, log)
	}
	s.wantGood("the output", token, key, "collectors:read")
	if outputs["expires-in"] != "600" || outputs["scope"] != "collectors:read" || outputs["key-expires-at"] == "" {
		t.Errorf("it sets %v", outputs)
	}
	if !strings.HasPrefix(log, "::add-mask::"+token+"\n") || strings.Count(log, token) != 1 {
		t.Errorf("the token is not masked first:\n%s", log)
	}
	if !regexp.MustCompile(`(?m)^::warning title=Tokenbooth::the key ` + key.id + ` expires at`).MatchString(log) {
		t.Errorf("no warning of the key's end:\n%s", log)
	}
	if !strings.Contains(log, "trying again") || len(front.requests()) != 2 {
		t.Errorf("it did not wait and ask again:\n%s", log)
	}
	if strings.Contains(log, key.secret) {
		t.Error("the log holds the secret")
	}

	// A secret that is wrong, one that a fork does not get, and one with shell text.
	for _, c := range []struct {
		secret, says string
		code         int
	}{
		{s.key().secret[:40] + strings.Repeat("A", len(key.secret)-40), "401 invalid_client", exitRefused},
		{"", "the secret is missing", exitUsage},
		{"$(touch pwned)'", "a character that no secret has", exitUsage},
	} {
		log, outputs, code := a.run(t, map[string]string{"url": s.url, "client-secret": c.secret})
		if code != c.code || !strings.HasPrefix(log, "::error title=Tokenbooth::") || !strings.Contains(log, c.says) || len(outputs) > 0 {
			t.Errorf("%q: it ended with %d and set %v:\n%s", c.says, code, outputs, log)
		}
	}
}

// gitLabTemplate is deploy/ci/gitlab.yml. GitLab includes YAML and no other file, so
// the script is in it.
func gitLabTemplate(script string) string {
	var b strings.Builder
	b.WriteString(`# A job that extends .tokenbooth finds a token in TOKENBOOTH_TOKEN, and gets another
# one from the function tokenbooth_login. It needs TOKENBOOTH_URL and
# TOKENBOOTH_CLIENT_SECRET (or TOKENBOOTH_CLIENT_SECRET_FILE), and curl in its image.
#
# What is between the two marks is tokenbooth-login.sh, word for word: change it there.

.tokenbooth:
  before_script:
    - |
      tokenbooth_login() {
      sh -s -- "$@" <<'TOKENBOOTH_LOGIN'
`)
	for line := range strings.Lines(script) {
		if strings.TrimSpace(line) != "" {
			b.WriteString("      ")
		}
		b.WriteString(line)
	}
	b.WriteString(`      TOKENBOOTH_LOGIN
      }
    - TOKENBOOTH_TOKEN="$(tokenbooth_login raw)"
    - export TOKENBOOTH_TOKEN
`)
	return b.String()
}

func TestGitLabTemplate(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(loginScript)
	check(t, err)
	wantPage(t, "../ci/gitlab.yml", gitLabTemplate(string(script)))

	text, err := os.ReadFile("../../deploy/ci/gitlab.yml")
	check(t, err)
	var jobs map[string]struct {
		Before []string `yaml:"before_script"`
	}
	check(t, yaml.Unmarshal(text, &jobs))
	s := startCIServer(t)
	key := s.expiring("gitlab", "3d")
	// GitLab puts the lines of a job one after the other, for one shell.
	job := strings.Join(append(jobs[".tokenbooth"].Before, `env | sed -n 's/^TOKENBOOTH_TOKEN=//p'`, `TOKENBOOTH_SCOPE=collectors:read tokenbooth_login header`), "\n")
	for _, shell := range [][]string{{"bash", "-eo", "pipefail"}, {"dash", "-e"}, {"busybox", "sh", "-e"}} {
		a := shellRun(t, as(s.url, key), append(shell, "-c", job))
		token, header, _ := strings.Cut(a.out, "\n")
		s.wantGood(shell[0], token, key, "collectors:read")
		s.wantGood(shell[0]+", once more", strings.TrimPrefix(header, "Authorization: Bearer "), key, "collectors:read")
		if !strings.Contains(a.errors, "the key "+key.id+" expires at") || leak.MatchString(a.errors) {
			t.Errorf("%s: the log is\n%s", shell[0], a.errors)
		}
		a = shellRun(t, append(as(s.url, key), "TOKENBOOTH_SCOPE=collectors:x"), append(shell, "-c", job))
		a.wants(t, shell[0]+", a job that is refused", exitRefused, "400 invalid_scope")
	}
}

var programOf = regexp.MustCompile(`(?s)program = \[(.*?)\n  \]`)

// Terraform runs the module's program, with its variables in the place of ${…}, and
// reads an object of texts.
func TestTerraformModule(t *testing.T) {
	t.Parallel()
	s := startCIServer(t)
	const module = "../../deploy/ci/terraform"
	text, err := os.ReadFile(filepath.Join(module, "main.tf"))
	check(t, err)
	found := programOf.FindStringSubmatch(string(text))
	if found == nil {
		t.Fatal("the module has no program")
	}
	values := strings.NewReplacer(`${var.url}`, s.url, `${join(" ", var.scope)}`, "collectors:read", `${join(" ", var.audience)}`, "urn:two", `${path.module}`, module)
	var program []string
	check(t, json.Unmarshal([]byte("["+strings.TrimSuffix(strings.TrimSpace(values.Replace(found[1])), ",")+"]"), &program))
	a := shellRun(t, []string{"TOKENBOOTH_CLIENT_SECRET=" + s.key().secret}, program)
	var result map[string]string // any other type is an error for Terraform
	if err := json.Unmarshal([]byte(a.out), &result); err != nil {
		t.Fatalf("%+v: %v", a, err)
	}
	s.wantGood("the module", result["token"], s.key(), "collectors:read")
	if claims(t, result["token"])["aud"] != "urn:two" {
		t.Error("the audience gets lost")
	}
	for _, use := range regexp.MustCompile(`data\.external\.login\.result\.([a-z_]+)`).FindAllStringSubmatch(string(text), -1) {
		if _, ok := result[use[1]]; !ok {
			t.Errorf("the program prints no %s", use[1])
		}
	}
}

// The shell text that users get is what shellcheck calls good, with every check.
func TestShellTexts(t *testing.T) {
	t.Parallel()
	step := filepath.Join(t.TempDir(), "step.sh")
	check(t, os.WriteFile(step, []byte(readAction(t).Runs.Steps[0].Run), 0o600))
	for _, command := range [][]string{{"--shell=sh", loginScript}, {"--shell=bash", step}} {
		out, err := exec.CommandContext(t.Context(), "shellcheck", command...).CombinedOutput()
		if err != nil {
			t.Errorf("shellcheck (`make deps` installs it): %v\n%s", err, out)
		}
	}
}
