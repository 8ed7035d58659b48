package main

import (
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"
)

// growthFigures are what BENCH_JSON holds after growth. Processor times are in
// microseconds for an exchange, of all rounds together, with all that is written down
// of it; ratios are of those.
type growthFigures struct {
	Cores  int    `json:"growth_cores"`
	Pinned bool   `json:"growth_pinned"` // the servers that are measured had a core of their own
	Go     string `json:"growth_go"`
	Rounds int    `json:"growth_rounds"`

	Embedded []variantFigures `json:"growth_embedded"` // the first is what the others are compared with

	KeyHeap         float64 `json:"growth_key_heap_bytes"`     // of a key in memory, in the heap
	KeyResident     float64 `json:"growth_key_resident_bytes"` // of the process
	KeyLoadCPU      float64 `json:"growth_key_load_cpu_us"`    // the first exchange of a key
	ReadyKeys       int     `json:"growth_ready_keys"`         // that exist, but are not in memory,
	Ready           float64 `json:"growth_ready_seconds"`      // when a server started, until it served
	ColdReplicas    int     `json:"growth_cold_replicas"`
	ColdKeys        int     `json:"growth_cold_keys"`      // in use at each
	ColdRequests    int     `json:"growth_cold_exchanges"` // of all; none failed
	ColdLoads       float64 `json:"growth_cold_loads"`     // keys read by all
	ColdStatements  float64 `json:"growth_cold_statements"`
	ColdPerKey      float64 `json:"growth_cold_statements_per_load"` // statements of any kind / keys read
	ColdLoadsPerKey float64 `json:"growth_cold_loads_per_key"`       // keys read / keys in use, by a replica: 1 at most

	Fleets []fleetFigures `json:"growth_replicas"` // the first is what the others are compared with
}

// variantFigures are those of one installation by itself.
type variantFigures struct {
	Name       string  `json:"name"`
	Keys       int     `json:"keys"`
	Workspaces int     `json:"workspaces"`
	Events     int     `json:"events"`
	InUse      int     `json:"in_use"`
	CPU        float64 `json:"cpu_us"`
	Median     float64 `json:"median_cpu_us"` // of the rounds
	Ratio      float64 `json:"cpu_ratio"`
	OfMedians  float64 `json:"median_cpu_ratio"`
}

// fleetFigures are those of a number of replicas, together.
type fleetFigures struct {
	Replicas   int     `json:"replicas"`
	CPU        float64 `json:"cpu_us"` // of the replicas, without the background
	Postgres   float64 `json:"postgres_cpu_us"`
	Redis      float64 `json:"redis_cpu_us"`
	Total      float64 `json:"total_cpu_us"` // of all three
	Ratio      float64 `json:"cpu_ratio"`
	TotalRatio float64 `json:"total_cpu_ratio"`
	Background float64 `json:"background_cores"`  // what all three use while nobody asks, as a part of one core
	RoundTrips float64 `json:"quota_round_trips"` // for an exchange
	Statements float64 `json:"sql_statements"`    // for an exchange, with those of the background
}

func (g *growth) figures() growthFigures {
	perKey := float64(g.cold.replicas * g.cold.keys)
	f := growthFigures{
		Cores: runtime.NumCPU(), Pinned: g.pinned, Go: runtime.Version(), Rounds: g.plan.rounds,
		KeyHeap: g.memory.heap, KeyResident: g.memory.resident, KeyLoadCPU: g.memory.load.cost(),
		ReadyKeys: g.memory.keys, Ready: g.memory.ready.Seconds(),
		ColdReplicas: g.cold.replicas, ColdKeys: g.cold.keys, ColdRequests: g.cold.requests,
		ColdLoads: g.cold.loads, ColdStatements: g.cold.statements,
		ColdPerKey: g.cold.statements / g.cold.loads, ColdLoadsPerKey: g.cold.loads / perKey,
	}
	for _, v := range g.embedded {
		first := g.embedded[0].costs
		f.Embedded = append(f.Embedded, variantFigures{
			Name: v.name, Keys: v.of.keys, Workspaces: v.of.workspaces, Events: v.of.events, InUse: v.inUse,
			CPU: v.costs.overall(), Median: v.costs.median(),
			Ratio: v.costs.overall() / first.overall(), OfMedians: v.costs.median() / first.median(),
		})
	}
	for _, l := range g.fleets {
		first, n := g.fleets[0], float64(max(l.requests, 1))
		f.Fleets = append(f.Fleets, fleetFigures{
			Replicas: l.replicas, CPU: l.cost(replicas), Postgres: l.cost(postgres), Redis: l.cost(redis), Total: l.total(),
			Ratio: l.cost(replicas) / first.cost(replicas), TotalRatio: l.total() / first.total(), Background: l.background(),
			RoundTrips: l.roundTrips / n, Statements: l.statements / n,
		})
	}
	return f
}

// print writes the tables.
func (g *growth) print(out io.Writer) {
	f := g.figures()
	fmt.Fprintf(out, "%d cores (%s), %s; %d interleaved rounds of %s\n", f.Cores, pinning(f.Pinned), f.Go, f.Rounds, g.plan.length)
	f.printEmbedded(out)
	f.printFleets(out)
}

func (f growthFigures) printEmbedded(out io.Writer) {
	fmt.Fprintf(out, "\nAn exchange at concurrency %d, SQLite in memory, all keys in memory\n", usual)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tkeys in use\tCPU\t× the first\tmedian CPU\t× the first\t")
	for _, v := range f.Embedded {
		fmt.Fprintf(t, "%s\t%d\t%.1f µs\t%.2f\t%.1f µs\t%.2f\t\n", v.Name, v.InUse, v.CPU, v.Ratio, v.Median, v.OfMedians)
	}
	_ = t.Flush()
	fmt.Fprintln(out, "Where all are used, nearly every exchange notes the last use of another key: a row to write each.")
	fmt.Fprintf(out, "A key in memory: %.0f bytes in the heap, %.0f of the process; its first exchange: %.1f µs\n", f.KeyHeap, f.KeyResident, f.KeyLoadCPU)
	fmt.Fprintf(out, "With %d keys in the database the server was ready in %.2f s\n", f.ReadyKeys, f.Ready)
}

func (f growthFigures) printFleets(out io.Writer) {
	fmt.Fprintf(out, "\n%d replicas start without a key in memory, each with %d keys in use at once\n", f.ColdReplicas, f.ColdKeys)
	fmt.Fprintf(out, "%d exchanges, none failed; %.0f keys read (%.2f of those in use, a replica), %.0f statements of all kinds (%.2f a key)\n",
		f.ColdRequests, f.ColdLoads, f.ColdLoadsPerKey, f.ColdStatements, f.ColdPerKey)
	fmt.Fprintf(out, "\nThe same load on one core, shared by replicas over one PostgreSQL and one Redis: CPU for an exchange\n")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "replicas\tof them all\t× the first\tPostgreSQL\tRedis\ttogether\t× the first\tquota round trips\tSQL statements\tbackground\t")
	for _, l := range f.Fleets {
		fmt.Fprintf(t, "%d\t%.1f µs\t%.2f\t%.1f µs\t%.1f µs\t%.1f µs\t%.2f\t%.4f\t%.4f\t%.1f %%\t\n",
			l.Replicas, l.CPU, l.Ratio, l.Postgres, l.Redis, l.Total, l.TotalRatio, l.RoundTrips, l.Statements, 100*l.Background)
	}
	_ = t.Flush()
	fmt.Fprintln(out, "The background is what all of them use of one core while nobody asks; it is not in the rest.")
}
