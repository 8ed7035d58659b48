package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

var noon = workspace.At(time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC))

var errGivenUp = errors.New("given up")

// However transactions interleave and whichever of them fail, the numbers that
// are committed have no gap.
func TestSequenceIsGapless(t *testing.T) {
	const writers, each = 4, 10
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		var running sync.WaitGroup
		for range writers {
			running.Go(func() {
				for i := range each {
					err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
						_, err := revocation.Append(ctx, tx, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "tbk_1", Generation: 2, At: noon})
						if err == nil && i%2 == 1 {
							err = errGivenUp
						}
						return err
					})
					if err != nil && !errors.Is(err, errGivenUp) {
						t.Errorf("append: %v", err)
					}
				}
			})
		}
		running.Wait()
		entries, err := revocation.Since(t.Context(), db.Reader(), 0, 1000)
		if err != nil || len(entries) != writers*each/2 {
			t.Fatalf("%d entries, %v; want %d", len(entries), err, writers*each/2)
		}
		for i, e := range entries {
			if e.Seq != int64(i+1) {
				t.Errorf("entry %d has the number %d", i+1, e.Seq)
			}
			if e.Kind != oauth.RevocableKey || e.Generation != 2 || e.ExpiresAt.Sub(noon.Time) <= keys.MaxTokenTTL {
				t.Errorf("entry %d is %+v", i+1, e)
			}
		}
		rest, err := revocation.Since(t.Context(), db.Reader(), entries[17].Seq, 1)
		if err != nil || len(rest) != 1 || rest[0].Seq != 19 {
			t.Errorf("after 18: %+v, %v", rest, err)
		}
	})
}

// Many at once follow each other, in their order.
func TestAppendMany(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		for _, n := range []int{0, 1, 1203} {
			var entries []revocation.Entry
			for i := range n {
				entries = append(entries, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: fmt.Sprint(i), Generation: int64(i + 2), At: noon})
			}
			err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
				_, err := revocation.Append(ctx, tx, entries...)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		entries, err := revocation.Since(t.Context(), db.Reader(), 0, 2000)
		if err != nil || len(entries) != 1204 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		for i, e := range entries[1:] {
			if e.Seq != int64(i+2) || e.SubjectID != fmt.Sprint(i) || e.Generation != int64(i+2) {
				t.Fatalf("entry %d is %+v", i+2, e)
			}
		}
	})
}

// What has expired goes when its retention is over, and takes no number with it.
func TestPrune(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		later := workspace.At(noon.Add(time.Hour))
		appendTo(t, db, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "old", At: noon}, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "newer", At: later})
		old, err := revocation.Find(t.Context(), db.Reader(), 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			now  time.Time
			want int64
		}{{old.ExpiresAt.Add(revocation.Retention), 0}, {old.ExpiresAt.Add(revocation.Retention + time.Second), 1}} {
			if n, err := revocation.Prune(t.Context(), db.Writer(), c.now); err != nil || n != c.want {
				t.Errorf("%d rows are pruned, %v; want %d", n, err, c.want)
			}
		}
		if _, err := revocation.Find(t.Context(), db.Reader(), 1); !errors.Is(err, workspace.ErrNotFound) {
			t.Errorf("the pruned row: %v", err)
		}
		if last := appendTo(t, db, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "newest", At: later}); last != 3 {
			t.Errorf("the next number is %d", last)
		}
	})
}
