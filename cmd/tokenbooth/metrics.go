package main

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/workspace/webhook"
)

// metrics is what /metrics shows. Labels come from fixed sets.
type metrics struct {
	registry  *prometheus.Registry
	outcomes  map[string]prometheus.Counter // of exchanges
	exchanges *prometheus.CounterVec
	exchange  prometheus.Histogram
	requests  *prometheus.HistogramVec
	login     string                     // the route of exchanges
	issued    func() prometheus.Observer // of requests there that gave a token: there once there was one
}

// latencies reach from an exchange out of memory to one that waits for everything.
var latencies = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

func newMetrics(s *server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tokenbooth_exchanges_total", Help: "Exchanges at the token endpoint by outcome.",
		}, []string{"outcome"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tokenbooth_http_request_seconds", Help: "Duration of requests by route and status.",
			Buckets: latencies,
		}, []string{"route", "status"}),
		exchange: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tokenbooth_exchange_seconds", Help: "Duration of exchanges, with the answer, whatever the outcome.", Buckets: latencies,
		}),
		login: loginRoute(s.config),
	}
	m.issued = sync.OnceValue(func() prometheus.Observer {
		return m.requests.WithLabelValues(m.login, strconv.Itoa(http.StatusOK))
	})
	m.outcomes = map[string]prometheus.Counter{}
	for _, outcome := range grant.Outcomes() { // from 0 on, or the first of its kind would be no increase
		m.outcomes[outcome] = m.exchanges.WithLabelValues(outcome)
	}
	m.registry.MustRegister(m.exchanges, m.exchange, m.requests, state{s}, buildInfo(),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		counter("tokenbooth_sql_statements_total", "Statements sent to the database.", s.db.Queries),
		counter("tokenbooth_key_loads_total", "Keys read from the database.", s.directory.Loads),
		counter("tokenbooth_usage_dropped_total", "Last-used notes that were lost.", s.usage.Dropped),
		gauge("tokenbooth_keys_cached", "Keys in memory.", func() float64 { return float64(s.directory.Len()) }),
		gauge("tokenbooth_change_seq", "The newest change that the caches have taken in.", func() float64 { return float64(s.follower.Applied()) }),
		gauge("tokenbooth_lease_held", "1 while keys are answered from memory.", func() float64 { return oneIf(s.follower.Held()) }),
		gauge("tokenbooth_lease_unacknowledged_seconds", "For how long a replica that lives has lacked a change which this one has.", func() float64 { return s.follower.Behind().Seconds() }),
		gauge("tokenbooth_revocation_sequence", "The newest revocation that this replica knows.", func() float64 { return float64(s.denied.Position().Sequence) }),
		gauge("tokenbooth_revocation_epoch", "The epoch of the revocations; a new one begins when a copy is made from nothing.", func() float64 { return float64(s.denied.Position().Epoch) }),
		gauge("tokenbooth_revocation_entries", "Revocations in memory.", func() float64 { return float64(s.denied.Len()) }),
		gauge("tokenbooth_revocation_feed_issued_timestamp_seconds", "When the feed of revocations was signed that services get now, in Unix time; 0: never yet.", s.feedIssued),
		gauge("tokenbooth_revocation_unknown", "1 while Redis cannot be relied on to know every revocation.", func() float64 { return oneIf(s.projected().Unknown) }),
		gauge("tokenbooth_revocation_lag", "Revocations that Redis does not have yet.", func() float64 { return float64(s.projected().Lag) }),
		counter("tokenbooth_revocation_rebuilds_total", "How often this replica built the revocations in Redis anew.", func() uint64 { return s.projected().Rebuilds }),
		gauge("tokenbooth_revocation_rebuild_seconds", "How long it took the last time to build the revocations in Redis anew.", func() float64 { return s.projected().RebuildTook.Seconds() }),
		counter("tokenbooth_revocation_epochs_total", "Epochs that this replica began.", func() uint64 { return s.projected().EpochChanges }),
		counter("tokenbooth_revocation_diverged_total", "How often Redis had something else than the database.", func() uint64 { return s.projected().Diverged }),
		counter("tokenbooth_revocation_journal_failures_total", "Attempts to write to the journal of revocations that failed.", s.journalFailures),
		gauge("tokenbooth_revocation_journal_lag", "Revocations that are not in the journal.", s.journalLag),
		gauge("tokenbooth_signing_key_fault", "1 while a key that shall sign does not open here, or none is there.", func() float64 { return oneIf(s.signingKeys() != "ok") }),
		counter("tokenbooth_signing_rotation_failures_total", "Attempts to go on with the rotation of signing keys that had to wait.", s.rotationFailures.Load),
		gauge("tokenbooth_policy_faults", "Policies and quotas whose newest version cannot be understood; the last good one is in force.", s.documentFaults),
		counter("tokenbooth_quota_admitted_total", "Exchanges that the quota of their workspace admitted.", func() uint64 { return s.limiter.Admitted() }),
		counter("tokenbooth_quota_refused_total", "Exchanges that exceeded the quota of their workspace or key.", func() uint64 { return s.limiter.Refused() }),
		counter("tokenbooth_quota_soft_exceeded_total", "Exchanges that exceeded a quota which only counts.", func() uint64 { return s.limiter.SoftExceeded() }),
		counter("tokenbooth_quota_round_trips_total", "Requests to what replicas share quotas through.", func() uint64 { return s.limiter.RoundTrips() }),
		counter("tokenbooth_quota_errors_total", "Requests to what replicas share quotas through that failed.", func() uint64 { return s.limiter.SourceErrors() }),
		counter("tokenbooth_quota_degraded_total", "Exchanges that this replica decided by its own share of the quota.", func() uint64 { return s.limiter.DegradedDecisions() }),
		gauge("tokenbooth_quota_degraded", "1 while quotas go by this replica's own share, since Redis is away.", func() float64 { return oneIf(s.degraded()) }),
		counter("tokenbooth_quota_counts_dropped_total", "Exchanges that are missing from the counts of days and months.", func() uint64 { return s.counters.Dropped() }),
		gauge("tokenbooth_clock_timestamp_seconds", "What this replica takes for the present, in Unix time.", func() float64 { return unixSeconds(s.moment()) }),
		counter("tokenbooth_tracing_spans_sent_total", "Spans that the collector took.", func() uint64 { return s.tracing.counts().sent }),
		counter("tokenbooth_tracing_spans_lost_total", "Spans that the collector did not take.", func() uint64 { return s.tracing.counts().lost }),
		gauge("tokenbooth_replicas", "Replicas that live, as this one sees it.", func() float64 { return float64(s.follower.Replicas()) }),
		gauge("tokenbooth_redis_away", "1 while Redis is not asked, since it does not answer.", func() float64 { return oneIf(s.redis.breaker.open.Load()) }),
		counter("tokenbooth_redis_outages_total", "How often Redis was given up until it answers again.", func() uint64 { return s.redis.outages() }),
		gauge("tokenbooth_redis_evicts", "1 while Redis drops keys when its memory is full.", func() float64 { return oneIf(s.redis.evicts()) }),
		gauge("tokenbooth_audit_pending", "Exchanges that are not recorded yet.", func() float64 { return float64(s.exchanges.Pending()) }),
		counter("tokenbooth_audit_write_failures_total", "Attempts to record exchanges that failed; what was to be recorded is kept and tried again.", s.exchanges.Failures),
		counter("tokenbooth_audit_dropped_total", "Exchanges that are missing from the record.", s.exchanges.Dropped),
		gauge("tokenbooth_webhook_pending", "Events that the webhook has not taken yet.", func() float64 { return float64(s.webhook.Pending()) }),
		counter("tokenbooth_webhook_failures_total", "Attempts that the webhook did not take.", s.webhook.Failures),
		counter("tokenbooth_webhook_given_up_total", "Events that the webhook will never be told.", s.webhook.GivenUp),
		counter("tokenbooth_webhook_dropped_total", "Events that found the webhook's outbox full.", webhook.Dropped),
	)
	return m
}

func counter(name, help string, value func() uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
}

func gauge(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// buildInfo is always 1; its labels say which program this is.
func buildInfo() prometheus.Collector {
	b := readBuild()
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokenbooth_build_info", Help: "Always 1; which build this is.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "go": b.Go},
	}, func() float64 { return 1 })
}

// loginRoute is where exchanges are, below the issuer's path.
func loginRoute(c *Config) string {
	if c == nil {
		return endpoint.LoginPath
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil {
		return endpoint.LoginPath
	}
	return strings.TrimSuffix(issuer.Path, "/") + endpoint.LoginPath
}

func (m *metrics) countExchange(outcome string) {
	if c := m.outcomes[outcome]; c != nil {
		c.Inc()
		return
	}
	m.exchanges.WithLabelValues(outcome).Inc()
}

func (m *metrics) observeRequest(route string, status int, took time.Duration) {
	if route == m.login {
		m.exchange.Observe(took.Seconds())
		if status == http.StatusOK {
			m.issued().Observe(took.Seconds())
			return
		}
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}
