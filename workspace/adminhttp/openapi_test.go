package adminhttp_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/adminhttp"
)

func TestOpenAPIIsValid(t *testing.T) {
	document := newContract(t).document
	if document.OpenAPI != "3.1.0" {
		t.Errorf("the version is %s", document.OpenAPI)
	}
	if err := document.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
}

func TestOpenAPIAsJSON(t *testing.T) {
	text, err := adminhttp.OpenAPIJSON()
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(adminhttp.OpenAPI(), &want); err != nil {
		t.Fatal(err)
	}
	wantText, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(wantText, &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("the JSON says something else than the YAML")
	}
	if _, err := openapi3.NewLoader().LoadFromData(text); err != nil {
		t.Error(err)
	}
	for _, order := range [][]string{{`"openapi"`, `"info"`, `"paths"`, `"components"`}, {`"/api/login"`, `"/api/v1/workspaces"`, `"/api/v1/users"`}} {
		last := -1
		for _, member := range order {
			at := bytes.Index(text, []byte(member))
			if at < last {
				t.Errorf("%s is not where it is in the YAML", member)
			}
			last = at
		}
	}
	if bytes.Contains(text, []byte(`\u003c`)) {
		t.Error("the JSON is escaped for HTML")
	}
}

func TestOpenAPIOperations(t *testing.T) {
	document := newContract(t).document
	tags := map[string]bool{}
	for _, tag := range document.Tags {
		if tags[tag.Name] = false; tag.Description == "" {
			t.Errorf("the tag %s has no description", tag.Name)
		}
	}
	ids := map[string]bool{}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			t.Run(method+" "+path, func(t *testing.T) {
				if id := operation.OperationID; ids[id] || !regexp.MustCompile(`^[a-z]+([A-Z][a-z]+)*$`).MatchString(id) {
					t.Errorf("the operationId %q is not in camel case, or not the only one", id)
				}
				ids[operation.OperationID] = true
				if len(operation.Tags) != 1 {
					t.Errorf("it has the tags %v: want one", operation.Tags)
				}
				for _, tag := range operation.Tags {
					if _, declared := tags[tag]; !declared {
						t.Errorf("the tag %s is not declared", tag)
					}
					tags[tag] = true
				}
				checkTexts(t, operation)
				checkParameters(t, path, slices.Concat(item.Parameters, operation.Parameters))
				checkSecurity(t, document, path, operation)
				checkStatuses(t, method, path, operation)
			})
		}
	}
	for tag, used := range tags {
		if !used {
			t.Errorf("no operation has the tag %s", tag)
		}
	}
}

func checkTexts(t *testing.T, operation *openapi3.Operation) {
	if s := operation.Summary; s == "" || strings.HasSuffix(s, ".") || len(s) > 60 {
		t.Errorf("the summary %q is not a short line", s)
	}
	if !strings.HasSuffix(strings.TrimSpace(operation.Description), ".") {
		t.Errorf("the description %q is not a sentence", operation.Description)
	}
	if operation.RequestBody == nil {
		return
	}
	for mediaType, content := range operation.RequestBody.Value.Content {
		if len(content.Examples) == 0 {
			t.Errorf("the body of the request has no example as %s", mediaType)
		}
	}
}

func checkParameters(t *testing.T, path string, parameters openapi3.Parameters) {
	wanted := map[string]bool{}
	for _, found := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
		wanted[found[1]] = true
	}
	for _, p := range parameters {
		if p.Value.Description == "" || p.Value.Schema == nil {
			t.Errorf("the parameter %s has no description or no schema", p.Value.Name)
		}
		if p.Value.In != openapi3.ParameterInPath {
			continue
		}
		if !wanted[p.Value.Name] {
			t.Errorf("the parameter %s is not in the path", p.Value.Name)
		}
		delete(wanted, p.Value.Name)
	}
	for name := range wanted {
		t.Errorf("the parameter %s is not declared", name)
	}
}

func checkSecurity(t *testing.T, document *openapi3.T, path string, operation *openapi3.Operation) {
	if operation.Security == nil {
		t.Error("it does not say who may do it")
		return
	}
	public := len(*operation.Security) == 0
	for _, alternative := range *operation.Security {
		public = public || len(alternative) == 0
		for scheme := range alternative {
			if document.Components.SecuritySchemes[scheme] == nil {
				t.Errorf("the security scheme %s is not declared", scheme)
			}
		}
	}
	if public == strings.HasPrefix(path, "/api/v1/") {
		t.Errorf("anybody may do it: %v", public)
	}
}

// Statuses that any operation can have, by what it takes.
func checkStatuses(t *testing.T, method, path string, operation *openapi3.Operation) {
	has := func(status int) bool { return operation.Responses.Value(strconv.Itoa(status)) != nil }
	succeeds := false
	for status, response := range operation.Responses.Map() {
		succeeds = succeeds || status[0] == '2'
		if response.Value.Headers["Request-Id"] == nil {
			t.Errorf("%s has no Request-Id", status)
		}
		checkChallenge(t, status, response.Value)
	}
	if !succeeds {
		t.Error("it never succeeds")
	}
	wanted := []int{405, 500}
	if strings.HasPrefix(path, "/api/v1/") {
		wanted = append(wanted, 400, 401, 429, 503)
	}
	if operation.RequestBody != nil {
		wanted = append(wanted, 400, 413, 415)
	}
	for _, p := range operation.Parameters {
		switch p.Value.Name {
		case "If-Match":
			wanted = append(wanted, 412)
		case "Idempotency-Key":
			wanted = append(wanted, 409, 422)
		}
	}
	if strings.Contains(path, "{") {
		wanted = append(wanted, 403, 404)
	}
	for _, status := range wanted {
		if !has(status) {
			t.Errorf("%d is not described", status)
		}
	}
	if created := operation.Responses.Value("201"); created != nil {
		for _, name := range []string{"Location", "ETag"} {
			if created.Value.Headers[name] == nil {
				t.Errorf("201 has no %s", name)
			}
		}
		if !slices.ContainsFunc(operation.Parameters, func(p *openapi3.ParameterRef) bool { return p.Value.Name == "Idempotency-Key" }) {
			t.Error("it makes something and takes no Idempotency-Key")
		}
	}
	if method == http.MethodDelete && !has(204) {
		t.Error("204 is not described")
	}
}

func checkChallenge(t *testing.T, status string, response *openapi3.Response) {
	for of, name := range map[string]string{"401": "WWW-Authenticate", "405": "Allow", "429": "Retry-After", "503": "Retry-After"} {
		if header := response.Headers[name]; status == of && (header == nil || !header.Value.Required) {
			t.Errorf("%s does not require %s", status, name)
		}
	}
}

// Every answer has examples that fit its schema, and those of errors say what the
// table of errors says.
func TestOpenAPIExamples(t *testing.T) {
	document := newContract(t).document
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			contents := map[string]openapi3.Content{}
			if operation.RequestBody != nil {
				contents["request"] = operation.RequestBody.Value.Content
			}
			for status, response := range operation.Responses.Map() {
				contents[status] = response.Value.Content
			}
			for of, content := range contents {
				for mediaType, described := range content {
					checkExamples(t, fmt.Sprintf("%s %s: %s as %s", method, path, of, mediaType), of, described)
				}
			}
		}
	}
}

func checkExamples(t *testing.T, what, status string, described *openapi3.MediaType) {
	t.Helper()
	if len(described.Examples) == 0 {
		t.Errorf("%s has no example", what)
	}
	for name, example := range described.Examples {
		if err := validate(described.Schema.Value, example.Value.Value); err != nil {
			t.Errorf("%s: the example %s: %v", what, name, err)
		}
		switch described.Schema.Ref {
		case "#/components/schemas/Problem":
			checkProblem(t, what, name, status, example.Value.Value)
		case "#/components/schemas/OAuthError":
			if h, known := oauth.Topic(name).Help(); !known || strconv.Itoa(h.Status) != status && status != "400" {
				t.Errorf("%s: the example %s is about no topic of that status", what, name)
			}
		}
	}
}

func checkProblem(t *testing.T, what, name, status string, value any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var problem oauth.Problem
	if err := json.Unmarshal(text, &problem); err != nil {
		t.Fatal(err)
	}
	help, known := problem.Code.Help()
	switch {
	case !known || name != string(problem.Code):
		t.Errorf("%s: the example %s has the code %s", what, name, problem.Code)
	case problem.Title != help.Title || problem.Status != help.Status || strconv.Itoa(help.Status) != status:
		t.Errorf("%s: the example %s has the title %q and status %d; want %q and %d", what, name, problem.Title, problem.Status, help.Title, help.Status)
	case problem.Type != wantedType(problem) || problem.Error != problem.Detail || problem.Success:
		t.Errorf("%s: the example %s does not agree with itself", what, name)
	}
}

func wantedType(p oauth.Problem) string {
	if p.Code == oauth.TopicQuotaExceeded {
		return oauth.QuotaType
	}
	return p.Code.URI("https://login.example.com")
}

func TestOpenAPIErrorCodes(t *testing.T) {
	var want []any
	for _, h := range oauth.Topics() {
		want = append(want, string(h.Topic))
	}
	if got := newContract(t).document.Components.Schemas["ErrorCode"].Value.Enum; !slices.Equal(got, want) {
		t.Errorf("the codes are %v\nwant %v", got, want)
	}
}

// Every object says what its members are, and whether there may be others.
func TestOpenAPISchemas(t *testing.T) {
	for name, schema := range newContract(t).document.Components.Schemas {
		if schema.Value.Description == "" {
			t.Errorf("%s has no description", name)
		}
		if !schema.Value.Type.Is("object") {
			continue
		}
		if ap := schema.Value.AdditionalProperties; ap.Has == nil {
			t.Errorf("%s does not say whether it may have other members", name)
		}
		for member, p := range schema.Value.Properties {
			if p.Value.Description == "" {
				t.Errorf("%s.%s has no description", name, member)
			}
			if p.Value.Type.Is("object") && p.Value.AdditionalProperties.Has == nil {
				t.Errorf("%s.%s does not say whether it may have other members", name, member)
			}
		}
		for _, member := range schema.Value.Required {
			if schema.Value.Properties[member] == nil {
				t.Errorf("%s requires %s, which it does not have", name, member)
			}
		}
	}
}

// The schemas have the members of the Go types, with the same names. Those of
// answers are required unless they may be left out, and null where Go has nil.
func TestOpenAPISchemasAreTheWireTypes(t *testing.T) {
	schemas := newContract(t).document.Components.Schemas
	for name, goType := range map[string]any{
		"Workspace": admin.Workspace{}, "Member": admin.Member{}, "ServiceAccount": admin.ServiceAccount{}, "Key": admin.Key{},
		"IssuedKey": admin.IssuedKey{}, "Secret": admin.Secret{}, "User": admin.User{}, "Profile": admin.Profile{},
		"Membership": admin.Membership{}, "AuditEvent": admin.AuditEvent{}, "Usage": admin.Usage{}, "UsageRow": admin.UsageRow{},
		"Policy": admin.Policy{}, "PolicyBounds": admin.PolicyBounds{}, "PolicyImpact": admin.PolicyImpact{}, "PolicyFinding": admin.PolicyFinding{},
		"TouchedKey": admin.TouchedKey{}, "Quota": admin.Quota{}, "QuotaUsage": admin.QuotaUsage{}, "QuotaImpact": admin.QuotaImpact{}, "QuotaFinding": admin.QuotaFinding{},
		"RevokedKey": admin.RevokedKey{}, "Verifier": admin.Verifier{}, "ReportedVerifier": admin.ReportedVerifier{}, "Receipt": admin.Receipt{},
		"ReceiptTally": admin.ReceiptTally{}, "VerifierReceipt": admin.VerifierReceipt{}, "VerifierPage": admin.List[admin.Verifier]{}, "Position": admin.Position{},
		"WorkspacePage": admin.List[admin.Workspace]{}, "MemberPage": admin.List[admin.Member]{}, "KeyPage": admin.List[admin.Key]{},
		"ServiceAccountPage": admin.List[admin.ServiceAccount]{}, "UserPage": admin.List[admin.User]{}, "AuditEventPage": admin.List[admin.AuditEvent]{},
		"TokenResponse": oauth.TokenResponse{}, "ServerMetadata": oauth.Metadata{}, "JWKSet": jwk.Set{}, "JWK": jwk.Key{},
		"Problem": oauth.Problem{}, "FieldError": oauth.FieldError{},
	} {
		var members, required []string
		schema := schemas[name].Value
		for member, field := range wireFields(reflect.TypeOf(goType)) {
			if members = append(members, member); !strings.Contains(field.Tag.Get("json"), ",omitempty") {
				required = append(required, member)
			}
			p := schema.Properties[member]
			if p != nil && field.Type.Kind() == reflect.Pointer && !p.Value.Type.Includes("null") {
				t.Errorf("%s.%s cannot be null", name, member)
			}
		}
		required = append(required, alwaysThere[name]...)
		sameNames(t, name+" has", slices.Collect(maps.Keys(schema.Properties)), members)
		sameNames(t, name+" requires", schema.Required, required)
	}
	for name, goType := range map[string]any{
		"NewWorkspace": admin.NewWorkspace{}, "WorkspaceChange": admin.WorkspaceChange{}, "NewMember": admin.NewMember{}, "MemberChange": admin.MemberChange{},
		"NewServiceAccount": admin.NewServiceAccount{}, "ServiceAccountChange": admin.ServiceAccountChange{}, "KeyChange": admin.KeyChange{},
		"Rotation": admin.Rotation{}, "Revocation": admin.Revocation{}, "NewUser": admin.NewUser{}, "UserChange": admin.UserChange{},
		"PolicyDocument": admin.Policy{}, "QuotaDocument": admin.Quota{}, // what answers show may be sent back
	} {
		sameNames(t, name+" has", slices.Collect(maps.Keys(schemas[name].Value.Properties)), slices.Collect(maps.Keys(wireFields(reflect.TypeOf(goType)))))
	}
	all := wireFields(reflect.TypeFor[admin.NewKey]())
	for name, without := range map[string][]string{
		"NewKey": {"workspace"}, "NewServiceAccountKey": {"workspace", "service_account", "role"}, "NewPersonalKey": {"service_account", "role"},
	} {
		want := slices.DeleteFunc(slices.Collect(maps.Keys(all)), func(member string) bool { return slices.Contains(without, member) })
		sameNames(t, name+" has", slices.Collect(maps.Keys(schemas[name].Value.Properties)), want)
	}
}

// alwaysThere are members that Go may leave out, and that are always there.
var alwaysThere = map[string][]string{"Problem": {"request_id"}, "JWK": {"use", "alg", "kid"}}

// wireFields are the fields of a struct by their names in JSON.
func wireFields(of reflect.Type) map[string]reflect.StructField {
	found := map[string]reflect.StructField{}
	for _, field := range reflect.VisibleFields(of) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			found[name] = field
		}
	}
	return found
}

func sameNames(t *testing.T, what string, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s %v\nwant %v", what, got, want)
	}
}

func TestOpenAPIHasNoUnusedComponents(t *testing.T) {
	var document struct {
		Components map[string]map[string]any `yaml:"components"`
	}
	if err := yaml.Unmarshal(adminhttp.OpenAPI(), &document); err != nil {
		t.Fatal(err)
	}
	for kind, components := range document.Components {
		for _, name := range slices.Sorted(maps.Keys(components)) {
			reference := fmt.Sprintf(`"#/components/%s/%s"`, kind, name)
			if kind == "securitySchemes" {
				reference = "{" + name + ": []}"
			}
			if !bytes.Contains(adminhttp.OpenAPI(), []byte(reference)) {
				t.Errorf("%s is not used", reference)
			}
		}
	}
}
