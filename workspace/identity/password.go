package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/jmoiron/sqlx"
	"golang.org/x/crypto/argon2"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Hardness is how much work a password costs: memory in KiB, passes and lanes of
// argon2id (RFC 9106).
type Hardness struct {
	Memory  uint32
	Passes  uint32
	Threads uint8
}

// DefaultHardness is the OWASP recommendation for one lane.
var DefaultHardness = Hardness{Memory: 19456, Passes: 2, Threads: 1}

// Bounds of what a stored password may ask for, so that a row that somebody wrote
// cannot take the machine's memory.
var maxHardness = Hardness{Memory: 256 << 10, Passes: 16, Threads: 16}

const (
	saltSize = 16 // bytes
	keySize  = 32
)

// Passwords hashes passwords, a few at once: each takes a core and Memory for a
// while, and whoever sends many shall not take them all, nor make others wait for
// long.
type Passwords struct {
	hardness Hardness
	slots    chan struct{}
	waiting  atomic.Int64
}

// ErrBusy means that too many passwords wait to be checked already.
var ErrBusy = errors.New("too many passwords wait to be checked")

// maxWaiting is how many may wait for one slot: some seconds' worth.
const maxWaiting = 48

type expectedKey struct{}

// Expected marks a request of somebody who has been here before: they find a place
// in the queue when strangers have filled theirs.
func Expected(ctx context.Context) context.Context {
	return context.WithValue(ctx, expectedKey{}, true)
}

// NewPasswords makes one for a process.
func NewPasswords(h Hardness) *Passwords {
	return &Passwords{hardness: h, slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// DefaultPasswords is the one of this process.
var DefaultPasswords = NewPasswords(DefaultHardness)

// Hash makes what is stored of a password, in PHC form. It waits for its turn and
// fails only when ctx ends before.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	sum, err := p.derive(ctx, p.hardness, password, salt, keySize)
	if err != nil {
		return "", err
	}
	return phc{p.hardness, salt, sum}.String(), nil
}

// Check compares a password with a stored one in constant time. stale reports that
// a right one should be hashed anew, since its hardness is not the present one.
func (p *Passwords) Check(ctx context.Context, stored, password string) (right, stale bool, err error) {
	s, err := parsePHC(stored)
	if err != nil {
		return false, false, err
	}
	sum, err := p.derive(ctx, s.Hardness, password, s.salt, uint32(len(s.sum))) //nolint:gosec // bounded by parsePHC
	if err != nil {
		return false, false, err
	}
	return subtle.ConstantTimeCompare(sum, s.sum) == 1, s.Hardness != p.hardness, nil
}

// CheckNothing takes as long as Check, for who has no password to compare with.
func (p *Passwords) CheckNothing(ctx context.Context, password string) error {
	_, err := p.derive(ctx, p.hardness, password, make([]byte, saltSize), keySize)
	return err
}

func (p *Passwords) derive(ctx context.Context, h Hardness, password string, salt []byte, size uint32) ([]byte, error) {
	most := int64(maxWaiting * cap(p.slots))
	if ctx.Value(expectedKey{}) != nil {
		most *= 2
	}
	defer p.waiting.Add(-1)
	if p.waiting.Add(1) > most {
		return nil, ErrBusy
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("check a password: %w", ctx.Err())
	}
	defer func() { <-p.slots }()
	return argon2.IDKey([]byte(password), salt, h.Passes, h.Memory, h.Threads, size), nil
}

// phc is a stored password: $argon2id$v=19$m=…,t=…,p=…$salt$sum
type phc struct {
	Hardness
	salt, sum []byte
}

var phcEncoding = base64.RawStdEncoding.Strict()

func (s phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, s.Memory, s.Passes, s.Threads,
		phcEncoding.EncodeToString(s.salt), phcEncoding.EncodeToString(s.sum))
}

var errPHC = errors.New("a stored password cannot be read")

// parsePHC reads what String writes, and nothing else. Errors never quote it.
func parsePHC(text string) (s phc, err error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || len(text) > 512 {
		return s, errPHC
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &s.Memory, &s.Passes, &s.Threads); err != nil {
		return s, errPHC
	}
	salt, errSalt := phcEncoding.DecodeString(parts[4])
	sum, errSum := phcEncoding.DecodeString(parts[5])
	s.salt, s.sum = salt, sum
	if errSalt != nil || errSum != nil || len(salt) < 8 || len(salt) > 64 || len(sum) < 16 || len(sum) > 64 ||
		!s.bearable() || s.String() != text {
		return phc{}, errPHC
	}
	return s, nil
}

// bearable reports whether the hardness is within what argon2 takes and what this
// machine shall give (RFC 9106 §3.1).
func (h Hardness) bearable() bool {
	return h.Passes >= 1 && h.Passes <= maxHardness.Passes && h.Threads >= 1 && h.Threads <= maxHardness.Threads &&
		h.Memory >= 8*uint32(h.Threads) && h.Memory <= maxHardness.Memory
}

// SetPassword stores the password of a user in place of any that they had. Sessions
// that began before at are none any more, but for the one that KeepSession names.
func SetPassword(ctx context.Context, tx sqlx.ExtContext, user workspace.UserID, stored string, at workspace.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO passwords (user_id, phc, changed_at) VALUES (?, ?, ?)
		ON CONFLICT (user_id) DO UPDATE SET phc = excluded.phc, changed_at = excluded.changed_at`, user, stored, at)
	if err != nil {
		return fmt.Errorf("store the password of %s: %w", user, err)
	}
	return nil
}

// RehashPassword stores the same password in a harder form, unless it was changed
// meanwhile.
func RehashPassword(ctx context.Context, tx sqlx.ExtContext, user workspace.UserID, before, after string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE passwords SET phc = ? WHERE user_id = ? AND phc = ?`, after, user, before); err != nil {
		return fmt.Errorf("store the password of %s: %w", user, err)
	}
	return nil
}

// PasswordOf reads what is stored of a user's password. ErrNotFound: they have none.
func PasswordOf(ctx context.Context, q sqlx.ExtContext, user workspace.UserID) (stored string, err error) {
	err = sqlx.GetContext(ctx, q, &stored, `SELECT phc FROM passwords WHERE user_id = ?`, user)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", fmt.Errorf("password of %s: %w", user, workspace.ErrNotFound)
	case err != nil:
		return "", fmt.Errorf("read the password of %s: %w", user, err)
	}
	return stored, nil
}

// DeletePassword takes a user's password away; having none is no error.
func DeletePassword(ctx context.Context, tx sqlx.ExtContext, user workspace.UserID) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM passwords WHERE user_id = ?`, user); err != nil {
		return fmt.Errorf("delete the password of %s: %w", user, err)
	}
	return nil
}
