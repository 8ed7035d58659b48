package bearer

import (
	"math"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
)

const (
	// feedSkew is by how much the clocks of issuer and verifier may differ.
	feedSkew = time.Minute
	// pruneEvery is the time between two looks for entries that are not needed.
	pruneEvery = time.Minute
	// longestDenial is for how long after a feed was complete its entries can matter:
	// tokens live for an hour at most. The rest is for clocks that differ.
	longestDenial = 2 * time.Hour

	// Epochs are at most the time in seconds, and what is numbered in them is far below
	// maxNumber. Whoever took a larger one in would refuse all that is true as older,
	// for ever.
	epochSkew = 24 * time.Hour
	maxNumber = 1_000_000_000_000_000
)

// denials are what is denied, as far as it is known. Entries are only ever added,
// and forgotten when they have no effect any more.
type denials struct {
	loaded bool
	oauth.Position
	at      time.Time // complete then, by the issuer's clock; zero: not known of when
	entries map[string]oauth.FeedEntry
	pruned  int64 // the time by which was pruned last, in seconds since 1970
}

// deny reports whether any of the marks is denied. The time does not matter: an
// entry that has expired concerns only tokens that have.
func (d *denials) deny(marks *[5]oauth.Mark) bool {
	for _, mark := range marks {
		if e, ok := d.entries[mark.Hash]; ok && e.Denies(mark) {
			return true
		}
	}
	return false
}

// since1970 is of when the list is, in seconds; 0: it is not known.
func (d *denials) since1970() int64 {
	if d.at.IsZero() {
		return 0
	}
	return d.at.Unix()
}

// check refuses what no issuer says, whoever delivers it.
func (u *FeedUpdate) check(now time.Time) *FeedError {
	switch {
	case u.Epoch < 0 || u.Sequence < 0 || u.From < 0:
		return feedError(FeedRefused, "it has a negative number")
	case u.Sequence < u.From:
		return feedError(FeedRefused, "its seq %d is less than its from %d", u.Sequence, u.From)
	case u.Epoch > now.Add(epochSkew).Unix():
		return feedError(FeedRefused, "its epoch %d is more than a day to come, in seconds since 1970: check the clocks", u.Epoch)
	case u.Sequence > maxNumber:
		return feedError(FeedRefused, "its seq %d is more than %d", u.Sequence, int64(maxNumber))
	case u.At.After(now.Add(feedSkew)):
		return feedError(FeedRefused, "it is of %s, which is in the future: check the clocks", u.At.UTC().Format(time.RFC3339))
	}
	for _, e := range u.Entries {
		if !isHash(e.Hash) || e.Generation < 0 || e.Generation > maxNumber || e.Expiry <= 0 {
			return feedError(FeedRefused, "it has an entry without a hash of 22 base64url characters, without expiry, or with a generation that is not 0 to %d", int64(maxNumber))
		}
	}
	return nil
}

// take takes an update in that was asked for when the list was at a position. An
// error leaves everything as it was.
func (d *denials) take(u *FeedUpdate, asked oauth.Position, now time.Time) *FeedError {
	switch {
	case u.Before(asked):
		return feedError(FeedBackwards, "it is at %d of epoch %d, and %d of epoch %d is known: the issuer was restored, or one of its replicas lags behind",
			u.Sequence, u.Epoch, asked.Sequence, asked.Epoch)
	case u.From > 0 && (!d.loaded || u.Epoch != d.Epoch || u.From > d.Sequence):
		return feedError(FeedGap, "it has what follows %d of epoch %d, and only %d of epoch %d is known", u.From, u.Epoch, d.Sequence, d.Epoch)
	case u.Before(d.Position):
		return nil // another fetch was faster
	}
	d.merge(u, now)
	if !d.loaded || u.At.After(d.at) { // the same position again, or a slow clock, makes nothing older
		d.at = u.At
	}
	d.loaded, d.Position = true, u.Position
	return nil
}

// merge adds entries. Of those with the same hash the strictest counts, for as
// long as any of them, and no longer than any can matter. What had expired by then,
// for whichever clock is slower and with the leeway of verifiers, is left out, and
// now and then looked for.
func (d *denials) merge(u *FeedUpdate, now time.Time) {
	slower, last := min(now.Unix(), u.At.Unix()), int64(math.MaxInt64)
	if !u.At.IsZero() {
		last = u.At.Add(longestDenial).Unix()
	}
	past := slower - int64(feedSkew/time.Second)
	if d.entries == nil {
		d.entries = make(map[string]oauth.FeedEntry, len(u.Entries))
	}
	for _, e := range u.Entries {
		e.Expiry = min(e.Expiry, last)
		if e.Expiry > past {
			d.entries[e.Hash] = e.Merge(d.entries[e.Hash])
		}
	}
	if slower-d.pruned < int64(pruneEvery/time.Second) {
		return
	}
	d.pruned = slower
	for hash, e := range d.entries {
		if e.Expiry <= past {
			delete(d.entries, hash)
		}
	}
}
