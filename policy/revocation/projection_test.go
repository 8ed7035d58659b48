package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// The first replica finds Redis empty, and begins an epoch. Others go on in it.
func TestProjectionFollows(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		b := booth{t, db}
		client := clientOf(t, schematest.PrivateRedis(t).Address())
		b.revoke("before")
		first := newReplica(t, b, client)
		first.settled(t)
		second := newReplica(t, b, client)
		if first.settled(t) != second.settled(t) {
			t.Error("two replicas name one server differently")
		}
		epoch := b.newest().Epoch
		for i := range 5 {
			seq := b.revoke(fmt.Sprint("key", i), "another")
			for _, r := range []*replica{first, second} {
				name, err := r.Tell(t.Context(), seq)
				if err != nil || name != r.Name() {
					t.Fatalf("change %d: %q of %q, %v", seq, name, r.Name(), err)
				}
			}
			sameAsSQL(t, b, client)
		}
		if at := b.newest(); at.Epoch != epoch {
			t.Errorf("epoch %d was followed by %d", epoch, at.Epoch)
		}
		if s := second.State(); s.Rebuilds != 0 || s.EpochChanges != 0 || s.Diverged != 0 {
			t.Errorf("the second replica: %+v", s)
		}
		if s := first.State(); s.Rebuilds != 1 || s.EpochChanges != 1 || s.Diverged != 0 {
			t.Errorf("the first replica: %+v", s)
		}
	})
}

// More than one script's worth at once.
func TestProjectionPushesMany(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	r := newReplica(t, b, client)
	name := r.settled(t)
	var keys []string
	for i := range 1777 {
		keys = append(keys, fmt.Sprint("key", i))
	}
	since := b.touch("something")
	seq := b.revoke(keys...)
	eventually(t, "all are there", func() bool { told, err := r.Tell(t.Context(), seq); return err == nil && told == name })
	sameAsSQL(t, b, client)
	batch, err := r.Vouch(t.Context(), name, since)
	check(t, err)
	if len(batch.Subjects) < len(keys) {
		t.Errorf("%d subjects are vouched for of %d", len(batch.Subjects), len(keys))
	}
}

// When Tell returns, whoever is told of is vouched for.
func TestTellThenVouch(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	r := newReplica(t, b, client)
	asked := newReplica(t, b, client) // the one without the database, later
	r.settled(t)
	name := asked.settled(t)
	since := b.touch("a")
	eventually(t, "it is taken in", func() bool { return asked.follower.Applied() >= since })
	asked.stop()
	for i, subjects := range [][]string{{"b"}, {"c", "d"}, {"b"}} {
		seq := b.touch(subjects...)
		told, err := r.Tell(t.Context(), seq)
		if err != nil || told != name {
			t.Fatalf("%q, %v", told, err)
		}
		batch, err := asked.Vouch(t.Context(), name, since)
		if err != nil {
			t.Fatal(err)
		}
		if batch.Since != since || batch.Seq < seq || !batch.Complete {
			t.Errorf("change %d: %+v", seq, batch)
		}
		for _, subject := range subjects {
			if !batch.Subjects[subject] {
				t.Errorf("after change %d of %v, it vouches for %v", i, subjects, slices.Collect(maps.Keys(batch.Subjects)))
			}
		}
		since = seq
	}
}

// The subjects of more changes than are kept are vouched for from some number on.
func TestChangedSubjectsAreBounded(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	r := newReplica(t, b, client)
	name := r.settled(t)
	var first, last int64
	for i := range 4 {
		var subjects []string
		for j := range 3000 {
			subjects = append(subjects, fmt.Sprintf("sa_%d_%d", i, j))
		}
		last = b.touch(subjects...)
		if first == 0 {
			first = last
		}
		eventually(t, "it is told", func() bool { _, err := r.Tell(t.Context(), last); return err == nil })
	}
	if n := client.ZCard(t.Context(), changedKey).Val(); n > 10_000 || n < 9000 {
		t.Errorf("%d subjects are kept", n)
	}
	if _, err := r.Vouch(t.Context(), name, first-1); !errors.Is(err, revocation.ErrNotVouched) {
		t.Errorf("of changes that were forgotten: %v", err)
	}
	batch, err := r.Vouch(t.Context(), name, first)
	if err != nil || len(batch.Subjects) != 9000 {
		t.Errorf("%d subjects, %v", len(batch.Subjects), err)
	}
}

// What no token can be good of any more goes, and the count with it.
func TestProjectionTrims(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	client := clientOf(t, schematest.PrivateRedis(t).Address())
	r := newReplica(t, b, client)
	r.settled(t)
	soon := workspace.At(time.Now().Add(time.Second))
	seq, err := b.transact(t.Context(), []string{revocation.Subject}, func(ctx context.Context, tx sqlx.ExtContext) error {
		var entries []revocation.Entry
		for i := range 300 {
			entries = append(entries, revocation.Entry{Kind: oauth.RevocableToken, SubjectID: fmt.Sprint(i), At: soon, ExpiresAt: soon})
		}
		_, err := revocation.Append(ctx, tx, entries...)
		return err
	})
	check(t, err)
	_, err = r.Tell(t.Context(), seq)
	check(t, err)
	b.revoke("longer")
	eventually(t, "they are gone", func() bool { return client.ZCard(t.Context(), deniedKey).Val() == 1 })
	r.settled(t)
	sameAsSQL(t, b, client)
	if s := r.State(); s.Diverged != 0 || s.EpochChanges != 1 {
		t.Errorf("%+v", s)
	}
}

func TestProjectionOnACluster(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	addresses := schematest.RedisCluster(t)
	var replicas []*replica
	for _, address := range addresses { // each knows one node, and finds the others
		replicas = append(replicas, newReplica(t, b, connect(t, clusterOptions(address))))
	}
	client := connect(t, clusterOptions(addresses[0]))
	var name string
	for _, r := range replicas {
		name = r.settled(t)
	}
	b.touch("something")
	for i, r := range replicas {
		seq := b.revoke(fmt.Sprint("key", i))
		told, err := r.Tell(t.Context(), seq)
		if err != nil || told != name {
			t.Fatalf("%q of %q, %v", told, name, err)
		}
		batch, err := r.Vouch(t.Context(), name, seq-1)
		if err != nil || !batch.Subjects[fmt.Sprint("key", i)] {
			t.Errorf("%+v, %v", batch, err)
		}
	}
	sameAsSQL(t, b, client)
}

// Run ends with its context and leaves nothing behind, whatever Redis does.
func TestRunEnds(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	server := schematest.PrivateRedis(t)
	client := clientOf(t, server.Address())
	for name, happens := range map[string]func(){
		"nothing": func() {},
		"frozen":  server.Freeze,
		"gone":    server.Kill,
	} {
		t.Run(name, func(t *testing.T) {
			server.Kill()
			server.Start()
			leak := goleak.IgnoreCurrent()
			r := newReplica(t, b, client, func(o *revocation.ProjectionOptions) { o.Hint = func() {} })
			r.settled(t)
			happens()
			if name != "nothing" {
				eventually(t, "it is noticed", func() bool { return r.State().Unknown && r.Name() == "" })
			}
			r.stop()
			goleak.VerifyNone(t, leak)
		})
	}
}

func TestTellWithoutRedis(t *testing.T) {
	b := booth{t, schematest.SQLite(t)}
	server := schematest.PrivateRedis(t)
	r := newReplica(t, b, clientOf(t, server.Address()))
	r.settled(t)
	server.Kill()
	seq := b.revoke("key")
	began := time.Now()
	name, err := r.Tell(t.Context(), seq)
	if name != "" || !errors.Is(err, revocation.ErrNotTold) {
		t.Errorf("%q, %v", name, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	server.Start()
	eventually(t, "it is told", func() bool { name, err := r.Tell(t.Context(), seq); return err == nil && name != "" })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := r.Tell(ctx, seq+1000); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), server.Address()) {
		t.Errorf("of a change that never comes: %v", err)
	}
}
