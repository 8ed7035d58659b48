package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// What a command says of those that lack a revocation.
func TestLacking(t *testing.T) {
	t.Parallel()
	until := time.Date(2030, 1, 2, 13, 1, 1, 0, time.UTC)
	receipt := func(own, others admin.ReceiptTally, verifiers ...admin.VerifierReceipt) admin.Receipt {
		return admin.Receipt{DeadBy: until, AcceptsUntil: &until, Verifiers: verifiers, ReceiptTally: own, Others: others}
	}
	const end = "; tokens may be taken until 2030-01-02T13:01:01Z"
	for want, r := range map[string]admin.Receipt{
		"":                          {DeadBy: until},
		"no verifier reports" + end: receipt(admin.ReceiptTally{}, admin.ReceiptTally{}),
		"2 of 3 verifiers lack it: api, old\\x1b (silent)" + end: receipt(admin.ReceiptTally{CaughtUp: 1, Behind: 2, Silent: 1}, admin.ReceiptTally{},
			admin.VerifierReceipt{Name: "api"}, admin.VerifierReceipt{Name: "old\x1b", Silent: true}, admin.VerifierReceipt{Name: "good", CaughtUp: true}),
		"5 of 9 verifiers lack it: api, 1 more, 3 of other workspaces" + end: receipt(admin.ReceiptTally{Behind: 2}, admin.ReceiptTally{CaughtUp: 4, Behind: 3}, admin.VerifierReceipt{Name: "api"}),
	} {
		if got := lacking(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Those that may have ended are waited for no longer than two minutes in a row, in
// which the server answers.
func TestWaitingForTheSilent(t *testing.T) {
	t.Parallel()
	until := time.Date(2030, 1, 2, 13, 1, 1, 0, time.UTC)
	lacks := func(own, others admin.ReceiptTally) admin.Receipt {
		return admin.Receipt{DeadBy: until, AcceptsUntil: &until, ReceiptTally: own, Others: others}
	}
	gone := lacks(admin.ReceiptTally{CaughtUp: 3, Behind: 1, Silent: 1}, admin.ReceiptTally{Behind: 2, Silent: 2})
	lives := lacks(admin.ReceiptTally{Behind: 2, Silent: 1}, admin.ReceiptTally{})
	for name, c := range map[string]struct {
		answer   func(after time.Duration) (admin.Receipt, string)
		from, to time.Duration
		says     string // empty: nobody lacks it
	}{
		"one is gone": {func(time.Duration) (admin.Receipt, string) { return gone, lacking(gone) }, silentWait, silentWait + pollInterval, "only verifiers lack it that have reported nothing"},
		"one is back after a minute": {func(after time.Duration) (admin.Receipt, string) {
			if after > time.Minute && after < 2*time.Minute {
				return lives, lacking(lives)
			}
			return gone, lacking(gone)
		}, 4 * time.Minute, 4*time.Minute + 2*pollInterval, "only verifiers lack it that have reported nothing"},
		"it catches up": {func(after time.Duration) (admin.Receipt, string) {
			if after > time.Minute {
				return admin.Receipt{DeadBy: until}, ""
			}
			return gone, lacking(gone)
		}, time.Minute, time.Minute + pollInterval, ""},
		"the server is away for a minute": {func(after time.Duration) (admin.Receipt, string) {
			if after > 30*time.Second && after < 90*time.Second {
				return admin.Receipt{}, "it cannot be asked now"
			}
			return gone, lacking(gone)
		}, silentWait, silentWait + pollInterval, "only verifiers lack it that have reported nothing"},
		"one lives": {func(time.Duration) (admin.Receipt, string) { return lives, lacking(lives) }, time.Hour, time.Hour, "after 1h0m0s not every verifier has caught up"},
		"nobody reports": {func(time.Duration) (admin.Receipt, string) {
			return lacks(admin.ReceiptTally{}, admin.ReceiptTally{}), "none"
		}, time.Hour, time.Hour, "after 1h0m0s not every verifier has caught up"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, w := time.Now(), waiting{time.Hour}
				ctx, cancel := context.WithTimeout(t.Context(), w.longest)
				defer cancel()
				var out strings.Builder
				err := w.watch(ctx, &out, 7, func(time.Duration) (admin.Receipt, string, error) {
					receipt, text := c.answer(time.Since(start))
					return receipt, text, nil
				})
				if took := time.Since(start); took < c.from || took > c.to {
					t.Errorf("it took %s, want %s to %s", took, c.from, c.to)
				}
				var exit *exitError
				if c.says == "" {
					if err != nil {
						t.Error(err)
					}
				} else if !errors.As(err, &exit) || exit.code != exitRetry || !strings.Contains(err.Error(), c.says) {
					t.Errorf("it ends with %v, want %q", err, c.says)
				} else if gone := strings.HasPrefix(c.says, "only"); gone != strings.Contains(exit.hint, "tokenbooth verifiers remove NAME") || gone != strings.Contains(out.String(), "all of them are silent") {
					t.Errorf("the hint is %q, and it says %q", exit.hint, out.String())
				}
			})
		})
	}
}

// A server that cannot answer now is asked again; one that refuses is not.
func TestWaitingOutlastsFailures(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	var refuses atomic.Bool
	env := anAPI(t, func(w http.ResponseWriter, r *http.Request) {
		switch n := asked.Add(1); {
		case r.Method == http.MethodPost:
			sequence := int64(7)
			_ = json.NewEncoder(w).Encode(admin.RevokedKey{Key: admin.Key{ClientID: aKeyID, Status: "revoked"}, Sequence: &sequence})
		case refuses.Load():
			problem(w, http.StatusForbidden, `{"code":"insufficient_permissions","detail":"This needs tokens:read."}`)
		case n == 2:
			w.Header().Set("Retry-After", "3600") // longer than a request may take
			problem(w, http.StatusServiceUnavailable, `{"code":"temporarily_unavailable","detail":"No database."}`)
		case r.URL.Path != "/api/v1/revocations/7" || r.URL.Query().Get("wait") == "":
			t.Errorf("%s was sent", r.URL)
		default:
			_ = json.NewEncoder(w).Encode(admin.Receipt{Sequence: 7})
		}
	})
	a := tool(t, env, "", "keys", "revoke", aKeyID, "-w", "demo", "--wait")
	a.wants(t, "a server that fails once", exitOK, "revocation 7: it cannot be asked now: ")
	if !strings.Contains(a.errors, "no verifier that is known takes such a token any more") || !strings.Contains(a.out, "revoked") {
		t.Errorf("it says %q, %q", a.errors, a.out)
	}
	refuses.Store(true)
	if a := tool(t, env, "", "keys", "revoke", aKeyID, "-w", "demo", "--wait"); a.code != exitRefused || !strings.Contains(a.errors, "needs tokens:read") {
		t.Errorf("a server that refuses: %d %s", a.code, a.errors)
	}
	before := asked.Load()
	if a := tool(t, env, "", "keys", "revoke", aKeyID, "-w", "demo"); a.code != exitOK || asked.Load() != before+1 || !strings.Contains(a.out, "sequence") {
		t.Errorf("without --wait: %d, asked %d times, %s", a.code, asked.Load()-before, a.out)
	}
}
