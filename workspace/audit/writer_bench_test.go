package audit_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// benchEach runs a benchmark on both databases.
func benchEach(b *testing.B, f func(b *testing.B, db *schema.DB)) {
	b.Run("sqlite", func(b *testing.B) { f(b, schematest.SQLite(b)) })
	b.Run("postgres", func(b *testing.B) { f(b, schematest.Postgres(b)) })
}

// typical are exchanges as a busy server has them: a token each, of so many keys.
func typical(n, keys int) []audit.Exchange {
	list := make([]audit.Exchange, n)
	for i := range list {
		list[i] = audit.Exchange{
			At: workspace.At(noon.Add(time.Duration(i) * 80 * time.Microsecond)), WorkspaceID: workspace.ID(fmt.Sprintf("ws_01kb3xq7z2m4n6p8r0t2v4%04d", i%keys%50)),
			KeyID: fmt.Sprintf("tbk_%04dm4n6p8r0t2v4w6y8z", i%keys), OwnerID: fmt.Sprintf("sa_01kb3xq7z2m4n6p8r0t2v4%04d", i%keys),
			SecretID: fmt.Sprintf("sec_01kb3xq7z2m4n6p8r0t2v%04d", i%keys), Action: audit.TokenIssue, Outcome: "issued",
			Address: "192.0.2.17", Agent: "python-requests/2.32.3", RequestID: fmt.Sprintf("req_01kb3xq7z2m4n6p8r0t2v%06d", i),
			Detail: fmt.Sprintf(`{"audience":["https://api.example.com"],"jti":"01kb3xq7z2m4n6p8r0t2v%06d","scope":"orders:read orders:write"}`, i),
		}
	}
	return list
}

// processor is the time that this process has had, without the databases that are
// processes of their own.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWrite is a note and its share of a flush of a second's worth: of a few busy
// keys, and of many none of which comes twice in a batch.
func BenchmarkWrite(b *testing.B) {
	const lump = 5_000
	for _, keys := range []int{16, lump} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			benchEach(b, func(b *testing.B, db *schema.DB) { benchmarkWrite(b, db, typical(lump, keys)) })
		})
	}
}

func benchmarkWrite(b *testing.B, db *schema.DB, list []audit.Exchange) {
	w := writer(db)
	b.ReportAllocs()
	b.ResetTimer()
	begun := processor(b)
	for n := 0; n < b.N; n += len(list) {
		for i := range min(len(list), b.N-n) {
			check(b, w.Record(b.Context(), list[i]))
		}
		check(b, w.Flush(b.Context()))
	}
	b.ReportMetric(float64(processor(b)-begun)/float64(b.N), "cpu-ns/op")
}

// BenchmarkRecord is what one exchange does itself, where flushes keep up.
func BenchmarkRecord(b *testing.B) {
	const lump = 1_000
	w, list := writer(schematest.SQLite(b)), typical(lump, lump)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%lump == 0 {
			b.StopTimer()
			check(b, w.Flush(b.Context()))
			b.StartTimer()
		}
		check(b, w.Record(b.Context(), list[n%lump]))
	}
}

// BenchmarkStretch is how long at most a flush keeps the only processor from
// others, against how long it takes as a whole: what one call into the database takes.
func BenchmarkStretch(b *testing.B) {
	benchEach(b, func(b *testing.B, db *schema.DB) {
		w, list := writer(db), typical(1_000, 16)
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		var longest, total time.Duration
		for b.Loop() {
			for i := range list {
				check(b, w.Record(b.Context(), list[i]))
			}
			flushed := make(chan struct{})
			begun := time.Now()
			go func() {
				defer close(flushed)
				if err := w.Flush(b.Context()); err != nil {
					b.Error(err)
				}
			}()
			longest += longestWait(flushed)
			total += time.Since(begun)
		}
		b.ReportMetric(float64(longest.Microseconds())/float64(b.N), "stretch-µs/op")
		b.ReportMetric(float64(longest)/float64(total), "stretch/flush")
	})
}

// longestWait is the longest that somebody waited who wants the processor again and
// again until done is closed.
func longestWait(done chan struct{}) (longest time.Duration) {
	for last := time.Now(); ; {
		select {
		case <-done:
			return longest
		default:
			runtime.Gosched()
		}
		now := time.Now()
		longest, last = max(longest, now.Sub(last)), now
	}
}
