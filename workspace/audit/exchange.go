package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// The uses of a key.
const (
	TokenIssue  = "token.issue"
	TokenRefuse = "token.refuse"
	KeyUse      = "key.use" // in place of a token, at our own API
	KeyRefuse   = "key.refuse"
)

// What is said on the chain of exchanges.
const (
	batchAction = "exchanges.batch"
	pruneAction = "exchanges.prune"
)

// serverKind is the actor of what a server does on its own.
const serverKind = "server"

// Exchange is one use of a key: a token issued or refused, or the key itself used
// directly at our own API. The Writer sets ID, and Count if it is zero.
type Exchange struct {
	ID          string         `db:"id"`
	At          workspace.Time `db:"at"`
	WorkspaceID workspace.ID   `db:"workspace_id"` // empty: of no key that exists
	KeyID       string         `db:"key_id"`
	OwnerID     string         `db:"owner_id"`
	SecretID    string         `db:"secret_id"`
	Action      string         `db:"action"`
	Outcome     string         `db:"outcome"` // a word of grant.Outcome
	Address     string         `db:"address"`
	Agent       string         `db:"agent"`
	RequestID   string         `db:"request_id"`
	Detail      string         `db:"detail"` // a JSON object
	Count       int64          `db:"count"`  // how many alike it stands for

	// Fold: those alike become one row, so that somebody who only guesses, or who
	// goes on past the quota, cannot fill the database.
	Fold bool `db:"-"`
}

// exchangeRow is an exchange in its place.
type exchangeRow struct {
	Batch    int64 // the number of its event on the chain
	Position int64
	Exchange
}

// appendBatch writes a batch and its event. What was dropped before it is told.
func (w *Writer) appendBatch(ctx context.Context, tx sqlx.ExtContext, batch []Exchange, dropped uint64) error {
	var bundles []bundle
	p := newPace(w.Pending, w.enough)
	e := Event{Chain: Exchanges, At: workspace.At(time.Now()), Action: batchAction, ActorKind: serverKind}
	err := appendWith(ctx, tx, e, func(seq int64) (map[string]any, error) {
		var root [sha256.Size]byte
		bundles, root = arrange(batch, seq, p)
		detail := map[string]any{"count": len(batch), "root": hex.EncodeToString(root[:])}
		if dropped > 0 {
			detail["dropped"] = dropped
		}
		return detail, nil
	})
	if err != nil {
		return err
	}
	p.rest()
	return w.insert(ctx, tx, bundles, len(batch), p)
}

// arrange makes the bundles of a batch, with the root over its exchanges.
func arrange(batch []Exchange, seq int64, p *pace) ([]bundle, [sha256.Size]byte) {
	for i, id := range exchangeIDs(len(batch)) {
		batch[i].ID = id
	}
	made := newBundler(seq, batch)
	p.rest()
	bundles, leaves := made.bundles(p)
	root := merkleRoot(leaves)
	p.rest()
	return bundles, root
}

// Digits of an exchange's ID that tell its place in its batch, in an alphabet that
// sorts as it counts.
const (
	placeAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	placeDigits   = 4
)

// exchangeIDs makes IDs that sort in the order of their batch. One draw of what is
// unique is enough for all: of its bits at random 44 stay, besides those of the
// time and its order.
func exchangeIDs(n int) []string {
	unique := workspace.Unique()
	prefix := "exc_" + unique[:len(unique)-placeDigits]
	ids := make([]string, n)
	for i := range ids {
		var digits [placeDigits]byte
		for d, rest := placeDigits-1, i; d >= 0; d, rest = d-1, rest/len(placeAlphabet) {
			digits[d] = placeAlphabet[rest%len(placeAlphabet)]
		}
		ids[i] = prefix + string(digits[:])
	}
	return ids
}
