package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds of one attempt.
const (
	timeout     = 10 * time.Second
	claimFor    = time.Minute    // longer than an attempt takes, its outcome included
	answerLimit = 64 << 10       // of an answer are read, so that its connection can be used again
	longestWait = 24 * time.Hour // that a receiver can ask for
)

// failure is an attempt that was not taken.
type failure struct {
	text  string        // for people; holds neither the URL nor anything that was answered
	gone  bool          // the receiver wants nothing more
	after time.Duration // how long the receiver asks to wait
}

// newClient is what events are sent with when nothing else is given. It is not
// the process's own, so that its connections end with the Sender.
func newClient() *http.Client {
	return &http.Client{Timeout: timeout, Transport: http.DefaultTransport.(*http.Transport).Clone()}
}

// refuseRedirects makes a client one that follows none: a signed event is for
// the configured URL alone.
func refuseRedirects(c *http.Client) *http.Client {
	final := *c
	final.Transport = finalTransport{c.Transport}
	return &final
}

type finalTransport struct{ next http.RoundTripper }

var errRedirect = errors.New("redirected, which is not followed: configure the URL where it leads")

// RoundTrip implements http.RoundTripper. The client gets to see no redirect, so
// that it does not quote its target in an error.
func (t finalTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	response, err := next.RoundTrip(r)
	if err != nil || response.StatusCode < 300 || response.StatusCode > 399 {
		return response, err
	}
	_ = response.Body.Close() // it is of no interest
	return nil, errRedirect
}

// CloseIdleConnections is what http.Client looks for.
func (t finalTransport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// post makes one attempt. A nil failure means that the receiver has taken the
// event.
func (s *Sender) post(ctx context.Context, m message) *failure {
	now := s.now()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, strings.NewReader(m.Payload))
	if err != nil {
		return &failure{text: "the URL is not usable"}
	}
	timestamp := strconv.FormatInt(now.Unix(), 10)
	for name, value := range map[string]string{
		"Content-Type": "application/json", "User-Agent": "tokenbooth",
		"webhook-id": m.ID, "webhook-timestamp": timestamp, "webhook-signature": signature(s.Secret, m.ID, timestamp, m.Payload),
	} {
		request.Header.Set(name, value)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return &failure{text: s.explain(err)}
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, answerLimit) // what is answered is of no interest
	if response.StatusCode/100 == 2 {
		return nil
	}
	return &failure{
		text: fmt.Sprintf("answered %d", response.StatusCode), gone: response.StatusCode == http.StatusGone,
		after: retryAfter(response.Header.Get("Retry-After"), now.Time),
	}
}

// explain is an error without the URL, whose path or query may be a secret.
func (s *Sender) explain(err error) string {
	var failed *url.Error
	if !errors.As(err, &failed) {
		return "the request failed"
	}
	if failed.Timeout() {
		return "no answer in time"
	}
	text := failed.Err.Error()
	if u, err := url.Parse(s.URL); err != nil || len(u.RequestURI()) > 1 && strings.Contains(text, u.RequestURI()) {
		return "the request failed"
	}
	text = strings.ReplaceAll(text[:min(len(text), 200)], "\x00", "")
	return strings.ToValidUTF8(text, "?") // PostgreSQL takes nothing else
}

// retryAfter reads the header of that name (RFC 9110 section 10.2.3); zero when
// it says nothing.
func retryAfter(header string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		wait = at.Sub(now)
	}
	return max(0, min(wait, longestWait))
}
