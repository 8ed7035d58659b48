package quota_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// All keys of a workspace are in one slot, and workspaces are on all nodes.
func TestRedisClusterSlots(t *testing.T) {
	client := redisClient(t, schematest.RedisCluster(t)...).(*redis.ClusterClient)
	source := quota.NewRedis(client)
	nodes := map[string]int{}
	for range 60 {
		id := workspace.NewID()
		(exchange{full(id, 4), 4, []int{4, 4}, []int64{4, 4}}).run(t, source)
		slots := map[int64]bool{}
		for _, key := range keysOf(id) {
			slot, err := client.ClusterKeySlot(t.Context(), key).Result()
			if err != nil {
				t.Fatal(err)
			}
			slots[slot] = true
		}
		if len(slots) != 1 {
			t.Fatalf("the keys of one workspace are in slots %v", slots)
		}
		node, err := client.MasterForKey(t.Context(), keysOf(id)[0])
		if err != nil {
			t.Fatal(err)
		}
		if n, err := node.Exists(t.Context(), keysOf(id)...).Result(); err != nil || n != 4 {
			t.Fatalf("the node of a workspace has %d of its 4 keys, %v", n, err)
		}
		nodes[node.Options().Addr]++
	}
	if len(nodes) != 3 {
		t.Errorf("60 workspaces are on the nodes %v", nodes)
	}
	t.Logf("workspaces on each node: %v", nodes)
}

// A client that knows one node finds the others.
func TestRedisClusterFollowsSlots(t *testing.T) {
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: schematest.RedisCluster(t)[:1], IsClusterMode: true, MaxRetries: -1})
	defer client.Close()
	source := quota.NewRedis(client)
	for range 20 {
		id := workspace.NewID()
		(exchange{full(id, 9), 9, []int{9, 9}, []int64{9, 9}}).run(t, source)
		(exchange{full(id, 9), 0, []int{9, 9}, []int64{9, 9}}).run(t, source)
	}
}
