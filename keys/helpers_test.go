package keys_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// timing is short, so that a test waits little for a lease.
var timing = change.Timing{Lease: 100 * time.Millisecond, Renewal: 10 * time.Millisecond}

var operator = manage.Operator("test")

type fataler interface {
	Helper()
	Fatal(args ...any)
}

// must unwraps what may not fail in a test.
func must[T any](t fataler, v T, err error) T {
	t.Helper()
	check(t, err)
	return v
}

func check(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newFormat(t fataler, prefix string, accepted ...string) *keys.Format {
	t.Helper()
	format, err := keys.NewFormat(prefix, accepted, bytes.Repeat([]byte{7}, 32))
	return must(t, format, err)
}

// pepper is a version as the configuration has it.
func pepper(version int, fill byte) string {
	return fmt.Sprintf("%d:%s", version, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)))
}

// house is a database with a workspace, and the use cases that change it.
type house struct {
	*manage.Manager
	t  testing.TB
	ws workspace.Workspace
	sa workspace.ServiceAccount
}

func newHouse(t testing.TB, db *schema.DB) *house {
	t.Helper()
	peppers, err := keys.ParsePeppers(pepper(1, 1))
	check(t, err)
	sealer, err := signing.ParseSealer(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	check(t, err)
	catalogue, err := policy.NewCatalogue(map[string][]string{"collectors": {"read", "create"}}, nil)
	check(t, err)
	audiences, err := policy.NewAudiences("https://booth.example.com", "", nil)
	check(t, err)
	h := &house{t: t, Manager: &manage.Manager{
		Database: db, Format: newFormat(t, "tb"), Peppers: peppers, Sealer: sealer, Timing: timing,
		Policy: &policy.Policy{Catalogue: catalogue, Audiences: audiences, TokenTTL: 10 * time.Minute},
	}}
	h.ws, err = h.CreateWorkspace(t.Context(), operator, "Acme", "")
	check(t, err)
	h.sa, err = h.CreateServiceAccount(t.Context(), operator, h.ws.ID, manage.NewServiceAccount{Name: "ci", Role: "admin"})
	check(t, err)
	return h
}

func (h *house) key() manage.Issued {
	h.t.Helper()
	issued, err := h.CreateKey(h.t.Context(), operator, h.ws.ID, manage.NewKey{ServiceAccountID: h.sa.ID, Name: "ci"})
	return must(h.t, issued, err)
}

// bump changes a key, which raises its generation by one.
func (h *house) bump(id keys.ID) {
	h.t.Helper()
	_, err := h.RotateKey(h.t.Context(), operator, h.ws.ID, id, manage.Rotation{RevokeTokens: true})
	check(h.t, err)
}

func (h *house) read(id keys.ID) *keys.Record {
	h.t.Helper()
	record, err := keys.Read(h.t.Context(), h.Database.Reader(), id)
	return must(h.t, record, err)
}

// seq is the newest change.
func (h *house) seq() (seq int64) {
	h.t.Helper()
	check(h.t, sqlx.GetContext(h.t.Context(), h.Database.Reader(), &seq, `SELECT seq FROM change_counter`))
	return seq
}

func (h *house) inTx(f func(tx sqlx.ExtContext) error) {
	h.t.Helper()
	check(h.t, h.Database.InTx(h.t.Context(), func(_ context.Context, tx sqlx.ExtContext) error { return f(tx) }))
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not: %s", what)
		}
	}
}
