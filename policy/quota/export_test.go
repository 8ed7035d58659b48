package quota

import (
	"math"
	"strings"

	"github.com/redis/go-redis/v9"
)

// NewRedisAt is a Redis whose script takes the time from a list of the server,
// seconds and microseconds, instead of its clock.
func NewRedisAt(client redis.UniversalClient, list string) *Redis {
	text := strings.Replace(takeScript, "redis.call('TIME')", "redis.call('LRANGE', '"+list+"', 0, 1)", 1)
	return &Redis{once{client}, redis.NewScript(text)}
}

// Size is how many limits a Memory holds, over or not.
func (m *Memory) Size() (n int) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n += len(s.arrivals) + len(s.counts)
		s.mu.Unlock()
	}
	return n
}

// NeverSweep makes a Memory keep what is over, as Redis does under a clock that a
// test sets, if it is no more than a few limits.
func (m *Memory) NeverSweep() {
	for i := range m.shards {
		m.shards[i].sweepAt = math.MaxInt64
	}
}
