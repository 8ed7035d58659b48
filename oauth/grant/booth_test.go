package grant_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const (
	issuerName = "https://tokens.example.com"
	audience   = "https://api.example.com"
	budget     = 3 // failures of a source that are answered normally
)

var (
	operator = manage.Operator("test")
	home     = grant.Origin{Address: netip.MustParseAddr("10.1.2.3"), Agent: "curl/8", RequestID: "req_1"}
	abroad   = grant.Origin{Address: netip.MustParseAddr("192.0.2.1")}
)

// booth is an issuer over a real database, with a workspace and a service
// account in it.
type booth struct {
	*grant.Issuer
	db      *schema.DB
	manager *manage.Manager
	ring    *signing.Ring
	clock   atomic.Pointer[time.Time]
	cached  atomic.Bool // whether the directory may answer from memory
	lookup  func()      // called as a look-up begins

	ws workspace.Workspace
	sa workspace.ServiceAccount
}

func newBooth(t *testing.T) *booth {
	t.Helper()
	b := &booth{db: schematest.SQLite(t), lookup: func() {}}
	b.setClock(time.Date(2026, 3, 1, 12, 0, 0, 700_000_000, time.UTC))
	secret := bytes.Repeat([]byte{7}, 32)
	format := must(keys.NewFormat("tb", nil, secret))(t)
	peppers := must(keys.ParsePeppers("1:" + base64.StdEncoding.EncodeToString(secret)))(t)
	sealer := must(signing.ParseSealer(base64.StdEncoding.EncodeToString(secret)))(t)
	p := &policy.Policy{
		Catalogue: must(policy.NewCatalogue(map[string][]string{"charts": {"read", "update"}}, nil))(t),
		Audiences: must(policy.NewAudiences(issuerName, audience, []policy.Audience{{Name: audience}}))(t),
		TokenTTL:  10 * time.Minute,
	}
	b.manager = &manage.Manager{Database: b.db, Format: format, Peppers: peppers, Sealer: sealer, Policy: p, Signing: signing.DefaultTiming, Now: b.now}
	b.ring = &signing.Ring{Reader: b.db.Reader(), Sealer: sealer, Timing: signing.DefaultTiming}
	directory := must(keys.NewDirectory(b.db.Reader(), func(context.Context) bool { b.lookup(); return b.cached.Load() }, 100))(t)
	b.Issuer = grant.NewIssuer(issuerName, &grant.Authenticator{
		Format: format, Peppers: peppers, Directory: directory,
		Usage:     keys.NewUsageWriter(b.db.Writer(), time.Hour, slog.New(slog.DiscardHandler)),
		Failures:  quota.NewFailures(quota.PerMinute(1, budget), quota.PerMinute(1, 1000)),
		Uses:      b.db.Writer(),
		Exchanges: audit.NewWriter(b.db, audit.WriterOptions{}),
		Rules:     policy.NewRulebook(b.db.Reader(), never, slog.New(slog.DiscardHandler)),
		Quota: quota.NewLimiter(quota.Options{
			Limits: quota.NewBook(b.db.Reader(), never, slog.New(slog.DiscardHandler)).Limits, Source: quota.NewMemory(b.now), Now: b.now, Log: slog.New(slog.DiscardHandler),
		}),
		Now: b.now,
	}, p, b.ring)
	b.ws = must(b.manager.CreateWorkspace(t.Context(), operator, "Acme", ""))(t)
	b.sa = must(b.manager.CreateServiceAccount(t.Context(), operator, b.ws.ID, manage.NewServiceAccount{Name: "ci", Role: "editor"}))(t)
	return b
}

// open makes the first signing key and returns who verifies its tokens.
func (b *booth) open(t *testing.T) *bearer.Verifier {
	t.Helper()
	check(t, b.manager.EnsureSigningKeys(t.Context(), operator))
	check(t, b.ring.Load(t.Context()))
	return must(bearer.New(bearer.Config{
		Issuer: issuerName, Audience: audience, OtherAudiences: []string{issuerName},
		Keys: bearer.KeySetFunc(b.find), Now: b.now,
	}))(t)
}

func (b *booth) find(_ context.Context, kid string) (bearer.Key, error) {
	algorithm, public, ok := b.ring.Find(kid)
	if !ok {
		return bearer.Key{}, bearer.ErrUnknownKey
	}
	return bearer.Key{ID: kid, Algorithm: algorithm, Public: public}, nil
}

func (b *booth) now() time.Time         { return *b.clock.Load() }
func (b *booth) setClock(now time.Time) { b.clock.Store(&now) }
func (b *booth) pass(d time.Duration)   { b.setClock(b.now().Add(d)) }

// key makes a key of the service account.
func (b *booth) key(t *testing.T, n manage.NewKey) manage.Issued {
	t.Helper()
	n.ServiceAccountID, n.Name = b.sa.ID, "key"
	return must(b.manager.CreateKey(t.Context(), operator, b.ws.ID, n))(t)
}

// exec changes rows for which there is no use case yet.
func (b *booth) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	must(b.db.Writer().ExecContext(t.Context(), query, args...))(t)
}

// right is what the holder of a key presents.
func right(k manage.Issued) grant.Credentials {
	return grant.Credentials{ID: string(k.ID), Secret: k.Secret.Reveal()}
}

// wrong is a well-formed secret for the key that is not one of its own.
func (b *booth) wrong(k manage.Issued) grant.Credentials {
	return grant.Credentials{ID: string(k.ID), Secret: b.Format.NewSecret(k.ID, k.Kind()).Reveal()}
}

func (b *booth) authenticate(t *testing.T, c grant.Credentials, from grant.Origin) error {
	t.Helper()
	client, err := b.Authenticate(t.Context(), c, from)
	if (client == nil) != (err != nil) {
		t.Fatalf("client %v beside the error %v", client, err)
	}
	return err
}

// never is a lease that is not held: what is asked for is read from the database.
func never(context.Context) bool { return false }

func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return value
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
