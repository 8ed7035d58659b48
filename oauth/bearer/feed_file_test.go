package bearer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// nobody is a source that is never asked.
func nobody(t *testing.T) bearer.FeedSource {
	t.Helper()
	return sourceFunc(func(context.Context, oauth.Position, time.Duration) (bearer.FeedUpdate, error) {
		t.Error("it fetches")
		return bearer.FeedUpdate{}, errDown
	})
}

// A service that starts anew knows every revocation from its first request on,
// and is fresh only as long as it would have been.
func TestFeedStartsFromItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "feed.json")
		s := newSlowSource()
		s.keys = []string{"tbk_1", "tbk_2"}
		first := makeFeed(t, bearer.FeedConfig{Issuer: issuerName, Source: s, File: path})
		if status := first.Status(); status.File != nil || status.Loaded {
			t.Errorf("without a file: %+v", status)
		}
		refresh(t, first)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file: %v, %v", info, err)
		}
		again := func(step time.Duration) *bearer.Feed {
			return makeFeed(t, bearer.FeedConfig{Issuer: issuerName, Source: nobody(t), File: path, Now: func() time.Time { return time.Now().Add(step) }})
		}
		pass(40 * time.Second)
		second := again(0)
		if status := second.Status(); status.Position != first.Position() || status.Entries != 2 || status.Age != 40*time.Second || !status.Loaded {
			t.Errorf("status %+v", status)
		}
		denies(t, second, claimsOf("tbk_2", 9), bearer.ErrRevoked)
		denies(t, second, claimsOf("tbk_3", 9), nil)
		fresh(t, second, nil)
		pass(20*time.Second + 1)
		fresh(t, second, bearer.ErrStale)
		denies(t, second, claimsOf("tbk_2", 9), bearer.ErrRevoked)
		third := again(0)
		denies(t, third, claimsOf("tbk_2", 9), bearer.ErrRevoked)
		fresh(t, third, bearer.ErrStale)
		early := again(-time.Hour) // whose clock is set to before all that
		denies(t, early, claimsOf("tbk_2", 9), bearer.ErrRevoked)
		fresh(t, early, bearer.ErrStale)
		late := again(700 * time.Second)
		denies(t, late, claimsOf("tbk_2", 9), bearer.ErrRevoked) // by this clock alone it is over

		// It goes on from there, and confirms at once what it knows.
		s.fetched()
		last := running(t, s, func(c *bearer.FeedConfig) { c.File = path })
		fresh(t, last, nil)
		if waits, _ := s.fetched(); len(waits) != 2 || waits[0] != 0 || s.position.Sequence != 2 {
			t.Errorf("it asked with %v for what is after %+v", waits, s.position)
		}
	})
}

// A revocation is in the file at once, and many at once do not cause as many writes.
func TestFeedWritesItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "feed.json")
		s := newSlowSource()
		ctx, stop := context.WithCancel(t.Context())
		f := makeFeed(t, bearer.FeedConfig{Issuer: issuerName, Source: s, File: path})
		done := make(chan struct{})
		go func() { defer close(done); f.Run(ctx) }()
		synctest.Wait()
		writes, last := 0, os.FileInfo(nil)
		look := func() (kept oauth.Feed) {
			t.Helper()
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if last == nil || !os.SameFile(info, last) {
				writes, last = writes+1, info
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &kept); err != nil {
				t.Fatal(err)
			}
			return kept
		}
		look()
		pass(5 * time.Second)
		writes = 0
		for i := range 50 {
			s.revoke(fmt.Sprint("tbk_", i))
			pass(10 * time.Millisecond)
			look()
		}
		if writes < 4 || writes > 7 {
			t.Errorf("%d writes in half a second", writes)
		}
		pass(100 * time.Millisecond)
		if kept := look(); kept.Sequence != 50 || len(kept.Entries) != 50 || kept.Issuer != issuerName {
			t.Errorf("a moment later it holds %d of %s at %+v", len(kept.Entries), kept.Issuer, kept.Position)
		}
		pass(45 * time.Second)
		if kept := look(); time.Since(time.Unix(kept.IssuedAt, 0)) > 25*time.Second {
			t.Errorf("while nothing is revoked it is of %d", kept.IssuedAt)
		}
		s.revoke("tbk_50")
		s.revoke("tbk_51")
		pass(200 * time.Millisecond)
		s.revoke("tbk_52")
		pass(200 * time.Millisecond)
		stop()
		<-done
		if kept := look(); kept.Sequence != 53 {
			t.Errorf("at the end it holds %+v", kept.Position)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
			t.Errorf("%d files are left, %v", len(left), err)
		}
	})
}

// Whoever is told of a position may rely on the file: if the process is killed then,
// the next one denies all that.
func TestFeedTellsWhatItsFileHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "feed.json")
		check := func(who string, told oauth.Position) {
			var kept oauth.Feed
			text, err := os.ReadFile(path)
			if err == nil {
				err = json.Unmarshal(text, &kept)
			}
			if err != nil || kept.Before(told) || int64(len(kept.Entries)) < told.Sequence {
				t.Errorf("%s is told of %+v, and the file has %d entries at %+v: %v", who, told, len(kept.Entries), kept.Position, err)
			}
		}
		s := newSlowSource()
		var events atomic.Int64
		f := running(t, s, func(c *bearer.FeedConfig) {
			c.File = path
			c.Observe = func(e bearer.FeedEvent) {
				check("Observe", e.Position)
				if e.Moved {
					events.Add(1)
				}
			}
		})
		ctx, stop := context.WithCancel(t.Context())
		var asks sync.WaitGroup
		var wakes atomic.Int64
		asks.Go(func() {
			for moved := f.Moved(); ; moved = f.Moved() {
				check("who asks", f.Position())
				check("a health page", f.Status().Position)
				select {
				case <-moved:
					wakes.Add(1)
				case <-ctx.Done():
					return
				}
			}
		})
		for i := range 20 {
			key := fmt.Sprint("tbk_", i)
			s.revoke(key)
			if i%5 == 0 {
				refresh(t, f)
			}
			pass(60 * time.Millisecond)
		}
		pass(time.Second)
		stop()
		asks.Wait()
		if p := f.Position(); p.Sequence != 20 || wakes.Load() < 5 || events.Load() < 5 {
			t.Errorf("it is at %+v after %d wakes and %d events", p, wakes.Load(), events.Load())
		}
	})
}

// A file that cannot be trusted, or says something else, is left aside and
// replaced.
func TestFeedLeavesAFileAside(t *testing.T) {
	kept := feedClaims()
	text := jsonText(t, kept)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		says string
	}{
		"of another issuer":  {jsonText(t, with(kept, object{"iss": "https://evil.example.com"})), 0o600, `it holds the revocations of "https://evil.example.com"`},
		"written by others":  {text, 0o602, "can be written by others"},
		"written by a group": {text, 0o660, "can be written by others"},
		"empty":              {"", 0o600, "not a file of ours"},
		"half":               {text[:len(text)/2], 0o600, "not a file of ours"},
		"no entries":         {jsonText(t, with(kept, object{"entries": nil})), 0o600, "not a file of ours"},
		"negative":           {jsonText(t, with(kept, object{"seq": -1})), 0o600, "not a file of ours"},
		"an epoch to come":   {jsonText(t, with(kept, object{"epoch": now.Unix() + 86401})), 0o600, "more than a day to come"},
		"seq over 10^15":     {jsonText(t, with(kept, object{"seq": int64(1e15) + 1})), 0o600, "its seq"},
		"no hash":            {jsonText(t, with(kept, object{"entries": []any{object{"h": "x", "g": 0, "exp": now.Unix()}}})), 0o600, "h is not"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "feed.json")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			s := newES256(t)
			n := newFeedNetwork(t, s)
			n.says(s.feed(t, nil, object{"seq": 1}))
			f := newFeed(t, n, func(c *bearer.FeedConfig) { c.File = path })
			if status := f.Status(); status.File == nil || !strings.Contains(status.File.Error(), c.says) || status.Loaded || status.Entries > 0 {
				t.Errorf("status %+v, want one that says %q", status, c.says)
			}
			denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked)
			if status := f.Status(); status.File != nil {
				t.Errorf("it was not mended: %v", status.File)
			}
			again := newFeed(t, n, func(c *bearer.FeedConfig) { c.File = path })
			if status := again.Status(); status.File != nil || !status.Loaded || status.Position.Sequence != 1 {
				t.Errorf("after that: %+v", status)
			}
			if _, err := os.Stat(path + ".keys"); err != nil {
				t.Errorf("the keys of the feed: %v", err)
			}
		})
	}
}

// A file that cannot be written harms nothing but the next start: what is revoked is
// denied, and told of.
func TestFeedThatCannotWrite(t *testing.T) {
	s := newSlowSource()
	f := makeFeed(t, bearer.FeedConfig{Issuer: issuerName, Source: s, File: filepath.Join(t.TempDir(), "no", "feed.json")})
	refresh(t, f)
	fresh(t, f, nil)
	moved := f.Moved()
	s.revoke("tbk_1")
	refresh(t, f)
	denies(t, f, claimsOf("tbk_1", 1), bearer.ErrRevoked)
	select {
	case <-moved:
	default:
		t.Error("nobody was told")
	}
	if p := f.Position(); p.Sequence != 1 {
		t.Errorf("it is at %+v", p)
	}
	if status := f.Status(); !errors.Is(status.File, os.ErrNotExist) {
		t.Errorf("status %+v, want what is wrong with the file", status)
	}
}

// Whatever the file holds, nothing panics, and what is read is sound.
func FuzzFeedFile(f *testing.F) {
	f.Add(`{"iss":"https://tokens.example.com","iat":1772366390,"exp":0,"epoch":1,"seq":2,"from":0,"entries":[{"h":"AAAAAAAAAAAAAAAAAAAAAA","g":3,"exp":1772367000}]}`)
	f.Add(`{"iss":"https://tokens.example.com","iat":9223372036854775807,"exp":0,"epoch":1,"seq":2,"from":9,"entries":[]}`)
	path := filepath.Join(f.TempDir(), "feed.json")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		feed, err := bearer.NewFeed(bearer.FeedConfig{Issuer: issuerName, Source: sourceFunc(nil), File: path, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		if status := feed.Status(); status.Loaded != (status.File == nil) || status.Age < 0 || (!status.Loaded && status.Entries > 0) {
			t.Errorf("status %+v", status)
		}
	})
}
