package main

import (
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// page reads a page of the operations listener.
func page(t *testing.T, address string) string {
	t.Helper()
	response, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, error %v", address, response.StatusCode, err)
	}
	return string(text)
}

func TestOperations(t *testing.T) {
	t.Parallel()
	env := onSQLite(t.TempDir())
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	r := serveReady(t, env)
	token := wantToken(t, r.url, key)
	get(t, r.url+"/api/v1/whoami", token)
	get(t, r.url+"/no/such/"+key.secret+"?client_secret="+key.secret, "")
	wrong := credential{key.id, key.secret[:len(key.secret)-1] + "!"}
	wantRefusal(t, r.url, wrong, "malformed")

	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		if found := leak.FindString(page(t, r.ops+path)); found != "" {
			t.Errorf("%s holds the secret %s", path, found)
		}
	}
	var metrics string
	eventually(t, "the count of keys that expire", func() bool {
		metrics = page(t, r.ops+"/metrics")
		return strings.Contains(metrics, "tokenbooth_keys_expiring{")
	})
	var names []string
	for _, line := range regexp.MustCompile(`(?m)^# TYPE (tokenbooth_\w+)`).FindAllStringSubmatch(metrics, -1) {
		names = append(names, line[1])
	}
	slices.Sort(names)
	want := []string{
		"tokenbooth_audit_dropped_total", "tokenbooth_audit_pending", "tokenbooth_audit_write_failures_total",
		"tokenbooth_build_info", "tokenbooth_change_seq", "tokenbooth_clock_timestamp_seconds", "tokenbooth_exchange_seconds",
		"tokenbooth_exchanges_total", "tokenbooth_http_request_seconds", "tokenbooth_jwks_info", "tokenbooth_key_loads_total",
		"tokenbooth_keys_cached", "tokenbooth_keys_expiring", "tokenbooth_lease_held", "tokenbooth_lease_unacknowledged_seconds",
		"tokenbooth_policy_faults", "tokenbooth_quota_admitted_total", "tokenbooth_quota_counts_dropped_total",
		"tokenbooth_quota_degraded", "tokenbooth_quota_degraded_total", "tokenbooth_quota_errors_total",
		"tokenbooth_quota_refused_total", "tokenbooth_quota_round_trips_total", "tokenbooth_quota_soft_exceeded_total",
		"tokenbooth_redis_away", "tokenbooth_redis_evicts", "tokenbooth_redis_outages_total", "tokenbooth_replicas",
		"tokenbooth_revocation_diverged_total", "tokenbooth_revocation_entries", "tokenbooth_revocation_epoch",
		"tokenbooth_revocation_epochs_total", "tokenbooth_revocation_feed_issued_timestamp_seconds",
		"tokenbooth_revocation_journal_failures_total", "tokenbooth_revocation_journal_lag", "tokenbooth_revocation_lag",
		"tokenbooth_revocation_rebuild_seconds", "tokenbooth_revocation_rebuilds_total", "tokenbooth_revocation_sequence",
		"tokenbooth_revocation_unknown", "tokenbooth_signing_key_activated_timestamp_seconds", "tokenbooth_signing_key_fault",
		"tokenbooth_signing_key_rotation_timestamp_seconds", "tokenbooth_signing_next_key_due_timestamp_seconds",
		"tokenbooth_signing_next_key_published", "tokenbooth_signing_rotation_failures_total",
		"tokenbooth_sql_connection_wait_seconds_total", "tokenbooth_sql_connection_waits_total", "tokenbooth_sql_connections",
		"tokenbooth_sql_connections_max", "tokenbooth_sql_statements_total", "tokenbooth_tracing_spans_lost_total",
		"tokenbooth_tracing_spans_sent_total", "tokenbooth_usage_dropped_total", "tokenbooth_webhook_dropped_total",
		"tokenbooth_webhook_failures_total", "tokenbooth_webhook_given_up_total", "tokenbooth_webhook_pending",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	for _, line := range []string{
		`tokenbooth_exchanges_total{outcome="issued"} 1`,
		`tokenbooth_exchanges_total{outcome="malformed_secret"} 1`,
		`tokenbooth_exchanges_total{outcome="expired"} 0`,
		`tokenbooth_exchange_seconds_count 2`,
		`tokenbooth_http_request_seconds_count{route="/api/login",status="401"} 1`,
		`tokenbooth_http_request_seconds_count{route="none",status="404"} 1`,
		`tokenbooth_lease_held 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	for _, path := range []string{"/metrics", "/readyz", "/livez"} {
		if a := get(t, r.url+path, ""); a.status != http.StatusNotFound {
			t.Errorf("the public listener answers %s with %d", path, a.status)
		}
	}
}

// Profiles are there for those who ask for them in the configuration, and for nobody
// on the public listener.
func TestProfiling(t *testing.T) {
	t.Parallel()
	status := func(address string) int {
		response, err := client.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode
	}
	for value, want := range map[string]int{"false": http.StatusNotFound, "true": http.StatusOK} {
		r := serveReady(t, onSQLite(t.TempDir(), "TOKENBOOTH_OPERATIONS_PROFILING="+value))
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1"} {
			if got := status(r.ops + path); got != want {
				t.Errorf("profiling %s: %s is answered %d, want %d", value, path, got, want)
			}
			if got := status(r.url + path); got != http.StatusNotFound {
				t.Errorf("profiling %s: the public listener answers %d to %s", value, got, path)
			}
		}
	}
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	r := serveReady(t, onSQLite(t.TempDir(), "TOKENBOOTH_HTTP_SHUTDOWN_DELAY=1m"))
	env := served("TOKENBOOTH_OPERATIONS_LISTEN=" + strings.TrimPrefix(r.ops, "http://"))
	p, code := runCommand(t, env, "healthcheck")
	if code != exitOK || !strings.Contains(p.out.String(), `"status":"ready"`) {
		t.Errorf("ready: exit code %d, output %q\n%s", code, &p.out, &p.log)
	}
	r.signal(syscall.SIGTERM)
	eventually(t, "a server that drains", func() bool { return r.ready() == http.StatusServiceUnavailable })
	p, code = runCommand(t, env, "healthcheck")
	if code != exitRetry || !strings.Contains(p.log.String(), "the server is not ready") || !strings.Contains(p.log.String(), "shutting down") {
		t.Errorf("draining: exit code %d, want 3\n%s", code, &p.log)
	}
	r.kill()
	p, code = runCommand(t, env, "healthcheck")
	if code != exitRetry || !strings.Contains(p.log.String(), "hint: is the server running with this configuration?") {
		t.Errorf("nobody: exit code %d, want 3 and a hint\n%s", code, &p.log)
	}
}

// A Redis that never answers is reported, and nothing else.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	env := onSQLite(t.TempDir(), "TOKENBOOTH_REDIS_URL=redis://u:hunter2@127.0.0.1:1")
	key := bootstrapped(t, env, bootstrapArgs("Payments", "ci")...).key()
	r := serveReady(t, env)
	eventually(t, "a report of Redis", func() bool { return strings.Contains(page(t, r.ops+"/readyz"), `"redis":"does not answer"`) })
	wantToken(t, r.url, key)
	r.stop()
	if _, ok := r.event("stopped"); !ok {
		t.Errorf("the log does not end with stopped:\n%s", &r.log)
	}
}
