package bearer

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// parseFeed reads the payload of a feed. Unlike the claims of a token, all of its
// members have to be there, none may be null, and no number negative.
func parseFeed(payload []byte) (oauth.Feed, error) {
	members, err := oauth.ParseObject(payload)
	if err != nil {
		return oauth.Feed{}, fmt.Errorf("its payload is %w", err)
	}
	var feed oauth.Feed
	if err := json.Unmarshal(members["iss"], &feed.Issuer); err != nil || feed.Issuer == "" {
		return oauth.Feed{}, errors.New("it has no iss")
	}
	for name, field := range map[string]*int64{
		"iat": &feed.IssuedAt, "exp": &feed.Expiry, "epoch": &feed.Epoch, "seq": &feed.Sequence, "from": &feed.From,
	} {
		if *field, err = natural(members[name]); err != nil {
			return oauth.Feed{}, fmt.Errorf("its %s is not a whole number from 0 on", name)
		}
	}
	feed.Entries, err = parseEntries(members["entries"])
	return feed, err
}

func parseEntries(text json.RawMessage) ([]oauth.FeedEntry, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(text, &items); err != nil || items == nil {
		return nil, errors.New("its entries are not a list")
	}
	entries := make([]oauth.FeedEntry, 0, len(items))
	for i, item := range items {
		e, err := parseEntry(item)
		if err != nil {
			return nil, fmt.Errorf("its entry %d: %w", i, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func parseEntry(text json.RawMessage) (e oauth.FeedEntry, err error) {
	members, err := oauth.ParseObject(text)
	if err != nil {
		return e, err
	}
	err = json.Unmarshal(members["h"], &e.Hash)
	if err != nil || !isHash(e.Hash) {
		return e, errors.New("h is not a hash of 22 base64url characters")
	}
	if e.Generation, err = natural(members["g"]); err != nil {
		return e, errors.New("g is not a whole number from 0 on")
	}
	if e.Expiry, err = natural(members["exp"]); err != nil || e.Expiry == 0 {
		return e, errors.New("exp is not a whole number from 1 on")
	}
	return e, nil
}

// isHash reports whether a text can be an oauth.RevocationHash: any other denies
// nothing, whatever whoever wrote it meant.
func isHash(text string) bool {
	var digest [hashDigest]byte
	if len(text) != base64.RawURLEncoding.EncodedLen(hashDigest) {
		return false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(digest[:], []byte(text))
	return err == nil && n == hashDigest
}

// hashDigest is how much of a digest is in a hash, in bytes.
const hashDigest = 16

// natural reads a whole number that is not negative, written without fraction and
// exponent.
func natural(text json.RawMessage) (int64, error) {
	n, err := strconv.ParseUint(string(text), 10, 63)
	return int64(n), err //nolint:gosec // 63 bits
}
