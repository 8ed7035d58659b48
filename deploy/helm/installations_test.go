package helm

import (
	"path/filepath"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// everything turns on what is off by itself.
const everything = `
autoscaling: {enabled: true}
migrations: {mode: job}
ingress: {enabled: true, className: nginx, tlsSecret: tls, annotations: {a/b: c}}
httpRoute: {enabled: true, parentRefs: [{name: gateway}], annotations: {a/b: c}}
image: {pullSecrets: [{name: registry}], digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}
extraEnv: [{name: GOMEMLIMIT, value: 400MiB}]
extraVolumes: [{name: ca, configMap: {name: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /ca, readOnly: true}]
nodeSelector: {kubernetes.io/arch: amd64}
tolerations: [{key: a, operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
priorityClassName: high
podLabels: {team: identity}
podAnnotations: {a/b: c}
serviceAccount: {annotations: {a/b: c}}
service: {annotations: {a/b: c}}
networkPolicy: {from: [{podSelector: {}}], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}
monitoring: {serviceMonitor: {enabled: true, labels: {a: b}}, prometheusRule: {enabled: true, labels: {a: b}}, dashboard: {enabled: true, annotations: {a/b: c}}}
`

// installations are those that the tests look at: the examples, and both ends of what values can do.
func installations(t *testing.T) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{
		"defaults":             with(t, ``),
		"SQLite":               embedded(t, ``),
		"SQLite with secrets":  embedded(t, `secrets: {existingSecret: tokenbooth-secrets}`),
		"everything":           with(t, everything),
		"without hooks":        with(t, `migrations: {mode: job, annotations: {helm.sh/hook: null, helm.sh/hook-delete-policy: null}}`),
		"least":                with(t, `{networkPolicy: {enabled: false}, serviceAccount: {create: false}, podDisruptionBudget: {enabled: false}, topologySpread: {enabled: false}}`),
		"nothing may be asked": with(t, `networkPolicy: {monitoringFrom: []}`),
	}
	files, err := filepath.Glob(chartPath + "/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no examples", err)
	}
	for _, file := range files {
		all[filepath.Base(file)] = example(t, file)
	}
	return all
}

// application is what of Argo CD's Application the example may use.
type application struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		Project string `json:"project"`
		Source  struct {
			RepoURL        string `json:"repoURL"`
			Path           string `json:"path"`
			TargetRevision string `json:"targetRevision"`
			Helm           struct {
				ReleaseName  string         `json:"releaseName"`
				ValuesObject map[string]any `json:"valuesObject"`
			} `json:"helm"`
		} `json:"source"`
		Destination struct {
			Server    string `json:"server"`
			Namespace string `json:"namespace"`
		} `json:"destination"`
		SyncPolicy struct {
			Automated struct {
				Prune    bool `json:"prune"`
				SelfHeal bool `json:"selfHeal"`
			} `json:"automated"`
			SyncOptions []string `json:"syncOptions"`
		} `json:"syncPolicy"`
	} `json:"spec"`
}

// example is the values of an example, which are inside of an Application if it is one.
func example(t *testing.T, file string) map[string]any {
	t.Helper()
	text, err := yaml.YAMLToJSONStrict([]byte(read(t, file)))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if !strings.Contains(string(text), `"kind":"Application"`) {
		return values(t, read(t, file))
	}
	var a application
	if mistakes, err := kjson.UnmarshalStrict(text, &a); err != nil || mistakes != nil {
		t.Fatalf("%s: %v %v", file, err, mistakes)
	}
	if got := a.Spec.Source.Path; got != "deploy/helm/"+chartPath {
		t.Errorf("%s has the chart at %s", file, got)
	}
	return a.Spec.Source.Helm.ValuesObject
}

// pods are the templates of pods among the objects.
func pods(r rendered) map[string]core.PodTemplateSpec {
	found := map[string]core.PodTemplateSpec{}
	for _, object := range r.objects {
		switch o := object.(type) {
		case *apps.Deployment:
			found["the Deployment"] = o.Spec.Template
		case *batch.Job:
			found["the Job"] = o.Spec.Template
		}
	}
	return found
}
