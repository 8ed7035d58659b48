package main

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// load is Load with a file's content, variables and --set arguments.
func load(t *testing.T, file string, environ []string, set ...string) (*Config, []string, error) {
	t.Helper()
	options := loadOptions{file: filepath.Join(t.TempDir(), "tb.yaml")}
	if err := os.WriteFile(options.file, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range set {
		options.overrides = append(options.overrides, override{"--set", text})
	}
	return Load(&environment{environ: environ}, options)
}

// problems returns what err says is wrong.
func problems(t *testing.T, err error) []string {
	t.Helper()
	var invalid *configError
	if !errors.As(err, &invalid) {
		t.Fatalf("error %v is not a configError", err)
	}
	return invalid.problems
}

func TestDefaultsAreValid(t *testing.T) {
	config, warnings, err := Load(&environment{}, loadOptions{})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("Load: %v, warnings %q", err, warnings)
	}
	want := new(Config)
	want.Issuer = "http://localhost:8080"
	want.Listen = "127.0.0.1:8080"
	want.Operations.Listen = "127.0.0.1:9090"
	want.Data = "./tokenbooth-data"
	want.Database.URL = "sqlite:tokenbooth-data/tokenbooth.db"
	want.Database.Migrate = true
	want.Keys.Prefix = "tb"
	want.Keys.CacheSize = 100_000
	want.Tokens.TTL = 10 * time.Minute
	want.Signing.PublishLead, want.Signing.RotateEvery, want.Signing.Retain = 24*time.Hour, 720*time.Hour, 24*time.Hour
	want.Exchange.JSON = true
	want.Exchange.Vouched = 15 * time.Minute
	want.Exchange.Failures.Burst, want.Exchange.Failures.KeyBurst, want.Exchange.Failures.KeyPerMinute = 120, 30, 10
	want.Exchange.Failures.PerMinute = 20
	want.Tracing.SampleRatio = 0.1
	want.Audit.ExchangeRetention = 2160 * time.Hour
	want.Console.SessionLifetime, want.Console.SessionIdle = 12*time.Hour, 2*time.Hour
	want.SignIn.OIDC.Name, want.SignIn.OIDC.Scopes = "single sign-on", []string{"openid", "profile", "email"}
	want.HTTP.ShutdownDelay = 5 * time.Second
	want.HTTP.DrainTimeout = 20 * time.Second
	want.Log.Level = "info"
	want.Log.Format = "json"
	if diff := cmp.Diff(want, config, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestPrecedence(t *testing.T) {
	const file = "tokens: {ttl: 2m}\n"
	environ := []string{"TOKENBOOTH_TOKENS_TTL=3m"}
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		set     []string
		want    time.Duration
	}{
		{"default", "", nil, nil, 10 * time.Minute},
		{"file over default", file, nil, nil, 2 * time.Minute},
		{"environment over file", file, environ, nil, 3 * time.Minute},
		{"flag over environment", file, environ, []string{"tokens.ttl=4m"}, 4 * time.Minute},
		{"an empty variable is unset", file, []string{"TOKENBOOTH_TOKENS_TTL="}, nil, 2 * time.Minute},
		{"an empty key is unset", "tokens:\n  ttl:\n", nil, nil, 10 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, _, err := load(t, test.file, test.environ, test.set...)
			if err != nil || config.Tokens.TTL != test.want {
				t.Errorf("ttl = %v, error %v; want %v", config.Tokens.TTL, err, test.want)
			}
		})
	}
}

// TestSameFromEverySource gives one value of each shape by each way in.
func TestSameFromEverySource(t *testing.T) {
	const file = `
http: {trusted_proxies: [10.0.0.0/8, "2001:db8::/32"]}
keys: {accepted_prefixes: [old, older], cache_size: 500}
exchange: {json: false}
audiences: {servers: [{audience: https://api.example.com, resources: [collectors]}, {audience: sts.amazonaws.com, profile: aws, algorithm: RS256, type: JWT, claims: {groups: [a, b], level: 3}}]}
catalogue:
  resources: {collectors: [read, update]}
  roles: {auditor: ["*:read"]}
sign_in: {oidc: {issuer: https://idp.example.com/, client_id: booth, claim: groups, admins: [ops], workspaces: [{value: payments-team, workspace: payments, role: manager}]}}
`
	values := map[string]string{
		"sign_in.oidc.issuer":     "https://idp.example.com/",
		"sign_in.oidc.client_id":  "booth",
		"sign_in.oidc.claim":      "groups",
		"sign_in.oidc.admins":     "ops",
		"sign_in.oidc.workspaces": "[{value: payments-team, workspace: payments, role: manager}]",

		"http.trusted_proxies":   "10.0.0.0/8, 2001:db8::/32",
		"keys.accepted_prefixes": "old,older",
		"keys.cache_size":        "500",
		"exchange.json":          "false",
		"audiences.servers":      "[{audience: https://api.example.com, resources: [collectors]}, {audience: sts.amazonaws.com, resources: [], profile: aws, algorithm: RS256, type: JWT, claims: {groups: [a, b], level: 3}}]",
		"catalogue.resources":    "{collectors: [read, update]}",
		"catalogue.roles":        `{auditor: ["*:read"]}`,
	}
	var environ, set []string
	for key, value := range values {
		environ = append(environ, variableOf(key)+"="+value)
		set = append(set, key+"="+value)
	}
	fromFile, _, err := load(t, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	fromEnvironment, warnings, err := load(t, "", environ)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("environment: %v, warnings %q", err, warnings)
	}
	fromFlags, _, err := load(t, "", nil, set...)
	if err != nil {
		t.Fatal(err)
	}
	prefixes := cmpopts.EquateComparable(netip.Prefix{})
	if diff := cmp.Diff(fromFile, fromEnvironment, prefixes); diff != "" {
		t.Errorf("file and environment differ:\n%s", diff)
	}
	if diff := cmp.Diff(fromFile, fromFlags, prefixes); diff != "" {
		t.Errorf("file and flags differ:\n%s", diff)
	}
	if got := fromFile.Audiences.Servers[0].Resources; !slices.Equal(got, []string{"collectors"}) {
		t.Errorf("resources of the first server = %q", got)
	}
}

func TestRefusals(t *testing.T) {
	key := strings.Repeat("A", 43) + "="
	for _, test := range []struct {
		name, file string
		want       string // part of the one problem
	}{
		{"unknown key", "lissten: x", `tb.yaml:1: unknown key "lissten" (did you mean listen?)`},
		{"unknown section", "operatons: {listen: x}", `(did you mean operations?)`},
		{"right key in the wrong section", "ttl: 5m", `(did you mean tokens.ttl?)`},
		{"unknown key without a neighbour", "zzzzzzzz: 1", `unknown key "zzzzzzzz"`},
		{"duplicate key", "data: a\ndata: b", `the file has "data" twice, on lines 1 and 2`},
		{"duplicate in a section", "log: {level: info, level: warn}", `the section log has "level" twice`},
		{"duplicate resource", "catalogue: {resources: {a: [b], a: [c]}}", `has "a" twice`},
		{"not YAML", "a: [", "not valid YAML"},
		{"two documents", "data: a\n---\ndata: b", "more than one YAML document"},
		{"list for a section", "log: [level]", "the section log is not a mapping"},
		{"section for a value", "data: {a: b}", "data (…/tb.yaml:1): is a list or a section"},
		{"value for a list", "keys: {accepted_prefixes: old}", "is not a list"},
		{"value for a server", "audiences: {servers: [x]}", "item 1 is not a mapping"},
		{"unknown key of a server", "audiences: {servers: [{audience: a, resource: [b]}]}", `unknown key "resource" (did you mean resources?)`},
		{"number without unit", "tokens: {ttl: 600}", `"600" is not a duration; it accepts a duration from 1m to 1h`},
		{"ttl below the floor", "tokens: {ttl: 59s}", "59s is out of range"},
		{"ttl above the ceiling", "tokens: {ttl: 3601s}", "1h0m1s is out of range"},
		{"yes for true", "exchange: {json: yes}", `"yes" is neither true nor false`},
		{"zero failures", "exchange: {failures: {burst: 0}}", "0 is out of range"},
		{"public without issuer", "listen: 0.0.0.0:80", "issuer (default): is required"},
		{"port 0 without issuer", "listen: 127.0.0.1:0", "issuer (default): is required"},
		{"plain http issuer", "issuer: http://login.example.com", "would carry secrets unencrypted"},
		{"issuer with query", "issuer: https://a.example?", "has a query or a fragment"},
		{"issuer with slash", "issuer: https://a.example/", "ends in a slash"},
		{"issuer with dots", "issuer: https://a.example/x/../y", "not in its plain form"},
		{"issuer with a pattern", "issuer: https://a.example/:tenant", "a colon or an asterisk"},
		{"issuer in capitals", "issuer: https://A.example", "upper-case"},
		{"issuer of another kind", "issuer: ftp://a.example", "not an https URL"},
		{"issuer without host", "issuer: https:///x", "not an absolute URL"},
		{"no port", "issuer: https://a.example\nlisten: localhost", "not an address to listen on"},
		{"one listener for both", "operations: {listen: '127.0.0.1:8080'}", "is the address of listen"},
		{"no directory", "data: ''", "data (…/tb.yaml:1): is empty"},
		{"database of another kind", "database: {url: mysql://h}", "unknown scheme"},
		{"short pepper", "secrets: {pepper: '1:QUJD'}", "pepper 1: want"},
		{"pepper without version", "secrets: {pepper: " + key + "}", "pepper 1: want"},
		{"pepper version twice", "secrets: {pepper: '1:" + key + ",1:" + key + "'}", "version 1 appears twice"},
		{"short id key", "secrets: {id_key: QUJD}", "want the base64 of 32 bytes"},
		{"nameless encryption key", "secrets: {key_encryption_key: ':" + key + "'}", "with an ID of 1 to 64"},
		{"prefix in capitals", "keys: {prefix: TB}", `the key prefix "TB"`},
		{"old prefix of one letter", "keys: {accepted_prefixes: [x]}", `the key prefix "x"`},
		{"reserved resource", "catalogue: {resources: {tokens: [read]}}", `"tokens" is Tokenbooth's own`},
		{"resource without action", "catalogue: {resources: {a: []}}", "has no actions"},
		{"action in capitals", "catalogue: {resources: {a: [Read]}}", `the action "Read" of "a"`},
		{"role with one word", "catalogue: {roles: {a: [read]}}", `the pattern "read" of role "a"`},
		{"provider without a client", "sign_in: {oidc: {issuer: https://idp.example.com}}", "sign_in.oidc.client_id"},
		{"provider in the clear", "sign_in: {oidc: {issuer: http://idp.example.com, client_id: a}}", "would carry secrets unencrypted"},
		{"provider with a query", "sign_in: {oidc: {issuer: 'https://idp.example.com?a', client_id: a}}", "has a query"},
		{"client without a provider", "sign_in: {oidc: {client_id: a}}", "sign_in.oidc.issuer is not"},
		{"client secret without a provider", "sign_in: {oidc: {client_secret: a}}", "sign_in.oidc.issuer is not"},
		{"provider without a name", "sign_in: {oidc: {name: ''}}", "is empty"},
		{"scopes without openid", "sign_in: {oidc: {scopes: [email]}}", "lacks openid"},
		{"two scopes in one", "sign_in: {oidc: {scopes: [openid, 'a b']}}", `"a b"`},
		{"admins without a claim", "sign_in: {oidc: {issuer: https://idp.example.com, client_id: a, admins: [ops]}}", "sign_in.oidc.claim"},
		{"mapping without a claim", "sign_in: {oidc: {issuer: https://idp.example.com, client_id: a, workspaces: [{value: a, workspace: b, role: viewer}]}}", "sign_in.oidc.claim"},
		{"mapping to an unknown role", "sign_in: {oidc: {issuer: https://idp.example.com, client_id: a, claim: groups, workspaces: [{value: a, workspace: b, role: boss}]}}", `item 1 has the role "boss"`},
		{"mapping without a workspace", "sign_in: {oidc: {issuer: https://idp.example.com, client_id: a, claim: groups, workspaces: [{value: a, role: viewer}]}}", "item 1 lacks"},
		{"mapping with an unknown key", "sign_in: {oidc: {workspaces: [{valu: a}]}}", `unknown key "valu" (did you mean value?)`},
		{"mapping that is no list", "sign_in: {oidc: {workspaces: x}}", "is not a list"},
		{"audience with a blank", "audiences: {servers: [{audience: a b}]}", `the audience "a b"`},
		{"unknown profile", "audiences: {servers: [{audience: a, profile: kong}]}", `the audience "a": the profile "kong": choose one of`},
		{"unknown algorithm", "audiences: {servers: [{audience: a, algorithm: HS256}]}", `the algorithm "HS256": choose one of ES256`},
		{"unknown type", "audiences: {servers: [{audience: a, type: jwt}]}", `the type "jwt": choose one of at+jwt`},
		{"a claim that has a meaning", "audiences: {servers: [{audience: a, claims: {scope: all}}]}", `the claim "scope" cannot be set`},
		{"claims that are a list", "audiences: {servers: [{audience: a, claims: [role]}]}", "not a mapping"},
		{"a claim that JSON cannot write", "audiences: {servers: [{audience: a, claims: {a: .nan}}]}", "JSON cannot write"},
		{"a lead too short", "signing: {publish_lead: 10m}", "from 11m to 720h"},
		{"retained too short", "signing: {retain: 1h}", "from 1h10m to 2160h"},
		{"rotated too often", "signing: {rotate_every: 30m, publish_lead: 11m}", "from 1h to 9600h"},
		{"rotated before the next is known", "signing: {rotate_every: 2h}", "a key signs for 2h0m0s, in which its successor cannot be published for 24h0m0s"},
		{"audience twice", "audiences: {servers: [{audience: a}, {audience: a}]}", "registered twice"},
		{"issuer as audience", "audiences: {servers: [{audience: 'http://localhost:8080'}]}", "the issuer always is"},
		{"unknown resource of an audience", "audiences: {servers: [{audience: a, resources: [b]}]}", "not in catalogue.resources"},
		{"role over nothing", "catalogue: {resources: {a: [read]}, roles: {r: ['b:read']}}", "matches no scope"},
		{"unknown default audience", "audiences: {default: a}", "is not registered"},
		{"everybody a proxy", "http: {trusted_proxies: [0.0.0.0/0]}", "lets every client choose"},
		{"address as a network", "http: {trusted_proxies: [10.0.0.1]}", "not a network"},
		{"network with host bits", "http: {trusted_proxies: [10.0.0.1/8]}", "the network is 10.0.0.0/8"},
		{"gateways of nobody", "gateway: {audience: a}\nhttp: {trusted_proxies: [10.0.0.0/8]}", `gateway.audience (…/tb.yaml:1): "a" is not in audiences.servers`},
		{"gateways of the issuer", "gateway: {audience: 'http://localhost:8080'}", "is the issuer, and the services behind a gateway"},
		{"gateways that are nowhere", "gateway: {audience: a}\naudiences: {servers: [{audience: a}]}", "http.trusted_proxies is not, so no gateway could ask"},
		{"webhook without secret", "webhook: {url: https://a.example/x}", "webhook.secret (default): is required, because webhook.url is set"},
		{"webhook in plain http", "webhook: {url: http://a.example}", "webhook.url (…/tb.yaml:1): would carry events unencrypted"},
		{"webhook of another kind", "webhook: {url: ftp://a.example}", "not an https URL"},
		{"webhook without host", "webhook: {url: 'https:///x'}", "not an absolute URL"},
		{"webhook with a user", "webhook: {url: https://u@a.example}", "holds a user name or password"},
		{"webhook with a fragment", "webhook: {url: 'https://a.example/#x'}", "has a fragment"},
		{"short webhook secret", "webhook: {secret: QUJD}", "want the base64 of 24 to 64 bytes"},
		{"unknown level", "log: {level: loud}", `"loud" is not one of them; it accepts one of debug, info, warn, error`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := load(t, test.file, nil)
			got := problems(t, err)
			if want, elided := test.want, elide(got[0]); len(got) != 1 || !strings.Contains(elided, want) {
				t.Errorf("problems = %q\nwant one with %q", got, want)
			}
		})
	}
}

// elide shortens the path of the file in "(/tmp/…/tb.yaml:1)".
func elide(problem string) string {
	before, after, found := strings.Cut(problem, "/tb.yaml")
	if i := strings.LastIndexByte(before, '('); found && i >= 0 {
		return before[:i+1] + "…/tb.yaml" + after
	}
	return problem
}

func TestAcceptedEdges(t *testing.T) {
	for name, file := range map[string]string{
		"only comments":          "# nothing\n",
		"empty sections":         "log:\nkeys:\n",
		"issuer with path":       "issuer: https://a.example/login\nlisten: :8080",
		"issuer on IPv6":         "issuer: http://[::1]:80\nlisten: '[::1]:80'",
		"audience that is a URN": "audiences: {servers: [{audience: 'urn:a:b'}], default: 'urn:a:b'}",
		"alias":                  "catalogue: {roles: {a: &r ['*:read'], b: *r}}",
		"webhook":                "webhook: {url: 'https://a.example/x?token=y', secret: whsec_" + strings.Repeat("A", 32) + "}",
		"webhook on loopback":    "webhook: {url: 'http://[::1]:9000/', secret: " + strings.Repeat("A", 32) + "}",
		"webhook secret alone":   "webhook: {secret: " + strings.Repeat("A", 32) + "}",
		"chosen ports":           "issuer: http://localhost\nlisten: 127.0.0.1:0\noperations: {listen: '127.0.0.1:0'}",
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := load(t, file, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	_, _, err := load(t, "tokens: {ttl: 1s}\nnonsense: 1\nlog: {level: loud, format: xml}", []string{"TOKENBOOTH_KEYS_PREFIX=TB"}, "keys.cache_size=x")
	if got := problems(t, err); len(got) != 6 {
		t.Errorf("%d problems, want 6: %q", len(got), got)
	}
}

// TestNoErrorTellsASecret puts a canary in every secret in every way that is refused.
func TestNoErrorTellsASecret(t *testing.T) {
	const canary = "c4n4ry"
	dir := t.TempDir()
	path := filepath.Join(dir, "open")
	if err := os.WriteFile(path, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil { // whatever the umask
		t.Fatal(err)
	}
	for _, s := range settings(new(Config)) {
		if !s.secret {
			continue
		}
		section, leaf, _ := strings.Cut(s.key, ".")
		for way, run := range map[string]func() error{
			"file": func() error {
				_, _, err := load(t, section+": {"+leaf+": 'x://u:"+canary+"@%zz'}", nil)
				return err
			},
			"list in file": func() error {
				_, _, err := load(t, section+": {"+leaf+": ["+canary+"]}", nil)
				return err
			},
			"environment": func() error {
				_, _, err := load(t, "", []string{s.variable() + "=1:" + canary})
				return err
			},
			"both variables": func() error {
				_, _, err := load(t, "", []string{s.variable() + "=" + canary, s.variable() + "_FILE=" + path})
				return err
			},
			"file in the environment": func() error {
				_, _, err := load(t, "", []string{s.variable() + "_FILE=" + path})
				return err
			},
			"flag": func() error {
				_, _, err := load(t, "", nil, s.key+"="+canary)
				return err
			},
			"flag with a slip": func() error {
				_, _, err := load(t, "", nil, canary)
				return err
			},
		} {
			if err := run(); err == nil {
				t.Errorf("%s by %s: accepted", s.key, way)
			} else if strings.Contains(err.Error(), canary) {
				t.Errorf("%s by %s: the error tells the secret: %v", s.key, way, err)
			}
		}
	}
}

func TestSecretFile(t *testing.T) {
	const url = "redis://:hunter2@localhost:6379/0"
	path := filepath.Join(t.TempDir(), "redis")
	var warnings []string
	write := func(content string, mode os.FileMode) error {
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		config, warned, err := load(t, "", []string{"TOKENBOOTH_REDIS_URL_FILE=" + path})
		warnings = warned
		if err == nil && config.Redis.URL != url {
			t.Errorf("redis.url = %q, want %q", config.Redis.URL, url)
		}
		return err
	}
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o440: false, 0o640: false, 0o644: true, 0o444: true} {
		if err := write(url+"\n", mode); err != nil {
			t.Errorf("mode %v: %v", mode, err)
		}
		if (len(warnings) > 0) != warned {
			t.Errorf("mode %v: warnings %q", mode, warnings)
		}
	}
	if err := write("\n", 0o600); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("empty file: %v", err)
	}
}

func TestVariablesOfOthers(t *testing.T) {
	environ := []string{
		"TOKENBOOTH_LISTN=:1", "TOKENBOOTH_ZZZZZZZZZZ=1", "TOKENBOOTH_LISTEN_FILE=/x",
		"TOKENBOOTH_URL=x", "TOKENBOOTH_CA_CERT=x", "TOKENBOOTH_CLIENT_ID=x", "TOKENBOOTH_CLIENT_SECRET=x", "TOKENBOOTH_TOKEN=x", "TOKENBOOTH_PROFILE=x",
		"TOKENBOOTH_SERVICE_HOST=10.0.0.1", "TOKENBOOTH_PORT_8080_TCP=x", "HOME=/",
	}
	_, warnings, err := load(t, "", environ)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"the variable TOKENBOOTH_LISTEN_FILE is not a setting and is ignored (did you mean TOKENBOOTH_LISTEN?)",
		"the variable TOKENBOOTH_LISTN is not a setting and is ignored (did you mean TOKENBOOTH_LISTEN?)",
		"the variable TOKENBOOTH_ZZZZZZZZZZ is not a setting and is ignored",
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestSettingsCoverConfig keeps the table complete: each key and each variable once,
// and no field of Config that no setting fills.
func TestSettingsCoverConfig(t *testing.T) {
	config := new(Config)
	variables := map[string]bool{"TOKENBOOTH_CONFIG": true}
	fields := map[any]bool{}
	for _, s := range settings(config) {
		if variables[s.variable()] || fields[s.field] {
			t.Errorf("%s is described twice", s.key)
		}
		if isForeign(s.variable()) {
			t.Errorf("%s has the variable of somebody else", s.key)
		}
		variables[s.variable()], fields[s.field] = true, true
	}
	for name, field := range leaves("Config", reflect.ValueOf(config).Elem()) {
		if !fields[field] {
			t.Errorf("%s has no setting", name)
		}
	}
}

// leaves returns a pointer to each field that is no struct, by its name.
func leaves(prefix string, v reflect.Value) map[string]any {
	found := map[string]any{}
	for i := range v.NumField() {
		name, field := prefix+"."+v.Type().Field(i).Name, v.Field(i)
		if field.Kind() == reflect.Struct {
			maps.Copy(found, leaves(name, field))
		} else {
			found[name] = field.Addr().Interface()
		}
	}
	return found
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0},
		{"kitten", "sitting", 3}, {"listen", "lissten", 1}, {"ab", "ba", 2},
	} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// FuzzConfigFile shows that no file makes the reader panic, and that what it accepts
// keeps the floors.
func FuzzConfigFile(f *testing.F) {
	f.Add([]byte("tokens: {ttl: 5m}\nlog: {level: debug}"))
	f.Add([]byte("audiences: {servers: [{audience: a, resources: [b]}]}"))
	f.Add([]byte("a: &a {b: *a}\ncatalogue: {roles: {x: ['*:*']}}"))
	f.Add([]byte("# only a comment"))
	f.Fuzz(func(t *testing.T, content []byte) {
		config := new(Config)
		r := &resolution{config: config, settings: settings(config)}
		for _, s := range r.settings {
			r.assignText(s, fromDefault, s.initial)
		}
		r.readYAML("tb.yaml", content)
		r.derive()
		for _, s := range r.settings {
			r.validate(s)
		}
		if ttl := config.Tokens.TTL; r.err() == nil && (ttl < time.Minute || ttl > time.Hour) {
			t.Errorf("accepted a ttl of %v", ttl)
		}
	})
}
