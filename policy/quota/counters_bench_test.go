package quota_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// BenchmarkAdd is what one exchange does itself.
func BenchmarkAdd(b *testing.B) {
	c := quota.NewCounters(nil, time.Hour, nil, nil)
	var workspaces [50]workspace.ID
	for i := range workspaces {
		workspaces[i] = workspace.ID(fmt.Sprintf("ws_01kb3xq7z2m4n6p8r0t2v4%04d", i))
	}
	now := time.Now()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		c.Add(workspaces[n%len(workspaces)], now)
	}
}
