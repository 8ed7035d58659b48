package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// pageBlock is a fenced block of a page.
type pageBlock struct{ language, text string }

var pageFence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// pageBlocks are the blocks of a page of deploy/docs, under one heading if it is not
// empty.
func pageBlocks(t *testing.T, page, heading string) (blocks []pageBlock) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/docs/" + page)
	check(t, err)
	_, under, found := strings.Cut(string(text), "\n"+heading+"\n")
	if heading == "" {
		under, found = string(text), true
	}
	if !found {
		t.Fatalf("%s has no heading %s", page, heading)
	}
	if heading != "" {
		under, _, _ = strings.Cut(under, "\n## ")
	}
	for _, m := range pageFence.FindAllStringSubmatch(under, -1) {
		blocks = append(blocks, pageBlock{m[1], m[2]})
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no blocks under %q", page, heading)
	}
	return blocks
}

// The page's shell blocks do what it says they do, in the order in which they are.
func TestCIPageShell(t *testing.T) {
	t.Parallel()
	s := startCIServer(t)
	directory := t.TempDir()
	script, err := os.ReadFile(loginScript)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(directory, "tokenbooth-login.sh"), script, 0o600))
	lines := []string{"cd " + directory}
	for _, heading := range []string{"## Any other system", "## When the job is done"} {
		for _, block := range pageBlocks(t, "guides/ci.md", heading) {
			if block.language == "sh" {
				lines = append(lines, strings.ReplaceAll(block.text, "https://api.example.com/collectors", s.url+"/api/v1/whoami"), "echo")
			}
		}
	}
	lines = append(lines, `curl -sS -o answer -w '%{http_code}' -H "Authorization: Bearer $TOKENBOOTH_TOKEN" `+s.url+"/api/v1/whoami")
	for _, shell := range [][]string{{"dash", "-e"}, {"bash", "-eo", "pipefail"}} {
		a := shellRun(t, as(s.url, s.key()), append(shell, "-c", strings.Join(lines, "\n")))
		said := strings.Split(a.out, "\n")
		if a.code != exitOK || len(said) < 4 || !strings.Contains(said[0], `"workspace":"payments"`) || !strings.Contains(a.out, `{"access_token":"`) ||
			!strings.Contains(a.out, `"dead_by":`) || said[len(said)-1] != "401" {
			t.Errorf("%s: the page's commands end with %d and say\n%s\n%s", shell[0], a.code, a.out, a.errors)
		}
	}
}

// The command that makes a key for a pipeline makes one.
func TestCIPageKey(t *testing.T) {
	t.Parallel()
	s := startCIServer(t)
	command := strings.Fields(pageBlocks(t, "guides/ci.md", "## A key for the pipeline")[0].text)
	tool(t, as(s.url, s.ownerKey()), "", command[1:]...).wants(t, strings.Join(command, " "), exitOK, "")
}

// The workflow of the page uses inputs and outputs that the action has.
func TestCIPageWorkflow(t *testing.T) {
	t.Parallel()
	var workflow struct {
		Jobs map[string]struct {
			Steps []struct {
				ID, Uses, Run string
				With, Env     map[string]string
			}
		}
	}
	text := pageBlocks(t, "guides/ci.md", "## GitHub Actions")[0].text
	check(t, yaml.Unmarshal([]byte(text), &workflow))
	a := readAction(t)
	steps := workflow.Jobs["collectors"].Steps
	if len(steps) != 2 || !strings.HasPrefix(steps[0].Uses, "tokenbooth/tokenbooth/"+strings.TrimPrefix(filepath.Dir(actionFile), "../../")+"@") {
		t.Fatalf("the workflow does not use the action: %+v", steps)
	}
	for name := range steps[0].With {
		if _, ok := a.Inputs[name]; !ok {
			t.Errorf("the action has no input %s", name)
		}
	}
	for name, input := range a.Inputs {
		if _, given := steps[0].With[name]; input.Required && !given {
			t.Errorf("the workflow does not give %s", name)
		}
	}
	for _, use := range regexp.MustCompile(`steps\.login\.outputs\.([a-z-]+)`).FindAllStringSubmatch(text, -1) {
		if _, ok := a.Outputs[use[1]]; !ok {
			t.Errorf("the action has no output %s", use[1])
		}
	}

	s := startCIServer(t)
	token := wantToken(t, s.url, s.key())
	run := strings.ReplaceAll(steps[1].Run, "https://api.example.com/collectors", s.url+"/api/v1/whoami")
	if done := shellRun(t, []string{"TOKEN=" + token}, []string{"bash", "-eo", "pipefail", "-c", run}); !strings.Contains(done.out, `"workspace":"payments"`) {
		t.Errorf("the workflow's request: %+v", done)
	}
}

// The job of the page extends what the template has.
func TestCIPageGitLab(t *testing.T) {
	t.Parallel()
	var page map[string]yaml.Node
	check(t, yaml.Unmarshal([]byte(pageBlocks(t, "guides/ci.md", "## GitLab CI")[0].text), &page))
	var include []struct{ File string }
	node := page["include"]
	check(t, node.Decode(&include))
	template, err := os.ReadFile("../.." + include[0].File)
	check(t, err)
	var job struct {
		Extends string
		Script  []string
	}
	node = page["collectors"]
	check(t, node.Decode(&job))
	var jobs map[string]any
	check(t, yaml.Unmarshal(template, &jobs))
	if _, ok := jobs[job.Extends]; !ok {
		t.Errorf("the template has no job %q", job.Extends)
	}
	s := startCIServer(t)
	run := strings.ReplaceAll(strings.Join(job.Script, "\n"), "https://api.example.com/collectors", s.url+"/api/v1/whoami")
	if done := shellRun(t, []string{"TOKENBOOTH_TOKEN=" + wantToken(t, s.url, s.key())}, []string{"sh", "-e", "-c", run}); !strings.Contains(done.out, `"workspace":"payments"`) {
		t.Errorf("the job's request: %+v", done)
	}
}
