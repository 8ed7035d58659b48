package revocation_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"
	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// press is a list with its publisher. It counts signatures.
type press struct {
	*revocation.Publisher
	t      testing.TB
	db     *schema.DB
	sealer *signing.Sealer
	ring   *signing.Ring
	now    atomic.Pointer[time.Time]
	held   atomic.Bool
	signed atomic.Int64
	began  chan struct{} // not nil: signing says here that it begins
	wait   chan struct{} // not nil: it waits for this
}

// pressReader is the database while this replica reaches it.
type pressReader struct {
	sqlx.ExtContext
	away *atomic.Bool
}

func (r pressReader) QueryRowxContext(ctx context.Context, query string, args ...any) *sqlx.Row {
	if r.away.Load() {
		gone, cancel := context.WithCancel(ctx)
		cancel()
		ctx = gone
	}
	return r.ExtContext.QueryRowxContext(ctx, query, args...)
}

// newPress returns a publisher over a database, and what takes that away.
func newPress(t testing.TB, db *schema.DB) (p *press, away *atomic.Bool) {
	t.Helper()
	away = new(atomic.Bool)
	sealer, err := signing.ParseSealer(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 32)))
	check(t, err)
	from := pressReader{db.Reader(), away}
	p = &press{t: t, db: db, sealer: sealer, ring: &signing.Ring{Purpose: signing.Feed, Reader: from, Sealer: sealer, Timing: signing.DefaultTiming}}
	p.now.Store(&noon.Time)
	p.held.Store(true)
	clock := func() time.Time { return *p.now.Load() }
	list := &revocation.List{Issuer: issuer, Reader: from, Held: p.held.Load, Now: clock}
	p.Publisher = &revocation.Publisher{List: list, Keys: p, Now: clock}
	p.insert(signing.FeedSlot())
	check(t, p.ring.Load(t.Context()))
	load(t, list)
	return p, away
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *press) insert(slot signing.Slot) {
	p.t.Helper()
	key, err := signing.Generate(p.sealer, slot, signing.Active, noon)
	check(p.t, err)
	_, err = signing.Insert(p.t.Context(), p.db.Writer(), key)
	check(p.t, err)
}

// Active implements revocation.Signer.
func (p *press) Active(ctx context.Context, algorithm string) (*signing.Key, error) {
	p.signed.Add(1)
	if p.began != nil {
		p.began <- struct{}{}
	}
	if p.wait != nil {
		<-p.wait
	}
	return p.ring.Active(ctx, algorithm)
}

func (p *press) after(d time.Duration) {
	now := p.now.Load().Add(d)
	p.now.Store(&now)
}

// deny appends an entry for each ID and takes them in.
func (p *press) deny(ids ...string) {
	p.t.Helper()
	var entries []revocation.Entry
	for _, id := range ids {
		entries = append(entries, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: id, Generation: 2, At: workspace.At(*p.now.Load())})
	}
	appendTo(p.t, p.db, entries...)
	load(p.t, p.List)
}

// read verifies a document, as a service does, and checks that it says what it is.
func (p *press) read(d *revocation.Document) (feed oauth.Feed) {
	p.t.Helper()
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithoutClaimsValidation())
	var payload jwt.MapClaims
	token, err := parser.ParseWithClaims(string(d.Body), &payload, func(token *jwt.Token) (any, error) {
		_, public, ok := p.ring.Find(token.Header["kid"].(string))
		if !ok {
			return nil, fmt.Errorf("unknown kid %v", token.Header["kid"])
		}
		return public, nil
	})
	if err != nil || token.Header["typ"] != "revocation-feed+jwt" {
		p.t.Fatalf("the feed does not verify: %v", err)
	}
	text, err := json.Marshal(payload)
	check(p.t, err)
	check(p.t, json.Unmarshal(text, &feed))
	if feed.Issuer != issuer || feed.Position != d.Position || feed.From != d.From || feed.IssuedAt != d.IssuedAt.Unix() || feed.Expiry != feed.IssuedAt+60 {
		p.t.Errorf("the feed is %+v and the document %+v", feed, d)
	}
	return feed
}

func (p *press) full() *revocation.Document {
	p.t.Helper()
	d, err := p.Since(p.t.Context(), oauth.Position{})
	check(p.t, err)
	return d
}

func (p *press) since(at oauth.Position) *revocation.Document {
	p.t.Helper()
	d, err := p.Since(p.t.Context(), at)
	check(p.t, err)
	return d
}

func feedHashes(feed oauth.Feed) (found []string) {
	for _, e := range feed.Entries {
		found = append(found, e.Hash)
	}
	return found
}

func keyHashes(ids ...string) (found []string) {
	for _, id := range ids {
		found = append(found, oauth.RevocationHash(issuer, oauth.RevocableKey, id))
	}
	return found
}

// The feed says what is denied and how far it goes; a delta only what is new. One
// subject is there once, and what has expired is not.
func TestFeedSaysWhatIsDenied(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		p, _ := newPress(t, db)
		if feed := p.read(p.full()); feed.Entries == nil || len(feed.Entries) > 0 || feed.From != 0 {
			t.Errorf("an empty feed is %+v", feed)
		}
		p.deny("b", "a")
		first := p.read(p.full())
		if diff := cmp.Diff(keyHashes("b", "a"), feedHashes(first)); diff != "" || first.From != 0 || first.Sequence != 2 {
			t.Errorf("the full feed is %+v: %s", first, diff)
		}
		p.after(30 * time.Minute)
		p.deny("c", "a", "a")
		if diff := cmp.Diff(keyHashes("b", "a", "c"), feedHashes(p.read(p.full()))); diff != "" {
			t.Errorf("the full feed: %s", diff)
		}
		delta := p.read(p.since(first.Position))
		if diff := cmp.Diff(keyHashes("c", "a"), feedHashes(delta)); diff != "" || delta.From != 2 || delta.Sequence != 5 {
			t.Errorf("the delta is %+v: %s", delta, diff)
		}
		if feed := p.read(p.since(delta.Position)); len(feed.Entries) > 0 || feed.From != 5 || feed.Sequence != 5 {
			t.Errorf("a delta of nothing is %+v", feed)
		}
		p.after(40 * time.Minute) // the first two have expired
		if diff := cmp.Diff(keyHashes("c", "a"), feedHashes(p.read(p.full()))); diff != "" {
			t.Errorf("the full feed at the end: %s", diff)
		}
	})
}

// Positions that say nothing to this list get the full feed.
func TestFeedIsFullForStrangers(t *testing.T) {
	p, _ := newPress(t, schematest.SQLite(t))
	p.deny("a", "b")
	at := p.List.Position()
	for _, from := range []oauth.Position{
		{}, {Epoch: at.Epoch}, {Epoch: at.Epoch, Sequence: 3}, {Epoch: at.Epoch + 1, Sequence: 1}, {Epoch: at.Epoch - 1, Sequence: 1}, {Sequence: 1},
	} {
		if d := p.since(from); d.From != 0 || d.Position != at || p.read(d).Entries == nil {
			t.Errorf("since %+v: %+v", from, d.Position)
		}
	}
	// A new epoch goes on with the numbers of the one before.
	check(t, p.db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		_, err := revocation.NextEpoch(ctx, tx, at.Epoch, noon)
		return err
	}))
	load(t, p.List)
	if d := p.since(oauth.Position{Epoch: at.Epoch, Sequence: 1}); d.From != 0 || d.Epoch == at.Epoch || len(p.read(d).Entries) != 2 {
		t.Errorf("since an older epoch: %+v", d.Position)
	}
	if d := p.since(oauth.Position{Epoch: noon.Unix(), Sequence: 1}); d.From != 1 || len(p.read(d).Entries) != 1 {
		t.Errorf("in the new epoch: from %d, %+v", d.From, d.Position)
	}
}

// However many ask, at once or one after the other, one signature serves them until
// something is added or five seconds are over.
func TestFeedIsSignedOnceForAll(t *testing.T) {
	p, _ := newPress(t, schematest.SQLite(t))
	p.deny("a", "b")
	at := oauth.Position{Epoch: p.List.Position().Epoch, Sequence: 1}
	for name, get := range map[string]func() (*revocation.Document, error){
		"full":  func() (*revocation.Document, error) { return p.Since(t.Context(), oauth.Position{}) },
		"delta": func() (*revocation.Document, error) { return p.Since(t.Context(), at) },
	} {
		burst := func(want int64) *revocation.Document {
			t.Helper()
			p.signed.Store(0)
			p.wait = make(chan struct{})
			var running sync.WaitGroup
			var bodies sync.Map
			for range 1000 {
				running.Go(func() {
					d, err := get()
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					bodies.Store(string(d.Body), d)
				})
			}
			close(p.wait)
			running.Wait()
			if n := p.signed.Load(); n != want {
				t.Errorf("%s: %d signatures for 1000 requests, want %d", name, n, want)
			}
			var one *revocation.Document
			different := 0
			bodies.Range(func(_, d any) bool { one, different = d.(*revocation.Document), different+1; return true })
			if different != 1 {
				t.Errorf("%s: %d different answers", name, different)
			}
			return one
		}
		first := burst(1)
		p.after(revocation.FeedInterval - time.Millisecond)
		burst(0)
		p.after(time.Millisecond)
		if later := burst(1); !later.IssuedAt.Equal(first.IssuedAt.Add(5*time.Second)) || later.Position != first.Position {
			t.Errorf("%s: after 5 s it is of %s", name, later.IssuedAt)
		}
		p.after(-time.Minute)
		if back := burst(1); back.IssuedAt.After(*p.now.Load()) {
			t.Errorf("%s: after the clock was set back it is of %s", name, back.IssuedAt)
		}
		p.deny("more")
		if next := burst(1); !first.Before(next.Position) {
			t.Errorf("%s: after an addition it is at %+v", name, next.Position)
		}
	}
}

// A caller who gives up does not take the signature from the others.
func TestFeedOfACallerWhoGivesUp(t *testing.T) {
	p, _ := newPress(t, schematest.SQLite(t))
	p.began, p.wait = make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := p.Since(ctx, oauth.Position{})
		gone <- err
	}()
	<-p.began
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("it gets %v", err)
	}
	close(p.wait)
	if p.read(p.full()); p.signed.Load() != 1 {
		t.Errorf("%d signatures, want 1", p.signed.Load())
	}
}

// Nothing is signed that may lack something: without the lease, while the database
// does not answer, the last feed is given out as it is until it has expired.
func TestFeedWithoutTheLease(t *testing.T) {
	p, away := newPress(t, schematest.SQLite(t))
	p.deny("a", "b")
	at := oauth.Position{Epoch: p.List.Position().Epoch, Sequence: 1}
	before, delta := p.full(), p.since(at)
	p.held.Store(false)
	away.Store(true)
	p.signed.Store(0)
	p.after(59 * time.Second)
	for name, wanted := range map[string]*revocation.Document{"full": before, "delta": delta} {
		from := map[string]oauth.Position{"delta": at}[name]
		if d := p.since(from); !bytes.Equal(d.Body, wanted.Body) || d.IssuedAt != wanted.IssuedAt {
			t.Errorf("the %s feed was signed anew", name)
		}
	}
	if d := p.since(p.List.Position()); d != before {
		t.Errorf("a delta that nobody asked for before: from %d", d.From)
	}
	if age := p.MaxAge(before); age != 0 {
		t.Errorf("a cache may keep it for %s", age)
	}
	p.after(time.Second)
	for _, from := range []oauth.Position{{}, at} {
		if d, err := p.Since(t.Context(), from); !errors.Is(err, revocation.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("after its end: %v, %v", d, err)
		}
	}
	if n := p.signed.Load(); n != 0 {
		t.Errorf("%d signatures", n)
	}
	// When the database answers again the list is brought up to date first.
	appendTo(t, p.db, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: "c", At: noon})
	away.Store(false)
	if feed := p.read(p.full()); len(feed.Entries) != 3 || feed.IssuedAt != p.now.Load().Unix() {
		t.Errorf("then it is %+v", feed)
	}
}

// What was acknowledged before its iat is in a feed, also if the clock moves while
// it is made.
func TestFeedIsCompleteAsOfItsTime(t *testing.T) {
	p, _ := newPress(t, schematest.SQLite(t))
	p.after(400 * time.Millisecond)
	began := *p.now.Load()
	p.List.Held = func() bool {
		p.after(3 * time.Second)
		return true
	}
	if d := p.full(); d.IssuedAt.After(began) || began.Sub(d.IssuedAt) >= time.Second || d.IssuedAt.Nanosecond() != 0 {
		t.Errorf("iat is %s, and the list was looked at after %s", d.IssuedAt, began)
	}
}

// A publisher cannot be made to sign with a key for tokens.
func TestFeedIsNotSignedWithAKeyForTokens(t *testing.T) {
	p, _ := newPress(t, schematest.SQLite(t))
	p.insert(signing.TokenSlot(signing.FeedAlgorithm))
	tokens := &signing.Ring{Reader: p.db.Reader(), Sealer: p.sealer, Timing: signing.DefaultTiming}
	check(t, tokens.Load(t.Context()))
	p.Keys = tokens
	if d, err := p.Since(t.Context(), oauth.Position{}); !errors.Is(err, revocation.ErrUnavailable) {
		t.Errorf("it signs %+v, %v", d, err)
	}
}

// Whoever asks from too many places, or from too far behind, costs no memory: they
// get the full feed.
func TestFeedKeepsSoManyDeltas(t *testing.T) {
	p, _ := newPress(t, schematest.SQLite(t))
	var ids []string
	for i := range 300 {
		ids = append(ids, fmt.Sprint(i))
	}
	p.deny(ids...)
	epoch := p.List.Position().Epoch
	deltas := 0
	for range 2 {
		deltas = 0
		for seq := range int64(300) {
			if p.since(oauth.Position{Epoch: epoch, Sequence: seq + 1}).From > 0 {
				deltas++
			}
		}
	}
	if n := p.signed.Load(); deltas != 256 || n != 257 {
		t.Errorf("%d deltas, %d signatures; want 256, and one for the full feed", deltas, n)
	}
	p.deny("more")
	if p.since(oauth.Position{Epoch: epoch, Sequence: 300}).From != 300 {
		t.Error("at the next position there is no room")
	}
	// A gap that large is nothing to be sent in pieces.
	_, err := p.db.Writer().ExecContext(t.Context(), `UPDATE revocation_counter SET seq = seq + 300000`)
	check(t, err)
	p.deny("last")
	if d := p.since(oauth.Position{Epoch: epoch, Sequence: 300}); d.From != 0 || len(p.read(d).Entries) != 302 {
		t.Errorf("from %d", d.From)
	}
}

// A verifier that takes in a full feed and then deltas, in whatever steps, has what
// one has that takes in a full feed at the end.
func TestDeltasAddUp(t *testing.T) {
	db := schematest.SQLite(t)
	p, _ := newPress(t, db)
	generations := map[string]int64{}
	rapid.Check(t, func(rt *rapid.T) {
		p.t = t
		mine := feedReader{}
		mine.take(p.read(p.full()))
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			p.after(time.Duration(rapid.IntRange(0, 40).Draw(rt, "minutes")) * time.Minute)
			var entries []revocation.Entry
			for range rapid.IntRange(0, 5).Draw(rt, "entries") {
				id := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "id")
				generations[id]++
				entries = append(entries, revocation.Entry{Kind: oauth.RevocableKey, SubjectID: id, Generation: generations[id], At: workspace.At(*p.now.Load())})
			}
			appendTo(t, db, entries...)
			load(t, p.List)
			if rapid.Bool().Draw(rt, "polls") {
				mine.take(p.read(p.since(mine.at)))
			}
		}
		mine.take(p.read(p.since(mine.at)))
		theirs := feedReader{}
		theirs.take(p.read(p.full()))
		now := p.now.Load().Unix()
		if diff := cmp.Diff(theirs.matters(now), mine.matters(now)); diff != "" || mine.at != theirs.at {
			rt.Errorf("at %+v instead of %+v: %s", mine.at, theirs.at, diff)
		}
	})
}

// feedReader is what a service keeps of the feeds.
type feedReader struct {
	at      oauth.Position
	entries map[string]oauth.FeedEntry
}

func (v *feedReader) take(feed oauth.Feed) {
	if feed.From == 0 || v.entries == nil {
		v.entries = map[string]oauth.FeedEntry{}
	}
	for _, e := range feed.Entries {
		before, ok := v.entries[e.Hash]
		if ok && before.Generation > e.Generation {
			e.Generation = before.Generation
		}
		e.Expiry = max(e.Expiry, before.Expiry)
		v.entries[e.Hash] = e
	}
	v.at = feed.Position
}

// matters are the entries that have not expired.
func (v *feedReader) matters(now int64) map[string]oauth.FeedEntry {
	found := map[string]oauth.FeedEntry{}
	for hash, e := range v.entries {
		if e.Expiry > now {
			found[hash] = e
		}
	}
	return found
}
