package adminhttp_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

func once(key string) func(*http.Request) { return header("Idempotency-Key", key) }

// A repeated creation answers as the first did, secret included, and makes nothing.
func TestRepeatedCreation(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		h.want(201, me, post, h.in("/service-accounts"), object{"name": "ci", "role": "viewer"}, once("sa"))
		for path, body := range map[string]any{
			h.in("/keys"):                     object{"name": "short"},
			h.in("/service-accounts/ci/keys"): object{"name": "long"},
			h.in("/service-accounts"):         object{"name": "twice", "role": "viewer"},
			h.in("/members"):                  object{"email": "bob@example.com", "role": "viewer"},
			"/users":                          object{"email": "carl@example.com"},
			"/users/me/keys":                  object{"name": "mine", "workspace": h.ws.Slug},
			"/workspaces":                     object{"name": "Twice"},
		} {
			first := h.want(201, me, post, path, body, once("one"+path))
			second := h.want(201, me, post, path, body, once("one"+path))
			if string(first.body) != string(second.body) || first.header.Get("Location") != second.header.Get("Location") {
				h.Errorf("%s: %s, then %s", path, first.body, second.body)
			}
		}
		key := h.want(201, me, post, h.in("/keys"), object{"name": "rotating"})
		path := h.in("/keys/" + key.text("client_id") + "/rotate")
		first := h.want(200, me, post, path, nil, once("r"))
		if second := h.want(200, me, post, path, nil, once("r")); second.text("client_secret") != first.text("client_secret") {
			h.Error("a repeated rotation gives another secret")
		}
		h.token(first.text("client_secret"))
		if got := h.want(422, me, post, path, object{"grace_period_seconds": 1}, once("r")); got.code() != "idempotency_key_reused" {
			h.Errorf("another body: %s", got.body)
		}
		if got := h.want(422, me, post, h.in("/keys"), object{"name": "z"}, once("r")); got.code() != "idempotency_key_reused" {
			h.Errorf("another route: %s", got.body)
		}
		// Another caller's keys are another's, and so are those of another workspace.
		manager := h.person("manager", workspace.Manager, false)
		h.want(201, manager.secret, post, h.in("/keys"), object{"name": "z"}, once("r"))
		for _, bad := range []string{"", "two words", strings.Repeat("x", 256), "ü"} {
			if got := h.want(400, me, post, h.in("/keys"), object{"name": "y"}, once(bad)); got.code() != "idempotency_key_invalid" {
				h.Errorf("the key %q: %s", bad, got.body)
			}
		}
	})
}

// After ten minutes a repetition is still recognised, without the secret, which
// is then nowhere any more; after a day it is a new request.
func TestRepeatedTooLate(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		body := object{"name": "late", "expires_at": nil}
		first := h.want(201, me, post, h.in("/keys"), body, once("late"))
		h.pass(10*time.Minute - time.Second)
		if again := h.want(201, me, post, h.in("/keys"), body, once("late")); again.object["client_secret"] != first.object["client_secret"] {
			h.Error("within ten minutes the secret is not there")
		}
		h.pass(time.Second)
		again := h.want(201, me, post, h.in("/keys"), body, once("late"))
		if again.object["client_secret"] != nil || again.object["client_id"] != first.object["client_id"] {
			h.Errorf("after ten minutes: %s", again.body)
		}
		h.want(201, me, post, h.in("/keys"), object{"name": "other"}, once("other"))
		var sealed int
		h.check(sqlx.GetContext(h.Context(), h.Database.Reader(), &sealed, `SELECT count(*) FROM idempotency WHERE sealed IS NOT NULL`))
		if sealed != 1 {
			h.Errorf("%d sealed answers are kept, want the newest", sealed)
		}
		h.pass(24 * time.Hour)
		h.want(409, me, post, h.in("/keys"), body, once("late")) // its service account is there
	})
}

// Of identical creations in flight one makes the key, and all answer with it.
func TestRepeatedInFlight(t *testing.T) {
	on(t, func(h *house) {
		var running sync.WaitGroup
		answers := make(chan reply, 8)
		for range cap(answers) {
			running.Go(func() {
				answers <- h.call(h.owner.secret, post, h.in("/keys"), object{"name": "one"}, once("same"))
			})
		}
		running.Wait()
		close(answers)
		first := <-answers
		for a := range answers {
			if a.status != 201 || string(a.body) != string(first.body) {
				h.Errorf("%d %s, want %s", a.status, a.body, first.body)
			}
		}
		if list := h.want(200, h.owner.secret, get, h.in("/keys?q=one"), nil).data(); len(list) != 1 {
			h.Errorf("there are %d keys", len(list))
		}
	})
}

// A repetition is an answer with a secret: who has lost the rights gets none.
func TestRepetitionChecksRights(t *testing.T) {
	on(t, func(h *house) {
		manager := h.person("manager", workspace.Manager, false)
		body := object{"name": "mine", "role": "admin"}
		h.want(201, manager.secret, post, h.in("/keys"), body, once("k"))
		// What was made has become stronger than its maker.
		h.want(200, h.owner.secret, patch, h.in("/service-accounts/mine"), object{"scopes": []string{"members:create"}})
		h.want(403, manager.secret, post, h.in("/keys"), body, once("k"))
		h.want(200, h.owner.secret, patch, h.in("/service-accounts/mine"), object{"role": "admin"})
		h.want(201, manager.secret, post, h.in("/keys"), body, once("k"))
		h.want(200, h.owner.secret, patch, h.in("/members/"+string(manager.user)), object{"role": "viewer"})
		if got := h.want(403, manager.secret, post, h.in("/keys"), body, once("k")); strings.Contains(string(got.body), "tbs_") {
			h.Errorf("a viewer gets %s", got.body)
		}
	})
}
