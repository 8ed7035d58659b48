package helm

import (
	"strings"
	"testing"
)

// Refusals say what is wrong and what to do, before anything is installed.
func TestRefusals(t *testing.T) {
	const secretCommand = `kubectl create secret generic --namespace access tokenbooth-secrets ` +
		`--from-file=pepper=<(printf '1:%s' "$(openssl rand -base64 32)") ` +
		`--from-file=id_key=<(openssl rand -base64 32) --from-file=key_encryption_key=<(openssl rand -base64 32)`
	for name, test := range map[string]struct {
		base  func(*testing.T, string) map[string]any
		yaml  string
		wants []string
	}{
		"no secrets": {with, `secrets: {existingSecret: ""}`, []string{
			"secrets.existingSecret is empty", "\n  " + secretCommand + "\n", "--set secrets.existingSecret=tokenbooth-secrets"}},
		"no database": {with, `database: {existingSecret: ""}`, []string{
			"database.existingSecret is empty", "postgres://USER:PASSWORD@HOST:5432/DATABASE",
			"\n  kubectl create secret generic --namespace access tokenbooth-database --from-file=url=/dev/stdin\n", "sqlite.enabled=true"}},
		"other key of the database": {with, `database: {existingSecret: "", key: uri}`, []string{"--from-file=uri=/dev/stdin"}},
		"no issuer":                 {with, `config: {issuer: ""}`, []string{"config.issuer is empty", "--set config.issuer=https://login.example.com"}},
		"secret in config": {with, `config: {database: {url: "postgres://u:hunter2@db/x"}}`, []string{
			"config.database.url would be in a ConfigMap, and it is a secret: remove it and name its Secret in database.existingSecret"}},
		"installation's secret in config": {with, `config: {secrets: {pepper: "1:hunter2"}}`, []string{"name its Secret in secrets.existingSecret"}},
		"further secret in config": {with, `config: {webhook: {secret: hunter2}}`, []string{
			"name its Secret in secretSettings, such as {webhook.secret: {existingSecret: NAME, key: KEY}}"}},
		"misspelt setting":         {with, `config: {isuer: x}`, []string{"at '/config'", "'isuer' not allowed"}},
		"setting of a type":        {with, `config: {keys: {cache_size: many}}`, []string{"at '/config/keys/cache_size'", "got string, want integer"}},
		"setting's word":           {with, `config: {log: {level: loud}}`, []string{"at '/config/log/level'", "'debug', 'info', 'warn', 'error'"}},
		"setting's duration":       {with, `config: {tokens: {ttl: 10 minutes}}`, []string{"at '/config/tokens/ttl'"}},
		"address":                  {with, `config: {listen: ":80"}`, []string{"config.listen is set by the chart"}},
		"operations":               {with, `config: {operations: {listen: ":80"}}`, []string{"config.operations.listen is set by the chart"}},
		"data":                     {with, `config: {data: /var}`, []string{"config.data is set by the chart"}},
		"migrate":                  {with, `config: {database: {migrate: false}}`, []string{"config.database.migrate is set by the chart", "migrations.mode"}},
		"misspelt value":           {with, `replica: 3`, []string{"'replica' not allowed"}},
		"misspelt deep value":      {with, `ingress: {host: x}`, []string{"at '/ingress'", "'host' not allowed"}},
		"mode":                     {with, `migrations: {mode: never}`, []string{"at '/migrations/mode'", "'auto', 'job', 'off'"}},
		"number":                   {with, `replicas: "2"`, []string{"at '/replicas'", "got string, want integer"}},
		"unknown secret":           {with, `secretSettings: {webhook.urn: {existingSecret: a, key: b}}`, []string{"webhook.urn", "'webhook.url'"}},
		"half a secret":            {with, `secretSettings: {webhook.url: {existingSecret: a}}`, []string{"at '/secretSettings/webhook.url'", "missing property 'key'"}},
		"route to nowhere":         {with, `httpRoute: {enabled: true}`, []string{"httpRoute.parentRefs is empty"}},
		"bounds":                   {with, `autoscaling: {enabled: true, minReplicas: 9, maxReplicas: 3}`, []string{"autoscaling.minReplicas is greater"}},
		"SQLite beside PostgreSQL": {embedded, `database: {existingSecret: x}`, []string{"sqlite.enabled and database.existingSecret are both set"}},
		"SQLite beside Redis":      {embedded, `redis: {existingSecret: x}`, []string{"sqlite.enabled and redis.existingSecret are both set"}},
		"SQLite with a Job":        {embedded, `migrations: {mode: job}`, []string{"migrations.mode is job and sqlite.enabled is set"}},
		"SQLite in numbers":        {embedded, `autoscaling: {enabled: true}`, []string{"SQLite serves one replica"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tryRender(t, test.base(t, test.yaml))
			if err == nil {
				t.Fatal("it was not refused")
			}
			for _, want := range test.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the refusal lacks %q:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the refusal tells a secret:\n%v", err)
			}
		})
	}
}

// Every secret setting is refused in config, whatever it is called.
func TestSecretsStayOutOfConfig(t *testing.T) {
	for _, s := range settings(t) {
		if !s.secret {
			continue
		}
		config := map[string]any{"issuer": "https://login.example.com"}
		in := config
		path := strings.Split(s.key, ".")
		for _, name := range path[:len(path)-1] {
			next := map[string]any{}
			in[name] = next
			in = next
		}
		in[path[len(path)-1]] = "hunter2"
		v := with(t, ``)
		v["config"] = config
		if _, err := tryRender(t, v); err == nil || !strings.Contains(err.Error(), "config."+s.key+" would be in a ConfigMap") {
			t.Errorf("%s: %v", s.key, err)
		}
	}
}
