package endpoint

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
)

const (
	longestWait = 25 * time.Second // below what proxies and load balancers cut off
	mostWaiting = 10_000

	// A full feed may be large: who fetches at least this much a second gets it whole.
	sendTime   = 30 * time.Second
	slowestGet = 64 << 10
)

// feedQuery is what is asked of the feed.
type feedQuery struct {
	at   oauth.Position // what the verifier has; zero: nothing
	wait time.Duration  // for how long it waits for news
}

// feed answers with the signed feed of revocations: the full one, or what was added
// after a position. With wait it answers as soon as something was, and when that time
// is over otherwise.
func (h *Handler) feed(c echo.Context) error {
	q, err := readFeedQuery(c.Request().URL.RawQuery)
	if err != nil {
		c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
		return writeJSON(c, err.Status, err.Explained(h.Issuer))
	}
	ctx := c.Request().Context()
	if q.wait > 0 {
		allow(c, q.wait)
		h.awaitNews(ctx, q)
	}
	d, failed := h.Feed.Since(ctx, q.at)
	switch {
	case ctx.Err() != nil:
		h.Note(c, slog.String("outcome", "client_gone"))
		return writeJSON(c, http.StatusServiceUnavailable, oauth.Errorf(oauth.TemporarilyUnavailable, "The request was given up.").Explained(h.Issuer))
	case failed != nil:
		return h.later(c, "the feed of revocations is not given out", failed,
			"This replica does not know whether it knows every revocation: go on with the feed that you have, and ask again shortly.")
	}
	cacheControl := public(h.Feed.MaxAge(d))
	if q.wait > 0 && d.Position == q.at {
		cacheControl = "no-store" // or a cache would answer the next that waits at once
	}
	allow(c, time.Duration(len(d.Body)/slowestGet)*time.Second)
	return writeTagged(c, "application/jwt", cacheControl, signatureTag(d.Body), d.Body)
}

// signatureTag is an ETag: a signature is as good a digest as any.
func signatureTag(jws []byte) string { return `"` + string(jws[max(0, len(jws)-22):]) + `"` }

// awaitNews returns when the list is not where the verifier is, and at the latest
// when its time is over, the server ends, or too many wait already.
func (h *Handler) awaitNews(ctx context.Context, q feedQuery) {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > int64(cmp.Or(h.MaxWaiting, mostWaiting)) {
		return
	}
	over := time.NewTimer(q.wait)
	defer over.Stop()
	for {
		moved := h.Feed.List.Moved() // first, so that nothing happens unseen
		if h.Feed.List.Position() != q.at {
			return
		}
		select {
		case <-moved:
		case <-over.C:
			return
		case <-h.Closing:
			return
		case <-ctx.Done():
			return
		}
	}
}

// allow gives a request that takes longer than others the time for it. The server
// bounds reading, too: without that it would take the client for gone. A writer
// that has no deadlines needs none.
func allow(c echo.Context, longer time.Duration) {
	controller, until := http.NewResponseController(c.Response()), time.Now().Add(longer+sendTime)
	if err := errors.Join(controller.SetReadDeadline(until), controller.SetWriteDeadline(until)); err != nil {
		return
	}
}

// wholeNumber is one that every integer type holds.
var wholeNumber = regexp.MustCompile(`^[0-9]{1,18}$`)

// readFeedQuery reads the parameters. None is quoted: it may hold anything.
func readFeedQuery(raw string) (q feedQuery, mistake *oauth.Error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, oauth.Errorf(oauth.InvalidRequest, "The query is malformed: write it as epoch=1&since=42&wait=25.")
	}
	numbers := map[string]int64{}
	for name, given := range values {
		switch {
		case name != "epoch" && name != "since" && name != "wait":
			return q, oauth.Errorf(oauth.InvalidRequest, "This address takes the parameters epoch, since and wait, and no others.")
		case len(given) > 1:
			return q, oauth.Errorf(oauth.InvalidRequest, "The parameter %s is there more than once: send it once.", name)
		case !wholeNumber.MatchString(given[0]):
			return q, oauth.Errorf(oauth.InvalidRequest, "The parameter %s is not a whole number of 1 to 18 digits.", name)
		}
		numbers[name], _ = strconv.ParseInt(given[0], 10, 64) // it fits
	}
	_, hasEpoch := numbers["epoch"]
	if _, hasSince := numbers["since"]; !hasSince {
		return q, nil // whoever has nothing has nothing to wait for
	} else if !hasEpoch {
		return q, oauth.Errorf(oauth.InvalidRequest, "The parameter since needs epoch beside it: both are in the feed that you have, as seq and epoch.")
	}
	q.at = oauth.Position{Epoch: numbers["epoch"], Sequence: numbers["since"]}
	q.wait = time.Duration(min(numbers["wait"], int64(longestWait/time.Second))) * time.Second
	return q, nil
}

// feedKeys answers with the keys that sign the feed (RFC 7517 §5). They rotate as
// those of tokens do.
func (h *Handler) feedKeys(c echo.Context) error { return h.writeKeys(c, h.FeedRing) }
