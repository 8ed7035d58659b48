package signing_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

var noon = workspace.At(time.Date(2030, 1, 2, 12, 0, 0, 123456000, time.UTC))

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// add stores a new ES256 key.
func add(t *testing.T, db *schema.DB, s *signing.Sealer, state signing.State) signing.Stored {
	t.Helper()
	return addOf(t, db, s, jwk.ES256, state)
}

func addOf(t *testing.T, db *schema.DB, s *signing.Sealer, algorithm string, state signing.State) signing.Stored {
	t.Helper()
	return addTo(t, db, s, signing.TokenSlot(algorithm), state)
}

func addTo(t *testing.T, db *schema.DB, s *signing.Sealer, slot signing.Slot, state signing.State) signing.Stored {
	t.Helper()
	stored, err := signing.Generate(s, slot, state, noon)
	check(t, err)
	check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		inserted, err := signing.Insert(ctx, tx, stored)
		if err == nil && !inserted {
			t.Error("the key was not inserted")
		}
		return err
	}))
	return stored
}

func publishedBy(t *testing.T, ring *signing.Ring) []jwk.Key {
	t.Helper()
	set, err := ring.Published()
	check(t, err)
	return set.Keys
}

func exec(t *testing.T, db *schema.DB, query string, args ...any) {
	t.Helper()
	_, err := db.Writer().ExecContext(t.Context(), query, args...)
	check(t, err)
}

func loaded(t *testing.T, db *schema.DB, s *signing.Sealer) *signing.Ring {
	t.Helper()
	ring := &signing.Ring{Reader: db.Reader(), Sealer: s, Timing: signing.DefaultTiming}
	check(t, ring.Load(t.Context()))
	return ring
}

func TestRingSignsWithTheActiveKeyAndPublishesAllButRemoved(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := sealer(t, kek(1))
		ring := &signing.Ring{Reader: db.Reader(), Sealer: s, Timing: signing.DefaultTiming}
		if _, err := ring.Active(t.Context(), jwk.ES256); !errors.Is(err, signing.ErrNoKey) {
			t.Errorf("an empty ring: %v, want ErrNoKey", err)
		}
		want := map[string]bool{}
		for _, state := range []signing.State{signing.Pending, signing.Retiring} {
			want[add(t, db, s, state).ID] = true
		}
		add(t, db, s, signing.Removed)
		if err := ring.Load(t.Context()); !errors.Is(err, signing.ErrNoKey) {
			t.Errorf("no key is active: %v, want ErrNoKey", err)
		}
		active := add(t, db, s, signing.Active)
		want[active.ID] = true
		check(t, ring.Load(t.Context()))
		if key, err := ring.Active(t.Context(), jwk.ES256); err != nil || key.ID != active.ID {
			t.Errorf("active is %v, %v; want %s", key, err, active.ID)
		}
		published := publishedBy(t, ring)
		for _, k := range published {
			if !want[k.ID] {
				t.Errorf("%s is published", k.ID)
			}
		}
		if len(published) != len(want) {
			t.Errorf("%d keys are published, want %d", len(published), len(want))
		}
	})
}

func TestOneActiveKeyPerAlgorithm(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := sealer(t, kek(1))
		first := add(t, db, s, signing.Active)
		second, err := signing.Generate(s, signing.TokenSlot(jwk.ES256), signing.Active, noon)
		check(t, err)
		inserted, err := signing.Insert(t.Context(), db.Writer(), second)
		if check(t, err); inserted {
			t.Error("a second active key was inserted")
		}
		if key, err := loaded(t, db, s).Active(t.Context(), jwk.ES256); err != nil || key.ID != first.ID {
			t.Errorf("active is %v, %v; want the first", key, err)
		}
	})
}

// A sealed key opens in its own row only, and under its own key-encryption key.
// A ring that cannot load goes on with what it has.
func TestRingRefusesWhatItCannotOpen(t *testing.T) {
	for _, test := range []struct {
		name, kek, says string
		change          func(t *testing.T, db *schema.DB, active, other signing.Stored)
	}{
		{"another row's key", kek(1), "is secrets.key_encryption_key the one that belongs to this database?", func(t *testing.T, db *schema.DB, active, other signing.Stored) {
			exec(t, db, `UPDATE signing_keys SET sealed = ? WHERE kid = ?`, other.Sealed, active.ID)
			exec(t, db, `UPDATE signing_keys SET sealed = ? WHERE kid = ?`, active.Sealed, other.ID)
		}},
		{"a later row", kek(1), "signing key", func(t *testing.T, db *schema.DB, active, _ signing.Stored) {
			exec(t, db, `UPDATE signing_keys SET created_at = created_at + 1 WHERE kid = ?`, active.ID)
		}},
		{"another key of the same name", kek(2), "is secrets.key_encryption_key the one that belongs to this database?", func(*testing.T, *schema.DB, signing.Stored, signing.Stored) {}},
		{"another key of another name", "2:" + kek(2), `sealed by key-encryption key "1" and "2" is configured`, func(*testing.T, *schema.DB, signing.Stored, signing.Stored) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			schematest.Each(t, func(t *testing.T, db *schema.DB) {
				s := sealer(t, kek(1))
				active, other := add(t, db, s, signing.Active), add(t, db, s, signing.Pending)
				ring := loaded(t, db, s)
				test.change(t, db, active, other)
				fresh := &signing.Ring{Reader: db.Reader(), Sealer: sealer(t, test.kek), Timing: signing.DefaultTiming}
				if err := fresh.Load(t.Context()); !errors.Is(err, signing.ErrSealed) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("Load: %v, want ErrSealed that says %q", err, test.says)
				}
				if _, err := fresh.Active(t.Context(), jwk.ES256); !errors.Is(err, signing.ErrNoKey) {
					t.Errorf("after a failed Load a key is active: %v", err)
				}
				if test.kek == kek(1) {
					keeps(t, ring, active.ID, 2)
				}
			})
		})
	}
}

// keeps checks that a Load that fails changes nothing.
func keeps(t *testing.T, ring *signing.Ring, kid string, published int) {
	t.Helper()
	if err := ring.Load(t.Context()); err == nil {
		t.Error("Load succeeds")
	}
	if key, err := ring.Active(t.Context(), jwk.ES256); err != nil || key.ID != kid {
		t.Errorf("the ring lost its key: %v, %v", key, err)
	}
	if n := len(publishedBy(t, ring)); n != published {
		t.Errorf("the ring publishes %d keys, want %d as before", n, published)
	}
}

// Whoever can write to the database cannot choose what verifiers believe: a
// changed public key is not published, active or not.
func TestRingRefusesAChangedPublicKey(t *testing.T) {
	stranger, err := signing.Generate(sealer(t, kek(3)), signing.TokenSlot(jwk.ES256), signing.Active, noon)
	check(t, err)
	for name, change := range map[string]func(text string) string{
		"another key":             func(string) string { return stranger.PublicJWK },
		"another key, same kid":   func(text string) string { return withMember(stranger.PublicJWK, "kid", kid(text)) },
		"another kid":             func(text string) string { return withMember(text, "kid", stranger.ID) },
		"another algorithm":       func(text string) string { return withMember(text, "alg", "RS256") },
		"another use":             func(text string) string { return withMember(text, "use", "enc") },
		"a member of other types": func(text string) string { return withMember(text, "n", "AQAB") },
		"no JSON":                 func(string) string { return "{" },
		"empty":                   func(string) string { return "{}" },
	} {
		t.Run(name, func(t *testing.T) {
			db, s := schematest.SQLite(t), sealer(t, kek(1))
			active, pending := add(t, db, s, signing.Active), add(t, db, s, signing.Pending)
			ring := loaded(t, db, s)
			for _, row := range []signing.Stored{active, pending} {
				exec(t, db, `UPDATE signing_keys SET public_jwk = ? WHERE kid = ?`, change(row.PublicJWK), row.ID)
				keeps(t, ring, active.ID, 2)
				exec(t, db, `UPDATE signing_keys SET public_jwk = ? WHERE kid = ?`, row.PublicJWK, row.ID)
			}
			check(t, ring.Load(t.Context()))
		})
	}
}

func kid(text string) string {
	var k jwk.Key
	_ = json.Unmarshal([]byte(text), &k) // what Generate made
	return k.ID
}

func withMember(text, name, value string) string {
	var k jwk.Key
	if json.Unmarshal([]byte(text), &k) != nil {
		return ""
	}
	*map[string]*string{"kid": &k.ID, "alg": &k.Algorithm, "use": &k.Use, "n": &k.N}[name] = value
	out, _ := json.Marshal(k) // strings always marshal
	return string(out)
}

// A copy of the database alone holds no private key, in any usual form.
func TestDatabaseHoldsNoPrivateKeyInTheClear(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := sealer(t, kek(1))
		stored := add(t, db, s, signing.Active)
		der, err := s.Open(stored.SealerID, stored.Sealed, fmt.Sprintf("signing_keys|%s|ES256|%d", stored.ID, noon.UnixMicro()))
		check(t, err)
		parsed, err := x509.ParsePKCS8PrivateKey(der)
		check(t, err)
		scalar := parsed.(interface{ Bytes() ([]byte, error) })
		d, err := scalar.Bytes()
		check(t, err)

		row := map[string]any{}
		check(t, db.Reader().QueryRowxContext(t.Context(), `SELECT * FROM signing_keys`).MapScan(row))
		dump := []byte(fmt.Sprintf("%+v", row))
		for _, value := range row {
			if raw, ok := value.([]byte); ok {
				dump = append(dump, raw...)
			}
		}
		for name, clear := range map[string][]byte{
			"PKCS #8": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "the PEM header": []byte("PRIVATE KEY"),
			"the scalar": d, "the OID": {0x2a, 0x86, 0x48, 0xce, 0x3d}, "a private member": []byte(`"d"`), "the key-encryption key": []byte(kek(1)),
		} {
			if bytes.Contains(dump, clear) {
				t.Errorf("%s is in the row", name)
			}
		}
		if !bytes.Contains(dump, []byte(stored.ID)) {
			t.Error("the dump does not hold the row")
		}
	})
}

// A ring without keys fails to load, which shows when it tries.
func TestFollowLoadsForSigningKeysOnly(t *testing.T) {
	ring := &signing.Ring{Reader: schematest.SQLite(t).Reader(), Sealer: sealer(t, kek(1)), Timing: signing.DefaultTiming}
	for _, test := range []struct {
		batch change.Batch
		want  error
	}{
		{change.Batch{Complete: true}, nil},
		{change.Batch{Complete: true, Subjects: map[string]bool{"tbk_1": true}}, nil},
		{change.Batch{Complete: true, Subjects: map[string]bool{"tbk_1": true, signing.Subject("kid"): true}}, signing.ErrNoKey},
		{change.Batch{}, signing.ErrNoKey},
	} {
		if err := ring.Follow(t.Context(), test.batch); !errors.Is(err, test.want) {
			t.Errorf("Follow(%+v): %v, want %v", test.batch, err, test.want)
		}
	}
}

// Many replicas that start together make one key of each purpose.
func TestEnsureSigningKeyMakesOne(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := sealer(t, kek(1))
		catalogue, err := policy.NewCatalogue(nil, nil)
		check(t, err)
		audiences, err := policy.NewAudiences("https://booth.example.com", "", nil)
		check(t, err)
		m := &manage.Manager{Database: db, Sealer: s, Policy: &policy.Policy{Catalogue: catalogue, Audiences: audiences}, Signing: signing.DefaultTiming}
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				if err := m.EnsureSigningKeys(t.Context(), manage.Operator("test")); err != nil {
					t.Errorf("EnsureSigningKeys: %v", err)
				}
			})
		}
		running.Wait()
		ring := loaded(t, db, s)
		if keys := publishedBy(t, ring); len(keys) != 1 || keys[0].Algorithm != jwk.ES256 {
			t.Errorf("published are %+v, want one key", keys)
		}
	})
}

// A pending key that does not open stops nothing yet, but is known as a fault and
// not held. When it is active the ring does not load.
func TestRingWithAPendingKeyThatDoesNotOpen(t *testing.T) {
	db, s := schematest.SQLite(t), sealer(t, kek(1))
	active, pending := add(t, db, s, signing.Active), add(t, db, sealer(t, "2:"+kek(2)), signing.Pending)
	ring := loaded(t, db, s)
	if err := ring.Ready(); !errors.Is(err, signing.ErrSealed) {
		t.Errorf("Fault: %v, want ErrSealed", err)
	}
	if ring.Holds() != active.ID || len(publishedBy(t, ring)) != 2 {
		t.Errorf("it holds %q and publishes %d keys, want the active one and both", ring.Holds(), len(publishedBy(t, ring)))
	}
	exec(t, db, `UPDATE signing_keys SET state = 'retiring' WHERE kid = ?`, active.ID)
	exec(t, db, `UPDATE signing_keys SET state = 'active' WHERE kid = ?`, pending.ID)
	keeps(t, ring, active.ID, 2)
	exec(t, db, `UPDATE signing_keys SET state = 'removed', sealed = NULL WHERE kid = ?`, pending.ID)
	exec(t, db, `UPDATE signing_keys SET state = 'active' WHERE kid = ?`, active.ID)
	check(t, ring.Load(t.Context()))
	if err := ring.Ready(); err != nil {
		t.Errorf("the fault outlives its key: %v", err)
	}
}

type lease struct {
	held  bool
	until time.Time
}

func (l lease) May(context.Context) bool { return l.held }
func (l lease) Until() time.Time         { return l.until }

// Without the lease the key in memory may be retired, and the one that signs is
// looked up.
func TestRingWithoutALeaseAsksTheDatabase(t *testing.T) {
	db, s := schematest.SQLite(t), sealer(t, kek(1))
	old, next := add(t, db, s, signing.Active), add(t, db, s, signing.Pending)
	ring := loaded(t, db, s)
	signs := func(want string, mistake error) {
		t.Helper()
		key, err := ring.Active(t.Context(), jwk.ES256)
		if !errors.Is(err, mistake) || (err == nil && key.ID != want) {
			t.Errorf("%+v signs, %v; want %s, %v", key, err, want, mistake)
		}
	}
	ring.Lease = lease{held: true}
	exec(t, db, `UPDATE signing_keys SET state = 'retiring' WHERE kid = ?`, old.ID)
	signs(old.ID, nil)
	ring.Lease = lease{}
	signs("", signing.ErrNoKey)
	exec(t, db, `UPDATE signing_keys SET state = 'active' WHERE kid = ?`, next.ID)
	signs(next.ID, nil)
	exec(t, db, `UPDATE signing_keys SET sealed = sealed || x'00' WHERE kid = ?`, next.ID)
	signs("", signing.ErrSealed)
	ring.Lease = lease{held: true}
	signs(next.ID, nil)
}

// A set that may lack a key which signs is not given out.
func TestRingKnowsWhenItIsBehind(t *testing.T) {
	db, s := schematest.SQLite(t), sealer(t, kek(1))
	add(t, db, s, signing.Active)
	ring := loaded(t, db, s)
	grace := ring.Timing.PublishLead - ring.Timing.MinLead()
	for _, test := range []struct {
		since time.Duration
		want  error
	}{{-time.Second, nil}, {grace - time.Minute, nil}, {grace + time.Minute, signing.ErrBehind}} {
		ring.Lease = lease{until: time.Now().Add(-test.since)}
		if set, err := ring.Published(); !errors.Is(err, test.want) || (err == nil) != (len(set.Keys) == 1) {
			t.Errorf("%s after the lease: %v, %d keys; want %v", test.since, err, len(set.Keys), test.want)
		}
	}
}

// Each algorithm has an active key of its own.
func TestRingOfSeveralAlgorithms(t *testing.T) {
	db, s := schematest.SQLite(t), sealer(t, kek(1))
	want := map[string]string{}
	for _, algorithm := range policy.Algorithms() {
		want[algorithm] = addOf(t, db, s, algorithm, signing.Active).ID
	}
	ring := loaded(t, db, s)
	for algorithm, kid := range want {
		if key, err := ring.Active(t.Context(), algorithm); err != nil || key.ID != kid || key.Algorithm != algorithm {
			t.Errorf("%s: %+v, %v", algorithm, key, err)
		}
		if found, public, ok := ring.Find(kid); !ok || found != algorithm || public == nil {
			t.Errorf("Find(%s): %s, %v, %v", kid, found, public, ok)
		}
	}
	if _, err := ring.Active(t.Context(), "HS256"); !errors.Is(err, signing.ErrNoKey) {
		t.Errorf("HS256: %v", err)
	}
	if _, _, ok := ring.Find("other"); ok {
		t.Error("found a key that is not there")
	}
	if _, err := signing.Generate(s, signing.TokenSlot("HS256"), signing.Active, noon); !errors.Is(err, signing.ErrAlgorithm) {
		t.Errorf("Generate HS256: %v", err)
	}
}

// slow gives the answer to one query only when it is let go.
type slow struct {
	sqlx.ExtContext
	armed      atomic.Bool
	read, goOn chan bool
}

func (s *slow) QueryxContext(ctx context.Context, q string, args ...any) (*sqlx.Rows, error) {
	rows, err := s.ExtContext.QueryxContext(ctx, q, args...)
	if s.armed.CompareAndSwap(true, false) {
		s.read <- true
		<-s.goOn
	}
	return rows, err
}

// A load that takes long does not bring back what a later one has seen to be gone.
func TestRingLoadsOutOfOrder(t *testing.T) {
	db, s := schematest.Postgres(t), sealer(t, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	old := add(t, db, s, signing.Active)
	reader := &slow{ExtContext: db.Reader(), read: make(chan bool), goOn: make(chan bool)}
	ring := &signing.Ring{Reader: reader, Sealer: s, Timing: signing.DefaultTiming}
	check(t, ring.Load(t.Context()))
	reader.armed.Store(true)
	done := make(chan error)
	go func() { done <- ring.Load(t.Context()) }()
	<-reader.read
	exec(t, db, `UPDATE signing_keys SET state = 'removed', sealed = NULL, removed_at = 1 WHERE kid = '`+old.ID+`'`)
	fresh := add(t, db, s, signing.Active)
	check(t, ring.Follow(t.Context(), change.Batch{Seq: 7, Subjects: map[string]bool{signing.Subject(old.ID): true}, Complete: true}))
	reader.goOn <- true
	check(t, <-done)
	if k, err := ring.Active(t.Context(), jwk.ES256); err != nil || k.ID != fresh.ID {
		t.Errorf("it signs with the key that was distrusted: %v", err)
	}
	if _, _, ok := ring.Find(old.ID); ok {
		t.Error("it publishes the key that was distrusted")
	}
}

func TestSuspectRingPublishesNothing(t *testing.T) {
	db, s := schematest.SQLite(t), sealer(t, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	add(t, db, s, signing.Active)
	ring := &signing.Ring{Reader: db.Reader(), Sealer: s, Timing: signing.DefaultTiming}
	check(t, ring.Load(t.Context()))
	ring.Suspect()
	if _, err := ring.Published(); !errors.Is(err, signing.ErrBehind) {
		t.Errorf("keys that have changed are published: %v", err)
	}
	check(t, ring.Load(t.Context()))
	if set, err := ring.Published(); err != nil || len(set.Keys) != 1 {
		t.Errorf("read again: %v, %v", set, err)
	}
}
