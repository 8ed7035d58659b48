package manage_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

var operator = manage.Operator("test")

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want checks the kind of an error; nil wants none.
func want(t testing.TB, what string, kind, err error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

// house is an installation with a workspace, a service account and people.
type house struct {
	*manage.Manager
	t   testing.TB
	ws  workspace.ID
	sa  workspace.ServiceAccountID
	now time.Time // what the clock shows; it stands

	owner, manager, viewer, outsider, admin workspace.UserID
}

func newHouse(t testing.TB, db *schema.DB) *house {
	t.Helper()
	h := &house{t: t, now: time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)}
	h.Manager = newManager(t, db, func() time.Time { return h.now })
	ws, err := h.CreateWorkspace(t.Context(), operator, "Acme", "")
	check(t, err)
	h.ws = ws.ID
	h.sa = h.account("ci", manage.NewServiceAccount{Role: "admin"})
	h.owner, h.manager, h.viewer = h.member(workspace.Owner), h.member(workspace.Manager), h.member(workspace.Viewer)
	h.outsider, h.admin = h.user("outsider", false), h.user("admin", true)
	return h
}

func newManager(t testing.TB, db *schema.DB, now func() time.Time) *manage.Manager {
	t.Helper()
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	format, err := keys.NewFormat("tb", nil, make([]byte, 32))
	check(t, err)
	peppers, err := keys.ParsePeppers("1:" + secret)
	check(t, err)
	sealer, err := signing.ParseSealer(secret)
	check(t, err)
	catalogue, err := policy.NewCatalogue(map[string][]string{"collectors": {"read", "create", "delete"}}, nil)
	check(t, err)
	audiences, err := policy.NewAudiences("https://booth.example.com", "", []policy.Audience{{Name: "https://api.example.com"}})
	check(t, err)
	return &manage.Manager{
		Database: db, Format: format, Peppers: peppers, Sealer: sealer, Now: now,
		Policy: &policy.Policy{Catalogue: catalogue, Audiences: audiences, TokenTTL: 10 * time.Minute},
		Timing: change.Timing{Lease: 50 * time.Millisecond, Renewal: 10 * time.Millisecond}, Signing: signing.DefaultTiming,
	}
}

func (h *house) user(name string, admin bool) workspace.UserID {
	h.t.Helper()
	user, err := h.CreateUser(h.t.Context(), operator, name+"@example.com", admin)
	check(h.t, err)
	return user.ID
}

func (h *house) member(role workspace.Role) workspace.UserID {
	h.t.Helper()
	id := h.user(string(role), false)
	check(h.t, h.AddMember(h.t.Context(), operator, h.ws, id, role))
	return id
}

func (h *house) account(name string, n manage.NewServiceAccount) workspace.ServiceAccountID {
	h.t.Helper()
	n.Name = name
	sa, err := h.CreateServiceAccount(h.t.Context(), operator, h.ws, n)
	check(h.t, err)
	return sa.ID
}

// key makes a key of a service account.
func (h *house) key(of workspace.ServiceAccountID) manage.Issued {
	h.t.Helper()
	issued, err := h.CreateKey(h.t.Context(), operator, h.ws, manage.NewKey{ServiceAccountID: of, Name: "ci"})
	check(h.t, err)
	return issued
}

func (h *house) read(id keys.ID) *keys.Record {
	h.t.Helper()
	record, err := keys.Read(h.t.Context(), h.Database.Reader(), id)
	check(h.t, err)
	return record
}

// works reports whether a secret is one of the key's and lives.
func (h *house) works(issued manage.Issued) bool {
	h.t.Helper()
	for _, stored := range h.read(issued.ID).Secrets {
		right, err := h.Peppers.Matches(issued.ID, issued.Secret, stored.Digest)
		check(h.t, err)
		if right {
			return stored.Live(h.now)
		}
	}
	return false
}

func (h *house) exec(query string, args ...any) {
	h.t.Helper()
	_, err := h.Database.Writer().ExecContext(h.t.Context(), query, args...)
	check(h.t, err)
}

func get[T any](h *house, query string, args ...any) (v T) {
	h.t.Helper()
	check(h.t, sqlx.GetContext(h.t.Context(), h.Database.Reader(), &v, query, args...))
	return v
}

func (h *house) events(chain string) []audit.Event {
	h.t.Helper()
	events, err := audit.Events(h.t.Context(), h.Database.Reader(), chain)
	check(h.t, err)
	return events
}

func (h *house) seq() int64 {
	h.t.Helper()
	return get[int64](h, `SELECT seq FROM change_counter`)
}

// tables are all that use cases write to, with an order of their rows.
var tables = map[string]string{
	"installation": "id", "change_counter": "id", "changes": "seq, subject_id", "workspaces": "id", "users": "id",
	"members": "workspace_id, user_id", "service_accounts": "id", "keys": "id", "key_secrets": "id", "signing_keys": "kid",
	"audit_heads": "chain", "audit_events": "chain, seq", "revocation_counter": "id", "revocations": "seq", "idempotency": "id",
	"webhook_outbox": "id", "policies": "kind, subject_id, version", "passwords": "user_id", "links": "id", "sessions": "id", "passkeys": "id", "subjects": "issuer, subject",
}

// dump is the content of the database as text, but for tables that are missing.
func (h *house) dump(missing ...string) string {
	h.t.Helper()
	var out strings.Builder
	for table, order := range tables {
		if len(missing) > 0 && table == missing[0] {
			continue
		}
		rows, err := h.Database.Reader().QueryxContext(h.t.Context(), `SELECT * FROM `+table+` ORDER BY `+order) //nolint:sqlclosecheck // closed below
		check(h.t, err)
		for rows.Next() {
			values, err := rows.SliceScan()
			check(h.t, err)
			fmt.Fprintf(&out, "%s %s\n", table, values)
		}
		check(h.t, errors.Join(rows.Err(), rows.Close()))
	}
	return sorted(out.String())
}

// sorted puts lines in order, since maps have none.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
