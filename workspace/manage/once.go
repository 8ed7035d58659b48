package manage

import (
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Once asks that a request takes effect once, however often it is sent: a
// repetition gets the first answer again. Key is the client's own name for the
// request (Idempotency-Key); Request is its route and body.
//
// The answer of a creation holds a secret, so it is kept sealed, under a key that
// is derived from Key and the pepper, and only for a short while; with Hide it is
// not kept at all, and a repetition gets the answer without it.
type Once struct {
	Key     string
	Request string
	Hide    bool
}

// For how long a repetition gets the whole answer again, and how long one is
// recognised and gets it without the secret.
const (
	ReplayFor    = 10 * time.Minute
	RecogniseFor = 24 * time.Hour
)

// ErrReused means that an Idempotency-Key came with another request than before.
var ErrReused = errors.New("the Idempotency-Key was used for another request")

// Once adds that the request shall take effect once. The zero value asks nothing.
func (c Caller) Once(o Once) Caller {
	c.once = o
	return c
}

// made is what a creation leaves behind to answer repetitions from: the ID of
// what was made, and its secret in plain text, if there is one.
type made struct {
	Subject string `json:"subject"`
	Secret  string `json:"secret,omitempty"`
}

// onlyOnce runs create, or if the caller's request was carried out before, again
// with what that made. A repetition checks the caller's rights like the request
// itself, since its answer holds the same secret.
func (u *unit) onlyOnce(ctx context.Context, in workspace.ID, create func() (made, error), again func(made) error) error {
	if u.by.once.Key == "" {
		_, err := create()
		return err
	}
	// By whom, by which credential and where: nobody meets another's keys.
	id := u.Peppers.MAC("idempotency", u.by.String(), string(u.by.key), string(in), u.by.once.Key)
	request := u.Peppers.MAC("request", u.by.once.Request)
	if err := u.forgetOnce(ctx); err != nil {
		return err
	}
	var row struct {
		Request   []byte         `db:"request"`
		SubjectID string         `db:"subject_id"`
		Sealed    []byte         `db:"sealed"`
		CreatedAt workspace.Time `db:"created_at"`
	}
	err := sqlx.GetContext(ctx, u.tx, &row, `SELECT request, subject_id, sealed, created_at FROM idempotency WHERE id = ?`, id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		result, err := create()
		if err != nil {
			return err
		}
		if u.by.once.Hide {
			result.Secret = ""
		}
		return u.keepOnce(ctx, id, request, result)
	case err != nil:
		return fmt.Errorf("read what was asked before: %w", err)
	case !hmac.Equal(row.Request, request):
		return ErrReused
	}
	return again(u.openOnce(id, row.SubjectID, row.Sealed))
}

// ForgetReplays ends what may not be replayed or recognised any more. Creations do
// it too; the server does when there are none.
func (m *Manager) ForgetReplays(ctx context.Context) error {
	u := &unit{Manager: m, tx: m.Database.Writer(), now: workspace.At(m.now())}
	return u.forgetOnce(ctx)
}

func (u *unit) forgetOnce(ctx context.Context) error {
	for query, age := range map[string]time.Duration{
		`UPDATE idempotency SET sealed = NULL WHERE sealed IS NOT NULL AND created_at <= ?`: ReplayFor,
		`DELETE FROM idempotency WHERE created_at <= ?`:                                     RecogniseFor,
	} {
		if _, err := u.tx.ExecContext(ctx, query, workspace.At(u.now.Add(-age))); err != nil {
			return fmt.Errorf("forget old answers: %w", err)
		}
	}
	return nil
}

func (u *unit) keepOnce(ctx context.Context, id, request []byte, result made) error {
	text, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("keep the answer: %w", err)
	}
	_, err = u.tx.ExecContext(ctx, `INSERT INTO idempotency (id, request, subject_id, sealed, created_at) VALUES (?, ?, ?, ?, ?)`,
		id, request, result.Subject, u.onceSealer().Seal(nil, nil, text, id), u.now)
	if err != nil {
		return fmt.Errorf("keep the answer: %w", err)
	}
	return nil
}

// openOnce opens a kept answer. What is not there any more, or was sealed under
// another pepper, leaves the answer without its secret.
func (u *unit) openOnce(id []byte, subject string, sealed []byte) made {
	result := made{Subject: subject}
	if text, err := u.onceSealer().Open(nil, nil, sealed, id); err == nil {
		_ = json.Unmarshal(text, &result) // we wrote it
	}
	return result
}

func (u *unit) onceSealer() cipher.AEAD { return u.Peppers.AEAD("replay", u.by.once.Key) }
