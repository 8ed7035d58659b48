package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
)

// expiringInterval is how often the keys that expire soon are counted. That reads an
// index, so not at every look at /metrics.
const expiringInterval = 10 * time.Minute

// feedPatience bounds how long /metrics waits for a feed of revocations.
const feedPatience = time.Second

// state collects what has labels and is read when somebody looks: there is nothing to
// count between.
type state struct{ s *server }

func described(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	poolConnections = described("tokenbooth_sql_connections", "Connections to the database, by pool and by what they do (in_use, idle).", "pool", "state")
	poolMax         = described("tokenbooth_sql_connections_max", "The most connections to the database, by pool; 0: there is no bound.", "pool")
	poolWaits       = described("tokenbooth_sql_connection_waits_total", "Statements that had to wait for a connection to the database, by pool.", "pool")
	poolWaited      = described("tokenbooth_sql_connection_wait_seconds_total", "How long statements have waited for a connection to the database, all together, by pool.", "pool")

	keyActivated = described("tokenbooth_signing_key_activated_timestamp_seconds", "Since when the present signing key has signed, in Unix time, by what it signs (token, feed) and its algorithm.", "purpose", "algorithm")
	keyDue       = described("tokenbooth_signing_key_rotation_timestamp_seconds", "When the successor of the present signing key shall begin to sign, in Unix time.", "purpose", "algorithm")
	nextDue      = described("tokenbooth_signing_next_key_due_timestamp_seconds", "When the successor of the present signing key shall be published, in Unix time.", "purpose", "algorithm")
	nextIsThere  = described("tokenbooth_signing_next_key_published", "1 while the successor of the present signing key is published.", "purpose", "algorithm")
	jwksInfo     = described("tokenbooth_jwks_info", "Always 1; hash tells which keys this replica publishes for tokens. Absent while it may not publish any.", "hash")

	expiringKeys = described("tokenbooth_keys_expiring", "Live keys that expire within 1d, 7d and 14d, each with those before it, as counted every ten minutes.", "within")
)

// Describe implements prometheus.Collector.
func (state) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		poolConnections, poolMax, poolWaits, poolWaited, keyActivated, keyDue, nextDue, nextIsThere, jwksInfo, expiringKeys,
	} {
		descriptions <- d
	}
}

// sample is one value of a state.
func sample(found chan<- prometheus.Metric, d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
	found <- prometheus.MustNewConstMetric(d, kind, value, labels...)
}

// Collect implements prometheus.Collector.
func (c state) Collect(found chan<- prometheus.Metric) {
	c.pools(found)
	timing := c.s.manager.Signing
	for _, algorithm := range c.s.policy.Audiences.Algorithms() {
		rotating(found, timing, signing.TokenSlot(algorithm), c.s.ring.Slot(signing.TokenSlot(algorithm)))
	}
	rotating(found, timing, signing.FeedSlot(), c.s.feedRing.Slot(signing.FeedSlot()))
	if hash, ok := c.publishedHash(); ok {
		sample(found, jwksInfo, prometheus.GaugeValue, 1, hash)
	}
	if soon := c.s.expiring.Load(); soon != nil {
		sample(found, expiringKeys, prometheus.GaugeValue, float64(soon.Day), "1d")
		sample(found, expiringKeys, prometheus.GaugeValue, float64(soon.Week), "7d")
		sample(found, expiringKeys, prometheus.GaugeValue, float64(soon.Fortnight), "14d")
	}
}

func (c state) pools(found chan<- prometheus.Metric) {
	for pool, stats := range c.s.db.Pools() {
		sample(found, poolConnections, prometheus.GaugeValue, float64(stats.InUse), pool, "in_use")
		sample(found, poolConnections, prometheus.GaugeValue, float64(stats.Idle), pool, "idle")
		sample(found, poolMax, prometheus.GaugeValue, float64(stats.MaxOpenConnections), pool)
		sample(found, poolWaits, prometheus.CounterValue, float64(stats.WaitCount), pool)
		sample(found, poolWaited, prometheus.CounterValue, stats.WaitDuration.Seconds(), pool)
	}
}

// rotating says how far the rotation of a slot is. Without a key in it there is nothing
// to say: tokenbooth_signing_key_fault does.
func rotating(found chan<- prometheus.Metric, timing signing.Timing, slot signing.Slot, at signing.SlotState) {
	if at.ActivatedAt.IsZero() {
		return
	}
	labels := []string{string(slot.Purpose), slot.Algorithm}
	due := at.ActivatedAt.Add(timing.RotateEvery)
	sample(found, keyActivated, prometheus.GaugeValue, unixSeconds(at.ActivatedAt), labels...)
	sample(found, keyDue, prometheus.GaugeValue, unixSeconds(due), labels...)
	sample(found, nextDue, prometheus.GaugeValue, unixSeconds(due.Add(-timing.PublishLead)), labels...)
	sample(found, nextIsThere, prometheus.GaugeValue, oneIf(at.Next), labels...)
}

// publishedHash is short, and the same wherever the same keys are published.
func (c state) publishedHash() (hash string, ok bool) {
	published, err := c.s.ring.Published()
	if err != nil {
		return "", false
	}
	var ids []string
	for _, key := range published.Keys {
		ids = append(ids, key.ID)
	}
	slices.Sort(ids)
	digest := sha256.New()
	for _, id := range ids {
		digest.Write([]byte(id + "\n"))
	}
	return hex.EncodeToString(digest.Sum(nil)[:6]), true
}

// lookAhead counts the keys that expire soon until ctx ends.
func (s *server) lookAhead(ctx context.Context) {
	for ctx.Err() == nil {
		s.countExpiring(ctx)
		wait(ctx, expiringInterval/2+rand.N(expiringInterval)) //nolint:gosec // jitter, not a secret
	}
}

// countExpiring forgets the last numbers when there are no new ones: nobody should rely
// on them.
func (s *server) countExpiring(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, usageInterval)
	defer cancel()
	counted, err := keys.CountExpiring(ctx, s.db.Reader(), s.moment())
	if err != nil {
		s.expiring.Store(nil)
		return
	}
	s.expiring.Store(&counted)
}

func (s *server) moment() time.Time {
	if s.now == nil {
		return time.Now()
	}
	return s.now()
}

// feedIssued is when the feed was signed that a verifier would get now which is up to
// date; if none can be signed, when the last one was that could. Asking is what a
// verifier does, and costs a signature every revocation.FeedInterval at most.
func (s *server) feedIssued() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), feedPatience)
	defer cancel()
	document, err := s.feed.Since(ctx, s.denied.Position())
	if err == nil {
		s.feedSeen.Store(document.IssuedAt.Unix())
	}
	return float64(s.feedSeen.Load())
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
