package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"unicode/utf8"

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
// directly at our own API. Record sets ID, and Count if it is zero.
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
	Batch    int64 `db:"batch"` // the number of its event on the chain
	Position int64 `db:"position"`
	Exchange
}

const exchangeColumns = `batch, position, id, at, workspace_id, key_id, owner_id, secret_id, action, outcome, address, agent, request_id, detail, count`

func (r exchangeRow) values() []any {
	return []any{
		r.Batch, r.Position, r.ID, r.At, r.WorkspaceID, r.KeyID, r.OwnerID, r.SecretID,
		r.Action, r.Outcome, r.Address, r.Agent, r.RequestID, r.Detail, r.Count,
	}
}

// leaf is the row's hash in the tree: of every column, in canonical JSON.
func (r exchangeRow) leaf() [sha256.Size]byte {
	return leafHash(canonical([]any{
		r.Batch, r.Position, r.ID, r.At.UnixMicro(), r.WorkspaceID, r.KeyID, r.OwnerID, r.SecretID,
		r.Action, r.Outcome, r.Address, r.Agent, r.RequestID, r.Detail, r.Count,
	}))
}

// faithful reports whether the hash covers all that the row holds.
func (r exchangeRow) faithful() bool {
	return utf8.ValidString(r.ID + string(r.WorkspaceID) + r.KeyID + r.OwnerID + r.SecretID +
		r.Action + r.Outcome + r.Address + r.Agent + r.RequestID + r.Detail)
}

// rowsOfStatement keeps a statement below the limits of both databases.
const rowsOfStatement = 200

// appendBatch writes a batch and its event. What was dropped before it is told.
func appendBatch(ctx context.Context, tx sqlx.ExtContext, at workspace.Time, batch []Exchange, dropped uint64) error {
	rows := make([]exchangeRow, len(batch))
	e := Event{Chain: Exchanges, At: at, Action: batchAction, ActorKind: serverKind}
	err := appendWith(ctx, tx, e, func(seq int64) (map[string]any, error) {
		leaves := make([][sha256.Size]byte, len(batch))
		for i, exchange := range batch {
			rows[i] = exchangeRow{Batch: seq, Position: int64(i), Exchange: exchange}
			leaves[i] = rows[i].leaf()
		}
		root := merkleRoot(leaves)
		detail := map[string]any{"count": len(batch), "root": hex.EncodeToString(root[:])}
		if dropped > 0 {
			detail["dropped"] = dropped
		}
		return detail, nil
	})
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(rows, rowsOfStatement) {
		if err := insertExchanges(ctx, tx, chunk); err != nil {
			return err
		}
	}
	return nil
}

func insertExchanges(ctx context.Context, tx sqlx.ExtContext, rows []exchangeRow) error {
	var args []any
	for _, r := range rows {
		args = append(args, r.values()...)
	}
	query := `INSERT INTO exchange_events (` + exchangeColumns + `) VALUES ` + tuples(len(rows), len(args)/len(rows))
	_, err := tx.ExecContext(ctx, query, args...)
	return err
}
