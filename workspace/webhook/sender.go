package webhook

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// How often an event is tried.
const (
	firstRetry   = 5 * time.Second // doubled with each attempt
	lastRetry    = time.Hour
	keepTrying   = 3 * 24 * time.Hour // then an event is given up
	writeTimeout = 5 * time.Second    // of the outcome of an attempt
)

// Database is what a Sender needs of the database.
type Database interface {
	Reader() sqlx.ExtContext
	Writer() sqlx.ExtContext
	InTx(ctx context.Context, fn func(ctx context.Context, tx sqlx.ExtContext) error) error
}

// Sender delivers the outbox to one URL and announces the coming expiry of keys.
// Every replica may run one: an event is claimed before it is sent, so that in
// the ordinary case it is sent once. When a replica dies after sending it,
// before it could write so, it is sent again with the same ID.
type Sender struct {
	Database Database         // required
	URL      string           // required; a secret, since it may hold a token
	Secret   []byte           // required: what ParseSecret returns
	Client   *http.Client     // nil: one that waits 10 s; any may wait for half a minute, and follows no redirect
	Log      *slog.Logger     // required
	Now      func() time.Time // nil: time.Now
	Interval time.Duration    // how often the outbox is read; 0: 1 s

	client  *http.Client
	quiet   workspace.Time // until then the receiver wants nothing
	failing bool           // the last attempt was not taken, and the log says so

	pending           atomic.Int64
	failures, givenUp atomic.Uint64
}

// Pending is how many events waited when the outbox was last read.
func (s *Sender) Pending() int64 { return s.pending.Load() }

// Failures counts the attempts that were not taken.
func (s *Sender) Failures() uint64 { return s.failures.Load() }

// GivenUp counts the events that will never be delivered.
func (s *Sender) GivenUp() uint64 { return s.givenUp.Load() }

// Run delivers until ctx ends, and looks for keys that expire once an hour. A
// request that is under way at the end is cut off, and its event stays due.
func (s *Sender) Run(ctx context.Context) {
	interval := s.Interval
	if interval == 0 {
		interval = time.Second
	}
	tick, hour := time.NewTicker(interval), time.NewTicker(time.Hour)
	defer tick.Stop()
	defer hour.Stop()
	s.try(ctx, "announce which keys expire", s.AnnounceExpiries)
	for {
		select {
		case <-tick.C:
			s.try(ctx, "deliver events", s.Deliver)
			s.try(ctx, "count events", s.count)
		case <-hour.C:
			s.try(ctx, "announce which keys expire", s.AnnounceExpiries)
		case <-ctx.Done():
			if s.client != nil && s.Client == nil {
				s.client.CloseIdleConnections()
			}
			return
		}
	}
}

func (s *Sender) try(ctx context.Context, what string, do func(context.Context) error) {
	if err := do(ctx); err != nil && !errors.Is(err, context.Canceled) {
		s.Log.Warn("the webhook cannot "+what+"; trying again", "error", err)
	}
}

func (s *Sender) count(ctx context.Context) error {
	n, err := count(ctx, s.Database.Reader())
	if err == nil {
		s.pending.Store(n)
	}
	return err
}

func (s *Sender) now() workspace.Time {
	if s.Now == nil {
		return workspace.At(time.Now())
	}
	return workspace.At(s.Now())
}

// Deliver sends what is due, one by one. The first failure ends the round, so
// that a receiver in trouble gets one request per round; errors are the
// database's. It is for one goroutine at a time.
func (s *Sender) Deliver(ctx context.Context) error {
	if s.now().Before(s.quiet.Time) {
		return nil
	}
	for {
		ids, err := due(ctx, s.Database.Reader(), s.now())
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			if more, err := s.attempt(ctx, id); err != nil || !more {
				return err
			}
		}
	}
}

// attempt sends one event unless another replica does. It reports whether to go
// on with the next.
func (s *Sender) attempt(ctx context.Context, id string) (more bool, err error) {
	if s.client == nil {
		s.client = s.newClient()
	}
	m, ours, err := claim(ctx, s.Database.Writer(), id, s.now(), s.in(claimFor))
	if err != nil || !ours {
		return true, err
	}
	failed := s.post(ctx, m)
	// What came of it is written even if ctx has ended meanwhile.
	outcome, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	switch {
	case failed == nil:
		s.recovered()
		return true, remove(outcome, s.Database.Writer(), m)
	case ctx.Err() != nil:
		return false, release(outcome, s.Database.Writer(), m, s.now())
	}
	return false, s.failed(outcome, m, failed)
}

func (s *Sender) newClient() *http.Client {
	if s.Client != nil {
		return refuseRedirects(s.Client)
	}
	return refuseRedirects(newClient())
}

func (s *Sender) in(d time.Duration) workspace.Time { return workspace.At(s.now().Add(d)) }

func (s *Sender) recovered() {
	if s.failing {
		s.Log.Info("the webhook takes events again")
	}
	s.failing = false
}

// failed postpones an event or gives it up.
func (s *Sender) failed(ctx context.Context, m message, f *failure) error {
	s.failures.Add(1)
	if !s.failing {
		s.Log.Warn("the webhook does not take events; trying again", "error", f.text)
	}
	s.failing = true
	s.quiet = s.in(f.after)
	if f.gone || s.now().Sub(m.CreatedAt.Time) >= keepTrying {
		s.givenUp.Add(1)
		s.Log.Error("an event of the webhook is given up", "id", m.ID, "type", m.Type, "attempts", m.Attempts, "error", f.text)
		return remove(ctx, s.Database.Writer(), m)
	}
	return postpone(ctx, s.Database.Writer(), m, s.in(max(f.after, backoff(m.Attempts))), f.text)
}

// backoff is how long to wait after so many attempts. Half of it is by chance,
// so that events that failed together do not come back together.
func backoff(attempts int) time.Duration {
	d := min(firstRetry<<min(attempts-1, 10), lastRetry)
	return d/2 + rand.N(d/2+1)
}
