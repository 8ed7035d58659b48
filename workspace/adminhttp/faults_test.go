package adminhttp_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// When the disk is full nothing is half-written, and whoever asks is told that it
// is not their fault; reading and exchanging known keys go on; when there is room
// again, so does everything.
func TestDiskFull(t *testing.T) {
	h := newHouse(t, schematest.SQLite(t))
	me := h.owner.secret
	known := h.want(201, me, post, h.in("/keys"), object{"name": "known"}).text("client_secret")
	h.token(known)
	var pages int
	h.check(sqlx.GetContext(t.Context(), h.Database.Writer(), &pages, `PRAGMA page_count`))
	// The limit is that of a connection, and SQLite's writer has one.
	h.exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages))
	full, made := 0, 0
	for i := range 200 {
		got := h.call(me, post, h.in("/keys"), object{"name": fmt.Sprint("k", i), "description": strings.Repeat("x", 900)})
		switch got.status {
		case http.StatusCreated:
			made++
		case http.StatusServiceUnavailable:
			if full++; got.header.Get("Retry-After") == "" || got.code() != "temporarily_unavailable" {
				t.Errorf("a full disk: %v %s", got.header, got.body)
			}
		default:
			t.Fatalf("a full disk: %d %s", got.status, got.body)
		}
	}
	if full == 0 {
		t.Fatal("the disk was never full")
	}
	count := func(query string) (n int) {
		h.check(sqlx.GetContext(t.Context(), h.Database.Reader(), &n, query))
		return n
	}
	whole := func() {
		t.Helper()
		if keys := count(`SELECT count(*) FROM keys WHERE name LIKE 'k%' AND name <> 'known'`); keys != made {
			t.Errorf("%d keys are there, %d were acknowledged", keys, made)
		}
		if n := count(`SELECT count(*) FROM keys k WHERE (SELECT count(*) FROM key_secrets s WHERE s.key_id = k.id) <> 1`); n != 0 {
			t.Errorf("%d keys have not one secret", n)
		}
		if n := count(`SELECT count(*) FROM service_accounts a WHERE NOT EXISTS (SELECT 1 FROM keys k WHERE k.service_account_id = a.id)`); n != 0 {
			t.Errorf("%d service accounts were made without their key", n)
		}
		report, err := audit.Verify(t.Context(), h.Database.Reader(), nil)
		if err != nil || len(report.Findings) > 0 {
			t.Errorf("audit: %+v, %v", report.Findings, err)
		}
	}
	whole()
	h.token(known)
	h.want(200, me, get, h.in("/keys"), nil)
	h.exec(`PRAGMA max_page_count = 1073741823`)
	h.want(201, me, post, h.in("/keys"), object{"name": "room-again"})
	h.check(h.exchanges.Flush(t.Context()))
	whole()
}

// The log verifies, and holds an event of every change that was acknowledged, also
// of those that were made at once.
func TestEveryAcknowledgedChangeIsInTheLog(t *testing.T) {
	on(t, func(h *house) {
		var mu sync.Mutex
		acknowledged := map[string]string{} // subject → action
		var running sync.WaitGroup
		me := h.owner.secret
		for worker := range 4 {
			running.Go(func() {
				for i := range 8 {
					id := fmt.Sprintf("request-%d-%d", worker, i)
					name := fmt.Sprintf("n%d", i%5) // so that some conflict
					action, got := "service_account.create", reply{}
					if i%2 == 0 {
						got = h.call(me, post, h.in("/service-accounts"), object{"name": name, "role": "viewer"})
					} else {
						action, got = "key.create", h.call(me, post, h.in("/service-accounts/"+name+"/keys"), object{"name": id})
					}
					if got.status == http.StatusCreated {
						mu.Lock()
						subject, _ := got.object["client_id"].(string)
						if action == "service_account.create" {
							subject, _ = got.object["id"].(string)
						}
						acknowledged[subject] = action
						mu.Unlock()
					}
				}
			})
		}
		running.Wait()
		h.check(h.exchanges.Flush(h.Context()))
		events, err := audit.Events(h.Context(), h.Database.Reader(), string(h.ws.ID))
		h.check(err)
		inLog := map[string]string{}
		for _, e := range events {
			inLog[e.SubjectID] = e.Action
		}
		for subject, action := range acknowledged {
			if inLog[subject] != action {
				h.Errorf("%s of %s was acknowledged and is not in the log", action, subject)
			}
		}
		report, err := audit.Verify(h.Context(), h.Database.Reader(), nil)
		if err != nil || len(report.Findings) > 0 || len(acknowledged) < 5 {
			h.Errorf("%d acknowledged; audit: %+v, %v", len(acknowledged), report.Findings, err)
		}
	})
}
