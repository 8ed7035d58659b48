package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// apiTries is how often a request is sent at most.
const apiTries = 3

// retrying sends a request again when that may help and can do no harm: it reads, or
// it has an Idempotency-Key.
type retrying struct {
	next  http.RoundTripper
	sleep func(context.Context, time.Duration) error
	now   func() time.Time
}

// RoundTrip sends the request, at most three times, never earlier than the server
// asks for, and only while there is time.
func (t *retrying) RoundTrip(request *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		response, err := t.next.RoundTrip(request)
		if try == apiTries || !repeatable(request) || !mayPass(response, err) {
			return response, err
		}
		wait := 250 * time.Millisecond << try
		if response != nil {
			wait = max(wait, retryAfter(response.Header.Get("Retry-After"), t.now()))
		}
		wait += rand.N(wait/4 + 1) //nolint:gosec // jitter, not a secret
		if deadline, ok := request.Context().Deadline(); ok && t.now().Add(wait).After(deadline) {
			return response, err
		}
		again, problem := anew(request)
		if problem != nil {
			return response, err
		}
		if response != nil { // read to its end, so that the connection is used again
			_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer))
			_ = response.Body.Close()
		}
		if err := t.sleep(request.Context(), wait); err != nil {
			return nil, err
		}
		request = again
	}
}

func repeatable(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Header.Get("Idempotency-Key") != ""
}

// mayPass tells whether another try may end otherwise.
func mayPass(response *http.Response, err error) bool {
	if err != nil {
		return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	}
	return response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable
}

// anew is the request with its body from the start.
func anew(request *http.Request) (*http.Request, error) {
	again := request.Clone(request.Context())
	if request.GetBody == nil {
		return again, nil
	}
	body, err := request.GetBody()
	again.Body = body
	return again, err
}
