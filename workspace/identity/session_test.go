package identity_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// desk is the sessions of one database, with a clock that stands.
type desk struct {
	*identity.Sessions
	t     *testing.T
	db    *schema.DB
	clock atomic.Int64 // how far it is after noon
	ada   workspace.User
}

func newDesk(t *testing.T, db *schema.DB) *desk {
	t.Helper()
	d := &desk{t: t, db: db, ada: someone(t, db, "ada@example.com")}
	d.Sessions = identity.NewSessions(db.Reader(), db.Writer(), identity.SessionOptions{Lifetime: 12 * time.Hour, Idle: 2 * time.Hour, Now: d.now})
	return d
}

func (d *desk) now() time.Time { return noon.Add(time.Duration(d.clock.Load())) }

func (d *desk) at(t time.Duration) { d.clock.Store(int64(t)) }

// come is a request with a cookie; empty: without one.
func (d *desk) come(cookie string) (context.Context, identity.Session, bool) {
	d.t.Helper()
	r := httptest.NewRequestWithContext(d.t.Context(), http.MethodGet, "https://booth.example.com/", nil)
	if cookie != "" {
		r.AddCookie(&http.Cookie{Name: identity.SessionCookie, Value: cookie})
	}
	ctx, session, found, err := d.Load(r)
	fatal(d.t, err)
	return ctx, session, found
}

func (d *desk) known(cookie string) bool {
	d.t.Helper()
	_, _, found := d.come(cookie)
	return found
}

// leave ends a request and returns the cookie that it sets; nil: none.
func (d *desk) leave(ctx context.Context) *http.Cookie {
	d.t.Helper()
	w := httptest.NewRecorder()
	fatal(d.t, d.Save(ctx, w))
	if set := w.Result().Cookies(); len(set) > 0 {
		return set[0]
	}
	return nil
}

// enter signs ada in, by a request with a cookie.
func (d *desk) enter(with string) (cookie string, session identity.Session) {
	d.t.Helper()
	ctx, _, _ := d.come(with)
	session, err := d.Start(ctx, identity.Session{UserID: d.ada.ID, Method: identity.ByPassword, Address: "192.0.2.7", Agent: "visitor/1"})
	fatal(d.t, err)
	return d.leave(ctx).Value, session
}

func (d *desk) exec(query string, args ...any) {
	d.t.Helper()
	_, err := d.db.Writer().ExecContext(d.t.Context(), query, args...)
	fatal(d.t, err)
}

// eachDesk runs f on both databases.
func eachDesk(t *testing.T, f func(*testing.T, *desk)) {
	t.Helper()
	schematest.Each(t, func(t *testing.T, db *schema.DB) { f(t, newDesk(t, db)) })
}

func TestSessionIsKept(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		cookie, begun := d.enter("")
		ctx, session, found := d.come(cookie)
		if diff := cmp.Diff(begun, session); diff != "" || !found {
			t.Errorf("found %v: %s", found, diff)
		}
		if !strings.HasPrefix(session.ID, "ses_") || session.CreatedAt != noon || session.ExpiresAt != after(12*time.Hour) || strings.Contains(cookie, session.ID) {
			t.Errorf("%+v with the cookie %s", session, cookie)
		}
		if c := d.leave(ctx); c != nil {
			t.Errorf("a request that changes nothing sets %v", c)
		}
		if d.known("") || d.known("made-up") || d.known(strings.Repeat("x", 100_000)) {
			t.Error("somebody is signed in without a session")
		}
	})
}

// The cookie is one that no other host, no script and no page without TLS gets or sets.
func TestSessionCookie(t *testing.T) {
	t.Parallel()
	d := newDesk(t, schematest.SQLite(t))
	ctx, _, _ := d.come("")
	_, err := d.Start(ctx, identity.Session{UserID: d.ada.ID})
	fatal(t, err)
	c := d.leave(ctx)
	if c.Name != "__Host-tokenbooth" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(c.Value) < 43 {
		t.Errorf("%+v", c)
	}
	var stored string
	fatal(t, d.db.Reader().QueryRowxContext(t.Context(), `SELECT token FROM sessions`).Scan(&stored))
	if stored == "" || strings.Contains(c.Value, stored) || strings.Contains(stored, c.Value) {
		t.Errorf("the cookie %s is stored as %s", c.Value, stored)
	}
}

// Whoever signs in gets a new cookie, whatever the browser came with: nobody can be
// given one that somebody else knows.
func TestSessionIsNotFixed(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		planted := "planted-by-somebody-who-will-know-it"
		cookie, _ := d.enter(planted)
		if cookie == planted || d.known(planted) || !d.known(cookie) {
			t.Errorf("the session has the cookie %s", cookie)
		}
		again, _ := d.enter(cookie)
		if again == cookie || d.known(cookie) || !d.known(again) {
			t.Error("the session before goes on")
		}
	})
}

func TestSessionLimits(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		cookie, _ := d.enter("")
		d.at(2*time.Hour - time.Microsecond)
		if !d.known(cookie) { // and was seen now
			t.Fatal("it ended before it was idle for so long")
		}
		d.at(4*time.Hour - time.Microsecond)
		if d.known(cookie) {
			t.Error("an idle one goes on")
		}
		cookie, _ = d.enter("")
		began := d.clock.Load()
		for hours := range 12 {
			d.at(time.Duration(began) + time.Duration(hours)*time.Hour)
			if !d.known(cookie) {
				t.Fatalf("it ended after %d hours", hours)
			}
		}
		d.at(time.Duration(began) + 12*time.Hour)
		if d.known(cookie) {
			t.Error("it goes on past its lifetime")
		}
	})
}

func TestSessionEnds(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		cookie, _ := d.enter("")
		other, session := d.enter("")
		third, kept := d.enter("")
		bob := someone(t, d.db, "bob@example.com").ID
		want(t, "somebody else's", workspace.ErrNotFound, identity.EndSession(t.Context(), d.db.Writer(), bob, session.ID, noon))
		fatal(t, identity.EndSession(t.Context(), d.db.Writer(), d.ada.ID, session.ID, noon))
		want(t, "again", workspace.ErrNotFound, identity.EndSession(t.Context(), d.db.Writer(), d.ada.ID, session.ID, noon))
		if d.known(other) || !d.known(cookie) {
			t.Error("the wrong one has ended")
		}
		n, err := identity.EndSessions(t.Context(), d.db.Writer(), d.ada.ID, kept.ID, noon)
		if fatal(t, err); n != 1 || d.known(cookie) || !d.known(third) {
			t.Errorf("%d have ended", n)
		}
		list, err := identity.ListSessions(t.Context(), d.db.Reader(), d.ada.ID, d.Options())
		fatal(t, err)
		if diff := cmp.Diff([]identity.Session{kept}, list); diff != "" {
			t.Error(diff)
		}
		ctx, _, _ := d.come(third)
		fatal(t, d.End(ctx))
		if c := d.leave(ctx); c.Value != "" || c.MaxAge >= 0 {
			t.Errorf("signing out sets %+v", c)
		}
		if d.known(third) {
			t.Error("who has signed out is signed in")
		}
	})
}

// A person who may not sign in is signed in nowhere, from then on and on every replica.
func TestSessionOfSomebodyDisabled(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		cookie, _ := d.enter("")
		d.exec(`UPDATE users SET disabled_at = ? WHERE id = ?`, noon, d.ada.ID)
		if d.known(cookie) {
			t.Error("somebody disabled is signed in")
		}
		d.exec(`UPDATE users SET disabled_at = NULL, deleted_at = ? WHERE id = ?`, noon, d.ada.ID)
		if d.known(cookie) {
			t.Error("somebody deleted is signed in")
		}
	})
}

// A session that ends while a request of it runs stays ended, whatever that does.
func TestSessionIsNotBroughtBack(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		cookie, session := d.enter("")
		d.at(seenAgain)
		running, _, _ := d.come(cookie)
		fatal(t, identity.EndSession(t.Context(), d.db.Writer(), d.ada.ID, session.ID, after(seenAgain)))
		d.leave(running)
		if d.known(cookie) {
			t.Error("a running request has brought it back")
		}
	})
}

// seenAgain is after what a request notes that a session was used.
const seenAgain = 2 * time.Minute

// A password that changes while somebody is signing in with the old one signs them in
// nowhere: their session is in no list yet when the others end.
func TestSessionFromBeforeThePasswordChanged(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		earlier, kept := d.enter("")
		running, _, _ := d.come("")
		_, err := d.Start(running, identity.Session{UserID: d.ada.ID, CreatedAt: noon}) // the old password was right at noon
		fatal(t, err)
		d.at(time.Second)
		fatal(t, identity.SetPassword(t.Context(), d.db.Writer(), d.ada.ID, "new", after(time.Second)))
		late := d.leave(running).Value
		if d.known(late) || d.known(earlier) {
			t.Error("the old password signs in yet")
		}
		fatal(t, identity.KeepSession(t.Context(), d.db.Writer(), d.ada.ID, kept.ID, after(time.Second)))
		if !d.known(earlier) || d.known(late) {
			t.Error("not the one that is kept goes on")
		}
		fresh, _ := d.enter("")
		if !d.known(fresh) {
			t.Error("the new password does not sign in")
		}
		fatal(t, identity.RehashPassword(t.Context(), d.db.Writer(), d.ada.ID, "new", "harder"))
		d.at(time.Minute)
		if !d.known(fresh) {
			t.Error("hashing it anew has ended a session")
		}
	})
}

func TestSessionsAreForgotten(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		cookie, session := d.enter("")
		fatal(t, identity.EndSession(t.Context(), d.db.Writer(), d.ada.ID, session.ID, noon))
		count := func() (n int) {
			fatal(t, d.db.Reader().QueryRowxContext(t.Context(), `SELECT count(*) FROM sessions`).Scan(&n))
			return n
		}
		fatal(t, identity.ForgetSessions(t.Context(), d.db.Writer(), after(12*time.Hour-time.Microsecond)))
		if count() != 1 || d.known(cookie) {
			t.Error("an ended one was forgotten while a request could bring it back")
		}
		fatal(t, identity.ForgetSessions(t.Context(), d.db.Writer(), after(12*time.Hour)))
		if count() != 0 {
			t.Error("it is not forgotten")
		}
	})
}

func TestMethodsOf(t *testing.T) {
	eachDesk(t, func(t *testing.T, d *desk) {
		is := func(want identity.Methods, can bool) {
			t.Helper()
			got, err := identity.MethodsOf(t.Context(), d.db.Reader(), d.ada.ID)
			if fatal(t, err); got != want || got.None() != (want == identity.Methods{}) {
				t.Errorf("%+v, want %+v", got, want)
			}
			if admin, err := identity.AdminCanSignIn(t.Context(), d.db.Reader()); err != nil || admin != can {
				t.Errorf("an admin can sign in: %v, want %v, %v", admin, can, err)
			}
		}
		is(identity.Methods{}, false)
		fatal(t, identity.SetPassword(t.Context(), d.db.Writer(), d.ada.ID, "x", noon))
		is(identity.Methods{Password: true}, false)
		d.exec(`UPDATE users SET organization_admin = TRUE WHERE id = ?`, d.ada.ID)
		is(identity.Methods{Password: true}, true)
		d.exec(`UPDATE users SET disabled_at = ? WHERE id = ?`, noon, d.ada.ID)
		is(identity.Methods{Password: true}, false)
		d.exec(`UPDATE users SET disabled_at = NULL WHERE id = ?`, d.ada.ID)
		fatal(t, identity.DeletePassword(t.Context(), d.db.Writer(), d.ada.ID))
		d.exec(`INSERT INTO passkeys (id, credential_id, user_id, name, credential, created_at) VALUES ('psk_1', ?, ?, 'x', '{}', 1)`, []byte{1}, d.ada.ID)
		is(identity.Methods{Passkeys: 1}, true)
		fatal(t, identity.InsertSubject(t.Context(), d.db.Writer(), identity.Subject{Issuer: "i", Subject: "s", UserID: d.ada.ID, CreatedAt: noon, SeenAt: noon}))
		is(identity.Methods{Passkeys: 1, Subjects: 1}, true)
		fatal(t, identity.DeletePasskeys(t.Context(), d.db.Writer(), d.ada.ID))
		is(identity.Methods{Subjects: 1}, true)
	})
}
