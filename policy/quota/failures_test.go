package quota_test

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/quota"
)

// three is a budget of three failures, and one more each minute.
func three() *quota.Failures { return quota.NewFailures(quota.PerMinute(1, 3)) }

func spend(t *testing.T, f *quota.Failures, address string, times int) (wait time.Duration) {
	t.Helper()
	for range times {
		wait = f.Spend(netip.MustParseAddr(address), start)
	}
	return wait
}

func TestFailuresCountPerNetwork(t *testing.T) {
	for _, c := range []struct {
		name, first, second string
		one                 bool // both are one source
	}{
		{"same IPv4", "192.0.2.1", "192.0.2.1", true},
		{"neighbours in IPv4", "192.0.2.1", "192.0.2.2", false},
		{"IPv4 in IPv6 form", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"neighbours in IPv6 form", "::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
		{"IPv6 in IPv4-compatible form is IPv6", "192.0.2.1", "::192.0.2.1", false},
		{"same /64", "2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
		{"neighbouring /64", "2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"zone", "fe80::1%eth0", "fe80::2%eth1", true},
		{"IPv4 in IPv6 form with a zone", "::ffff:192.0.2.1%eth0", "192.0.2.1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := three()
			if wait := spend(t, f, c.first, 3); wait != 0 {
				t.Fatalf("the budget of three was spent before: wait %s", wait)
			}
			if wait := spend(t, f, c.second, 1); (wait > 0) != c.one {
				t.Errorf("%s after %s: wait %s", c.second, c.first, wait)
			}
			if wait := spend(t, f, c.first, 1); wait != time.Minute {
				t.Errorf("%s for the fourth time: wait %s, want a minute", c.first, wait)
			}
		})
	}
}

func TestFailuresOfAnUnknownAddress(t *testing.T) {
	f := three()
	for range 3 {
		f.Spend(netip.Addr{}, start)
	}
	if f.Spend(netip.Addr{}, start) == 0 {
		t.Error("requests without an address have no budget")
	}
}

func TestFailuresGrowBack(t *testing.T) {
	f := three()
	spend(t, f, "192.0.2.1", 4)
	address := netip.MustParseAddr("192.0.2.1")
	if wait := f.Spend(address, start.Add(30*time.Second)); wait != 30*time.Second {
		t.Errorf("half a minute later: wait %s", wait)
	}
	if wait := f.Spend(address, start.Add(time.Minute)); wait != 0 {
		t.Errorf("a minute later: wait %s", wait)
	}
	for i := range 4 {
		if wait := f.Spend(address, start.Add(time.Hour)); (wait > 0) != (i == 3) {
			t.Errorf("an hour later, failure %d: wait %s", i+1, wait)
		}
	}
}

// sources is as many sources as are remembered at once.
const sources = 65_536

// flood is one failure each of n sources that no other test uses.
func flood(f *quota.Failures, n int, now time.Time) {
	for i := range n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 10<<24|uint32(i))
		f.Spend(netip.AddrFrom4(b), now)
	}
}

func TestFailuresForgetUnderAFlood(t *testing.T) {
	f := three()
	spend(t, f, "192.0.2.1", 3)
	flood(f, sources-1, start)
	if spend(t, f, "192.0.2.1", 1) == 0 {
		t.Fatal("a source was forgotten though there was room")
	}
	flood(f, sources, start) // one more than fits
	if wait := spend(t, f, "192.0.2.1", 1); wait != 0 {
		t.Errorf("more than %d sources are remembered: wait %s", sources, wait)
	}
}

func TestFailuresKeepWhatCountsWhenSweeping(t *testing.T) {
	f := three()
	flood(f, sources-1, start.Add(-time.Hour)) // whole again since long
	spend(t, f, "192.0.2.1", 3)
	spend(t, f, "192.0.2.2", 1) // does not fit: sweeps
	if spend(t, f, "192.0.2.1", 1) == 0 {
		t.Error("a spent budget was swept away with those that were whole")
	}
}

func TestFailuresAtOnce(t *testing.T) {
	f := quota.NewFailures(quota.PerMinute(1, 100))
	var normal, over atomic.Int64
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			for range 50 {
				if f.Spend(netip.MustParseAddr("192.0.2.1"), start) == 0 {
					normal.Add(1)
				} else {
					over.Add(1)
				}
			}
		})
	}
	running.Wait()
	if normal.Load() != 100 || over.Load() != 700 {
		t.Errorf("of 800 failures at once %d were within the budget of 100 and %d over it", normal.Load(), over.Load())
	}
}
