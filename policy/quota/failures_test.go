package quota_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/quota"
)

// three is a budget of three failures of a source, and one more each minute.
func three() *quota.Failures {
	return quota.NewFailures(quota.PerMinute(1, 3), quota.PerMinute(1, 1))
}

func spend(t *testing.T, f *quota.Failures, address string, times int) (wait time.Duration) {
	t.Helper()
	for range times {
		wait = f.Spend(netip.MustParseAddr(address), "", start)
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
		f.Spend(netip.Addr{}, "", start)
	}
	if f.Spend(netip.Addr{}, "", start) == 0 {
		t.Error("requests without an address have no budget")
	}
}

func TestFailuresGrowBack(t *testing.T) {
	f := three()
	spend(t, f, "192.0.2.1", 4)
	address := netip.MustParseAddr("192.0.2.1")
	if wait := f.Spend(address, "", start.Add(30*time.Second)); wait != 30*time.Second {
		t.Errorf("half a minute later: wait %s", wait)
	}
	if wait := f.Spend(address, "", start.Add(time.Minute)); wait != 0 {
		t.Errorf("a minute later: wait %s", wait)
	}
	for i := range 4 {
		if wait := f.Spend(address, "", start.Add(time.Hour)); (wait > 0) != (i == 3) {
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
		f.Spend(netip.AddrFrom4(b), "", now)
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
	f := quota.NewFailures(quota.PerMinute(1, 100), quota.PerMinute(1, 1))
	var normal, over atomic.Int64
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			for range 50 {
				if f.Spend(netip.MustParseAddr("192.0.2.1"), "", start) == 0 {
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

// pairs is a budget of ten failures of a source, of three a key.
func pairs() *quota.Failures {
	return quota.NewFailures(quota.PerMinute(1, 10), quota.PerMinute(1, 3))
}

func present(f *quota.Failures, address, presented string, times int) (wait time.Duration) {
	for range times {
		wait = f.Spend(netip.MustParseAddr(address), presented, start)
	}
	return wait
}

func TestFailuresCountPerKeyFromASource(t *testing.T) {
	f := pairs()
	if wait := present(f, "192.0.2.1", "tbk_one", 3); wait != 0 {
		t.Fatalf("the budget of three was spent before: wait %s", wait)
	}
	if wait := present(f, "192.0.2.1", "tbk_one", 1); wait != time.Minute {
		t.Errorf("the fourth of a key: wait %s, want a minute", wait)
	}
	for _, other := range []struct{ address, presented string }{
		{"192.0.2.1", "tbk_two"}, {"192.0.2.1", "TBK_ONE"}, {"192.0.2.1", "tbk_one "}, {"192.0.2.1", ""}, {"192.0.2.2", "tbk_one"},
	} {
		if wait := present(f, other.address, other.presented, 1); wait != 0 {
			t.Errorf("%q from %s: wait %s though another key from an address has failed", other.presented, other.address, wait)
		}
	}
}

// An address is one source in whatever form, and a text counts by its bytes.
func TestFailuresOfAKeyCountPerNetwork(t *testing.T) {
	f := pairs()
	present(f, "::ffff:192.0.2.1", "\xff\x00", 1)
	present(f, "192.0.2.1", "\xff\x00", 2)
	if wait := present(f, "192.0.2.1", "\xff\x00", 1); wait != time.Minute {
		t.Errorf("wait %s, want a minute", wait)
	}
	present(f, "2001:db8::1", "a", 3)
	if wait := present(f, "2001:db8::2", "a", 1); wait != time.Minute {
		t.Errorf("within a /64: wait %s, want a minute", wait)
	}
}

// The longer wait counts, whichever budget it is of; a refused failure costs
// neither.
func TestFailuresReturnTheLongerWait(t *testing.T) {
	f := quota.NewFailures(quota.PerMinute(1, 4), quota.PerMinute(6, 3))
	address := netip.MustParseAddr("192.0.2.1")
	present(f, "192.0.2.1", "a", 3)
	if wait := present(f, "192.0.2.1", "a", 1); wait != 10*time.Second {
		t.Errorf("over the budget of the key: wait %s, want 10 s", wait)
	}
	if wait := present(f, "192.0.2.1", "b", 1); wait != time.Minute {
		t.Errorf("over the budget of the source: wait %s, want a minute", wait)
	}
	if wait := f.Spend(address, "a", start.Add(time.Minute)); wait != 0 {
		t.Errorf("a minute later: wait %s", wait)
	}
}

// Whoever invents keys is stopped by the budget of the address, and does not push
// the failures of others out of memory.
func TestFailuresOfInventedKeys(t *testing.T) {
	f := pairs()
	present(f, "192.0.2.9", "genuine", 3)
	for i := range 2 * sources {
		wait := f.Spend(netip.MustParseAddr("192.0.2.1"), fmt.Sprint("invented", i), start)
		if (wait > 0) != (i >= 10) {
			t.Fatalf("invented key %d: wait %s", i, wait)
		}
	}
	if wait := present(f, "192.0.2.9", "genuine", 1); wait != time.Minute {
		t.Errorf("the failures of another were forgotten: wait %s", wait)
	}
}

func TestFailuresOfKeysAreBounded(t *testing.T) {
	f := quota.NewFailures(quota.Rate{Burst: 1 << 30, Interval: time.Nanosecond}, quota.PerMinute(1, 3))
	present(f, "192.0.2.1", "tbk_one", 3)
	for i := range sources {
		f.Spend(netip.MustParseAddr("192.0.2.1"), fmt.Sprint(i), start)
	}
	if wait := present(f, "192.0.2.1", "tbk_one", 1); wait != 0 {
		t.Errorf("more than %d keys are remembered: wait %s", sources, wait)
	}
}
