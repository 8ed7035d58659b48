package webhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/webhook"
)

const whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

var noon = workspace.At(time.Date(2030, 1, 2, 12, 0, 0, 123456000, time.UTC))

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func after(d time.Duration) workspace.Time { return workspace.At(noon.Add(d)) }

// clock stands until it is set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(at workspace.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = at.Time
}

// delivery is a request as the receiver got it.
type delivery struct {
	id, timestamp, body string
}

// receiver is a server that verifies what it gets and answers as it is told.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []delivery
	answer http.HandlerFunc // nil: 204
}

func newReceiver(t testing.TB, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		content, err := io.ReadAll(q.Body)
		d := delivery{q.Header.Get("webhook-id"), q.Header.Get("webhook-timestamp"), string(content)}
		if err != nil || q.Method != http.MethodPost || q.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s of %q: %v", q.Method, q.Header.Get("Content-Type"), err)
		}
		if !verifies(whsec, d, q.Header.Get("webhook-signature")) {
			t.Errorf("the signature %q does not fit", q.Header.Get("webhook-signature"))
		}
		r.mu.Lock()
		r.got = append(r.got, d)
		r.mu.Unlock()
		if r.answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		r.answer(w, q)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) deliveries() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]delivery{}, r.got...)
}

// verifies is written from the specification, for the test alone.
func verifies(secret string, d delivery, signature string) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", d.id, d.timestamp, d.body)
	version, given, _ := strings.Cut(signature, ",")
	sum, err := base64.StdEncoding.DecodeString(given)
	return err == nil && version == "v1" && hmac.Equal(sum, mac.Sum(nil))
}

// answers gives one status after the other, and the last for ever.
func answers(statuses ...int) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(statuses[0])
		if len(statuses) > 1 {
			statuses = statuses[1:]
		}
	}
}

// journal is a log that a test can read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// sending is a Sender with its clock and log.
type sending struct {
	*webhook.Sender
	t     testing.TB
	clock *clock
	log   *journal
}

func newSending(t testing.TB, db webhook.Database, url string) *sending {
	t.Helper()
	secret, err := webhook.ParseSecret(whsec)
	check(t, err)
	s := &sending{t: t, clock: &clock{now: noon.Time}, log: &journal{}}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	s.Sender = &webhook.Sender{
		Database: db, URL: url, Secret: secret, Now: s.clock.Now, Log: slog.New(slog.NewJSONHandler(s.log, nil)),
		Client: &http.Client{Transport: transport, Timeout: 20 * time.Second},
	}
	return s
}

func (s *sending) deliver() {
	s.t.Helper()
	check(s.t, s.Deliver(s.t.Context()))
}

func event(typ string) webhook.Event {
	return webhook.Event{
		Type: typ, At: noon, WorkspaceID: "ws_1", Workspace: "acme", KeyID: "tbk_1", KeyName: "<ci> & ü",
		OwnerID: "sa_1", Actor: "user:usr_1",
	}
}

func enqueue(t testing.TB, db webhook.Database, events ...webhook.Event) {
	t.Helper()
	check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		for _, e := range events {
			if err := webhook.Enqueue(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	}))
}

func exec(t testing.TB, db *schema.DB, query string, args ...any) {
	t.Helper()
	_, err := db.Writer().ExecContext(t.Context(), query, args...)
	check(t, err)
}

func get[T any](t testing.TB, db *schema.DB, query string, args ...any) (v T) {
	t.Helper()
	check(t, sqlx.GetContext(t.Context(), db.Reader(), &v, query, args...))
	return v
}

func rows(t testing.TB, db *schema.DB) int {
	t.Helper()
	return get[int](t, db, `SELECT count(*) FROM webhook_outbox`)
}

func nextAt(t testing.TB, db *schema.DB) workspace.Time {
	t.Helper()
	return get[workspace.Time](t, db, `SELECT next_at FROM webhook_outbox`)
}

// house is a workspace with a service account that owns keys.
type house struct {
	t  testing.TB
	db *schema.DB
	ws workspace.Workspace
	sa workspace.ServiceAccount
}

func newHouse(t testing.TB, db *schema.DB) *house {
	t.Helper()
	h := &house{t: t, db: db}
	h.ws = workspace.Workspace{ID: workspace.NewID(), Slug: "acme", Name: "Acme", Generation: 1, CreatedAt: noon, UpdatedAt: noon}
	h.sa = workspace.ServiceAccount{
		ID: workspace.NewServiceAccountID(), WorkspaceID: h.ws.ID, Name: "ci", Generation: 1, CreatedAt: noon, CreatedBy: "test", UpdatedAt: noon,
	}
	check(t, db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		if err := workspace.Insert(ctx, tx, h.ws); err != nil {
			return err
		}
		return workspace.InsertServiceAccount(ctx, tx, h.sa)
	}))
	return h
}

// key makes a key that lives so long from noon; 0: for ever.
func (h *house) key(life time.Duration) keys.ID {
	h.t.Helper()
	k := keys.Key{
		ID: keys.ID("tbk_" + workspace.Unique()), WorkspaceID: h.ws.ID, ServiceAccountID: h.sa.ID, Name: "deploy",
		Generation: 1, CreatedAt: noon, CreatedBy: "test", UpdatedAt: noon,
	}
	if life != 0 {
		k.ExpiresAt = after(life)
	}
	check(h.t, h.db.InTx(h.t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error { return keys.Insert(ctx, tx, k) }))
	return k.ID
}

// announced reads the outbox: "type days" by key, in order.
func (h *house) announced() map[keys.ID][]string {
	h.t.Helper()
	var payloads []string
	check(h.t, sqlx.SelectContext(h.t.Context(), h.db.Reader(), &payloads, `SELECT payload FROM webhook_outbox ORDER BY created_at, id`))
	found := map[keys.ID][]string{}
	for _, text := range payloads {
		var e struct {
			Type string
			Data struct {
				ClientID keys.ID `json:"client_id"`
				Days     int
			}
		}
		check(h.t, json.Unmarshal([]byte(text), &e))
		found[e.Data.ClientID] = append(found[e.Data.ClientID], fmt.Sprint(e.Type, " ", e.Data.Days))
	}
	return found
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
