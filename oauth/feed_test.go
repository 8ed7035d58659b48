package oauth_test

import (
	"testing"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// Verifiers in other languages make the same of SHA-256 over issuer, kind and id with
// zero bytes between, cut to 16 bytes.
func TestMarks(t *testing.T) {
	marks := oauth.Marks("kid-1", &oauth.Claims{
		Issuer: "https://login.example.com", ID: "token-1", ClientID: "tbk_1", Subject: "sa_1", WorkspaceID: "ws_1",
		KeyGeneration: 1, SubjectGeneration: 2, WorkspaceGeneration: 3,
	})
	want := [5]oauth.Mark{
		{Hash: "6L5FQUHmwe-KAKyAdwHNWQ"}, {Hash: "KPf-tEs-r6LbrURLWyu33w", Generation: 1}, {Hash: "C8WxcYkGPMyJqPwm_LPjIQ", Generation: 2},
		{Hash: "H7MFG9CD5PYdMsaqBFCu2w", Generation: 3}, {Hash: "iRXSqnghPrWPk1hZQpcOAg"},
	}
	if marks != want {
		t.Errorf("%v, want %v", marks, want)
	}
}

func TestFeedEntries(t *testing.T) {
	for _, c := range []struct {
		entry, mark int64 // generations
		denied      bool
	}{{0, 0, true}, {0, 9, true}, {2, 1, true}, {2, 2, false}, {2, 3, false}, {2, 0, true}} {
		if got := (oauth.FeedEntry{Generation: c.entry}).Denies(oauth.Mark{Generation: c.mark}); got != c.denied {
			t.Errorf("an entry of generation %d denies %d: %v", c.entry, c.mark, got)
		}
	}
	entry := func(generation, expiry int64) oauth.FeedEntry {
		return oauth.FeedEntry{Hash: "h", Generation: generation, Expiry: expiry}
	}
	for _, c := range []struct{ a, b, want oauth.FeedEntry }{
		{entry(2, 10), entry(3, 5), entry(3, 10)},
		{entry(3, 5), entry(2, 10), entry(3, 10)},
		{entry(0, 5), entry(2, 10), entry(0, 10)},
		{entry(2, 10), entry(0, 5), entry(0, 10)},
		{entry(2, 10), oauth.FeedEntry{}, entry(2, 10)},
	} {
		if got := c.a.Merge(c.b); got != c.want {
			t.Errorf("%v and %v give %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestPositionBefore(t *testing.T) {
	at := func(epoch, seq int64) oauth.Position { return oauth.Position{Epoch: epoch, Sequence: seq} }
	for _, c := range []struct {
		p, q oauth.Position
		want bool
	}{{at(1, 5), at(1, 6), true}, {at(1, 6), at(1, 6), false}, {at(1, 9), at(2, 1), true}, {at(2, 1), at(1, 9), false}} {
		if got := c.p.Before(c.q); got != c.want {
			t.Errorf("%v before %v: %v", c.p, c.q, got)
		}
	}
}
