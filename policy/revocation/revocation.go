// Package revocation owns what is denied before it expires: the rows and their
// sequence in SQL, which is the truth that every other copy is made from.
//
// A row is appended in the transaction of the change that denies something, so
// that neither exists without the other. What may be denied by whom is decided
// in workspace/manage.
package revocation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Kind is what a row is about.
type Kind string

// The kinds.
const (
	Token      Kind = "jti" // one token
	Key        Kind = "key" // an API key
	Subject    Kind = "sub" // a service account or a user
	Workspace  Kind = "ws"
	SigningKey Kind = "kid"
)

// skew is how far the clocks of verifiers may be off; a second more for rounding.
const skew = time.Minute + time.Second

// Entry denies the tokens of a subject that carry a smaller generation than its.
type Entry struct {
	Seq        int64          `db:"seq"`
	Kind       Kind           `db:"kind"`
	SubjectID  string         `db:"subject_id"`
	Generation int64          `db:"generation"` // 0 for a token or a signing key: denied altogether
	At         workspace.Time `db:"at"`
	ExpiresAt  workspace.Time `db:"expires_at"` // no token that it concerns is good any more
}

// batch is how many entries one statement adds: six parameters each.
const batch = 500

// Append adds entries with the next numbers, which are gapless and in commit order:
// the counter's row stays locked until the transaction ends. Numbers and ExpiresAt
// are set by it.
func Append(ctx context.Context, tx sqlx.ExtContext, entries ...Entry) error {
	for chunk := range slices.Chunk(entries, batch) {
		var last int64
		err := sqlx.GetContext(ctx, tx, &last, `UPDATE revocation_counter SET seq = seq + ? WHERE id = 1 RETURNING seq`, len(chunk))
		if err != nil {
			return fmt.Errorf("take the next revocation numbers: %w", err)
		}
		var args []any
		for i, e := range chunk {
			args = append(args, last-int64(len(chunk)-1-i), e.Kind, e.SubjectID, e.Generation, e.At, workspace.At(e.At.Add(keys.MaxTokenTTL+skew)))
		}
		marks := strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?, ?), ", len(chunk)), ", ")
		if _, err := tx.ExecContext(ctx, `INSERT INTO revocations (seq, kind, subject_id, generation, at, expires_at) VALUES `+marks, args...); err != nil {
			return fmt.Errorf("append %d revocations: %w", len(chunk), err)
		}
	}
	return nil
}

// Since reads the entries after a number, in order, at most limit of them.
func Since(ctx context.Context, q sqlx.ExtContext, seq int64, limit int) ([]Entry, error) {
	entries := []Entry{}
	err := sqlx.SelectContext(ctx, q, &entries, `SELECT seq, kind, subject_id, generation, at, expires_at FROM revocations
		WHERE seq > ? ORDER BY seq LIMIT ?`, seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read the revocations after %d: %w", seq, err)
	}
	return entries, nil
}
