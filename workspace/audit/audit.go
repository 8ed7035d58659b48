// Package audit owns the record of what happened: hash-chained events, one chain
// per workspace and one for the installation.
//
// An event is appended in the transaction of the change that it records, so that
// neither exists without the other. Each event's hash covers the one before it:
// an edited, removed or reordered row breaks the chain at that place. Who may do
// what is decided in workspace/manage.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Instance is the chain of events that belong to no workspace.
const Instance = "instance"

// Event is one thing that happened. Detail holds identifiers and values that
// were set, never a secret.
type Event struct {
	Chain     string         `db:"chain" json:"chain"` // a workspace ID, or Instance
	Seq       int64          `db:"seq" json:"seq"`     // 1, 2, 3 … in its chain
	ID        string         `db:"id" json:"id"`
	At        workspace.Time `db:"at" json:"at"`
	Action    string         `db:"action" json:"action"`         // noun.verb, such as key.create
	ActorKind string         `db:"actor_kind" json:"actor_kind"` // user, service_account, operator
	ActorID   string         `db:"actor_id" json:"actor_id"`
	SubjectID string         `db:"subject_id" json:"subject_id"`
	Detail    string         `db:"detail" json:"detail"` // a JSON object
	Hash      []byte         `db:"hash" json:"-"`
}

const eventColumns = `chain, seq, id, at, action, actor_kind, actor_id, subject_id, detail, hash`

type head struct {
	Seq  int64  `db:"seq"`
	Hash []byte `db:"hash"`
}

// Append records an event at the end of its chain; it sets ID, Seq, Detail and
// Hash. The chain's head stays locked until the transaction ends.
func Append(ctx context.Context, tx sqlx.ExtContext, e Event, detail map[string]any) error {
	if detail == nil {
		detail = map[string]any{}
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("audit %s: %w", e.Action, err)
	}
	previous, err := advance(ctx, tx, e.Chain)
	if err != nil {
		return fmt.Errorf("audit %s: %w", e.Action, err)
	}
	e.ID, e.Seq, e.Detail = "evt_"+workspace.Unique(), previous.Seq, string(text)
	e.Hash = e.chained(previous.Hash)
	_, err = tx.ExecContext(ctx, `INSERT INTO audit_events (`+eventColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.Chain, e.Seq, e.ID, e.At, e.Action, e.ActorKind, e.ActorID, e.SubjectID, e.Detail, e.Hash)
	if err != nil {
		return fmt.Errorf("audit %s: %w", e.Action, err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE audit_heads SET hash = ? WHERE chain = ?`, e.Hash, e.Chain)
	if err != nil {
		return fmt.Errorf("audit %s: %w", e.Action, err)
	}
	return nil
}

// advance locks the head of a chain and returns the next number with the hash of
// the event before it.
func advance(ctx context.Context, tx sqlx.ExtContext, chain string) (head, error) {
	_, err := tx.ExecContext(ctx, `INSERT INTO audit_heads (chain, seq, hash) VALUES (?, 0, ?) ON CONFLICT DO NOTHING`,
		chain, make([]byte, sha256.Size))
	if err != nil {
		return head{}, err
	}
	var h head
	err = sqlx.GetContext(ctx, tx, &h, `UPDATE audit_heads SET seq = seq + 1 WHERE chain = ? RETURNING seq, hash`, chain)
	return h, err
}

// chained is SHA-256 over the previous hash and the event as canonical JSON: the
// fields in the order of the struct, the instant in microseconds.
func (e Event) chained(previous []byte) []byte {
	text, err := json.Marshal([]any{e.Chain, e.Seq, e.ID, e.At.UnixMicro(), e.Action, e.ActorKind, e.ActorID, e.SubjectID, e.Detail})
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	h := sha256.New()
	h.Write(previous)
	h.Write(text)
	return h.Sum(nil)
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
