package console_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/console"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// A password that is changed while the old one is being checked signs nobody in: that
// session is in no list yet when the others end.
func TestSignInWithAPasswordThatIsBeingChanged(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		s := newSiteOn(t, db)
		s.withPassword(s.owner)
		var meanwhile atomic.Pointer[func()]
		s.renew(func(h *console.Handler) {
			h.Sessions = identity.NewSessions(db.Reader(), db.Writer(), identity.SessionOptions{Now: func() time.Time {
				if change := meanwhile.Swap(nil); change != nil { // the session begins, after the old password was right
					(*change)()
				}
				return s.now()
			}})
		})
		change := func() {
			link, err := s.manager.AccessLink(t.Context(), s.operator, s.owner.ID)
			fatal(t, err)
			_, err = s.manager.UseAccessLink(t.Context(), manage.Origin{}, link.Token, "another "+password)
			fatal(t, err)
		}
		meanwhile.Store(&change)
		v := s.visitor()
		v.post("/sign-in", credentials(s.owner.Email, password))
		if meanwhile.Load() != nil {
			t.Fatal("the password was not changed meanwhile")
		}
		if to := v.get("/account").location(t); !strings.HasPrefix(to, "/sign-in") {
			t.Errorf("the old password signs in: sent to %s", to)
		}
		v.post("/sign-in", credentials(s.owner.Email, "another "+password)).location(t)
		v.get("/account").want(t, http.StatusOK)
	})
}
