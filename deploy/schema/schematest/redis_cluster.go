package schematest

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Redis Cluster has so many slots; three masters are the fewest that it takes to fail one over.
const (
	redisSlots   = 16384
	redisMasters = 3
)

// RedisCluster returns the addresses, 127.0.0.1:port, of the three masters of a private Redis
// Cluster. The tests of one process share it. Its first use takes about three seconds: a new master
// waits two before it serves.
func RedisCluster(tb testing.TB) []string {
	tb.Helper()
	masters, err := redisCluster()
	if err != nil {
		tb.Fatal(err)
	}
	addresses := make([]string, len(masters))
	for i, master := range masters {
		addresses[i] = master.address
	}
	return addresses
}

var redisCluster = sync.OnceValues(func() ([]redisMaster, error) {
	masters := make([]redisMaster, redisMasters)
	for i := range masters {
		var err error
		if masters[i], err = startMaster(); err != nil {
			return nil, err
		}
	}
	for i, master := range masters {
		if err := master.join(masters[0], i); err != nil {
			return nil, err
		}
	}
	for _, master := range masters {
		if err := master.await(len(masters)); err != nil {
			return nil, err
		}
	}
	return masters, nil
})

// A redisMaster is a node of a cluster, with the port on which the nodes speak to each other.
type redisMaster struct {
	server
	bus string
}

func startMaster() (m redisMaster, err error) {
	s, err := redisService("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
	if err != nil {
		return m, err
	}
	usual := s.command
	s.command = func(port string) ([]string, error) {
		command, err := usual(port)
		if err != nil {
			return nil, err
		}
		bus, err := freeAddress() // at each attempt anew, for this port may be taken too
		if err != nil {
			return nil, err
		}
		_, m.bus, err = net.SplitHostPort(bus)
		return append(slices.Clip(command), "--cluster-port", m.bus), err
	}
	m.server, err = start(s)
	return m, err
}

// join gives a master the n-th share of the slots and introduces it to another.
func (m redisMaster) join(first redisMaster, n int) error {
	from, to := n*redisSlots/redisMasters, (n+1)*redisSlots/redisMasters-1
	if _, err := askRedis(m.address, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(from), strconv.Itoa(to)); err != nil {
		return fmt.Errorf("give slots %d to %d to a Redis: %w", from, to, err)
	}
	if n == 0 {
		return nil
	}
	host, port, err := net.SplitHostPort(first.address)
	if err != nil {
		return err
	}
	_, err = askRedis(m.address, "CLUSTER", "MEET", host, port, first.bus)
	return err
}

// await returns when the master serves and knows where all slots are.
func (m redisMaster) await(masters int) error {
	ticker := time.NewTicker(startPoll)
	defer ticker.Stop()
	deadline := time.Now().Add(startTimeout)
	for {
		info, err := askRedis(m.address, "CLUSTER", "INFO")
		if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", masters)) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("the Redis Cluster does not come up: %s", info), err)
		}
		<-ticker.C
	}
}
