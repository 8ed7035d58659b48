package bearer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
)

const (
	// maxFeed is the largest feed that is read, in bytes: about 900,000 entries.
	maxFeed = 64 << 20
	// A large feed takes its time on a slow link, so it is the progress that is
	// bounded: feedPiece in every feedTimeout, which is 16 KiB/s, and longestFetch.
	feedPiece    = 160 << 10
	longestFetch = 5 * time.Minute
)

// httpFeed fetches the signed feed, and takes nothing of it on trust.
type httpFeed struct {
	issuer string
	uri    *url.URL
	client *http.Client
	keys   KeySet
	now    func() time.Time
}

func newHTTPFeed(c FeedConfig) (*httpFeed, error) {
	uri, err := url.Parse(c.at(c.URI, oauth.FeedPath))
	if err != nil {
		return nil, errors.New("bearer: Issuer is not a URL")
	}
	client := unredirected(c.Client)
	client.Timeout = 0
	h := &httpFeed{issuer: c.Issuer, uri: uri, client: client, keys: c.Keys, now: c.Now}
	if h.keys != nil {
		return h, nil
	}
	file := ""
	if c.File != "" {
		file = c.File + ".keys"
	}
	client = &http.Client{Timeout: fetchTimeout, Transport: client.Transport}
	h.keys, err = NewRemote(RemoteConfig{Issuer: c.Issuer, JWKSURI: c.at(c.KeysURI, oauth.FeedKeysPath), Client: client, File: file, Now: c.Now})
	return h, err
}

// unredirected is a copy of a client that follows no redirect; nil: of one that
// has no timeout.
func unredirected(c *http.Client) *http.Client {
	client := &http.Client{}
	if c != nil {
		*client = *c
	}
	client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		return fmt.Errorf("it redirects to %s, which is not followed", r.URL.Redacted())
	}
	return client
}

// Fetch implements FeedSource.
func (h *httpFeed) Fetch(ctx context.Context, since oauth.Position, wait time.Duration) (FeedUpdate, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait+longestFetch, errLong)
	defer cancel()
	text, failure := h.get(ctx, h.at(since, wait), wait)
	if failure == nil {
		var update FeedUpdate
		if update, failure = h.open(ctx, text); failure == nil {
			return update, nil
		}
	}
	failure.Err = fmt.Errorf("%s: %w", h.uri.Redacted(), failure.Err)
	return FeedUpdate{}, failure
}

// at is where to ask for what was added since a position; zero: for everything.
func (h *httpFeed) at(since oauth.Position, wait time.Duration) string {
	u := *h.uri
	if since != (oauth.Position{}) {
		q := u.Query()
		q.Set("epoch", strconv.FormatInt(since.Epoch, 10))
		q.Set("since", strconv.FormatInt(since.Sequence, 10))
		if wait >= time.Second {
			q.Set("wait", strconv.FormatInt(int64(wait/time.Second), 10))
		}
		u.RawQuery = q.Encode()
	}
	return u.String()
}

// Why a fetch is given up.
var (
	errSlow = fmt.Errorf("it has to begin to answer within %s of what it is asked to wait, and then to come with %d KiB/s: %w",
		feedTimeout, feedPiece>>10/int64(feedTimeout/time.Second), context.DeadlineExceeded)
	errLong = fmt.Errorf("it took longer than %s: %w", longestFetch, context.DeadlineExceeded)
)

// get asks for the feed. The answer has to begin soon after the wait, and then to go
// on coming.
func (h *httpFeed) get(ctx context.Context, uri string, wait time.Duration) (string, *FeedError) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(wait+feedTimeout, func() { cancel(errSlow) })
	defer patience.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return "", feedError(FeedUnreachable, "not a usable URL")
	}
	request.Header.Set("Accept", "application/jwt")
	request.Header.Set("User-Agent", "tokenbooth-bearer")
	response, err := h.client.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the URL is named by who calls
		}
		return "", feedError(FeedUnreachable, "%w", cmp.Or(context.Cause(ctx), err))
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		failure := feedError(FeedUnreachable, "it answers %d", response.StatusCode)
		failure.RetryAfter = seconds(response.Header.Get("Retry-After"))
		return "", failure
	}
	text, err := readFeed(response.Body, func() { patience.Reset(feedTimeout) })
	switch {
	case err != nil:
		return "", feedError(FeedUnreachable, "its answer is cut off: %w", cmp.Or(context.Cause(ctx), err))
	case len(text) > maxFeed:
		return "", feedError(FeedRefused, "it answers with more than %d bytes", maxFeed)
	}
	return strings.TrimSpace(text), nil
}

// readFeed reads a feed, or one byte more than it may have, and tells before each piece.
func readFeed(body io.Reader, next func()) (string, error) {
	var text strings.Builder
	for text.Len() <= maxFeed {
		next()
		_, err := io.CopyN(&text, body, min(feedPiece, int64(maxFeed+1-text.Len())))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	return text.String(), nil
}

// open checks everything about a signed feed that can be told without knowing
// what came before.
func (h *httpFeed) open(ctx context.Context, text string) (FeedUpdate, *FeedError) {
	bounded, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	_, payload, err := openJWS(bounded, h.keys, oauth.FeedType, text)
	switch {
	case errors.Is(err, ErrInvalid): // which is about tokens, and must not get to who asks about one
		return FeedUpdate{}, feedError(FeedRefused, "%s", reason(err))
	case err != nil:
		return FeedUpdate{}, feedError(FeedNoKeys, "its keys: %w", err)
	}
	feed, err := parseFeed(payload)
	now := h.now()
	switch {
	case err != nil:
		return FeedUpdate{}, feedError(FeedRefused, "%w", err)
	case feed.Issuer != h.issuer:
		return FeedUpdate{}, feedError(FeedRefused, "it is the feed of the issuer %q, not of %q: the two have to be equal to the byte", feed.Issuer, h.issuer)
	case feed.Expiry <= now.Add(-feedSkew).Unix():
		return FeedUpdate{}, feedError(FeedRefused, "it was to be used until %s: check the clocks", time.Unix(feed.Expiry, 0).UTC().Format(time.RFC3339))
	case feed.IssuedAt <= 0:
		return FeedUpdate{}, feedError(FeedRefused, "its iat is missing")
	}
	return FeedUpdate{Position: feed.Position, From: feed.From, At: time.Unix(feed.IssuedAt, 0), Entries: feed.Entries}, nil
}

// reason is what an ErrInvalid says beyond its kind.
func reason(err error) string { return strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": ") }
