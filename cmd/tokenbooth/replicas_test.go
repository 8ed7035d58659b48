package main

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// cluster is two servers on one PostgreSQL database, and this process as the
// third, which changes things.
type cluster struct {
	*backend
	t    *testing.T
	env  []string
	a, b *replica
	ws   workspace.ID
}

var tester = manage.Operator("test")

func newCluster(t *testing.T) *cluster {
	t.Helper()
	env := onPostgres(schematest.PostgresURL(t))
	c := &cluster{t: t, env: env, backend: participant(t, env)}
	ws, err := c.manager.CreateWorkspace(t.Context(), tester, "Payments", "")
	if err != nil {
		t.Fatal(err)
	}
	c.ws = ws.ID
	c.a, c.b = serveReady(t, env), serveReady(t, env)
	return c
}

// newKey makes a service account with a key.
func (c *cluster) newKey(name string) (manage.Issued, credential) {
	c.t.Helper()
	sa, err := c.manager.CreateServiceAccount(c.t.Context(), tester, c.ws, manage.NewServiceAccount{Name: name, Role: "admin"})
	if err != nil {
		c.t.Fatal(err)
	}
	issued, err := c.manager.CreateKey(c.t.Context(), tester, c.ws, manage.NewKey{ServiceAccountID: sa.ID, Name: name})
	if err != nil {
		c.t.Fatal(err)
	}
	return issued, credential{string(issued.ID), issued.Secret.Reveal()}
}

// change runs a use case while both servers are asked without a pause. An answer
// to a question that was asked after the use case returned must be right.
func (c *cluster) change(what string, ask credential, right func(answer) bool, change func() error) {
	c.t.Helper()
	var returned, done atomic.Bool
	var asked, late atomic.Int32
	var clients sync.WaitGroup
	for _, r := range []*replica{c.a, c.b} {
		clients.Go(func() {
			for !done.Load() {
				after := returned.Load()
				got := login(c.t, r.url, ask)
				asked.Add(1)
				if !after {
					continue
				}
				late.Add(1)
				if !right(got) {
					c.t.Errorf("after %s returned, %s answers %d %v", what, r.url, got.status, got.body["error_description"])
				}
			}
		})
	}
	eventually(c.t, "first answers", func() bool { return asked.Load() >= 4 })
	if err := change(); err != nil {
		c.t.Errorf("%s: %v", what, err)
	}
	returned.Store(true)
	eventually(c.t, "answers after "+what, func() bool { return late.Load() >= 40 })
	done.Store(true)
	clients.Wait()
}

func refused(a answer) bool { return a.status == http.StatusUnauthorized }

func TestReplicasAgree(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	issued, key := c.newKey("ci")
	for _, r := range []*replica{c.a, c.b} {
		if got := claims(t, wantToken(t, r.url, key)); got["scope"] != "collectors:create collectors:read" {
			t.Fatalf("scope %v", got["scope"])
		}
	}

	for i := range 3 {
		narrow, wide := oauth.NewScope("collectors:read"), oauth.NewScope("collectors:create")
		c.change(fmt.Sprintf("narrowing %d", i), key, func(a answer) bool { return a.text("scope") == "collectors:read" }, func() error {
			return c.manager.SetKeyScopes(t.Context(), tester, c.ws, issued.ID, &narrow)
		})
		c.change(fmt.Sprintf("swapping %d", i), key, func(a answer) bool { return a.text("scope") == "collectors:create" }, func() error {
			return c.manager.SetKeyScopes(t.Context(), tester, c.ws, issued.ID, &wide)
		})
	}

	var rotated manage.Issued
	c.change("rotation", key, refused, func() (err error) {
		rotated, err = c.manager.RotateKey(t.Context(), tester, c.ws, issued.ID, manage.Rotation{})
		return err
	})
	old := key
	key.secret = rotated.Secret.Reveal()
	for _, r := range []*replica{c.a, c.b} {
		wantRefusal(t, r.url, old, "was rotated")
		wantToken(t, r.url, key)
	}

	token := wantToken(t, c.a.url, key)
	c.change("revocation", key, refused, func() error {
		return c.manager.RevokeKey(t.Context(), tester, c.ws, issued.ID, "test")
	})
	for _, r := range []*replica{c.a, c.b} {
		if who := get(t, r.url+"/api/v1/whoami", token); who.status != http.StatusUnauthorized {
			t.Errorf("whoami with a token of a revoked key answers %d", who.status)
		}
	}

	fresh, other := c.newKey("other")
	wantToken(t, c.a.url, other)
	wantToken(t, c.b.url, other)
	c.change("disabling", other, refused, func() error {
		return c.manager.DisableServiceAccount(t.Context(), tester, c.ws, fresh.ServiceAccountID)
	})
}

// revoke begins to revoke a key and returns when that is committed; the channel
// tells when the use case returns.
func (c *cluster) revoke(issued manage.Issued) <-chan error {
	c.t.Helper()
	returned := make(chan error, 1)
	go func() { returned <- c.manager.RevokeKey(c.t.Context(), tester, c.ws, issued.ID, "test") }()
	eventually(c.t, "a committed revocation", func() bool {
		return query[int](c.t, c.db, "SELECT COUNT(*) FROM keys WHERE id = ? AND revoked_at IS NOT NULL", string(issued.ID)) == 1
	})
	return returned
}

// wait wants the use case to return without an error.
func (c *cluster) wait(returned <-chan error) {
	c.t.Helper()
	select {
	case err := <-returned:
		if err != nil {
			c.t.Errorf("revoke: %v", err)
		}
	case <-time.After(patience):
		c.t.Fatal("the revocation did not return")
	}
}

// A server that dies while a revocation waits for it does not hold it up for
// longer than its lease.
func TestReplicaKilledDuringRevocation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	issued, key := c.newKey("ci")
	wantToken(t, c.a.url, key)
	wantToken(t, c.b.url, key)
	c.a.freeze() // it cannot confirm
	returned := c.revoke(issued)
	c.a.kill()
	c.wait(returned)
	wantRefusal(t, c.b.url, key, "revoked at")
	if n := query[int](t, c.db, "SELECT COUNT(*) FROM replicas"); n != 1 {
		t.Errorf("%d replicas are known after one has died, want 1", n)
	}
	next, _ := c.newKey("next")
	c.wait(c.revoke(next))
}

// A server that is frozen while a key is revoked refuses it as soon as it runs
// again, also to those who asked while it was frozen.
func TestReplicaFrozenDuringRevocation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	issued, key := c.newKey("ci")
	wantToken(t, c.a.url, key)
	wantToken(t, c.b.url, key)
	c.a.freeze()
	c.wait(c.revoke(issued))
	wantRefusal(t, c.b.url, key, "revoked at")

	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() { wantRefusal(t, c.a.url, key, "revoked at") })
	}
	c.a.signal(syscall.SIGCONT)
	clients.Wait()

	eventually(t, "its lease again", func() bool { return c.a.ready() == http.StatusOK })
	_, later := c.newKey("later")
	wantToken(t, c.a.url, later)
}
