// Package audit owns the record of what happened: hash-chained events, one chain
// per workspace and one for the installation, and the uses of keys, which hang in
// batches on a chain of their own.
//
// An event is appended in the transaction of the change that it records, so that
// neither exists without the other. Each event's hash covers the one before it:
// an edited, removed or reordered row breaks the chain at that place. Uses of
// keys are too many for that: a Writer writes them behind, each batch with one
// event that holds the root of a Merkle tree over it. Verify checks both. Who may
// do or read what is decided in workspace/manage.
package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Chains that are not a workspace's.
const (
	Instance  = "instance"  // of events that belong to no workspace
	Exchanges = "exchanges" // of batches of uses of keys
)

// Event is one thing that happened. Detail holds identifiers and values that
// were set, never a secret.
type Event struct {
	Chain     string         `db:"chain" json:"chain"` // a workspace ID, Instance or Exchanges
	Seq       int64          `db:"seq" json:"seq"`     // 1, 2, 3 … in its chain
	Form      int64          `db:"form" json:"form"`   // what the hash covers: see chained
	ID        string         `db:"id" json:"id"`
	At        workspace.Time `db:"at" json:"at"`
	Action    string         `db:"action" json:"action"`         // noun.verb, such as key.create
	ActorKind string         `db:"actor_kind" json:"actor_kind"` // user, service_account, operator, server
	ActorID   string         `db:"actor_id" json:"actor_id"`
	KeyID     string         `db:"key_id" json:"key_id"` // the API key that the actor used
	SubjectID string         `db:"subject_id" json:"subject_id"`
	OwnerID   string         `db:"owner_id" json:"owner_id"` // the service account or user whom it concerns
	Address   string         `db:"address" json:"address"`
	Agent     string         `db:"agent" json:"agent"`
	RequestID string         `db:"request_id" json:"request_id"`
	Detail    string         `db:"detail" json:"detail"` // a JSON object
	Hash      []byte         `db:"hash" json:"-"`
}

// eventColumns are in the order of values.
const eventColumns = `chain, seq, form, id, at, action, actor_kind, actor_id, key_id, subject_id, owner_id, address, agent, request_id, detail, hash`

func (e Event) values() []any {
	return []any{
		e.Chain, e.Seq, e.Form, e.ID, e.At, e.Action, e.ActorKind, e.ActorID, e.KeyID, e.SubjectID, e.OwnerID,
		e.Address, e.Agent, e.RequestID, e.Detail, e.Hash,
	}
}

// newestForm is the form that Append writes.
const newestForm = 2

// head is the end of a chain.
type head struct {
	Seq  int64  `db:"seq"`
	Hash []byte `db:"hash"`
}

// Append records an event at the end of its chain; it sets ID, Seq, Form, Detail
// and Hash. The chain's head stays locked until the transaction ends.
func Append(ctx context.Context, tx sqlx.ExtContext, e Event, detail map[string]any) error {
	return appendWith(ctx, tx, e, func(int64) (map[string]any, error) { return detail, nil })
}

// appendWith is Append for a detail that depends on the event's number.
func appendWith(ctx context.Context, tx sqlx.ExtContext, e Event, detail func(seq int64) (map[string]any, error)) error {
	e, err := written(ctx, tx, e, detail)
	if err == nil {
		err = insertEvent(ctx, tx, e)
	}
	if err != nil {
		return fmt.Errorf("audit %s: %w", e.Action, err)
	}
	return nil
}

// written completes an event and locks the head of its chain.
func written(ctx context.Context, tx sqlx.ExtContext, e Event, detail func(seq int64) (map[string]any, error)) (Event, error) {
	previous, err := advance(ctx, tx, e.Chain)
	if err != nil {
		return e, err
	}
	values, err := detail(previous.Seq)
	if err != nil {
		return e, err
	}
	if values == nil {
		values = map[string]any{}
	}
	text, err := json.Marshal(values)
	if err != nil {
		return e, err
	}
	e.ID, e.Seq, e.Form, e.Detail = "evt_"+workspace.Unique(), previous.Seq, newestForm, string(text)
	e.Address, e.Agent, e.RequestID = clean(e.Address), clean(e.Agent), clean(e.RequestID)
	e.Hash = e.chained(previous.Hash)
	return e, nil
}

func insertEvent(ctx context.Context, tx sqlx.ExtContext, e Event) error {
	values := e.values()
	_, err := tx.ExecContext(ctx, `INSERT INTO audit_events (`+eventColumns+`) VALUES `+tuples(1, len(values)), values...)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE audit_heads SET hash = ? WHERE chain = ?`, e.Hash, e.Chain)
	return err
}

// advance locks the head of a chain, which it makes if there is none, and returns the
// next number with the hash of the event before it.
func advance(ctx context.Context, tx sqlx.ExtContext, chain string) (h head, err error) {
	const next = `UPDATE audit_heads SET seq = seq + 1 WHERE chain = ? RETURNING seq, hash`
	if err = sqlx.GetContext(ctx, tx, &h, next, chain); !errors.Is(err, sql.ErrNoRows) {
		return h, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO audit_heads (chain, seq, hash) VALUES (?, 0, ?) ON CONFLICT DO NOTHING`, chain, beginning())
	if err != nil {
		return h, err
	}
	return h, sqlx.GetContext(ctx, tx, &h, next, chain)
}

// beginning stands for the hash before a chain's first event.
func beginning() []byte { return make([]byte, sha256.Size) }

// chained is SHA-256 over the previous hash and the event as canonical JSON: an
// array of its columns, the instant in microseconds. Form 1 has the columns that
// there were at first; form 2 has every column, its own number before them.
func (e Event) chained(previous []byte) []byte {
	fields := []any{e.Chain, e.Seq, e.ID, e.At.UnixMicro(), e.Action, e.ActorKind, e.ActorID, e.SubjectID, e.Detail}
	if e.Form != 1 {
		fields = append([]any{e.Form}, append(fields, e.KeyID, e.OwnerID, e.Address, e.Agent, e.RequestID)...)
	}
	h := sha256.New()
	h.Write(previous)
	h.Write(canonical(fields))
	return h.Sum(nil)
}

// canonical is the JSON of strings and numbers, which always marshal.
func canonical(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

// faithful reports whether the hash covers all that the row holds: not what is no
// UTF-8, nor what an event of form 1 says in columns that are younger.
func (e Event) faithful() bool {
	younger := e.KeyID + e.OwnerID + e.Address + e.Agent + e.RequestID
	switch {
	case !utf8.ValidString(e.Chain + e.ID + e.Action + e.ActorKind + e.ActorID + e.SubjectID + e.Detail + younger):
		return false
	case e.Form == 1:
		return younger == ""
	}
	return e.Form == newestForm
}

// Events reads a chain from its beginning.
func Events(ctx context.Context, q sqlx.ExtContext, chain string) ([]Event, error) {
	var events []Event
	err := sqlx.SelectContext(ctx, q, &events, `SELECT `+eventColumns+` FROM audit_events WHERE chain = ? ORDER BY seq`, chain)
	if err != nil {
		return nil, fmt.Errorf("read the audit events of %s: %w", chain, err)
	}
	return events, nil
}

// textLength is how many bytes are kept of what a client says of itself.
const textLength = 256

// clean makes a client's text one that both databases take, and not too long.
func clean(text string) string {
	if len(text) > textLength {
		text = text[:textLength]
	}
	text = workspace.Storable(text)
	if len(text) > textLength { // cut within a character
		text = strings.ToValidUTF8(text[:textLength], "")
	}
	return text
}

// tuples is the parameters of some rows: (?, ?), (?, ?).
func tuples(rows, columns int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", columns), ", ") + ")"
	return strings.TrimSuffix(strings.Repeat(row+", ", rows), ", ")
}
