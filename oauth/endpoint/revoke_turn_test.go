package endpoint_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// What comes along when somebody copies a token does not make it none.
func TestRevokePastedTokens(t *testing.T) {
	b := newBooth(t, options{})
	token := b.token(b.active)
	for _, pasted := range []string{" " + token, token + " ", "\t" + token + "\r\n", "Bearer " + token, "bearer  " + token} {
		if a := b.revoke(b.active, pasted).want(b, http.StatusOK, ""); a.object(t)["sequence"] != 1.0 {
			t.Errorf("%.12q…: %v", pasted, a.object(t))
		}
	}
}

// So many revocations of tokens run at once; others are told to come again, and that
// nothing is revoked.
func TestRevocationsWaitForTheirTurn(t *testing.T) {
	b := newBooth(t, options{})
	var tokens []string
	for range 40 {
		tokens = append(tokens, b.token(b.active))
	}
	codes := make([]*httptest.ResponseRecorder, len(tokens))
	var running sync.WaitGroup
	err := b.db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		if _, err := change.Lock(ctx, tx); err != nil { // nobody can change anything
			return err
		}
		refused := make(chan bool, len(tokens))
		for i, token := range tokens {
			codes[i] = httptest.NewRecorder()
			running.Go(func() {
				r := httptest.NewRequest(http.MethodPost, endpoint.RevokePath, strings.NewReader(by(b.active, token).Encode()))
				r.Header.Set("Content-Type", formType)
				b.ServeHTTP(codes[i], r)
				refused <- true
			})
		}
		for range len(tokens) - 32 {
			<-refused
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	running.Wait()
	count := map[int]int{}
	for _, c := range codes {
		count[c.Code]++
		if c.Code == http.StatusServiceUnavailable && (c.Header().Get("Retry-After") == "" || !strings.Contains(c.Body.String(), "still good")) {
			t.Errorf("%v %s", c.Header(), c.Body)
		}
	}
	if rows := len(must(revocation.Since(t.Context(), b.db.Reader(), 0, 100))); count[503] < 8 || count[200] != rows || count[200]+count[503] != len(tokens) {
		t.Errorf("answers %v, and %d rows", count, rows)
	}
}
