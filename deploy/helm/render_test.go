package helm

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	chartPath = "tokenbooth"
	release   = "login"
	namespace = "access"
)

// kinds are all that the chart may make, as the Kubernetes API decodes them.
var kinds = map[string]func() meta.Object{
	"apps/v1 Deployment":                      func() meta.Object { return new(apps.Deployment) },
	"autoscaling/v2 HorizontalPodAutoscaler":  func() meta.Object { return new(autoscaling.HorizontalPodAutoscaler) },
	"batch/v1 Job":                            func() meta.Object { return new(batch.Job) },
	"v1 ConfigMap":                            func() meta.Object { return new(core.ConfigMap) },
	"v1 PersistentVolumeClaim":                func() meta.Object { return new(core.PersistentVolumeClaim) },
	"v1 Service":                              func() meta.Object { return new(core.Service) },
	"v1 ServiceAccount":                       func() meta.Object { return new(core.ServiceAccount) },
	"networking.k8s.io/v1 Ingress":            func() meta.Object { return new(networking.Ingress) },
	"networking.k8s.io/v1 NetworkPolicy":      func() meta.Object { return new(networking.NetworkPolicy) },
	"policy/v1 PodDisruptionBudget":           func() meta.Object { return new(policy.PodDisruptionBudget) },
	"gateway.networking.k8s.io/v1 HTTPRoute":  func() meta.Object { return new(gateway.HTTPRoute) },
	"monitoring.coreos.com/v1 ServiceMonitor": func() meta.Object { return new(monitoring.ServiceMonitor) },
	"monitoring.coreos.com/v1 PrometheusRule": func() meta.Object { return new(monitoring.PrometheusRule) },
}

// rendered is what one installation consists of.
type rendered struct {
	objects []meta.Object
	notes   string
}

// render makes the chart's objects of values, as `helm install` does, and decodes
// them as strictly as an API server that refuses unknown and duplicate fields.
func render(t *testing.T, values map[string]any) rendered {
	t.Helper()
	r, err := tryRender(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tryRender fails the test for what the chart made wrongly; its error is the
// chart's refusal of values.
func tryRender(t *testing.T, values map[string]any) (rendered, error) {
	t.Helper()
	chart, err := loader.Load(chartPath)
	if err != nil {
		t.Fatal(err)
	}
	options := common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	top, err := util.ToRenderValues(chart, values, options, nil)
	if err != nil {
		return rendered{}, err
	}
	files, err := engine.Render(chart, top)
	if err != nil {
		return rendered{}, err
	}
	var r rendered
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch path.Ext(name) {
		case ".yaml":
			r.objects = append(r.objects, decodeAll(t, name, files[name])...)
		case ".txt":
			r.notes = files[name]
		}
	}
	return r, nil
}

func decodeAll(t *testing.T, name, text string) []meta.Object {
	t.Helper()
	var objects []meta.Object
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if object := decode(t, name, document); object != nil {
			objects = append(objects, object)
		}
	}
}

// decode is nil for a document without content.
func decode(t *testing.T, name string, document []byte) meta.Object {
	t.Helper()
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, document)
	}
	if bytes.Equal(text, []byte("null")) {
		return nil
	}
	var kind meta.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	fresh, known := kinds[kind.APIVersion+" "+kind.Kind]
	if !known {
		t.Fatalf("%s: %q %q is not what the chart may make", name, kind.APIVersion, kind.Kind)
	}
	object := fresh()
	mistakes, err := kjson.UnmarshalStrict(text, object)
	if err := errors.Join(append(mistakes, err)...); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, document)
	}
	return object
}

// find returns the only object of a type.
func find[T meta.Object](t *testing.T, r rendered) T {
	t.Helper()
	var found []T
	for _, object := range r.objects {
		if typed, ok := object.(T); ok {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		var none T
		t.Fatalf("there are %d objects of type %T, and one is wanted", len(found), none)
	}
	return found[0]
}

// has tells whether there is an object of a type.
func has[T meta.Object](r rendered) bool {
	return slices.ContainsFunc(r.objects, func(object meta.Object) bool {
		_, ok := object.(T)
		return ok
	})
}

// values decodes YAML as `helm --values` does.
func values(t *testing.T, text string) map[string]any {
	t.Helper()
	v, err := loader.LoadValues(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// with is the values of a whole installation, changed by YAML.
func with(t *testing.T, text string) map[string]any {
	t.Helper()
	base := values(t, `
config: {issuer: "https://login.example.com"}
secrets: {existingSecret: tokenbooth-secrets}
database: {existingSecret: tokenbooth-database}
redis: {existingSecret: tokenbooth-redis}
`)
	return loader.MergeMaps(base, values(t, text))
}

// embedded is the same with SQLite.
func embedded(t *testing.T, text string) map[string]any {
	t.Helper()
	base := values(t, `
config: {issuer: "https://login.example.com"}
sqlite: {enabled: true}
`)
	return loader.MergeMaps(base, values(t, text))
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
