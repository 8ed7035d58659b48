package manage_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// When the last thing that a use case writes fails, nothing that it wrote before
// remains: no change without its event, none that the caches do not hear of.
func TestNothingRemainsWhenRecordingFails(t *testing.T) {
	for _, missing := range []string{"audit_events", "changes"} {
		t.Run(missing, func(t *testing.T) {
			schematest.Each(t, func(t *testing.T, db *schema.DB) {
				h := newHouse(t, db)
				key := h.key(h.sa)
				h.exec(`ALTER TABLE ` + missing + ` RENAME TO gone`)
				before := h.dump(missing)
				for _, c := range useCases(key) {
					if c.action == "service_account.enable" || c.action == "workspace.resume" {
						continue // they undo what has just failed, so there is nothing to do
					}
					if _, _, err := c.do(t.Context(), h); err == nil {
						t.Errorf("%s succeeds without %s", c.action, missing)
					}
					if after := h.dump(missing); after != before {
						t.Fatalf("%s failed and left\n%s\ninstead of\n%s", c.action, after, before)
					}
				}
				h.exec(`ALTER TABLE gone RENAME TO ` + missing)
				if _, err := h.RotateKey(t.Context(), operator, h.ws, key.ID, manage.Rotation{}); err != nil {
					t.Errorf("after the repair: %v", err)
				}
			})
		})
	}
}

// Checks that come after a write undo it.
func TestNothingRemainsWhenRefusedLate(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		strong := h.key(h.account("strong", manage.NewServiceAccount{Scopes: oauth.NewScope("members:create")}))
		none := oauth.NewScope()
		check(t, h.SetKeyScopes(t.Context(), operator, h.ws, strong.ID, &none))
		before := h.dump()
		_, err := h.CreateKey(t.Context(), manage.User(h.manager), h.ws, manage.NewKey{ServiceAccountID: strong.ServiceAccountID, Name: "x"})
		want(t, "create", workspace.ErrForbidden, err)
		want(t, "widen", workspace.ErrForbidden, h.SetKeyScopes(t.Context(), manage.User(h.manager), h.ws, strong.ID, nil))
		if after := h.dump(); after != before {
			t.Errorf("left is\n%s\ninstead of\n%s", after, before)
		}
	})
}

// The database may ask for a transaction to be run again, even when it commits:
// one key comes of it, the one that is returned.
func TestRetriedTransactionLeavesOneKey(t *testing.T) {
	h := newHouse(t, schematest.Postgres(t))
	for _, statement := range []string{
		`CREATE SEQUENCE attempts`, // not undone by a roll-back
		`CREATE FUNCTION fail_twice() RETURNS trigger AS $$ BEGIN
			IF nextval('attempts') <= 2 THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF;
			RETURN NEW;
		END $$ LANGUAGE plpgsql`,
		`CREATE CONSTRAINT TRIGGER again AFTER INSERT ON audit_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail_twice()`,
	} {
		h.exec(statement)
	}
	seq := h.seq()
	issued := h.key(h.sa)
	if n := get[int](h, `SELECT last_value FROM attempts`); n != 3 {
		t.Fatalf("the transaction ran %d times, want 3", n)
	}
	for query, want := range map[string]int{
		`SELECT count(*) FROM keys`: 1, `SELECT count(*) FROM key_secrets`: 1,
		`SELECT count(*) FROM audit_events WHERE action = 'key.create'`: 1, `SELECT count(*) FROM changes WHERE subject_id LIKE 'tbk_%'`: 1,
	} {
		if got := get[int](h, query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	if h.seq() != seq+1 {
		t.Errorf("the counter went from %d to %d", seq, h.seq())
	}
	if !h.works(issued) {
		t.Error("the secret that was returned is not the stored one")
	}
}

// A caller who does not wait for the replicas is told that the change stands.
func TestPendingChangeIsCommitted(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		h.Timing = change.Timing{Lease: time.Hour, Renewal: 10 * time.Millisecond}
		h.exec(`INSERT INTO replicas (id, host, renewals, acked_seq, renewed_at) VALUES ('silent', '', 0, 0, 0)`)
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.RevokeKey(ctx, operator, h.ws, key.ID, "lost") }()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for h.read(key.ID).RevokedAt.IsZero() {
			select {
			case <-tick.C:
			case err := <-done:
				t.Fatalf("it returned before the change shows: %v", err)
			}
		}
		// The commit shows before the call knows of it; what is sent after that is
		// the waiting.
		for sent := db.Queries(); db.Queries() == sent; {
			<-tick.C
		}
		leave()
		err := <-done
		if !errors.Is(err, manage.ErrPending) || !errors.Is(err, context.Canceled) {
			t.Errorf("RevokeKey: %v, want ErrPending and Canceled", err)
		}
		// Whoever asks again changes nothing, and waits as well: for the end of the
		// silent one's lease, whose row is gone after that.
		h.Timing.Lease = 20 * time.Millisecond
		want(t, "RevokeKey again", nil, h.RevokeKey(t.Context(), operator, h.ws, key.ID, "lost"))
		if left := get[int](h, `SELECT count(*) FROM replicas`); left != 0 {
			t.Error("it did not wait for the silent replica")
		}
	})
}
