package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbooth/tokenbooth/oauth/grant"
)

const (
	rulesFile = "../../deploy/prometheus/alerts.yaml"
	rulesTest = "../../deploy/prometheus/alerts_test.yaml"
	dashboard = "../../deploy/grafana/tokenbooth.json"
	alertsDir = "../../deploy/docs/alerts"
	runbooks  = "https://github.com/tokenbooth/tokenbooth/blob/main/deploy/docs/alerts/"
)

// alert is one rule of the file.
type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func shippedAlerts(t *testing.T) (found []alert) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	readYAML(t, rulesFile, &file)
	for _, g := range file.Groups {
		found = append(found, g.Rules...)
	}
	if len(found) < 20 {
		t.Fatalf("there are %d alerts: this test looks in the wrong place", len(found))
	}
	return found
}

// promtool runs Prometheus' own tool. It is in Debian's package prometheus.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skip("promtool is not installed: make deps")
		}
		t.Fatal("promtool is not installed: make deps")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Each alert fires in one test and is silent in another.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", rulesFile)
	promtool(t, "test", "rules", rulesTest)
	var tests struct {
		Tests []struct {
			Rules []struct {
				Alert    string `yaml:"alertname"`
				Expected []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	readYAML(t, rulesTest, &tests)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, rule := range test.Rules {
			fires[rule.Alert] = fires[rule.Alert] || len(rule.Expected) > 0
			silent[rule.Alert] = silent[rule.Alert] || len(rule.Expected) == 0
		}
	}
	for _, a := range shippedAlerts(t) {
		if !fires[a.Alert] || !silent[a.Alert] {
			t.Errorf("%s: a test in which it fires: %v, one in which it is silent: %v", a.Alert, fires[a.Alert], silent[a.Alert])
		}
	}
}

// Each alert says what it is and has a page, which shows the same expression, and
// there are pages of alerts only.
func TestAlertPages(t *testing.T) {
	t.Parallel()
	index, err := os.ReadFile(filepath.Join(alertsDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"README.md"}
	for _, a := range shippedAlerts(t) {
		file := a.Alert + ".md"
		known = append(known, file)
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s has the severity %q", a.Alert, a.Labels["severity"])
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" || a.Annotations["runbook_url"] != runbooks+file {
			t.Errorf("%s: summary, description and runbook_url (%s) are required, and there are %q", a.Alert, runbooks+file, a.Annotations)
		}
		if line := fmt.Sprintf("| [%s](%s) | %s |", a.Alert, file, a.Labels["severity"]); !strings.Contains(string(index), line) {
			t.Errorf("alerts/README.md lacks the line %s", line)
		}
		page, err := os.ReadFile(filepath.Join(alertsDir, file))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, part := range []string{
			"# " + a.Alert + "\n", "**" + a.Labels["severity"] + "**", "```promql\n" + a.Expr + "\n```\n",
			"\n## What it means\n", "\n## Impact\n", "\n## How to look\n", "\n## What to do\n",
		} {
			if !strings.Contains(string(page), part) {
				t.Errorf("alerts/%s lacks %q", file, part)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(alertsDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.Contains(known, filepath.Base(file)) {
			t.Errorf("%s is the page of no alert", file)
		}
	}
}

var (
	// promBlock is PromQL in a page.
	promBlock = regexp.MustCompile("(?s)```promql\n(.*?)```")
	// promName is a metric, or what stands before one of its matchers.
	promName = regexp.MustCompile(`\b(?:tokenbooth|go|process)_[a-z0-9_]+\b`)
	// promText is what stands in quotes; promOutcome those of them that name outcomes.
	promText    = regexp.MustCompile(`"[^"]*"`)
	promOutcome = regexp.MustCompile(`outcome(?:=|!=|=~|!~)"([^"]*)"`)
)

// promFaults lists the metrics that no server has, and the outcomes that no exchange has.
func promFaults(found map[string]*metric, expr string) (faults []string) {
	for _, name := range promName.FindAllString(promText.ReplaceAllString(expr, ""), -1) {
		of := found[name]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && of == nil && found[base] != nil && found[base].kind == "histogram" {
				of = found[base]
			}
		}
		if of == nil {
			faults = append(faults, "no server has the metric "+name)
		}
	}
	for _, m := range promOutcome.FindAllStringSubmatch(expr, -1) {
		for outcome := range strings.SplitSeq(m[1], "|") {
			if !slices.Contains(grant.Outcomes(), outcome) {
				faults = append(faults, "no exchange has the outcome "+outcome)
			}
		}
	}
	return faults
}

// What rules, pages and the dashboard ask for is what a server has, and is PromQL.
func TestExpressions(t *testing.T) {
	t.Parallel()
	found := servedMetrics(t)
	asked := dashboardExpressions(t)
	for _, a := range shippedAlerts(t) {
		asked[a.Alert] = a.Expr
	}
	pages, err := filepath.Glob(filepath.Join(alertsDir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(pages, "../../deploy/docs/guides/observability.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range promBlock.FindAllStringSubmatch(string(text), -1) {
			for j, expr := range promStatements(block[1]) {
				asked[fmt.Sprintf("%s %d.%d", filepath.Base(path), i+1, j+1)] = expr
			}
		}
	}
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for where, expr := range asked {
		for _, fault := range promFaults(found, expr) {
			t.Errorf("%s: %s: %s", where, fault, expr)
		}
		rules = append(rules, rule{fmt.Sprintf("x:%d", len(rules)), expr})
	}
	if len(rules) < 100 {
		t.Errorf("there are %d expressions: this test looks in the wrong place", len(rules))
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "all", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)

	for expr, want := range map[string]int{
		`rate(tokenbooth_no_such_total[5m])`: 1, `tokenbooth_replicas_count`: 1, `tokenbooth_exchange_seconds_sum`: 0,
		`tokenbooth_exchanges_total{outcome=~"error|eror"}`: 1, `up{job="tokenbooth_x"}`: 0,
	} {
		if faults := promFaults(found, expr); len(faults) != want {
			t.Errorf("%s: %q, want %d faults", expr, faults, want)
		}
	}
}

// promStatements are the expressions of a block: each begins a line, and goes on in
// lines that are indented.
func promStatements(block string) (found []string) {
	for line := range strings.Lines(block) {
		if strings.HasPrefix(line, " ") && len(found) > 0 {
			found[len(found)-1] += line
		} else if strings.TrimSpace(line) != "" {
			found = append(found, line)
		}
	}
	return found
}

// dashboardExpressions are those of the dashboard, by where they are, with values in
// place of its variables.
func dashboardExpressions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		UID        string `json:"uid"`
		Templating struct {
			List []struct {
				Name       string `json:"name"`
				Definition string `json:"definition"`
			} `json:"list"`
		} `json:"templating"`
		Panels []struct {
			ID         int               `json:"id"`
			Type       string            `json:"type"`
			Title      string            `json:"title"`
			Datasource map[string]string `json:"datasource"`
			Targets    []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatalf("%s: %v", dashboard, err)
	}
	var variables []string
	asked := map[string]string{}
	for _, v := range file.Templating.List {
		variables = append(variables, v.Name)
		if v.Definition != "" {
			asked["variable "+v.Name] = strings.TrimSuffix(regexp.MustCompile(`^label_values\((.*), \w+\)$`).ReplaceAllString(v.Definition, "$1"), ",")
		}
	}
	if !slices.Equal(variables, []string{"datasource", "job", "instance"}) || file.UID != "tokenbooth" {
		t.Errorf("the dashboard has the variables %q and the uid %q", variables, file.UID)
	}
	ids := map[int]bool{}
	for _, p := range file.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the ID %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && (p.Datasource["uid"] != "${datasource}" || len(p.Targets) == 0) {
			t.Errorf("the panel %q asks %q for %d things", p.Title, p.Datasource["uid"], len(p.Targets))
		}
		for i, target := range p.Targets {
			if !strings.Contains(target.Expr, `{job=~"$job", instance=~"$instance"`) {
				t.Errorf("the panel %q does not go by the variables: %s", p.Title, target.Expr)
			}
			asked[fmt.Sprintf("panel %q %d", p.Title, i+1)] = target.Expr
		}
	}
	values := strings.NewReplacer("$job", "tokenbooth", "$instance", "a", "$__rate_interval", "5m")
	for where, expr := range asked {
		asked[where] = values.Replace(expr)
	}
	return asked
}
