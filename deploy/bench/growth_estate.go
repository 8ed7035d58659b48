package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// estate is what there is in an installation. Its keys are spread over the workspaces.
type estate struct{ keys, workspaces, events int }

// Every workspace has the most that it may have, and a policy with work to do.
const (
	estateQuota = `{"exchanges_per_minute": 600000, "exchanges_per_day": 1000000000, "exchanges_per_month": 1000000000}`
	estateRules = `{"max_lifetime_days": 90, "disable_idle_after_days": 30, "allowed_scopes": ["collectors:*", "pipelines:read"]}`

	// estateDetail is what is recorded of a token.
	estateDetail = `{"audience":["https://api.example.com"],"jti":"01234567890123456789012345","scope":"collectors:create collectors:read collectors:update pipelines:read"}`
)

// fill makes an estate in the database of a service that does not run. It writes the
// rows that the service would have written, many in a statement, as a million keys by
// its API would take hours.
func (e estate) fill(ctx context.Context, b *booth) (c *credentials, err error) {
	if text, err := b.command("migrate").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("migrate: %w: %s", err, text)
	}
	format, peppers, err := b.secrets()
	if err != nil {
		return nil, err
	}
	db, err := schema.Open(ctx, b.setting("TOKENBOOTH_DATABASE_URL"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return e.write(ctx, db, format, peppers)
}

func (e estate) write(ctx context.Context, db *schema.DB, format *keys.Format, peppers keys.Peppers) (*credentials, error) {
	owners, err := e.writeWorkspaces(ctx, db.Writer())
	if err != nil {
		return nil, err
	}
	made, err := e.writeKeys(ctx, db.Writer(), format, peppers, owners)
	if err != nil {
		return nil, err
	}
	return made, e.writeEvents(ctx, db, owners[0], made)
}

// setting is what the service has in its environment.
func (b *booth) setting(name string) string {
	for _, s := range b.env {
		if value, found := strings.CutPrefix(s, name+"="); found {
			return value
		}
	}
	return ""
}

// secrets are what the service makes IDs and digests with.
func (b *booth) secrets() (*keys.Format, keys.Peppers, error) {
	peppers, errPeppers := keys.ParsePeppers(b.setting("TOKENBOOTH_SECRETS_PEPPER"))
	idKey, errKey := keys.ParseKey(b.setting("TOKENBOOTH_SECRETS_ID_KEY"))
	if err := errors.Join(errPeppers, errKey); err != nil {
		return nil, peppers, err
	}
	format, err := keys.NewFormat("tb", nil, idKey)
	return format, peppers, err
}

// owner is the service account of a workspace.
type owner struct {
	workspace workspace.ID
	account   workspace.ServiceAccountID
}

// writeWorkspaces makes the workspaces, each with its service account, quota and policy.
func (e estate) writeWorkspaces(ctx context.Context, writer sqlx.ExtContext) ([]owner, error) {
	now := workspace.At(time.Now())
	ws := newRows(writer, `INSERT INTO workspaces (id, slug, name, created_at, updated_at) VALUES`)
	accounts := newRows(writer, `INSERT INTO service_accounts (id, workspace_id, name, role, created_at, created_by, updated_at) VALUES`)
	documents := newRows(writer, `INSERT INTO policies (kind, subject_id, version, document, created_at, created_by) VALUES`)
	var owners []owner
	for i := range e.workspaces {
		o := owner{workspace.NewID(), workspace.NewServiceAccountID()}
		owners = append(owners, o)
		ws.add(o.workspace, "bench-"+strconv.Itoa(i), "Bench "+strconv.Itoa(i), now, now)
		accounts.add(o.account, o.workspace, "robot", "editor", now, "bench", now)
		documents.add(policy.KindQuota, o.workspace, 1, estateQuota, now, "bench")
		documents.add(policy.KindKeys, o.workspace, 1, estateRules, now, "bench")
		if err := flush(ctx, i+1 == e.workspaces, ws, accounts, documents); err != nil {
			return nil, err
		}
	}
	return owners, nil
}

// writeKeys makes the keys, each with one secret.
func (e estate) writeKeys(ctx context.Context, writer sqlx.ExtContext, format *keys.Format, peppers keys.Peppers, owners []owner) (*credentials, error) {
	now := time.Now()
	at, expiry := workspace.At(now), workspace.At(now.AddDate(0, 0, 60))
	rows := newRows(writer, `INSERT INTO keys (id, workspace_id, service_account_id, name, allowed_cidrs, expires_at, created_at, created_by, updated_at) VALUES`)
	secrets := newRows(writer, `INSERT INTO key_secrets (id, key_id, digest, pepper_version, hint, created_at, expires_at) VALUES`)
	made := &credentials{}
	for i := range e.keys {
		o, id := owners[i%len(owners)], format.NewID()
		secret := format.NewSecret(id, keys.ServiceKey)
		digest := peppers.Digest(id, secret)
		rows.add(id, o.workspace, o.account, "ci-"+strconv.Itoa(i), "127.0.0.0/8", expiry, at, "bench", at)
		secrets.add("sec_"+workspace.Unique(), id, digest.Sum, digest.Pepper, secret.Hint(), at, expiry)
		made.add(string(id), secret.Reveal())
		if err := flush(ctx, i+1 == e.keys, rows, secrets); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// writeEvents records exchanges as the service does, with their place in the chain.
func (e estate) writeEvents(ctx context.Context, db *schema.DB, o owner, of *credentials) error {
	const flushed = 50_000 // of what the writer remembers at most
	writer := audit.NewWriter(db, audit.WriterOptions{})
	for i := range e.events {
		id, _ := of.at(i % of.len())
		err := writer.Record(ctx, audit.Exchange{
			At: workspace.At(time.Now()), WorkspaceID: o.workspace, KeyID: string(id), OwnerID: string(o.account), SecretID: "sec_" + workspace.Unique(),
			Action: audit.TokenIssue, Outcome: "issued", Address: "127.0.0.1", Agent: "curl/8.14.1", RequestID: "req_" + workspace.Unique(),
			Detail: estateDetail,
		})
		if err == nil && (i%flushed == flushed-1 || i+1 == e.events) {
			err = writer.Flush(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rows are on their way to a table, many in a statement.
type rows struct {
	writer sqlx.ExtContext
	query  string
	width  int
	args   []any
}

const rowsAtOnce = 500

func newRows(writer sqlx.ExtContext, query string) *rows { return &rows{writer: writer, query: query} }

func (r *rows) add(values ...any) {
	r.width, r.args = len(values), append(r.args, values...)
}

// flush writes what has come together, if it is enough for a statement or the last.
func flush(ctx context.Context, last bool, all ...*rows) error {
	for _, r := range all {
		n := len(r.args) / max(r.width, 1)
		if n == 0 || n < rowsAtOnce && !last {
			continue
		}
		row := "(" + strings.TrimSuffix(strings.Repeat("?, ", r.width), ", ") + ")"
		if _, err := r.writer.ExecContext(ctx, r.query+strings.TrimSuffix(strings.Repeat(row+", ", n), ", "), r.args...); err != nil {
			return err
		}
		r.args = r.args[:0]
	}
	return nil
}

// credentials are those of many keys, one after another in two texts: a million of
// them shall cost the load neither memory nor garbage collection.
type credentials struct {
	ids, secrets             []byte
	idLength, secretLength   int
	request                  []byte // that of the first key
	idInRequest, secretAfter int    // where it has them
}

func (c *credentials) add(id, secret string) {
	if c.request == nil {
		c.idLength, c.secretLength = len(id), len(secret)
		c.request = loginRequest(id, secret)
		c.idInRequest, c.secretAfter = strings.Index(string(c.request), id), strings.Index(string(c.request), secret)
	}
	c.ids, c.secrets = append(c.ids, id...), append(c.secrets, secret...)
}

func (c *credentials) len() int { return len(c.ids) / c.idLength }

func (c *credentials) at(i int) (id, secret []byte) {
	return c.ids[i*c.idLength:][:c.idLength], c.secrets[i*c.secretLength:][:c.secretLength]
}

// draws has each connection send the exchange of the key that choose tells.
func (c *credentials) draws(choose func() int) func() func() []byte {
	return func() func() []byte {
		request := append([]byte{}, c.request...)
		return func() []byte {
			id, secret := c.at(choose())
			copy(request[c.idInRequest:], id)
			copy(request[c.secretAfter:], secret)
			return request
		}
	}
}

// random draws among n keys that are spread evenly over all that there are.
func (c *credentials) random(n int) func() func() []byte {
	apart := c.len() / n
	return c.draws(func() int { return rand.IntN(n) * apart }) //nolint:gosec // a load, not a secret
}

// inTurn takes each of the same n keys, one after another, and then all of them again.
func (c *credentials) inTurn(n int) func() func() []byte {
	apart := c.len() / n
	var next atomic.Int64
	return c.draws(func() int { return int(next.Add(1)-1) % n * apart })
}
