package main

import (
	"errors"
	"fmt"
)

// guard looks for a fall in speed that no busy machine explains: it compares ratios,
// which are taken in one run, with about one and a half times what
// deploy/docs/performance.md says of them.
func (f figures) guard() error {
	return errors.Join(
		atMost("exchange_cpu_ratio", f.ExchangeCPURatio, 2.1),
		atMost("exchange_cpu_ratio_redis", f.ExchangeCPURatioRedis, 2.1),
		atMost("verify_ratio", f.VerifyRatio, 1.9),
		atLeast("verify_cached_speedup", f.VerifyCachedSpeedup, 10),
		atMost("embedded.allocs", f.Embedded.Allocs, 170),
		atMost("redis.allocs", f.Redis.Allocs, 170),
	)
}

func atMost(name string, value, bound float64) error {
	if value <= bound { // also false for what is no number
		return nil
	}
	return fmt.Errorf("%s is %.2f, and at most %.2f is good: see deploy/docs/performance.md", name, value, bound)
}

func atLeast(name string, value, bound float64) error {
	if value >= bound {
		return nil
	}
	return fmt.Errorf("%s is %.2f, and at least %.2f is good: see deploy/docs/performance.md", name, value, bound)
}
