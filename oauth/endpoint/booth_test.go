package endpoint_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const (
	issuer   = "https://login.example.com"
	apiURL   = "https://api.example.com"     // the default audience
	reports  = "https://reports.example.com" // takes scopes of collectors only
	tokenTTL = 600                           // seconds
)

// options say how a booth differs from the usual one.
type options struct {
	issuer   string
	database *schema.DB       // nil: SQLite
	now      func() time.Time // nil: time.Now
	failures quota.Rate       // zero: none is too many
	formOnly bool
	idle     bool                          // the follower holds its lease without any SQL
	lease    signing.Lease                 // of the ring; nil: it is held for ever
	forms    map[string]policy.FormOptions // further audiences and their forms
	trusted  []jwk.Key                     // whoami trusts these keys besides the ring's
	gateways []string                      // networks of gateways, which may ask; none: there is no gateway
}

// booth is the whole token service over a real database, but for the socket. All
// that it logs is kept; when the test ends, no secret may be in it.
type booth struct {
	testing.TB
	*echo.Echo
	issuer    string
	db        *schema.DB
	format    *keys.Format
	manager   *manage.Manager
	ring      *signing.Ring
	feedRing  *signing.Ring
	directory *keys.Directory
	rulebook  *policy.Rulebook
	usage     *keys.UsageWriter
	log       logBook
	workspace workspace.Workspace
	active    manage.Issued // a key of an editor
	outcomes  []string

	mu       sync.Mutex
	secrets  []string // must appear nowhere but where they were issued
	tokens   []string // must not appear in the log
	accounts int
}

var operator = manage.Operator("test")

func newBooth(tb testing.TB, o options) *booth {
	tb.Helper()
	b := &booth{TB: tb, Echo: echo.New(), issuer: o.issuer, db: o.database}
	if b.issuer == "" {
		b.issuer = issuer
	}
	if b.db == nil {
		b.db = schematest.SQLite(tb)
	}
	tb.Cleanup(b.checkLog)
	b.format = must(keys.NewFormat("tb", nil, bytes.Repeat([]byte{7}, 32)))
	timing := change.Timing{Lease: 2 * time.Second, Renewal: 10 * time.Millisecond}
	if o.idle {
		timing = change.Timing{Lease: time.Hour, Renewal: time.Hour}
	}
	catalogue := must(policy.NewCatalogue(map[string][]string{
		"collectors": {"read", "create", "update", "delete"}, "pipelines": {"read", "update"},
	}, nil))
	servers := []policy.Audience{{Name: apiURL}, {Name: reports, Resources: []string{"collectors"}}}
	for name, form := range o.forms {
		servers = append(servers, policy.Audience{Name: name, Form: must(policy.NewForm(form))})
	}
	rules := &policy.Policy{
		Catalogue: catalogue, TokenTTL: tokenTTL * time.Second,
		Audiences: must(policy.NewAudiences(b.issuer, apiURL, servers)),
	}
	sealer := must(signing.ParseSealer(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 32))))
	peppers := must(keys.ParsePeppers("1:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 32))))
	b.manager = &manage.Manager{Database: b.db, Format: b.format, Peppers: peppers, Sealer: sealer, Policy: rules, Timing: timing, Signing: signing.DefaultTiming, Now: o.now}
	b.check(b.manager.EnsureSigningKeys(tb.Context(), operator))
	b.workspace = must(b.manager.CreateWorkspace(tb.Context(), operator, "Acme", ""))
	b.start(o, timing)
	b.active = b.key(nil)
	return b
}

// start composes what answers requests, as the server does.
func (b *booth) start(o options, timing change.Timing) {
	ctx := b.Context()
	log := slog.New(slog.NewJSONHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.ring = &signing.Ring{Reader: b.db.Reader(), Sealer: b.manager.Sealer, Timing: signing.DefaultTiming, Lease: o.lease}
	b.feedRing = &signing.Ring{Purpose: signing.Feed, Reader: b.db.Reader(), Sealer: b.manager.Sealer, Timing: signing.DefaultTiming, Lease: o.lease}
	b.check(errors.Join(b.ring.Load(ctx), b.feedRing.Load(ctx)))
	follower := &change.Follower{Database: b.db, Timing: timing, Log: log}
	b.directory = must(keys.NewDirectory(b.db.Reader(), follower.May, 1000))
	limits := quota.NewBook(b.db.Reader(), follower.May, log)
	b.rulebook = policy.NewRulebook(b.db.Reader(), follower.May, log)
	denied := &revocation.List{Issuer: b.issuer, Reader: b.db.Reader(), Held: follower.Held, Now: o.now}
	follower.OnChange = []func(context.Context, change.Batch) error{b.directory.Forget, limits.Follow, b.rulebook.Follow, denied.Follow}
	b.check(follower.Start(ctx))
	if !o.idle {
		running, stop := context.WithCancel(context.Background())
		var group sync.WaitGroup
		group.Go(func() { follower.Run(running) })
		b.Cleanup(func() { stop(); group.Wait() })
	}
	if o.failures == (quota.Rate{}) {
		o.failures = quota.Rate{Burst: 1 << 30, Interval: time.Nanosecond}
	}
	b.usage = keys.NewUsageWriter(b.db.Writer(), time.Second, log)
	a := &grant.Authenticator{
		Format: b.format, Peppers: b.manager.Peppers, Directory: b.directory,
		Usage:    b.usage,
		Failures: quota.NewFailures(o.failures, quota.Rate{Burst: 1 << 30, Interval: time.Nanosecond}), Now: o.now,
		Uses: b.db.Writer(), Rules: b.rulebook,
		Quota:     quota.NewLimiter(quota.Options{Limits: limits.Limits, Source: quota.NewMemory(o.now), Now: o.now, Log: log}),
		Exchanges: audit.NewWriter(b.db, audit.WriterOptions{Log: log}),
	}
	trusts := func(ctx context.Context, kid string) (bearer.Key, error) {
		for _, k := range o.trusted {
			if k.ID == kid {
				return bearer.Key{ID: kid, Algorithm: k.Algorithm, Public: must(k.Public())}, nil
			}
		}
		algorithm, public, ok := b.ring.Find(kid)
		if !ok {
			return bearer.Key{}, bearer.ErrUnknownKey
		}
		return bearer.Key{ID: kid, Algorithm: algorithm, Public: public}, nil
	}
	verifiers := map[string]*bearer.Verifier{}
	for _, typ := range policy.Types() {
		if audiences := b.manager.Policy.Audiences.OfType(typ); len(audiences) > 0 {
			verifiers[typ] = must(bearer.New(bearer.Config{
				Issuer: b.issuer, Audience: audiences[0], OtherAudiences: audiences[1:], Type: typ,
				Keys: bearer.KeySetFunc(trusts), Leeway: bearer.MaxLeeway, Now: o.now,
			}))
		}
	}
	handler := &endpoint.Handler{
		Issuer: b.issuer, Policy: b.manager.Policy, Ring: b.ring, JSON: !o.formOnly, Log: log,
		Grant:     grant.NewIssuer(b.issuer, a, b.manager.Policy, b.ring),
		Verifiers: verifiers, Keys: bearer.KeySetFunc(trusts), Manager: b.manager, Revocations: denied,
		Feed: &revocation.Publisher{List: denied, Keys: b.feedRing, Now: o.now}, FeedRing: b.feedRing,
		Note: func(c echo.Context, attrs ...slog.Attr) {
			log.LogAttrs(c.Request().Context(), slog.LevelInfo, "note", attrs...)
		},
		Count: func(outcome string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.outcomes = append(b.outcomes, outcome); len(b.outcomes) > 100 {
				b.outcomes = b.outcomes[1:]
			}
		},
	}
	b.IPExtractor = echo.ExtractIPDirect()
	if len(o.gateways) > 0 {
		handler.Gateway = b.gateway(o, bearer.KeySetFunc(trusts), denied)
	}
	b.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Response().Header().Set("Request-Id", "req_test")
			return next(c)
		}
	})
	b.check(handler.Mount(b.Echo))
}

// key makes a service account with the role editor and a key of it.
func (b *booth) key(change func(*manage.NewKey)) manage.Issued {
	b.Helper()
	return b.keyOf(b.manager, b.workspace.ID, change)
}

func (b *booth) keyOf(m *manage.Manager, in workspace.ID, change func(*manage.NewKey)) manage.Issued {
	b.Helper()
	b.accounts++
	name := fmt.Sprintf("ci-%d", b.accounts)
	account := must(m.CreateServiceAccount(b.Context(), operator, in, manage.NewServiceAccount{Name: name, Role: "editor"}))
	n := manage.NewKey{ServiceAccountID: account.ID, Name: name}
	if change != nil {
		change(&n)
	}
	issued := must(m.CreateKey(b.Context(), operator, in, n))
	b.hide(issued.Secret.Reveal())
	b.catchUp()
	return issued
}

// catchUp is for an idle follower, which takes nothing in: rules that are older than
// a key would be read anew at each exchange.
func (b *booth) catchUp() {
	b.Helper()
	seq := must(change.Newest(b.Context(), b.db.Reader()))
	b.check(b.rulebook.Follow(b.Context(), change.Batch{Seq: seq}))
}

// wrong is a well-formed secret that names the key and is not its own.
func (b *booth) wrong(id keys.ID) string {
	return b.format.NewSecret(id, keys.ServiceKey).Reveal()
}

// invented is an ID that this installation did not make, with a secret that
// names it.
func invented() (id, secret string) {
	foreign := must(keys.NewFormat("tb", nil, bytes.Repeat([]byte{1}, 32)))
	made := foreign.NewID()
	return string(made), foreign.NewSecret(made, keys.ServiceKey).Reveal()
}

func (b *booth) hide(secret string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secrets = append(b.secrets, secret)
}

// checkLog looks for every secret and every token in what was logged, and empties
// the log.
func (b *booth) checkLog() {
	text := b.log.take()
	for _, secret := range append(b.tokens, b.secrets...) {
		if strings.Contains(text, secret) {
			b.Errorf("the log holds a secret or a token")
		}
	}
	b.tokens = nil
}

func (b *booth) check(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// must is for what cannot fail unless the test itself is wrong.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// logBook keeps what is logged.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was logged and forgets it.
func (l *logBook) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.String()
	l.text = bytes.Buffer{}
	return text
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// clock is a fixed instant.
func clock(at time.Time) func() time.Time { return func() time.Time { return at } }

// setHeader makes an edit of a request.
func setHeader(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}
