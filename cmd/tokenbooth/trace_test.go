package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// receiver is an OpenTelemetry collector that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	raw      [][]byte
	header   http.Header
	spans    []*tracepb.Span
	resource map[string]string
	faults   []string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{resource: map[string]string{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP takes what OTLP over HTTP sends (OpenTelemetry Protocol 1.10, Binary
// Protobuf Encoding).
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var data tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || request.Method != http.MethodPost || request.URL.Path != "/v1/traces" || request.Header.Get("Content-Type") != "application/x-protobuf" {
		r.faults = append(r.faults, fmt.Sprintf("%s %s as %q: %v", request.Method, request.URL.Path, request.Header.Get("Content-Type"), err))
	}
	r.raw, r.header = append(r.raw, body), request.Header
	for _, batch := range data.GetResourceSpans() {
		for _, a := range batch.GetResource().GetAttributes() {
			r.resource[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range batch.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// trace waits for the trace of a request by its Request-Id: its spans by their names.
func (r *receiver) trace(t *testing.T, requestID string) map[string]*tracepb.Span {
	t.Helper()
	var found map[string]*tracepb.Span
	eventually(t, "the trace of "+requestID, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		i := slices.IndexFunc(r.spans, func(s *tracepb.Span) bool { return attributes(s)["tokenbooth.request_id"] == requestID })
		if i < 0 {
			return false
		}
		found = map[string]*tracepb.Span{}
		for _, s := range r.spans { // children end first, so they are here by now
			if string(s.GetTraceId()) == string(r.spans[i].GetTraceId()) {
				found[s.GetName()] = s
			}
		}
		return true
	})
	return found
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.spans)
}

// wantClean wants none of the words in anything that came, and no request that is not
// of the protocol.
func (r *receiver) wantClean(t *testing.T, words ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fault := range r.faults {
		t.Error(fault)
	}
	for _, body := range r.raw {
		if found := leak.Find(body); found != nil {
			t.Errorf("a span holds the secret %s", found)
		}
		for _, word := range words {
			if strings.Contains(string(body), word) {
				t.Errorf("a span holds %q", word)
			}
		}
	}
}

func attributes(s *tracepb.Span) map[string]string {
	found := map[string]string{}
	for _, a := range s.GetAttributes() {
		found[a.GetKey()] = a.GetValue().GetStringValue()
		if n, ok := a.GetValue().GetValue().(*commonpb.AnyValue_IntValue); ok {
			found[a.GetKey()] = fmt.Sprint(n.IntValue)
		}
	}
	return found
}

// traced is an installation that sends every span, soon.
func traced(endpoint string, more ...string) []string {
	return append([]string{
		"TOKENBOOTH_TRACING_ENDPOINT=" + endpoint, "TOKENBOOTH_TRACING_SAMPLE_RATIO=1", "OTEL_BSP_SCHEDULE_DELAY=50",
	}, more...)
}

const (
	callersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersSpan  = "00f067aa0ba902b7"
)

// loginAs exchanges a key as a caller that is traced, has its own word for the
// request, and writes things where they do not belong.
func loginAs(t *testing.T, base string, c credential, requestID, flags string) answer {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, base+"/api/login", strings.NewReader(c.form().Encode()+"&planted=form-of-mine"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/x-www-form-urlencoded", "X-Request-Id": requestID, "User-Agent": "agent-of-mine",
		"traceparent": "00-" + callersTrace + "-" + callersSpan + "-" + flags, "tracestate": "vendor=state-of-mine", "baggage": "planted=baggage-of-mine",
	} {
		request.Header.Set(name, value)
	}
	return send(t, request)
}

var planted = []string{"query-of-mine", "form-of-mine", "agent-of-mine", "state-of-mine", "baggage-of-mine", "client_credentials", "client_secret"}

// readsKey is the statement that reads a key.
const readsKey = "SELECT change_counter keys workspaces"

// An exchange is a trace with its steps, statements and commands, and with nothing of
// what the client sent.
func TestTracing(t *testing.T) {
	t.Parallel()
	collector := newReceiver(t)
	env := onSQLite(t.TempDir(), traced(collector.URL, "TOKENBOOTH_REDIS_URL="+schematest.Redis(t), "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=testing",
		"TOKENBOOTH_TRACING_HEADERS=x-tenant=identity, Authorization=Bearer of-the-collector")...)
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	r := serveReady(t, env)

	if a := loginAs(t, r.url, key, "first-request", "01"); a.status != http.StatusOK {
		t.Fatalf("login: %d %v", a.status, a.body)
	}
	spans := collector.trace(t, "first-request")
	root := spans["POST /api/login"]
	if root == nil {
		t.Fatalf("the trace has no span of the request: %v", spans)
	}
	got := attributes(root)
	if got["tokenbooth.client_id"] != key.id || got["tokenbooth.workspace_id"] == "" {
		t.Errorf("the request does not tell whose it is: %v", got)
	}
	delete(got, "tokenbooth.client_id")
	delete(got, "tokenbooth.workspace_id")
	want := map[string]string{
		"http.request.method": "POST", "http.route": "/api/login", "http.response.status_code": "200", "tokenbooth.request_id": "first-request",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the request (-want +got):\n%s", diff)
	}
	for name, parent := range map[string]string{
		"authenticate": "POST /api/login", "decide": "POST /api/login", "spend": "POST /api/login", "sign": "POST /api/login", "record": "POST /api/login",
		readsKey: "authenticate",
	} {
		if spans[name] == nil || string(spans[name].GetParentSpanId()) != string(spans[parent].GetSpanId()) {
			t.Errorf("there is no span %q below %q: %v", name, parent, slices.Sorted(maps.Keys(spans)))
		}
	}
	if s := attributes(spans[readsKey]); s["db.system.name"] != "sqlite" || s["db.query.summary"] != readsKey {
		t.Errorf("the statement says %v", s)
	}
	wantLinked(t, root)
	if collector.resource["service.name"] != "tokenbooth" || collector.resource["deployment.environment.name"] != "testing" || collector.resource["service.instance.id"] == "" {
		t.Errorf("the spans are of %v", collector.resource)
	}
	if h := collector.header; h.Get("X-Tenant") != "identity" || h.Get("Authorization") != "Bearer of-the-collector" {
		t.Errorf("the collector got the headers %v", h)
	}

	wrong := credential{key.id, key.secret[:len(key.secret)-1] + "!"}
	loginAs(t, r.url, wrong, "wrong-secret", "00") // a caller that is not sampled does not decide either
	refused := collector.trace(t, "wrong-secret")
	if s := refused["POST /api/login"]; attributes(s)["tokenbooth.outcome"] != "malformed_secret" || s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("a refusal is told as %v, status %v", attributes(s), s.GetStatus())
	}
	if attributes(refused["authenticate"])["tokenbooth.outcome"] != "malformed_secret" || refused["sign"] != nil {
		t.Errorf("the steps of a refusal are %v", slices.Sorted(maps.Keys(refused)))
	}
	get(t, r.url+"/api/v1/whoami", wantToken(t, r.url, key))
	get(t, r.url+"/.well-known/jwks.json?planted=query-of-mine", "")
	get(t, r.url+"/no/such/"+key.secret+"?client_secret="+key.secret, "")
	r.stop()
	collector.wantClean(t, planted...)
	if log := r.log.String(); strings.Contains(log, "of-the-collector") {
		t.Errorf("the log holds a header of the collector:\n%s", log)
	}
}

// wantLinked wants a trace of our own that leads to the caller's.
func wantLinked(t *testing.T, root *tracepb.Span) {
	t.Helper()
	if hex.EncodeToString(root.GetTraceId()) == callersTrace || len(root.GetParentSpanId()) > 0 {
		t.Error("the trace of the caller is continued")
	}
	if len(root.GetLinks()) != 1 || hex.EncodeToString(root.GetLinks()[0].GetTraceId()) != callersTrace ||
		hex.EncodeToString(root.GetLinks()[0].GetSpanId()) != callersSpan || root.GetLinks()[0].GetTraceState() != "" {
		t.Errorf("the request has the links %v, want one to the caller without its state", root.GetLinks())
	}
}

// Commands to Redis are spans by their names where a request sends them, and tell
// nothing of what they are given.
func TestTracingRedis(t *testing.T) {
	t.Parallel()
	collector := newReceiver(t)
	config := new(Config)
	config.Tracing.Endpoint, config.Tracing.SampleRatio = collector.URL, 1
	tracing, err := newTracing(t.Context(), config, schema.SQLite, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	config.Redis.URL = schematest.Redis(t)
	client, err := newRedisClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	client.AddHook(redisTracing{tracing})

	client.Get(t.Context(), "tokenbooth:of-nobody") // of no request
	ctx, request := tracing.tracer.Start(t.Context(), "request", trace.WithAttributes(attribute.String("tokenbooth.request_id", "with-redis")))
	client.Get(ctx, "tokenbooth:planted-key")
	if err := redis.NewScript("return {ARGV[1]}").Run(ctx, client, []string{"tokenbooth:planted-key"}, "planted-value").Err(); err != nil {
		t.Error(err)
	}
	client.Do(ctx, "INCR", "planted-key", "planted-value")
	pipe := client.Pipeline()
	pipe.Get(ctx, "tokenbooth:planted-key")
	_, _ = pipe.Exec(ctx) // there is no such key
	request.End()
	tracing.close(t.Context())

	spans := collector.trace(t, "with-redis")
	delete(spans, "hello") // to greet Redis on a new connection
	if names := slices.Sorted(maps.Keys(spans)); !slices.Equal(names, []string{"eval", "evalsha", "get", "incr", "pipeline", "request"}) {
		t.Errorf("the spans are %q", names)
	}
	for name, span := range spans {
		if failed := span.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR; failed != (name == "incr") {
			t.Errorf("%s has failed: %v", name, failed)
		}
		if name != "request" && attributes(span)["db.system.name"] != "redis" {
			t.Errorf("%s says %v", name, attributes(span))
		}
	}
	collector.wantClean(t, "planted", "of-nobody")
}

// Statements are named by what they do to which table, whatever their parts ask.
func TestTracingSummary(t *testing.T) {
	for query, want := range map[string]string{
		"SELECT a, (SELECT seq FROM change_counter) FROM keys k WHERE id = ?": "SELECT keys",
		"\n\t\tINSERT INTO events (a, b) VALUES (?, ?)":                       "INSERT events",
		"UPDATE key_secrets SET a = ? WHERE b = (SELECT c FROM d)":            "UPDATE key_secrets",
		"SELECT 1 FROM a JOIN b ON true LEFT JOIN c ON true JOIN d ON true":   "SELECT a b c",
		"DELETE FROM links WHERE digest = 'hunter2'":                          "DELETE links",
		"TRANSACTION": "TRANSACTION", "": "statement", "(": "statement",
	} {
		if got := summaryOf(query); got != want {
			t.Errorf("%q is told as %q, want %q", query, got, want)
		}
	}
}

// Without an endpoint nothing is sent, whatever variables somebody injects; with a
// ratio of 0 neither.
func TestTracingOff(t *testing.T) {
	t.Parallel()
	for name, more := range map[string][]string{"no endpoint": nil, "nothing sampled": {"TOKENBOOTH_TRACING_SAMPLE_RATIO=0"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			collector := newReceiver(t)
			env := append([]string{"OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_TRACES_SAMPLER=always_on", "OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL}, more...)
			if more != nil {
				env = append(env, "TOKENBOOTH_TRACING_ENDPOINT="+collector.URL)
			}
			env = onSQLite(t.TempDir(), env...)
			key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
			r := serveReady(t, env)
			loginAs(t, r.url, key, "first-request", "01")
			for _, words := range []string{`"variable":"OTEL_EXPORTER_OTLP_ENDPOINT","instead":"tracing.endpoint"`, `"variable":"OTEL_TRACES_SAMPLER","instead":"tracing.sample_ratio"`} {
				if !strings.Contains(r.log.String(), words) {
					t.Errorf("the log does not say %s:\n%s", words, &r.log)
				}
			}
			r.stop() // which would send what there is
			if n := collector.count(); n > 0 {
				t.Errorf("%d spans were sent", n)
			}
		})
	}
}

// What is not sent yet is sent at shutdown.
func TestTracingFlushes(t *testing.T) {
	t.Parallel()
	collector := newReceiver(t)
	env := onSQLite(t.TempDir(), traced(collector.URL, "OTEL_BSP_SCHEDULE_DELAY=3600000")...)
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	r := serveReady(t, env)
	loginAs(t, r.url, key, "last-request", "01")
	if n := collector.count(); n > 0 {
		t.Errorf("%d spans were sent before their time: this test shows nothing", n)
	}
	r.stop()
	if spans := collector.trace(t, "last-request"); spans["sign"] == nil {
		t.Errorf("the last trace has %v", slices.Sorted(maps.Keys(spans)))
	}
}

// A collector that is away, or takes connections and never answers, changes nothing
// for a client, nor that the server ends.
func TestTracingCollectorAway(t *testing.T) {
	t.Parallel()
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = deaf.Close() })
	for name, address := range map[string]string{"away": "127.0.0.1:1", "deaf": deaf.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := onSQLite(t.TempDir(), traced("http://"+address)...)
			key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
			r := serveReady(t, env)
			for range 20 {
				wantToken(t, r.url, key)
			}
			eventually(t, "a report of spans that are lost", func() bool {
				return !strings.Contains(page(t, r.ops+"/metrics"), "\ntokenbooth_tracing_spans_lost_total 0\n")
			})
			if _, ok := r.event("the collector does not take spans"); !ok {
				t.Errorf("the log does not say that spans are lost:\n%s", &r.log)
			}
			wantToken(t, r.url, key)
			r.signal(syscall.SIGTERM)
			if code := r.wait(); code != exitOK {
				t.Errorf("exit code %d after SIGTERM, want 0\n%s", code, &r.log)
			}
		})
	}
}

func TestTracingSettings(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"a list", "tracing: {endpoint: [a]}", "tracing.endpoint (…/tb.yaml:1): is a list or a section"},
		{"no URL", "tracing: {endpoint: collector}", "tracing.endpoint (…/tb.yaml:1): is not an absolute URL; it accepts"},
		{"no scheme", "tracing: {endpoint: 'collector:4318'}", "tracing.endpoint (…/tb.yaml:1): is not an absolute URL"},
		{"gRPC", "tracing: {endpoint: 'http://collector:4317'}", "has the port of OTLP over gRPC, which is not spoken here; over HTTP it is 4318"},
		{"another scheme", "tracing: {endpoint: 'grpc://collector:4318'}", "is not an https URL"},
		{"a password", "tracing: {endpoint: 'https://a:hunter2@collector'}", "holds a user name or password"},
		{"a query", "tracing: {endpoint: 'https://collector?x=1'}", "has a query or a fragment"},
		{"headers in the clear", "tracing: {endpoint: 'http://collector:4318', headers: 'a=hunter2'}", "would carry tracing.headers unencrypted"},
		{"headers alone", "tracing: {headers: 'a=hunter2'}", "tracing.headers (…/tb.yaml:1): is set, but tracing.endpoint is not"},
		{"no pair", "tracing: {endpoint: 'https://collector', headers: 'hunter2'}", "has an item that is not NAME=VALUE"},
		{"no header", "tracing: {endpoint: 'https://collector', headers: 'a b=hunter2'}", "has an item that is not the name and value of a header"},
		{"no number", "tracing: {sample_ratio: all}", `tracing.sample_ratio (…/tb.yaml:1): "all" is not a number; it accepts the part of all requests that is traced, a number from 0 to 1`},
		{"not a number", "tracing: {sample_ratio: NaN}", "is not a number"},
		{"more than all", "tracing: {sample_ratio: 1.5}", "1.5 is out of range"},
	} {
		_, _, err := load(t, c.file, nil)
		if err == nil {
			t.Errorf("%s is accepted", c.name)
			continue
		}
		found := problems(t, err)
		if len(found) != 1 || !strings.Contains(elide(found[0]), c.want) || strings.Contains(found[0], "hunter2") {
			t.Errorf("%s: %q, want one problem that says %q", c.name, found, c.want)
		}
	}
	config, _, err := load(t, "tracing: {endpoint: 'http://10.0.0.7:4318/custom', sample_ratio: 0.001}", []string{"TOKENBOOTH_TRACING_SAMPLE_RATIO=0.25"})
	if err != nil || config.Tracing.SampleRatio != 0.25 {
		t.Errorf("Load: %v, ratio %v", err, config.Tracing.SampleRatio)
	}
}
