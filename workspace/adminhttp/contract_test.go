package adminhttp_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tokenbooth/tokenbooth/workspace/adminhttp"
)

// contract is the description of the API, by which tests judge what really goes
// over the wire.
type contract struct{ document *openapi3.T }

// loaded is the description, which nobody changes.
var loaded = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromData(adminhttp.OpenAPI())
})

func newContract(t testing.TB) *contract {
	t.Helper()
	document, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	return &contract{document}
}

// check fails the test when an exchange is not as described: the path, the
// method, the status, the headers and the body of the answer, and of requests
// that succeeded the query and the body as well. The path is below the issuer.
func (c *contract) check(t testing.TB, r *http.Request, requestBody []byte, status int, header http.Header, body []byte) {
	t.Helper()
	for _, fault := range c.faults(r, requestBody, status, header, body) {
		t.Errorf("%s %s: %d: %s", r.Method, r.URL, status, fault)
	}
}

func (c *contract) faults(r *http.Request, requestBody []byte, status int, header http.Header, body []byte) []string {
	path := c.path(r.URL.Path)
	if path == "" {
		return []string{"the path is not described"}
	}
	item := c.document.Paths.Value(path)
	operation, head := item.GetOperation(r.Method), r.Method == http.MethodHead
	if operation == nil && head {
		operation = item.Get
	}
	if operation == nil && status == http.StatusMethodNotAllowed { // any operation says how that is answered
		for _, operation = range item.Operations() {
			break
		}
	}
	if operation == nil {
		return []string{"the method is not described"}
	}
	response := operation.Responses.Value(strconv.Itoa(status))
	if response == nil {
		return []string{"the status is not described"}
	}
	found := headerFaults(response.Value, header)
	found = append(found, answerFaults(response.Value, header.Get("Content-Type"), body, head)...)
	if status < http.StatusBadRequest {
		found = append(found, queryFaults(item, operation, r)...)
		found = append(found, requestFaults(operation, r.Header.Get("Content-Type"), requestBody)...)
	}
	return found
}

// path is the described path that one matches: literally, or else with the fewest
// parameters. It is empty if there is none.
func (c *contract) path(of string) string {
	best, parameters := "", 0
	for path := range c.document.Paths.Map() {
		if n, ok := matchPath(path, of); ok && (best == "" || n < parameters) {
			best, parameters = path, n
		}
	}
	return best
}

func matchPath(template, path string) (parameters int, ok bool) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return 0, false
	}
	for i := range want {
		switch {
		case strings.HasPrefix(want[i], "{") && got[i] != "":
			parameters++
		case want[i] != got[i]:
			return 0, false
		}
	}
	return parameters, true
}

func headerFaults(response *openapi3.Response, header http.Header) (found []string) {
	for name, described := range response.Headers {
		values := header.Values(name)
		switch {
		case len(values) > 1:
			found = append(found, "the header "+name+" is there more than once")
		case len(values) == 1:
			found = append(found, textFaults("the header "+name, described.Value.Schema.Value, values[0])...)
		case described.Value.Required:
			found = append(found, "the header "+name+" is missing")
		}
	}
	return found
}

func answerFaults(response *openapi3.Response, contentType string, body []byte, head bool) []string {
	if len(response.Content) == 0 || head {
		if len(body) > 0 {
			return []string{"there is a body, of which nothing is described"}
		}
		return nil
	}
	return bodyFaults(response.Content, contentType, body, openapi3.VisitAsResponse())
}

func queryFaults(item *openapi3.PathItem, operation *openapi3.Operation, r *http.Request) (found []string) {
	query := r.URL.Query()
	for _, p := range slices.Concat(item.Parameters, operation.Parameters) {
		if p.Value.In != openapi3.ParameterInQuery {
			continue
		}
		values := query[p.Value.Name]
		delete(query, p.Value.Name)
		switch {
		case len(values) > 1:
			found = append(found, "the parameter "+p.Value.Name+" is there more than once")
		case len(values) == 1:
			found = append(found, textFaults("the parameter "+p.Value.Name, p.Value.Schema.Value, values[0])...)
		case p.Value.Required:
			found = append(found, "the parameter "+p.Value.Name+" is missing")
		}
	}
	for name := range query {
		found = append(found, "the parameter "+name+" is not described, and was accepted")
	}
	return found
}

func requestFaults(operation *openapi3.Operation, contentType string, body []byte) []string {
	mediaType, _, _ := mime.ParseMediaType(contentType)
	switch described := operation.RequestBody; {
	case len(body) == 0 && described != nil && described.Value.Required:
		return []string{"the body of the request is missing, and was accepted"}
	case len(body) == 0 || mediaType == "application/x-www-form-urlencoded":
		return nil
	case described == nil:
		return []string{"there is a body of the request, which is not described, and was accepted"}
	default:
		return bodyFaults(described.Value.Content, contentType, body, openapi3.VisitAsRequest())
	}
}

// textFaults are of a value in a header or a query.
func textFaults(what string, schema *openapi3.Schema, text string) []string {
	var value any = text
	if schema.Type.Is("integer") || schema.Type.Is("boolean") {
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			return []string{fmt.Sprintf("%s is %q: want one of type %v", what, text, schema.Type.Slice())}
		}
	}
	if err := validate(schema, value); err != nil {
		return []string{fmt.Sprintf("%s is %q: %v", what, text, err)}
	}
	return nil
}

func bodyFaults(described openapi3.Content, contentType string, body []byte, direction openapi3.SchemaValidationOption) []string {
	mediaType, _, err := mime.ParseMediaType(contentType)
	content := described[mediaType]
	if err != nil || content == nil {
		return []string{fmt.Sprintf("the content type %q is not described", contentType)}
	}
	var value any = string(body)
	if strings.HasSuffix(mediaType, "json") {
		if err := json.Unmarshal(body, &value); err != nil {
			return []string{fmt.Sprintf("the body is no JSON: %v", err)}
		}
	}
	if err := validate(content.Schema.Value, value, direction); err != nil {
		return []string{fmt.Sprintf("the body: %v\n%s", err, body)}
	}
	return nil
}

// validate checks a value by the rules of OpenAPI 3.1, which have to be asked for.
func validate(schema *openapi3.Schema, value any, options ...openapi3.SchemaValidationOption) error {
	return schema.VisitJSON(value, append(options, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors())...)
}

// What is wrong on the wire is found, each in an exchange that is good otherwise.
func TestContractFindsFaults(t *testing.T) {
	const (
		one     = "/api/v1/workspaces/acme"
		many    = "/api/v1/workspaces"
		good    = `{"id":"ws_06ehk2t9f3m7r1v5x8z0c4n6yb","slug":"acme","name":"Acme","suspended":false,"suspended_at":null,"created_at":"2026-03-02T09:30:00Z","updated_at":"2026-03-02T09:30:00.000001Z"}`
		problem = `{"type":"https://login.example.com/docs/errors/not_found","title":"Not found","status":404,"detail":"x","code":"not_found","request_id":"req_1","success":false,"error":"x"}`
		keyHead = `{"client_id":"tbk_06ehm7d3y6r2k8s4v0p9x5t1zc","workspace_id":"ws_06ehk2t9f3m7r1v5x8z0c4n6yb","service_account_id":"sa_06ehm6z8p4c1w9t5n7k3r2d0ya","name":"ci","description":"","status":"active","blocked":[],`
		keyTail = `"audiences":[],"allowed_cidrs":[],"token_ttl_seconds":null,"exchanges_per_minute":null,"max_uses":null,"uses":0,"created_at":"2026-03-02T09:30:00Z","created_by":"operator:root","updated_at":"2026-03-02T09:30:00Z","expires_at":null,"revoked_at":null,"revoked_reason":"","last_used_at":null,"last_failed_at":null,"secrets":[]}`
		key     = keyHead + `"scopes":null,` + keyTail
		keyPath = one + "/keys/tbk_06ehm7d3y6r2k8s4v0p9x5t1zc"
	)
	revoked := strings.TrimSuffix(key, "}") + `,"sequence":7,"dead_by":"2026-03-02T10:31:01Z","exchange_effective_by":null}`
	replaced := func(text, old, with string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%s has no %s", text, old)
		}
		return strings.Replace(text, old, with, 1)
	}
	type exchange struct {
		method, path, request string
		status                int
		header                string
		body                  string
		want                  string // part of the one fault; empty: there is none
	}
	const object, page, wrong = "Request-Id: req_1\nETag: \"1\"\nContent-Type: application/json", "Request-Id: req_1\nContent-Type: application/json", "Request-Id: req_1\nContent-Type: application/problem+json"
	for name, e := range map[string]exchange{
		"an object":                 {"GET", one, "", 200, object, good, ""},
		"its header":                {"HEAD", one, "", 200, object, "", ""},
		"a suspended one":           {"POST", one + "/suspend", "", 202, object, replaced(replaced(good, `"suspended_at":null`, `"suspended_at":"2026-03-02T09:30:00Z"`), "false", "true"), ""},
		"a list":                    {"GET", many + "?limit=1&q=a", "", 200, page, `{"data":[` + good + `],"has_more":true,"next_cursor":"x"}`, ""},
		"an empty list":             {"GET", many, "", 200, page, `{"data":[],"has_more":false,"next_cursor":null}`, ""},
		"a key":                     {"GET", keyPath, "", 200, object, key, ""},
		"a key with scopes":         {"GET", keyPath, "", 200, object, replaced(key, `"scopes":null`, `"scopes":["a:read"]`), ""},
		"a deletion":                {"DELETE", one, "", 204, "Request-Id: req_1", "", ""},
		"an error":                  {"GET", one, "", 404, wrong, problem, ""},
		"a wrong method":            {"PUT", one, "", 405, wrong + "\nAllow: GET, PATCH, DELETE", replaced(replaced(problem, `"status":404`, `"status":405`), `"code":"not_found"`, `"code":"method_not_allowed"`), ""},
		"a change":                  {"PATCH", keyPath, `{"scopes":null,"expires_at":null,"name":"ci"}`, 200, object, key, ""},
		"nothing to rotate by":      {"POST", keyPath + "/revoke", ``, 200, object, revoked, ""},
		"a wrong number of one":     {"POST", keyPath + "/revoke", ``, 200, "Revocation-Sequence: none\n" + object, revoked, "Revocation-Sequence"},
		"a revocation still open":   {"POST", keyPath + "/revoke", ``, 202, "Revocation-Effective-By: 2026-03-02T09:31:01Z\n" + object, replaced(revoked, `"exchange_effective_by":null`, `"exchange_effective_by":"2026-03-02T09:31:01Z"`), ""},
		"a literal path":            {"GET", "/api/v1/users/me", "", 404, wrong, problem, "the status is not described"},
		"an unknown path":           {"GET", one + "/teams", "", 200, object, good, "the path is not described"},
		"a slash at the end":        {"GET", one + "/", "", 200, object, good, "the path is not described"},
		"an unknown method":         {"PUT", one, "", 200, object, good, "the method is not described"},
		"an unknown status":         {"GET", one, "", 418, object, good, "the status is not described"},
		"a wrong field":             {"GET", one, "", 200, object, replaced(good, `"slug"`, `"color":"red","slug"`), "color"},
		"a missing field":           {"GET", one, "", 200, object, replaced(good, `"name":"Acme",`, ""), "name"},
		"a missing nullable field":  {"GET", one, "", 200, object, replaced(good, `"suspended_at":null,`, ""), "suspended_at"},
		"null":                      {"GET", one, "", 200, object, replaced(good, `"name":"Acme"`, `"name":null`), "null"},
		"a wrong type":              {"GET", one, "", 200, object, replaced(good, `"suspended":false`, `"suspended":"no"`), "boolean"},
		"a wrong format":            {"GET", one, "", 200, object, replaced(good, "2026-03-02T09:30:00Z", "2026-03-02 09:30"), "date-time"},
		"a wrong nullable format":   {"GET", one, "", 200, object, replaced(good, `"suspended_at":null`, `"suspended_at":"yesterday"`), "date-time"},
		"a wrong nullable type":     {"GET", one, "", 200, object, replaced(good, `"suspended_at":null`, `"suspended_at":0`), "suspended_at"},
		"null in place of a list":   {"GET", keyPath, "", 200, object, replaced(key, `"audiences":[]`, `"audiences":null`), "audiences"},
		"a wrong word":              {"GET", keyPath, "", 200, object, replaced(key, `"active"`, `"fine"`), "status"},
		"a wrong nullable list":     {"GET", keyPath, "", 200, object, replaced(key, `"scopes":null`, `"scopes":"a:read"`), "scopes"},
		"a wrong nullable element":  {"GET", keyPath, "", 200, object, replaced(key, `"scopes":null`, `"scopes":[1]`), "scopes"},
		"a number out of range":     {"GET", keyPath, "", 200, object, replaced(key, `"token_ttl_seconds":null`, `"token_ttl_seconds":5`), "token_ttl_seconds"},
		"null in place of an array": {"GET", many, "", 200, page, `{"data":null,"has_more":false,"next_cursor":null}`, "data"},
		"a wrong element":           {"GET", many, "", 200, page, `{"data":[` + replaced(good, `"slug":"acme",`, "") + `],"has_more":false,"next_cursor":null}`, "slug"},
		"an unknown code":           {"GET", one, "", 404, wrong, replaced(problem, `"code":"not_found"`, `"code":"lost"`), "code"},
		"no JSON":                   {"GET", one, "", 200, object, "{", "no JSON"},
		"no body":                   {"GET", one, "", 200, object, "", "no JSON"},
		"a body with a deletion":    {"DELETE", one, "", 204, "Request-Id: req_1", "{}", "there is a body"},
		"another content type":      {"GET", one, "", 404, page, problem, "content type"},
		"no content type":           {"GET", one, "", 200, "Request-Id: req_1\nETag: \"1\"", good, "content type"},
		"a missing header":          {"GET", one, "", 200, page, good, "ETag is missing"},
		"a wrong header":            {"GET", one, "", 200, "Request-Id: req_1\nETag: 1\nContent-Type: application/json", good, "ETag"},
		"no number in a header":     {"GET", one, "", 503, wrong + "\nRetry-After: soon", replaced(problem, `"status":404`, `"status":503`), "Retry-After"},
		"a header twice":            {"GET", one, "", 200, object + "\nETag: \"2\"", good, "more than once"},
		"an unknown parameter":      {"GET", many + "?color=red", "", 200, page, `{"data":[],"has_more":false,"next_cursor":null}`, "color"},
		"a wrong parameter":         {"GET", many + "?limit=201", "", 200, page, `{"data":[],"has_more":false,"next_cursor":null}`, "limit"},
		"no number as a parameter":  {"GET", many + "?limit=all", "", 200, page, `{"data":[],"has_more":false,"next_cursor":null}`, "limit"},
		"a missing parameter":       {"GET", "/api/v1/users/me/keys", "", 200, page, `{"data":[],"has_more":false,"next_cursor":null}`, "workspace"},
		"an unknown member":         {"PATCH", one, `{"slug":"other"}`, 200, object, good, "slug"},
		"a missing body":            {"PATCH", one, ``, 200, object, good, "is missing"},
		"a body of no use":          {"DELETE", one, `{}`, 204, "Request-Id: req_1", "", "body of the request"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(e.method, e.path, bytes.NewReader([]byte(e.request)))
			r.Header.Set("Content-Type", "application/json")
			header := http.Header{}
			for line := range strings.SplitSeq(e.header, "\n") {
				name, value, _ := strings.Cut(line, ": ")
				header.Add(name, value)
			}
			found := newContract(t).faults(r, []byte(e.request), e.status, header, []byte(e.body))
			switch {
			case e.want == "" && len(found) > 0:
				t.Errorf("found %q", found)
			case e.want != "" && (len(found) != 1 || !strings.Contains(found[0], e.want)):
				t.Errorf("found %q; want one fault about %s", found, e.want)
			}
		})
	}
}
