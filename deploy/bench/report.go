package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// figures are what BENCH_JSON holds. Times are in microseconds of processor time of
// the server unless they say otherwise; each is the median of the rounds.
type figures struct {
	Cores  int    `json:"cores"`
	Pinned bool   `json:"pinned"` // the server had a core of its own
	Go     string `json:"go"`

	ExchangeCPURatio      float64 `json:"exchange_cpu_ratio"` // exchange / (echo floor + signature), at concurrency 16
	ExchangeCPURatioRedis float64 `json:"exchange_cpu_ratio_redis"`
	ExchangeVsNetHTTP     float64 `json:"exchange_vs_nethttp"` // exchanges a second / requests a second of the net/http floor
	ExchangeVsNetHTTPR    float64 `json:"exchange_vs_nethttp_redis"`

	VerifyRatio         float64 `json:"verify_ratio"`          // oauth/bearer without its cache / ecdsa.Verify and json.Unmarshal
	VerifyCachedSpeedup float64 `json:"verify_cached_speedup"` // ecdsa.Verify / oauth/bearer with its cache
	VerifyRawCPU        float64 `json:"verify_raw_cpu_us"`
	VerifyUncachedCPU   float64 `json:"verify_uncached_cpu_us"`
	VerifyCachedCPU     float64 `json:"verify_cached_cpu_us"`

	Embedded exchangeFigures `json:"embedded"`
	Redis    exchangeFigures `json:"redis"` // with PostgreSQL and Redis
}

// exchangeFigures are those of one service and its floors.
type exchangeFigures struct {
	NetHTTPPerSecond float64 `json:"nethttp_per_second"`
	NetHTTPCPU       float64 `json:"nethttp_cpu_us"`
	EchoPerSecond    float64 `json:"echo_per_second"`
	EchoCPU          float64 `json:"echo_cpu_us"`
	SignatureCPU     float64 `json:"signature_cpu_us"`

	ExchangeCPU float64                `json:"exchange_cpu_us"` // of the rounds, at concurrency 16
	Exchange    map[string]loadFigures `json:"exchange"`        // by concurrency, each by itself: "1", "16", "64"

	Allocs     float64 `json:"allocs"` // objects that an exchange allocates
	AllocBytes float64 `json:"alloc_bytes"`
	PeakBytes  int64   `json:"peak_bytes"`  // resident memory at its highest
	EarlyBytes int64   `json:"early_bytes"` // resident memory after the warm-up
	LateBytes  int64   `json:"late_bytes"`  // and after all exchanges
	Exchanges  int64   `json:"exchanges"`   // how many those were

	HalfPerSecond float64 `json:"half_per_second,omitempty"` // half of the saturation load, at random moments
	HalfP50       float64 `json:"half_p50_us,omitempty"`     // as clients see it, from when a request is due
	HalfP99       float64 `json:"half_p99_us,omitempty"`
	HalfP999      float64 `json:"half_p999_us,omitempty"`
	HalfP99ByP50  float64 `json:"half_p99_by_p50,omitempty"`

	// The same of a bare net/http server that signs once.
	HalfFloorPerSecond float64 `json:"half_floor_per_second,omitempty"`
	HalfFloorP50       float64 `json:"half_floor_p50_us,omitempty"`
	HalfFloorP99       float64 `json:"half_floor_p99_us,omitempty"`
	HalfFloorP999      float64 `json:"half_floor_p999_us,omitempty"`
	HalfFloorP99ByP50  float64 `json:"half_floor_p99_by_p50,omitempty"`
}

// loadFigures are those of one concurrency. The percentiles are as clients see them.
type loadFigures struct {
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"cpu_us"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	P999      float64 `json:"p999_us"`
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func (r report) figures() figures {
	cost := func(of func(verified) time.Duration) float64 {
		return median(r.verified, func(v verified) float64 { return microseconds(of(v)) })
	}
	return figures{
		Cores: runtime.NumCPU(), Pinned: r.pinned, Go: runtime.Version(),
		ExchangeCPURatio:      median(r.alone.rounds, round.ratio),
		ExchangeCPURatioRedis: median(r.together.rounds, round.ratio),
		ExchangeVsNetHTTP:     median(r.alone.rounds, round.ofNetHTTP),
		ExchangeVsNetHTTPR:    median(r.together.rounds, round.ofNetHTTP),
		VerifyRatio:           median(r.verified, func(v verified) float64 { return float64(v.uncached) / float64(v.raw) }),
		VerifyCachedSpeedup:   median(r.verified, func(v verified) float64 { return float64(v.ecdsa) / float64(v.cached) }),
		VerifyRawCPU:          cost(func(v verified) time.Duration { return v.raw }),
		VerifyUncachedCPU:     cost(func(v verified) time.Duration { return v.uncached }),
		VerifyCachedCPU:       cost(func(v verified) time.Duration { return v.cached }),
		Embedded:              r.alone.figures(),
		Redis:                 r.together.figures(),
	}
}

func (m measured) figures() exchangeFigures {
	of := func(figure func(round) float64) float64 { return median(m.rounds, figure) }
	f := exchangeFigures{
		NetHTTPPerSecond: of(func(r round) float64 { return r.nethttp.perSecond() }),
		NetHTTPCPU:       of(func(r round) float64 { return microseconds(r.nethttp.cost()) }),
		EchoPerSecond:    of(func(r round) float64 { return r.echo.perSecond() }),
		EchoCPU:          of(func(r round) float64 { return microseconds(r.echo.cost()) }),
		SignatureCPU:     of(func(r round) float64 { return microseconds(r.signature) }),
		ExchangeCPU:      of(func(r round) float64 { return microseconds(r.exchange.cost()) }),
		Exchange:         map[string]loadFigures{},
		Allocs:           m.allocs, AllocBytes: m.allocBytes,
		PeakBytes: m.peak, EarlyBytes: m.early, LateBytes: m.late, Exchanges: m.total,
	}
	for _, c := range concurrencies {
		l := m.loads[c]
		f.Exchange[fmt.Sprint(c)] = loadFigures{
			PerSecond: l.perSecond(), CPU: microseconds(l.cost()),
			P50: microseconds(l.percentile(0.5)), P99: microseconds(l.percentile(0.99)), P999: microseconds(l.percentile(0.999)),
		}
	}
	if len(m.halves) > 0 {
		at := func(all []half, part float64) float64 {
			return median(all, func(h half) float64 { return microseconds(h.percentile(part)) })
		}
		rate := func(h half) float64 { return h.rate }
		f.HalfPerSecond, f.HalfFloorPerSecond = median(m.halves, rate), median(m.floor, rate)
		f.HalfP50, f.HalfP99, f.HalfP999 = at(m.halves, 0.5), at(m.halves, 0.99), at(m.halves, 0.999)
		f.HalfFloorP50, f.HalfFloorP99, f.HalfFloorP999 = at(m.floor, 0.5), at(m.floor, 0.99), at(m.floor, 0.999)
		f.HalfP99ByP50, f.HalfFloorP99ByP50 = median(m.halves, half.tail), median(m.floor, half.tail)
	}
	return f
}

func (r report) write(path string) error { return writeJSON(path, r.figures()) }

func writeJSON(path string, figures any) error {
	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644) //nolint:gosec // no secret
}

// print writes the tables.
func (r report) print(out io.Writer) {
	f := r.figures()
	fmt.Fprintf(out, "%d cores (%s), %s; medians of %d interleaved rounds\n", f.Cores, pinning(f.Pinned), f.Go, len(r.alone.rounds))
	f.Embedded.print(out, "embedded: SQLite in memory", f.ExchangeCPURatio, f.ExchangeVsNetHTTP)
	f.Redis.print(out, "PostgreSQL and Redis", f.ExchangeCPURatioRedis, f.ExchangeVsNetHTTPR)
	fmt.Fprintf(out, "\nVerification of an ES256 token, processor time\n")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "ecdsa.Verify and json.Unmarshal\t%.1f µs\t\n", f.VerifyRawCPU)
	fmt.Fprintf(t, "oauth/bearer, a new token\t%.1f µs\t%.2f × that\t\n", f.VerifyUncachedCPU, f.VerifyRatio)
	fmt.Fprintf(t, "oauth/bearer, one it remembers\t%.2f µs\t%.0f × faster than ecdsa.Verify\t\n", f.VerifyCachedCPU, f.VerifyCachedSpeedup)
	_ = t.Flush()
}

// pinning says how the cores were divided.
func pinning(pinned bool) string {
	if pinned {
		return "what is measured on one core, the load on the others"
	}
	return "what is measured and the load share them"
}

func (f exchangeFigures) print(out io.Writer, name string, ratio, ofNetHTTP float64) {
	fmt.Fprintf(out, "\nExchange, %s\n", name)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tat once\trequests/s\tCPU\tp50\tp99\tp99.9\t")
	fmt.Fprintf(t, "net/http floor\t%d\t%.0f\t%.1f µs\t\t\t\t\n", usual, f.NetHTTPPerSecond, f.NetHTTPCPU)
	fmt.Fprintf(t, "echo floor\t%d\t%.0f\t%.1f µs\t\t\t\t\n", usual, f.EchoPerSecond, f.EchoCPU)
	fmt.Fprintf(t, "one hedged ES256 signature\t\t\t%.1f µs\t\t\t\t\n", f.SignatureCPU)
	fmt.Fprintf(t, "exchange, in turns with these\t%d\t\t%.1f µs\t\t\t\t\n", usual, f.ExchangeCPU)
	for _, c := range concurrencies {
		l := f.Exchange[fmt.Sprint(c)]
		fmt.Fprintf(t, "exchange\t%d\t%.0f\t%.1f µs\t%s\t%s\t%s\t\n", c, l.PerSecond, l.CPU, ms(l.P50), ms(l.P99), ms(l.P999))
	}
	if f.HalfPerSecond > 0 {
		fmt.Fprintf(t, "exchange, half of that load\t\t%.0f\t\t%s\t%s\t%s\t\n", f.HalfPerSecond, ms(f.HalfP50), ms(f.HalfP99), ms(f.HalfP999))
		fmt.Fprintf(t, "net/http that signs once, half of its load\t\t%.0f\t\t%s\t%s\t%s\t\n", f.HalfFloorPerSecond, ms(f.HalfFloorP50), ms(f.HalfFloorP99), ms(f.HalfFloorP999))
	}
	_ = t.Flush()
	fmt.Fprintf(out, "exchange CPU / (echo floor + signature) = %.2f; requests/s = %.2f of the net/http floor\n", ratio, ofNetHTTP)
	if f.HalfPerSecond > 0 {
		fmt.Fprintf(out, "at half load p99 = %.1f × p50, of the bare server that signs %.1f ×; ", f.HalfP99ByP50, f.HalfFloorP99ByP50)
	}
	fmt.Fprintf(out, "an exchange allocates %.0f objects, %.1f kB\n", f.Allocs, f.AllocBytes/1000)
	fmt.Fprintf(out, "memory %s after the warm-up, %s after %d exchanges, %s at most\n", mb(f.EarlyBytes), mb(f.LateBytes), f.Exchanges, mb(f.PeakBytes))
}

func ms(us float64) string { return strings.TrimSuffix(fmt.Sprintf("%.2f", us/1000), ".00") + " ms" }

func mb(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
