package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
)

const (
	// writePatience is how long a fetch waits for the file to be written.
	writePatience = 500 * time.Millisecond
	// A disk that took long is left alone for writeRest times as long, within
	// maxWriteRest.
	writeRest, maxWriteRest = 4, 5 * time.Second
	// confirmEvery is by how many seconds the list has to be of a later time for that
	// alone to be written.
	confirmEvery = 10
)

// feedFile keeps the list for the next start.
type feedFile struct {
	path   string // empty: there is none
	issuer string
	turn   chan struct{} // held by who writes

	mu      sync.Mutex
	whole   bool           // whether it holds anything that can be read
	holds   oauth.Position // how far what it holds goes
	at      int64          // of when that is, as its iat
	failure error
}

func (f *feedFile) status() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failure
}

// load reads the file. It is not fatal when that fails: everything is fetched
// then.
func (f *Feed) load() {
	if f.file.path == "" {
		return
	}
	text, err := readOwn(f.file.path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = f.restore(text)
	}
	if err != nil {
		f.file.failure = fmt.Errorf("%s: %w", f.file.path, err)
		return
	}
	f.tell(f.list.Position)
	f.file.whole, f.file.holds = true, f.told // at is left at 0, so that it is written again soon
}

// restore takes in what the file holds. If that is of a time to come it is denied,
// and nothing is fresh.
func (f *Feed) restore(text []byte) error {
	kept, err := parseFeed(text)
	switch {
	case err != nil:
		return fmt.Errorf("not a file of ours: %w", err)
	case kept.Issuer != f.config.Issuer:
		return fmt.Errorf("it holds the revocations of %q", kept.Issuer)
	}
	update := FeedUpdate{Position: kept.Position, Entries: kept.Entries}
	now := f.config.Now()
	if at := time.Unix(kept.IssuedAt, 0); kept.IssuedAt > 0 && !at.After(now.Add(feedSkew)) {
		update.At = at
	}
	failure := update.check(now)
	if failure == nil {
		_, failure = f.add(&update, oauth.Position{}, now)
	}
	if failure != nil {
		return failure
	}
	return nil
}

// keep has the file written if it does not hold what is known, and then tells how
// far that goes. It reports whether that is done. A disk that takes long does not
// keep the feed from being followed: the rest happens in the background.
func (f *Feed) keep() (done bool) {
	if f.file.path == "" {
		return true
	}
	patience := time.NewTimer(writePatience)
	defer patience.Stop()
	select {
	case f.file.turn <- struct{}{}:
	case <-patience.C:
		return false // who has the turn writes again
	}
	written := make(chan struct{})
	go f.write(written)
	select {
	case <-written:
		return true
	case <-patience.C:
		return false
	}
}

// write writes the file, and again what came while that took long. Then it ends the
// turn.
func (f *Feed) write(once chan<- struct{}) {
	defer func() { <-f.file.turn }()
	took := f.save()
	close(once)
	for took > gatherTime {
		rest(context.Background(), min(writeRest*took, maxWriteRest))
		took = f.save()
	}
}

// finish writes what is not written yet.
func (f *Feed) finish() {
	if f.file.path == "" {
		return
	}
	f.file.turn <- struct{}{}
	f.save()
	<-f.file.turn
}

// save writes the file if it does not hold what is known, tells how far that goes,
// and returns how long it took if it succeeded. When the file cannot be written that
// is told all the same: this process does deny it. Call it with the turn.
func (f *Feed) save() (took time.Duration) {
	if !f.loaded.Load() || f.saved() {
		return 0
	}
	began := f.elapsed()
	kept := f.snapshot()
	text, err := json.Marshal(kept)
	if err == nil {
		err = replaceFile(f.file.path, text)
	}
	f.file.mu.Lock()
	f.file.failure = err
	if err == nil {
		f.file.whole, f.file.holds, f.file.at = true, kept.Position, kept.IssuedAt
	}
	f.file.mu.Unlock()
	f.mu.Lock()
	f.tell(kept.Position)
	f.mu.Unlock()
	if err != nil {
		return 0
	}
	return f.elapsed() - began
}

// saved reports whether the file holds what is known, and nearly of when.
func (f *Feed) saved() bool {
	f.mu.RLock()
	at, position := f.list.since1970(), f.list.Position
	f.mu.RUnlock()
	f.file.mu.Lock()
	defer f.file.mu.Unlock()
	return f.file.whole && f.file.failure == nil && position == f.file.holds && at-f.file.at < confirmEvery
}

// snapshot is the list in the form of a full feed.
func (f *Feed) snapshot() oauth.Feed {
	f.mu.RLock()
	defer f.mu.RUnlock()
	kept := oauth.Feed{Issuer: f.config.Issuer, IssuedAt: f.list.since1970(), Position: f.list.Position, Entries: slices.AppendSeq(make([]oauth.FeedEntry, 0, len(f.list.entries)), maps.Values(f.list.entries))}
	return kept
}
