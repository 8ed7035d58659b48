package keys_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
)

// BenchmarkUsed is what one exchange does itself.
func BenchmarkUsed(b *testing.B) {
	w := keys.NewUsageWriter(nil, time.Hour, discard)
	uses := make([]keys.Use, 1000)
	for i := range uses {
		uses[i] = keys.Use{SecretID: fmt.Sprintf("01kb3xq7z2m4n6p8r0t2v4%04d", i), At: noon, Address: "192.0.2.17", Agent: "python-requests/2.32.3"}
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		w.Used(uses[n%len(uses)])
	}
}

// BenchmarkUsageFlush is what each secret costs that was used within an interval, in
// time of this process.
func BenchmarkUsageFlush(b *testing.B) {
	flush := func(b *testing.B, db *schema.DB) {
		h := newHouse(b, db)
		secrets, w := h.secrets(1000), keys.NewUsageWriter(db.Writer(), time.Hour, discard)
		b.ReportAllocs()
		var begun, ended syscall.Rusage
		check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &begun))
		n := 0
		for ; b.Loop(); n++ {
			for _, id := range secrets {
				w.Used(keys.Use{SecretID: id, At: at(n), Address: "192.0.2.17", Agent: "python-requests/2.32.3"})
			}
			w.Flush(b.Context())
		}
		check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &ended))
		spent := ended.Utime.Nano() + ended.Stime.Nano() - begun.Utime.Nano() - begun.Stime.Nano()
		b.ReportMetric(float64(spent)/float64(n*len(secrets)), "cpu-ns/secret")
	}
	b.Run("sqlite", func(b *testing.B) { flush(b, schematest.SQLite(b)) })
	b.Run("postgres", func(b *testing.B) { flush(b, schematest.Postgres(b)) })
}
