package helm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	podsecurity "k8s.io/pod-security-admission/api"
	podpolicy "k8s.io/pod-security-admission/policy"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

func TestPodsAreRestricted(t *testing.T) {
	judge, err := podpolicy.NewEvaluator(podpolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for name, v := range installations(t) {
		for which, pod := range pods(render(t, v)) {
			verdict := podpolicy.AggregateCheckResults(judge.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
			if !verdict.Allowed {
				t.Errorf("%s: Pod Security Admission refuses %s: %s", name, which, verdict.ForbiddenDetail())
			}
			if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
				t.Errorf("%s: %s gets a token of Kubernetes", name, which)
			}
			if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
				t.Errorf("%s: %s gets variables of services", name, which)
			}
			container := pod.Spec.Containers[0]
			if !*container.SecurityContext.ReadOnlyRootFilesystem {
				t.Errorf("%s: the root file system of %s can be written", name, which)
			}
			for _, mount := range container.VolumeMounts {
				if mount.ReadOnly == (mount.Name == "data") {
					t.Errorf("%s: the volume %s of %s: read only is %t", name, mount.Name, which, mount.ReadOnly)
				}
			}
		}
	}
}

// Labels, names and who selects whom.
func TestLabels(t *testing.T) {
	common := []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version",
		"app.kubernetes.io/component", "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by", "helm.sh/chart"}
	for name, v := range installations(t) {
		seen := map[string]bool{}
		for _, object := range render(t, v).objects {
			what := name + ": " + fmt.Sprintf("%T %s", object, object.GetName())
			if seen[what] {
				t.Errorf("%s: there are two", what)
			}
			seen[what] = true
			if object.GetNamespace() != namespace {
				t.Errorf("%s: it is in the namespace %q", what, object.GetNamespace())
			}
			if problems := validation.IsDNS1123Label(object.GetName()); problems != nil {
				t.Errorf("%s: %v", what, problems)
			}
			for _, key := range common {
				if object.GetLabels()[key] == "" {
					t.Errorf("%s: it has no label %s", what, key)
				}
			}
			for key, value := range object.GetLabels() {
				if problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); problems != nil {
					t.Errorf("%s: the label %s=%s: %v", what, key, value, problems)
				}
			}
			for key := range object.GetAnnotations() {
				if problems := validation.IsQualifiedName(key); problems != nil {
					t.Errorf("%s: the annotation %s: %v", what, key, problems)
				}
			}
		}
	}
}

func TestSelectors(t *testing.T) {
	for name, v := range installations(t) {
		r := render(t, v)
		server := pods(r)["the Deployment"].Labels
		selectors := map[string]map[string]string{}
		for _, object := range r.objects {
			switch o := object.(type) {
			case *apps.Deployment:
				selectors["Deployment"] = o.Spec.Selector.MatchLabels
			case *core.Service:
				selectors["Service "+o.Name] = o.Spec.Selector
			case *networking.NetworkPolicy:
				selectors["NetworkPolicy"] = o.Spec.PodSelector.MatchLabels
			case *policy.PodDisruptionBudget:
				selectors["PodDisruptionBudget"] = o.Spec.Selector.MatchLabels
			}
		}
		for what, selector := range selectors {
			if !selects(selector, server) {
				t.Errorf("%s: %s selects %v, and the servers have %v", name, what, selector, server)
			}
			if job, ok := pods(r)["the Job"]; ok && selects(selector, job.Labels) {
				t.Errorf("%s: %s selects the pod of the Job", name, what)
			}
		}
		for _, object := range r.objects {
			if o, ok := object.(*monitoring.ServiceMonitor); ok {
				if ports := portsOf(r, o.Spec.Selector.MatchLabels); !slices.Equal(ports, []string{o.Spec.Endpoints[0].Port}) {
					t.Errorf("%s: the ServiceMonitor selects the ports %v", name, ports)
				}
			}
		}
	}
}

func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return len(selector) > 0
}

// portsOf are the names of the ports of the Services with these labels.
func portsOf(r rendered, labels map[string]string) (ports []string) {
	for _, object := range r.objects {
		service, ok := object.(*core.Service)
		if !ok || !selects(labels, service.Labels) {
			continue
		}
		for _, port := range service.Spec.Ports {
			ports = append(ports, port.Name)
		}
	}
	return ports
}

// An upgrade may change anything but what Kubernetes refuses to change.
func TestUpgradesKeepWhatCannotChange(t *testing.T) {
	before := render(t, with(t, ``))
	// Written down, since a release that is out there has it: it must not follow a change of the chart.
	selector := map[string]string{
		"app.kubernetes.io/name": "tokenbooth", "app.kubernetes.io/instance": release, "app.kubernetes.io/component": "server",
	}
	for name, v := range installations(t) {
		got := find[*apps.Deployment](t, render(t, v))
		if got.Name != find[*apps.Deployment](t, before).Name {
			t.Errorf("%s: the Deployment is %s", name, got.Name)
		}
		if match := got.Spec.Selector.MatchLabels; len(match) != len(selector) || !selects(selector, match) {
			t.Errorf("%s: the selector is %v", name, match)
		}
	}
	const kept = `migrations: {mode: job, annotations: {helm.sh/hook: null}}`
	job := func(yaml string) *batch.Job {
		return find[*batch.Job](t, render(t, with(t, kept+"\n"+yaml)))
	}
	if job(``).Name == job(`image: {tag: next}`).Name {
		t.Error("a Job that stays would have to change its image")
	}
	if job(``).Name != job(`replicas: 3`).Name {
		t.Error("a Job that stays runs again for nothing")
	}
	hook := find[*batch.Job](t, render(t, with(t, `{migrations: {mode: job}, image: {tag: next}}`)))
	if hook.Name != "login-tokenbooth-migrate" {
		t.Errorf("the hook is %s: the one before it would not be deleted", hook.Name)
	}
}

// A hook runs before the rest of the chart exists.
func TestHookNeedsNothingOfTheChart(t *testing.T) {
	r := render(t, with(t, `migrations: {mode: job, database: {existingSecret: owner, key: uri}}`))
	job := find[*batch.Job](t, r)
	if job.Annotations["helm.sh/hook"] != "pre-install,pre-upgrade" {
		t.Errorf("it is no hook: %v", job.Annotations)
	}
	spec := job.Spec.Template.Spec
	if spec.ServiceAccountName != "" {
		t.Errorf("it needs the ServiceAccount %s", spec.ServiceAccountName)
	}
	for _, volume := range spec.Volumes {
		if volume.ConfigMap != nil {
			t.Errorf("it needs the ConfigMap %s", volume.ConfigMap.Name)
		}
		for _, source := range volume.Projected.Sources {
			if source.Secret.Name != "owner" || source.Secret.Items[0].Key != "uri" {
				t.Errorf("it takes the database from %v", source.Secret)
			}
		}
	}
}

func TestReplicas(t *testing.T) {
	r := render(t, with(t, ``))
	d := find[*apps.Deployment](t, r)
	if *d.Spec.Replicas != 2 || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 || d.Spec.Strategy.RollingUpdate.MaxSurge.IntValue() != 1 {
		t.Errorf("defaults: %d replicas, %v", *d.Spec.Replicas, d.Spec.Strategy)
	}
	if budget := find[*policy.PodDisruptionBudget](t, r); budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("defaults: %v", budget.Spec)
	}
	for _, spread := range d.Spec.Template.Spec.TopologySpreadConstraints {
		if spread.WhenUnsatisfiable != core.ScheduleAnyway || !selects(spread.LabelSelector.MatchLabels, d.Spec.Template.Labels) {
			t.Errorf("defaults: the spread is %v", spread)
		}
	}

	r = render(t, embedded(t, ``))
	d = find[*apps.Deployment](t, r)
	if *d.Spec.Replicas != 1 || d.Spec.Strategy.Type != apps.RecreateDeploymentStrategyType {
		t.Errorf("SQLite: %d replicas, %v", *d.Spec.Replicas, d.Spec.Strategy)
	}
	if has[*policy.PodDisruptionBudget](r) {
		t.Error("SQLite: a budget would keep its node from being drained")
	}
	if claim := find[*core.PersistentVolumeClaim](t, r); claim.Annotations["helm.sh/resource-policy"] != "keep" {
		t.Error("SQLite: uninstalling deletes the data")
	}
	if r = render(t, embedded(t, `sqlite: {existingClaim: mine}`)); has[*core.PersistentVolumeClaim](r) {
		t.Error("SQLite: there is a claim beside the existing one")
	}

	r = render(t, with(t, `autoscaling: {enabled: true}`))
	if d = find[*apps.Deployment](t, r); d.Spec.Replicas != nil {
		t.Error("the Deployment and the autoscaler both say how many replicas there are")
	}
	if scaled := find[*autoscaling.HorizontalPodAutoscaler](t, r).Spec.ScaleTargetRef; scaled.Name != d.Name {
		t.Errorf("the autoscaler scales %s", scaled.Name)
	}
}

// The pod outlives the longest shutdown that the configuration allows.
func TestGracePeriod(t *testing.T) {
	for text, want := range map[string]int64{
		``: 5 + 20 + 15,
		`config: {http: {shutdown_delay: 1m30s}}`:                       90 + 20 + 15,
		`config: {http: {shutdown_delay: 0s, drain_timeout: 2.5s}}`:     0 + 3 + 15,
		`config: {http: {shutdown_delay: 1500ms, drain_timeout: 0.1h}}`: 2 + 360 + 15,
	} {
		pod := find[*apps.Deployment](t, render(t, with(t, text))).Spec.Template.Spec
		if got := *pod.TerminationGracePeriodSeconds; got != want {
			t.Errorf("%q: %d s, want %d s", text, got, want)
		}
	}
}

func TestHostAndPathAreTheIssuers(t *testing.T) {
	const published = `
ingress: {enabled: true, tlsSecret: certificate}
httpRoute: {enabled: true, parentRefs: [{name: gateway}]}
`
	for issuer, want := range map[string]struct {
		host  string
		paths []string
	}{
		"https://login.example.com":        {"login.example.com", []string{"/"}},
		"https://login.example.com:8443":   {"login.example.com", []string{"/"}},
		"https://example.com/platform/log": {"example.com", []string{"/platform/log", "/.well-known/oauth-authorization-server/platform/log"}},
	} {
		r := render(t, with(t, published+`config: {issuer: "`+issuer+`"}`))
		ingress := find[*networking.Ingress](t, r).Spec
		var paths []string
		for _, p := range ingress.Rules[0].HTTP.Paths {
			paths = append(paths, p.Path)
		}
		if ingress.Rules[0].Host != want.host || !slices.Equal(paths, want.paths) {
			t.Errorf("%s: the Ingress has %s with %v", issuer, ingress.Rules[0].Host, paths)
		}
		if tls := ingress.TLS[0]; tls.Hosts[0] != want.host || tls.SecretName != "certificate" {
			t.Errorf("%s: the certificate is for %v", issuer, tls)
		}
		route := find[*gateway.HTTPRoute](t, r).Spec
		paths = nil
		for _, match := range route.Rules[0].Matches {
			paths = append(paths, *match.Path.Value)
		}
		if string(route.Hostnames[0]) != want.host || !slices.Equal(paths, want.paths) {
			t.Errorf("%s: the HTTPRoute has %v with %v", issuer, route.Hostnames, paths)
		}
	}
}

// Metrics are for monitoring only, and on no Service that can be published.
func TestOperationsPortStaysInside(t *testing.T) {
	r := render(t, with(t, `service: {type: LoadBalancer}`))
	for _, object := range r.objects {
		service, ok := object.(*core.Service)
		if !ok {
			continue
		}
		for _, port := range service.Spec.Ports {
			if inside := service.Spec.ClusterIP == core.ClusterIPNone; inside != (port.TargetPort.StrVal == "operations") {
				t.Errorf("the Service %s has the port %s", service.Name, port.Name)
			}
		}
	}
	for _, rule := range find[*networking.NetworkPolicy](t, r).Spec.Ingress {
		if rule.Ports[0].Port.StrVal == "operations" && (len(rule.From) != 1 || rule.From[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] != "monitoring") {
			t.Errorf("the operations port is open to %v", rule.From)
		}
	}
	rules := find[*networking.NetworkPolicy](t, render(t, with(t, `networkPolicy: {monitoringFrom: []}`))).Spec.Ingress
	if len(rules) != 1 || rules[0].Ports[0].Port.StrVal != "http" {
		t.Errorf("without monitoringFrom the rules are %v", rules)
	}
}

func TestMonitoring(t *testing.T) {
	r := render(t, with(t, everything))
	if rules := find[*monitoring.PrometheusRule](t, r); len(rules.Spec.Groups) == 0 || len(rules.Spec.Groups[0].Rules) == 0 {
		t.Error("there are no alerts")
	}
	named := render(t, with(t, everything+"nameOverride: a\nfullnameOverride: b"))
	if job := find[*monitoring.ServiceMonitor](t, named).Spec.Endpoints[0].RelabelConfigs[0]; job.TargetLabel != "job" || *job.Replacement != "tokenbooth/access/b" {
		t.Errorf("the job is %v, and an alert wants tokenbooth in it", job)
	}
	for _, object := range r.objects {
		if o, ok := object.(*core.ConfigMap); ok && strings.HasSuffix(o.Name, "-dashboard") {
			if len(o.Data["tokenbooth.json"]) < 100 || o.Labels["grafana_dashboard"] != "1" {
				t.Errorf("the dashboard is %.60q with %v", o.Data["tokenbooth.json"], o.Labels)
			}
			return
		}
	}
	t.Error("there is no dashboard")
}

// A change of the configuration replaces the pods, anything else beside them does not.
func TestChecksum(t *testing.T) {
	checksum := func(text string) string {
		return find[*apps.Deployment](t, render(t, with(t, text))).Spec.Template.Annotations["checksum/config"]
	}
	if checksum(``) == checksum(`config: {tokens: {ttl: 5m}}`) {
		t.Error("pods go on with the old configuration")
	}
	if checksum(``) != checksum(`service: {port: 81}`) {
		t.Error("pods are replaced for nothing")
	}
}

func TestNotes(t *testing.T) {
	for name, test := range map[string]struct {
		values map[string]any
		wants  []string
		not    string
	}{
		"defaults": {with(t, ``), []string{
			"kubectl rollout status --namespace access deployment/login-tokenbooth\n",
			"kubectl exec --namespace access deployment/login-tokenbooth -- /tokenbooth setup-link\n",
			"Nothing leads from https://login.example.com",
		}, "quotas"},
		"no Redis":     {with(t, `redis: {existingSecret: ""}`), []string{"its own share of the quotas"}, "/data"},
		"SQLite":       {embedded(t, ``), []string{"Back them up"}, "quotas"},
		"no proxies":   {with(t, `ingress: {enabled: true}`), []string{"WARNING: config.http.trusted_proxies is empty"}, "Nothing leads"},
		"with proxies": {with(t, `{ingress: {enabled: true}, config: {http: {trusted_proxies: [10.0.0.0/8]}}}`), nil, "WARNING"},
	} {
		notes := render(t, test.values).notes
		for _, want := range test.wants {
			if !strings.Contains(notes, want) {
				t.Errorf("%s: the notes lack %q:\n%s", name, want, notes)
			}
		}
		if strings.Contains(notes, test.not) {
			t.Errorf("%s: the notes have %q:\n%s", name, test.not, notes)
		}
	}
}

func TestLint(t *testing.T) {
	for name, v := range installations(t) {
		for _, message := range lint.RunAll(chartPath, v, namespace).Messages {
			if message.Severity > support.InfoSev {
				t.Errorf("%s: %s", name, message)
			}
		}
	}
}
