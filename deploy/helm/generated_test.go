package helm

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write what the chart has from elsewhere: copies, settings, the table of values")

const (
	settingsPage = "../docs/configuration.md"
	schemaFile   = chartPath + "/values.schema.json"
	secretsFile  = chartPath + "/files/secret-settings.yaml"
	readmeFile   = chartPath + "/README.md"
)

// want checks a file that is made from others, or with -update writes it.
func want(t *testing.T, name, content string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, name); got != content {
		t.Errorf("%s is not what it is made from says: run `make chart`", name)
	}
}

// TestCopies keeps what the chart shares with installations without Kubernetes the same:
// a chart can have only files in its own folder.
func TestCopies(t *testing.T) {
	for source, name := range map[string]string{
		"../prometheus/alerts.yaml":  "alerts.yaml",
		"../grafana/tokenbooth.json": "dashboard.json",
	} {
		want(t, filepath.Join(chartPath, "files", name), read(t, source))
	}
}

// setting is a row of the page of settings, which a test of the server's own makes from the code.
type setting struct {
	key, accepts, initial string
	secret                bool
}

func settings(t *testing.T) []setting {
	t.Helper()
	row := regexp.MustCompile("(?m)^\\| `([a-z_.]+)`( \\*)? \\| `TOKENBOOTH_[A-Z_]+` \\| (.+) \\| (.*) \\|$")
	var all []setting
	for _, m := range row.FindAllStringSubmatch(read(t, settingsPage), -1) {
		all = append(all, setting{key: m[1], secret: m[2] != "", accepts: m[3], initial: strings.Trim(m[4], "`")})
	}
	if len(all) < 40 {
		t.Fatalf("%s has %d settings that this test can read", settingsPage, len(all))
	}
	return all
}

// ownSecrets are the secret settings that have values of their own; the others go by secretSettings.
var ownSecrets = []string{"database.url", "redis.url", "secrets.pepper", "secrets.id_key", "secrets.key_encryption_key"}

// TestSettings keeps the schema of config what the configuration accepts, so that a
// misspelt setting is refused before anything is installed.
func TestSettings(t *testing.T) {
	schema := decodeSchema(t)
	config := section("The configuration file, without what is secret. `issuer` is required. " +
		"Every setting is described in the page of settings.")
	var secrets, further []string
	for _, s := range settings(t) {
		if s.secret {
			secrets = append(secrets, s.key)
			if !slices.Contains(ownSecrets, s.key) {
				further = append(further, s.key)
			}
		}
		place(config, strings.Split(s.key, "."), s.schema())
	}
	properties := schema["properties"].(map[string]any)
	properties["config"] = config
	properties["secretSettings"] = map[string]any{
		"type": "object",
		"description": "Further secret settings, each with the Secret and the key that hold it, such as " +
			"`webhook.url: {existingSecret: tokenbooth-webhook, key: url}`. Any of " + quoted(further) + ".",
		"propertyNames": map[string]any{"enum": further},
		"additionalProperties": map[string]any{
			"type": "object", "additionalProperties": false, "required": []string{"existingSecret", "key"},
			"properties": map[string]any{
				"existingSecret": map[string]any{"type": "string", "minLength": 1, "description": "The Secret."},
				"key":            map[string]any{"type": "string", "minLength": 1, "description": "The key in that Secret."},
			},
		},
	}
	want(t, schemaFile, encodeSchema(t, schema))
	want(t, secretsFile, "# Settings that config must not hold. Made from the page of settings.\n- "+strings.Join(secrets, "\n- ")+"\n")
}

func quoted(names []string) string {
	return "`" + strings.Join(names, "`, `") + "`"
}

func section(description string) map[string]any {
	return map[string]any{"type": "object", "description": description, "additionalProperties": false, "properties": map[string]any{}}
}

// place puts the schema of a setting where its key says.
func place(in map[string]any, key []string, schema map[string]any) {
	properties := in["properties"].(map[string]any)
	if len(key) == 1 {
		properties[key[0]] = schema
		return
	}
	if properties[key[0]] == nil {
		properties[key[0]] = section("Settings of " + key[0] + ".")
	}
	place(properties[key[0]].(map[string]any), key[1:], schema)
}

var (
	wholeNumber = regexp.MustCompile(`^a whole number from (\d+) to (\d+)`)
	oneOf       = regexp.MustCompile(`^one of ([a-z0-9, _-]+)$`)
)

// schema says of a setting what its words say, as far as a schema can; the server knows the rest.
// Secrets are let through, since a template refuses them with a better sentence.
func (s setting) schema() map[string]any {
	schema := map[string]any{"description": s.accepts}
	if s.secret {
		schema["description"] = "Refused here, because it is a secret."
		return schema
	}
	if s.initial != "" {
		schema["description"] = s.accepts + " (default " + s.initial + ")"
	}
	switch {
	case wholeNumber.MatchString(s.accepts):
		bounds := wholeNumber.FindStringSubmatch(s.accepts)
		schema["type"] = "integer"
		schema["minimum"], _ = strconv.Atoi(bounds[1])
		schema["maximum"], _ = strconv.Atoi(bounds[2])
	case strings.HasPrefix(s.accepts, "true"):
		schema["type"] = "boolean"
	case strings.HasPrefix(s.accepts, "a duration"):
		schema["type"] = "string"
		schema["pattern"] = `^([0-9]+(\.[0-9]+)?(ms|h|m|s))+$`
	case oneOf.MatchString(s.accepts):
		schema["enum"] = strings.Split(oneOf.FindStringSubmatch(s.accepts)[1], ", ")
	case strings.HasPrefix(s.accepts, "a list"):
		schema["type"] = "array"
	case s.key == "catalogue.resources" || s.key == "catalogue.roles":
		schema["type"] = "object"
	default:
		schema["type"] = "string"
	}
	return schema
}

func decodeSchema(t *testing.T) map[string]any {
	t.Helper()
	var schema map[string]any
	if err := json.Unmarshal([]byte(read(t, schemaFile)), &schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

func encodeSchema(t *testing.T, schema map[string]any) string {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schema); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestTableOfValues keeps the table in the chart's README what values and schema say.
func TestTableOfValues(t *testing.T) {
	const start, end = "<!-- values -->\n", "<!-- end of values -->\n"
	readme := read(t, readmeFile)
	before, rest, found := strings.Cut(readme, start)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the values", readmeFile)
	}
	var table strings.Builder
	table.WriteString("| value | default | what it is |\n|---|---|---|\n")
	for _, v := range defaults(t) {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", v.key, v.text, describe(t, v.path))
	}
	want(t, readmeFile, before+start+table.String()+end+after)
}

// value is a leaf of values.yaml: something that is not an object with known properties.
type value struct {
	path []string
	key  string
	text string // as the table writes it
}

func defaults(t *testing.T) []value {
	t.Helper()
	var document yamlv3.Node
	if err := yamlv3.Unmarshal([]byte(read(t, chartPath+"/values.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	return leaves(t, nil, document.Content[0])
}

func leaves(t *testing.T, at []string, node *yamlv3.Node) []value {
	t.Helper()
	known, _ := lookUp(t, at)["properties"].(map[string]any)
	if node.Kind != yamlv3.MappingNode || len(node.Content) == 0 || known == nil {
		return []value{{at, strings.Join(at, "."), inline(t, node)}}
	}
	var all []value
	for i := 0; i < len(node.Content); i += 2 {
		all = append(all, leaves(t, append(slices.Clone(at), node.Content[i].Value), node.Content[i+1])...)
	}
	return all
}

// inline is a value in one line, as code.
func inline(t *testing.T, node *yamlv3.Node) string {
	t.Helper()
	var v any
	if err := node.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if v == "" {
		return ""
	}
	if text, ok := v.(string); ok {
		return "`" + text + "`"
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return "`" + string(text) + "`"
}

// lookUp is the schema of a value, nil if there is none.
func lookUp(t *testing.T, at []string) map[string]any {
	t.Helper()
	schema := decodeSchema(t)
	for _, name := range at {
		properties, _ := schema["properties"].(map[string]any)
		schema, _ = properties[name].(map[string]any)
	}
	return schema
}

func describe(t *testing.T, at []string) string {
	t.Helper()
	description, _ := lookUp(t, at)["description"].(string)
	if description == "" {
		t.Errorf("values.schema.json does not describe %s", strings.Join(at, "."))
	}
	return description
}

// TestSchemaCoversValues finds values without a schema, and properties without a default.
func TestSchemaCoversValues(t *testing.T) {
	inValues := map[string]bool{}
	for _, v := range defaults(t) {
		inValues[v.key] = true
		if lookUp(t, v.path) == nil {
			t.Errorf("values.yaml has %s, and values.schema.json has not", v.key)
		}
	}
	var walk func(at []string, schema map[string]any)
	walk = func(at []string, schema map[string]any) {
		key := strings.Join(at, ".")
		if key == "global" || inValues[key] {
			return
		}
		properties, _ := schema["properties"].(map[string]any)
		if len(properties) == 0 {
			t.Errorf("values.schema.json has %s, and values.yaml has not", key)
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("values.schema.json accepts anything in %q", key)
		}
		for name, property := range properties {
			walk(append(slices.Clone(at), name), property.(map[string]any))
		}
	}
	walk(nil, decodeSchema(t))
}

// TestLinks finds links of the chart's README and of the guide that lead nowhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, page := range []string{readmeFile, "../docs/guides/kubernetes.md"} {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s links to %s, which does not exist", page, m[1])
			}
		}
	}
}
