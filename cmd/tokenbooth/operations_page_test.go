package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth/grant"
)

// metric is what /metrics says of one.
type metric struct {
	kind, help string
	labels     map[string]bool
}

var (
	metricAbout  = regexp.MustCompile(`^# (HELP|TYPE) (\w+) (.*)$`)
	metricSample = regexp.MustCompile(`^(\w+)(?:\{(.*)\})? \S+$`)
	metricLabel  = regexp.MustCompile(`(\w+)="`)
)

// metricsOf reads the text format of Prometheus as far as it is needed here.
func metricsOf(t *testing.T, text string) map[string]*metric {
	t.Helper()
	found := map[string]*metric{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := metricAbout.FindStringSubmatch(line); m != nil {
			if found[m[2]] == nil {
				found[m[2]] = &metric{labels: map[string]bool{}}
			}
			if m[1] == "HELP" {
				found[m[2]].help = m[3]
			} else {
				found[m[2]].kind = m[3]
			}
			continue
		}
		m := metricSample.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("/metrics has a line that is none of the text format: %q", line)
		}
		of := found[m[1]]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(m[1], suffix); ok && of == nil {
				of = found[base]
			}
		}
		if of == nil {
			t.Fatalf("/metrics does not say what %s is", m[1])
		}
		for _, label := range metricLabel.FindAllStringSubmatch(m[2], -1) {
			if label[1] != "le" && label[1] != "quantile" {
				of.labels[label[1]] = true
			}
		}
	}
	return found
}

// servedMetrics are those of a server that has exchanged a key.
func servedMetrics(t *testing.T) map[string]*metric {
	t.Helper()
	env := onSQLite(t.TempDir())
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	r := serveReady(t, env)
	wantToken(t, r.url, key)
	var text string
	eventually(t, "the count of keys that expire", func() bool {
		text = page(t, r.ops+"/metrics")
		return strings.Contains(text, "tokenbooth_keys_expiring{")
	})
	return metricsOf(t, text)
}

// TestMetricsPage keeps the page of metrics what a server shows.
func TestMetricsPage(t *testing.T) {
	t.Parallel()
	found := servedMetrics(t)
	wantNames(t, found)
	wantPage(t, "metrics.md", metricsPage(found))
}

// wantNames checks the names by the conventions of Prometheus, and that each metric
// says what it is.
func wantNames(t *testing.T, found map[string]*metric) {
	t.Helper()
	for name, m := range found {
		if !strings.HasPrefix(name, "tokenbooth_") {
			continue
		}
		if total := strings.HasSuffix(name, "_total"); total != (m.kind == "counter") {
			t.Errorf("%s is a %s: a counter ends in _total, and nothing else does", name, m.kind)
		}
		if !strings.HasSuffix(m.help, ".") {
			t.Errorf("%s: its help %q is no sentence", name, m.help)
		}
		if m.kind == "histogram" && !strings.HasSuffix(name, "_seconds") {
			t.Errorf("%s does not name its unit", name)
		}
		for _, part := range strings.Split(name, "_") {
			if slices.Contains([]string{"ms", "milliseconds", "minutes", "kb", "percent", "duration", "bucket", "sum", "count"}, part) {
				t.Errorf("%s: %q is no base unit, or a word that the format takes", name, part)
			}
		}
		for label := range m.labels {
			if !slices.Contains(boundedLabels, label) {
				t.Errorf("%s has the label %q: are its values a fixed set? then add it to boundedLabels", name, label)
			}
		}
	}
}

// boundedLabels have few values, none of which a client can choose.
var boundedLabels = []string{"algorithm", "commit", "go", "hash", "outcome", "pool", "purpose", "route", "state", "status", "version", "within"}

func metricsPage(found map[string]*metric) string {
	var b strings.Builder
	b.WriteString(`# Metrics

` + "`operations.listen`" + ` serves them at ` + "`/metrics`" + ` in the text format of Prometheus. How to scrape them, with a dashboard and alerts, is
on the page about [observability](guides/observability.md); what to do about which is with the [alerts](alerts/README.md).

Labels have few values, and no client can choose one: there is never a key, a workspace, an address or a path. ` + "`route`" + ` is the route as
the server names it, ` + "`none`" + ` for what it does not have. Beside these there are ` + "`go_*`" + ` and ` + "`process_*`" + `, as in any Go program. Names
that end in ` + "`_seconds`" + ` and are histograms have ` + "`_bucket`" + `, ` + "`_sum`" + ` and ` + "`_count`" + `.

| metric | type | labels | meaning |
|---|---|---|---|
`)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if m := found[name]; strings.HasPrefix(name, "tokenbooth_") {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, m.kind, quoted(slices.Sorted(maps.Keys(m.labels))), strings.ReplaceAll(m.help, "|", `\|`))
		}
	}
	outcomes := grant.Outcomes()
	slices.Sort(outcomes)
	b.WriteString("\nEach exchange has one `outcome`. `unavailable` and `error` are on our side, `client_gone` is a client that did not wait, and all others but\n" +
		"`issued` are refusals; each is there from the start, with 0:\n" + quoted(outcomes) + ".\n")
	return b.String()
}

func quoted(words []string) string {
	var all []string
	for _, w := range words {
		all = append(all, "`"+w+"`")
	}
	return strings.Join(all, ", ")
}
