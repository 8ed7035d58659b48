package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// BasePath is where the API is, below the issuer.
const BasePath = "/api/v1"

const (
	requestTimeout = 30 * time.Second // a revocation waits for every replica
	maxAnswer      = 8 << 20          // bytes
)

// Config says where the API is and who asks. URL and Credential are required.
type Config struct {
	URL        string       // of the Tokenbooth: its issuer
	Credential string       // an API key's secret, or an access token for the issuer
	HTTP       *http.Client // nil: one that follows no redirect and gives up after 30 s
	UserAgent  string       // empty: Go's
	// Sent, if set, is told of each request before it is sent; an error stops it.
	Sent func(*http.Request, []byte) error
}

// Client calls the management API. It is safe for concurrent use.
type Client struct{ config Config }

// New checks the configuration. It sends nothing.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return nil, errors.New("admin: URL is not like https://login.example.com")
	case c.Credential == "":
		return nil, errors.New("admin: Credential is empty")
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: requestTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &Client{c}, nil
}

// Error is what the API refuses a request with.
type Error struct {
	Method, URL string
	oauth.Problem
	RetryAfter string // the header, if there is one
}

// Error names the request, what was wrong and the request ID.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Status, e.Detail)
	for _, field := range e.Errors {
		text += fmt.Sprintf("; %s: %s", field.Pointer, field.Detail)
	}
	if e.RequestID != "" {
		text += " (request ID " + e.RequestID + ")"
	}
	return text
}

// ErrUnreachable is the kind of errors when there was no answer.
var ErrUnreachable = errors.New("no answer")

// Option changes a request.
type Option func(*http.Request)

// IfMatch makes a change conditional: what is changed has to have that ETag.
func IfMatch(etag string) Option {
	return func(r *http.Request) { r.Header.Set("If-Match", etag) }
}

// IdempotencyKey names a request of the caller's own, so that it takes effect
// once however often it is sent. Without it each creation gets a random one.
func IdempotencyKey(key string) Option {
	return func(r *http.Request) { r.Header.Set("Idempotency-Key", key) }
}

// Do sends a request to a path below BasePath and reads the answer into result,
// which may be nil. A nil body sends none. It returns the answer's header.
func (c *Client) Do(ctx context.Context, method, path string, body, result any, options ...Option) (http.Header, error) {
	text, err := encode(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, c.config.URL+BasePath+path, bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.config.Credential)
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPost {
		request.Header.Set("Idempotency-Key", rand.Text())
	}
	if c.config.UserAgent != "" {
		request.Header.Set("User-Agent", c.config.UserAgent)
	}
	for _, option := range options {
		option(request)
	}
	if c.config.Sent != nil {
		if err := c.config.Sent(request, text); err != nil {
			return nil, err
		}
	}
	return c.send(request, result)
}

func encode(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return text, nil
}

func (c *Client) send(request *http.Request, result any) (http.Header, error) {
	response, err := c.config.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: the answer breaks off: %w", ErrUnreachable, request.URL.Redacted(), err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return response.Header, refusal(request, response, text)
	}
	if result == nil || len(text) == 0 {
		return response.Header, nil
	}
	if err := json.Unmarshal(text, result); err != nil {
		return response.Header, fmt.Errorf("%s %s: its answer is not what a Tokenbooth answers: is this the URL of one?", request.Method, request.URL.Redacted())
	}
	return response.Header, nil
}

func refusal(request *http.Request, response *http.Response, text []byte) error {
	e := &Error{Method: request.Method, URL: request.URL.Redacted(), RetryAfter: response.Header.Get("Retry-After")}
	_ = json.Unmarshal(text, &e.Problem) // else there is only the status
	e.Status = response.StatusCode
	if e.Detail == "" {
		e.Detail = http.StatusText(response.StatusCode)
	}
	if e.RequestID == "" {
		e.RequestID = response.Header.Get("Request-Id")
	}
	return e
}

// All reads a list to its end, page by page.
func All[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		next := url.Values{}
		for name, values := range query {
			next[name] = values
		}
		for {
			var page List[T]
			if _, err := c.Do(ctx, http.MethodGet, withQuery(path, next), nil, &page); err != nil {
				yield(none, err)
				return
			}
			for _, item := range page.Data {
				if !yield(item, nil) {
					return
				}
			}
			if page.NextCursor == nil {
				return
			}
			next.Set("cursor", *page.NextCursor)
		}
	}
}

func withQuery(path string, query url.Values) string {
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// path joins parts, each of which may be anything.
func path(parts ...string) string {
	var b strings.Builder
	for _, part := range parts {
		b.WriteString("/" + url.PathEscape(part))
	}
	return b.String()
}
