package main

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// history is what clients, managers and verifiers saw, each with when it was asked
// for and answered by the one clock of this test. What must never happen is looked
// for afterwards, whatever was done to the servers meanwhile.
type history struct {
	mu            sync.Mutex
	exchanges     []exchangeSeen
	revocations   []revocationSeen
	verifications []verificationSeen
}

type exchangeSeen struct {
	began, ended time.Time
	replica, key string
	status       int // 0: no answer
	says         string
}

type revocationSeen struct {
	began, ended time.Time
	key          string
	status       int       // 0: no answer
	sequence     int64     // of the revocation
	effective    time.Time // of 202: when no replica issues any more
}

type verificationSeen struct {
	began    time.Time
	verifier string
	key      string
	accepted bool
	fresh    bool   // whether the verifier said that it is up to date
	position int64  // that the verifier had before
	problem  string // of the signature or the claims, by a verifier that knows nothing of revocations
}

func (h *history) exchanged(e exchangeSeen)    { noteIn(h, &h.exchanges, e) }
func (h *history) revoked(r revocationSeen)    { noteIn(h, &h.revocations, r) }
func (h *history) verified(v verificationSeen) { noteIn(h, &h.verifications, v) }

func noteIn[T any](h *history, list *[]T, seen T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*list = append(*list, seen)
}

// faults lists what must never happen:
//
//   - an exchange of a key succeeds that was begun after its revocation was
//     acknowledged, or after it said to be effective;
//   - a verifier that holds a revocation accepts a token of that key, or one that
//     calls itself fresh does so later than the bound;
//   - a token does not verify by the published keys;
//   - the right secret of a key that nobody has begun to revoke is refused.
func (h *history) faults(bound time.Duration) (found []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := map[string]revocationSeen{} // of each key: what was acknowledged first
	asked := map[string]time.Time{}      // of each key: when somebody first asked to revoke it
	for _, r := range h.revocations {
		if at, ok := asked[r.key]; !ok || r.began.Before(at) {
			asked[r.key] = r.began
		}
		if r.inForce().IsZero() {
			continue
		}
		if before, ok := first[r.key]; !ok || r.inForce().Before(before.inForce()) {
			first[r.key] = r
		}
	}
	for _, e := range h.exchanges {
		r, revoked := first[e.key]
		if e.status == http.StatusOK && revoked && e.began.After(r.inForce()) {
			found = append(found, fmt.Sprintf("I1: %s exchanged key %s %v after its revocation %d was in force", e.replica, e.key, e.began.Sub(r.inForce()), r.sequence))
		}
		if at, ok := asked[e.key]; e.status == http.StatusUnauthorized && (!ok || e.ended.Before(at)) {
			found = append(found, fmt.Sprintf("I6: %s refused key %s, which nobody revoked: %s", e.replica, e.key, e.says))
		}
	}
	for _, v := range h.verifications {
		r, revoked := first[v.key]
		switch {
		case v.problem != "":
			found = append(found, fmt.Sprintf("I3: a token of key %s does not verify: %s", v.key, v.problem))
		case v.accepted && revoked && r.sequence > 0 && v.position >= r.sequence:
			found = append(found, fmt.Sprintf("I2: %s is at %d and accepts a token of key %s, revoked by %d", v.verifier, v.position, v.key, r.sequence))
		case v.accepted && revoked && v.fresh && v.began.After(r.inForce().Add(bound)):
			found = append(found, fmt.Sprintf("I2: %s calls itself fresh and accepts a token of key %s, %v after its revocation", v.verifier, v.key, v.began.Sub(r.inForce())))
		}
	}
	return found
}

// inForce is from when on no replica may issue; zero: nothing was promised.
func (r revocationSeen) inForce() time.Time {
	switch {
	case r.status == http.StatusOK:
		return r.ended
	case r.status == http.StatusAccepted && !r.effective.IsZero():
		return r.effective
	}
	return time.Time{}
}

// counts says how much was seen, so that a history without faults is one with
// something in it.
func (h *history) counts() (issued, unavailable, acknowledged, pending, accepted, refused int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.exchanges {
		switch e.status {
		case http.StatusOK:
			issued++
		case http.StatusServiceUnavailable, 0:
			unavailable++
		}
	}
	for _, r := range h.revocations {
		switch r.status {
		case http.StatusOK:
			acknowledged++
		case http.StatusAccepted:
			pending++
		}
	}
	for _, v := range h.verifications {
		if v.accepted {
			accepted++
		} else if v.problem == "" {
			refused++
		}
	}
	return issued, unavailable, acknowledged, pending, accepted, refused
}

// What the checker is for, it finds; and what is allowed, it lets pass.
func TestHistoryFindsFaults(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	revoked := revocationSeen{began: at(1), ended: at(2), key: "k", status: http.StatusOK, sequence: 7}
	for _, c := range []struct {
		what string
		h    *history
		want int
	}{
		{"nothing", &history{}, 0},
		{"issued during the revocation", &history{revocations: []revocationSeen{revoked}, exchanges: []exchangeSeen{{began: at(1.9), ended: at(3), key: "k", status: 200}}}, 0},
		{"issued after it", &history{revocations: []revocationSeen{revoked}, exchanges: []exchangeSeen{{began: at(2.1), ended: at(3), key: "k", status: 200}}}, 1},
		{"another key", &history{revocations: []revocationSeen{revoked}, exchanges: []exchangeSeen{{began: at(2.1), ended: at(3), key: "l", status: 200}}}, 0},
		{"a revocation that failed", &history{revocations: []revocationSeen{{began: at(1), ended: at(2), key: "k", status: 503}}, exchanges: []exchangeSeen{{began: at(2.1), ended: at(3), key: "k", status: 200}}}, 0},
		{"pending, before it is effective", &history{revocations: []revocationSeen{{began: at(1), ended: at(2), key: "k", status: 202, effective: at(5)}}, exchanges: []exchangeSeen{{began: at(4.9), ended: at(6), key: "k", status: 200}}}, 0},
		{"pending, and after", &history{revocations: []revocationSeen{{began: at(1), ended: at(2), key: "k", status: 202, effective: at(5)}}, exchanges: []exchangeSeen{{began: at(5.1), ended: at(6), key: "k", status: 200}}}, 1},
		{"refused without a reason", &history{revocations: []revocationSeen{revoked}, exchanges: []exchangeSeen{{began: at(0), ended: at(0.9), key: "k", status: 401}}}, 1},
		{"refused for a reason", &history{revocations: []revocationSeen{revoked}, exchanges: []exchangeSeen{{began: at(0), ended: at(1.1), key: "k", status: 401}}}, 0},
		{"a verifier that knows", &history{revocations: []revocationSeen{revoked}, verifications: []verificationSeen{{began: at(2.1), key: "k", accepted: true, position: 7}}}, 1},
		{"one that does not know yet", &history{revocations: []revocationSeen{revoked}, verifications: []verificationSeen{{began: at(2.1), key: "k", accepted: true, fresh: true, position: 6}}}, 0},
		{"one that should", &history{revocations: []revocationSeen{revoked}, verifications: []verificationSeen{{began: at(8), key: "k", accepted: true, fresh: true, position: 6}}}, 1},
		{"one that says that it does not", &history{revocations: []revocationSeen{revoked}, verifications: []verificationSeen{{began: at(8), key: "k", accepted: true, position: 6}}}, 0},
		{"a bad signature", &history{verifications: []verificationSeen{{key: "k", problem: "bad"}}}, 1},
	} {
		if found := c.h.faults(5 * time.Second); len(found) != c.want {
			t.Errorf("%s: %q, want %d", c.what, found, c.want)
		}
	}
}
