package webhook_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"
	"go.uber.org/goleak"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/webhook"
)

func TestDelivery(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		r := newReceiver(t, nil)
		s := newSending(t, db, r.URL+"/hook?token=x")
		revoked := event(webhook.KeyRevoked)
		revoked.Reason, revoked.ExpiresAt = "leaked", after(30*day)
		expiring := event(webhook.KeyExpiring)
		expiring.Actor, expiring.Days = "", 7
		enqueue(t, db, event(webhook.KeyCreated), revoked, expiring)
		s.deliver()
		got := r.deliveries()
		if len(got) != 3 || rows(t, db) != 0 || s.Failures() != 0 {
			t.Fatalf("%d were delivered, %d wait, %d failed", len(got), rows(t, db), s.Failures())
		}
		body := func(i int, typ, rest string) string {
			return `{"id":"` + got[i].id + `","type":"` + typ + `","timestamp":"2030-01-02T12:00:00.123456Z","data":{"workspace_id":"ws_1",` +
				`"workspace":"acme","client_id":"tbk_1","name":"\u003cci\u003e \u0026 ü","owner_id":"sa_1",` + rest + `}}`
		}
		for i, want := range []string{
			body(0, "key.created", `"actor":"user:usr_1","expires_at":null,"reason":null,"days":null`),
			body(1, "key.revoked", `"actor":"user:usr_1","expires_at":"2030-02-01T12:00:00.123456Z","reason":"leaked","days":null`),
			body(2, "key.expiring", `"actor":null,"expires_at":null,"reason":null,"days":7`),
		} {
			if diff := cmp.Diff(want, got[i].body); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			if got[i].timestamp != strconv.FormatInt(noon.Unix(), 10) {
				t.Errorf("webhook-timestamp is %q", got[i].timestamp)
			}
		}
		s.deliver()
		if n := len(r.deliveries()); n != 3 {
			t.Errorf("%d deliveries after another round, want 3", n)
		}
	})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		r := newReceiver(t, answers(500, 429, 200))
		s := newSending(t, db, r.URL)
		enqueue(t, db, event(webhook.KeyCreated))
		s.deliver()
		s.deliver() // too early
		if n := len(r.deliveries()); n != 1 {
			t.Fatalf("%d attempts at once, want 1", n)
		}
		s.clock.set(after(5 * time.Second))
		s.deliver()
		s.clock.set(after(15 * time.Second))
		s.deliver()
		got := r.deliveries()
		if len(got) != 3 || rows(t, db) != 0 || s.Failures() != 2 || s.GivenUp() != 0 {
			t.Fatalf("%d attempts, %d wait, %d failed, %d given up", len(got), rows(t, db), s.Failures(), s.GivenUp())
		}
		if got[0].id != got[2].id || got[0].body != got[2].body || got[0].timestamp == got[2].timestamp {
			t.Errorf("the attempts are %+v and %+v, want the same at another time", got[0], got[2])
		}
		if text := s.log.String(); strings.Count(text, "does not take events") != 1 || strings.Count(text, "takes events again") != 1 {
			t.Errorf("the log says\n%s", text)
		}
	})
}

// Waits double up to an hour, and after three days there are no more.
func TestBackoffAndGivingUp(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		r := newReceiver(t, answers(503))
		s := newSending(t, db, r.URL)
		enqueue(t, db, event(webhook.KeyCreated))
		now, longest := noon, 5*time.Second
		for s.GivenUp() == 0 {
			s.clock.set(now)
			s.deliver()
			if rows(t, db) == 0 {
				break
			}
			next := nextAt(t, db)
			if wait := next.Sub(now.Time); wait < longest/2 || wait > longest {
				t.Fatalf("the wait is %s, want %s to %s", wait, longest/2, longest)
			}
			now, longest = next, min(2*longest, time.Hour)
		}
		if age := now.Sub(noon.Time); age < 3*day || age > 3*day+time.Hour {
			t.Errorf("given up after %s, want three days", age)
		}
		if s.GivenUp() != 1 || s.Failures() != uint64(len(r.deliveries())) {
			t.Errorf("%d given up, %d of %d failed", s.GivenUp(), s.Failures(), len(r.deliveries()))
		}
		if text := s.log.String(); strings.Count(text, `"level":"ERROR"`) != 1 || !strings.Contains(text, r.deliveries()[0].id) {
			t.Errorf("the log says\n%s", text)
		}
	})
}

func TestGoneGivesUpAtOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := newSending(t, db, newReceiver(t, answers(410)).URL)
		enqueue(t, db, event(webhook.KeyCreated))
		s.deliver()
		if rows(t, db) != 0 || s.GivenUp() != 1 {
			t.Errorf("%d wait, %d given up", rows(t, db), s.GivenUp())
		}
	})
}

// What the receiver asks for is for all events, and at most a day.
func TestRetryAfter(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		for header, want := range map[string]time.Duration{
			"600": 10 * time.Minute, "1": 0, "-5": 0, "": 0, "soon": 0, "999999999": day, "99999999999999999999": 0,
			after(2 * time.Hour).Format(http.TimeFormat): 2*time.Hour - 123456*time.Microsecond, // it has no fractions
			after(-time.Hour).Format(http.TimeFormat):    0,
		} {
			r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", header)
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			s := newSending(t, db, r.URL)
			exec(t, db, `DELETE FROM webhook_outbox`)
			enqueue(t, db, event(webhook.KeyCreated))
			s.deliver()
			wait := nextAt(t, db).Sub(noon.Time)
			if want > 0 && wait != want || want == 0 && (wait <= 0 || wait > 5*time.Second) {
				t.Errorf("Retry-After: %s: the wait is %s, want %s", header, wait, want)
			}
			enqueue(t, db, event(webhook.KeyRotated))
			s.clock.set(after(want - 1*time.Microsecond))
			s.deliver()
			if n := len(r.deliveries()); want > 0 && n != 1 {
				t.Errorf("Retry-After: %s: %d attempts before, want 1", header, n)
			}
			r.answer = nil
			s.clock.set(after(want + 5*time.Second))
			s.deliver()
			if n := rows(t, db); n != 0 {
				t.Errorf("Retry-After: %s: %d events wait after", header, n)
			}
		}
	})
}

// A receiver in trouble gets one request per round.
func TestFailureEndsTheRound(t *testing.T) {
	db := schematest.SQLite(t)
	r := newReceiver(t, answers(500, 200))
	s := newSending(t, db, r.URL)
	enqueue(t, db, event(webhook.KeyCreated), event(webhook.KeyRotated), event(webhook.KeyDeleted))
	s.deliver()
	if n := len(r.deliveries()); n != 1 {
		t.Errorf("%d requests in the first round, want 1", n)
	}
	s.deliver()
	if n := len(r.deliveries()); n != 3 || rows(t, db) != 1 {
		t.Errorf("%d requests after the second round, and %d wait; want 3 and 1", n, rows(t, db))
	}
}

func TestRedirectIsRefused(t *testing.T) {
	db := schematest.SQLite(t)
	other := newReceiver(t, nil)
	for _, status := range []int{301, 302, 303, 307, 308, 304} {
		for _, target := range []string{other.URL, "/", "::no URL", ""} {
			r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", target)
				w.WriteHeader(status)
			})
			s := newSending(t, db, r.URL)
			exec(t, db, `DELETE FROM webhook_outbox`)
			enqueue(t, db, event(webhook.KeyCreated))
			s.deliver()
			if len(r.deliveries()) != 1 || s.Failures() != 1 || rows(t, db) != 1 {
				t.Errorf("%d to %q: %d requests, %d failed, %d wait", status, target, len(r.deliveries()), s.Failures(), rows(t, db))
			}
			if why := get[string](t, db, `SELECT last_error FROM webhook_outbox`); !strings.Contains(why, "redirected") {
				t.Errorf("%d to %q: the error is %q", status, target, why)
			}
		}
	}
	if n := len(other.deliveries()); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestSilentReceiver(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		r := newReceiver(t, func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() })
		s := newSending(t, db, r.URL)
		s.Client.Timeout = 20 * time.Millisecond
		enqueue(t, db, event(webhook.KeyCreated))
		s.deliver()
		if why := get[string](t, db, `SELECT last_error FROM webhook_outbox`); why != "no answer in time" || s.Failures() != 1 {
			t.Errorf("the error is %q, %d failed", why, s.Failures())
		}
	})
}

// cut is a database whose connection is gone when an event was sent.
type cut struct {
	*schema.DB
}

func (d cut) Writer() sqlx.ExtContext { return cutWriter{d.DB.Writer()} }

type cutWriter struct{ sqlx.ExtContext }

func (w cutWriter) ExecContext(context.Context, string, ...any) (sql.Result, error) {
	return nil, errors.New("the process is gone")
}

// A replica that ends between sending and writing so leaves the event to
// another one, which waits until the claim has run out.
func TestCrashAfterSending(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		r := newReceiver(t, nil)
		enqueue(t, db, event(webhook.KeyCreated))
		if err := newSending(t, cut{db}, r.URL).Deliver(t.Context()); err == nil {
			t.Fatal("the crash was not noticed")
		}
		s := newSending(t, db, r.URL)
		s.deliver()
		if n := len(r.deliveries()); n != 1 {
			t.Fatalf("%d deliveries while the claim lasts, want 1", n)
		}
		s.clock.set(after(time.Minute))
		s.deliver()
		got := r.deliveries()
		if len(got) != 2 || got[0].id != got[1].id || rows(t, db) != 0 {
			t.Errorf("delivered is %+v, and %d wait; want the same event twice", got, rows(t, db))
		}
	})
}

func TestReplicasDeliverOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		const number = 150 // more than are read at once
		r := newReceiver(t, nil)
		for range number {
			enqueue(t, db, event(webhook.KeyCreated))
		}
		var running sync.WaitGroup
		for range 3 {
			s := newSending(t, db, r.URL)
			running.Go(func() {
				if err := s.Deliver(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		times := map[string]int{}
		for _, d := range r.deliveries() {
			if times[d.id]++; times[d.id] > 1 {
				t.Errorf("%s was delivered %d times", d.id, times[d.id])
			}
		}
		if len(times) != number || rows(t, db) != 0 {
			t.Errorf("%d of %d events were delivered, %d wait", len(times), number, rows(t, db))
		}
	})
}

// The outcome of an attempt whose claim has run out does not disturb who has the
// event now.
func TestLateFailureLeavesTheNewClaim(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		claimed := after(time.Hour)
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			exec(t, db, `UPDATE webhook_outbox SET attempts = attempts + 1, next_at = ?`, claimed)
			w.WriteHeader(http.StatusInternalServerError)
		})
		enqueue(t, db, event(webhook.KeyCreated))
		newSending(t, db, r.URL).deliver()
		if at := nextAt(t, db); at != claimed {
			t.Errorf("the next attempt is at %s, want %s", at, claimed)
		}
	})
}

// Neither the log nor the outbox tells the URL, the secret or what was answered.
func TestNothingTellsASecret(t *testing.T) {
	const token = "T0KEN"
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		closed := newReceiver(t, nil)
		closed.Close()
		echo := newReceiver(t, func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Location", q.RequestURI+"%zz")
			w.WriteHeader(http.StatusFound)
			fmt.Fprint(w, q.RequestURI)
		})
		failing := newReceiver(t, func(w http.ResponseWriter, q *http.Request) { http.Error(w, q.RequestURI, http.StatusForbidden) })
		silent := newReceiver(t, func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() })
		for _, url := range []string{closed.URL, echo.URL, failing.URL, silent.URL, "http://\x7f", "http://no.invalid", "ftp://localhost"} {
			s := newSending(t, db, url+"/services/"+token+"?key="+token)
			if url == silent.URL {
				s.Client.Timeout = 20 * time.Millisecond
			}
			exec(t, db, `DELETE FROM webhook_outbox`)
			enqueue(t, db, event(webhook.KeyCreated))
			s.deliver()
			s.clock.set(after(4 * day))
			told := get[string](t, db, `SELECT last_error || payload FROM webhook_outbox`)
			s.deliver()
			told += s.log.String()
			if s.GivenUp() != 1 || !strings.Contains(told, "given up") {
				t.Errorf("%s: it was not given up", url)
			}
			if strings.Contains(told, token) || strings.Contains(told, strings.TrimPrefix(whsec, "whsec_")) {
				t.Errorf("%s: a secret is told: %s", url, told)
			}
		}
	})
}

// chatty is a transport, such as a proxy's, whose errors quote what was asked.
type chatty struct{}

func (chatty) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("the proxy refuses %s", r.URL)
}

func TestErrorThatQuotesTheURL(t *testing.T) {
	db := schematest.SQLite(t)
	s := newSending(t, db, "https://hooks.example.com/services/T0KEN")
	s.Client = &http.Client{Transport: chatty{}}
	enqueue(t, db, event(webhook.KeyCreated))
	s.deliver()
	if told := get[string](t, db, `SELECT last_error FROM webhook_outbox`) + s.log.String(); s.Failures() != 1 || strings.Contains(told, "T0KEN") {
		t.Errorf("%d failed; told is %s", s.Failures(), told)
	}
}

func run(t testing.TB, s *webhook.Sender) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

func TestRunDeliversAndEnds(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		id := newHouse(t, db).key(3 * day)
		r := newReceiver(t, nil)
		leak := goleak.IgnoreCurrent()
		s := newSending(t, db, r.URL)
		s.Client, s.Interval = nil, time.Millisecond
		enqueue(t, db, event(webhook.KeyCreated))
		later := event(webhook.KeyRotated)
		later.At = after(time.Hour)
		enqueue(t, db, later)
		stop := run(t, s.Sender)
		eventually(t, "both are delivered", func() bool { return len(r.deliveries()) == 2 })
		eventually(t, "one is counted", func() bool { return s.Pending() == 1 })
		stop()
		if !slices.ContainsFunc(r.deliveries(), func(d delivery) bool { return strings.Contains(d.body, string(id)) }) {
			t.Error("the expiry of the key was not announced at the start")
		}
		r.CloseClientConnections()
		goleak.VerifyNone(t, leak)
	})
}

// A request that is cut off at the end does not count, and the next replica
// need not wait for the claim.
func TestEndDuringARequest(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		arrived := make(chan struct{})
		r := newReceiver(t, func(_ http.ResponseWriter, q *http.Request) {
			close(arrived)
			<-q.Context().Done()
		})
		s := newSending(t, db, r.URL)
		s.Interval = time.Millisecond
		enqueue(t, db, event(webhook.KeyCreated))
		stop := run(t, s.Sender)
		<-arrived
		stop()
		if at := nextAt(t, db); at != noon || s.Failures() != 0 || get[int](t, db, `SELECT attempts FROM webhook_outbox`) != 0 {
			t.Errorf("the event is due at %s, %d failed", at, s.Failures())
		}
	})
}

// The database's trouble is told, and the work goes on.
func TestRunOutlivesTheDatabase(t *testing.T) {
	db := schematest.SQLite(t)
	s := newSending(t, deaf{db}, "http://localhost")
	s.Interval = time.Millisecond
	stop := run(t, s.Sender)
	eventually(t, "it has been told twice", func() bool { return strings.Count(s.log.String(), "cannot deliver events") > 1 })
	stop()
}

type deaf struct{ *schema.DB }

func (d deaf) Reader() sqlx.ExtContext { return deafReader{d.DB.Reader()} }

type deafReader struct{ sqlx.ExtContext }

func (deafReader) QueryxContext(context.Context, string, ...any) (*sqlx.Rows, error) {
	return nil, errors.New("no answer")
}

func (deafReader) QueryRowxContext(context.Context, string, ...any) *sqlx.Row { return &sqlx.Row{} }
