package identity

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Methods are the ways in which a user can sign in.
type Methods struct {
	Password bool `db:"password"`
	Passkeys int  `db:"passkeys"`
	Subjects int  `db:"subjects"` // at OpenID providers
}

// None reports whether they cannot sign in at all.
func (m Methods) None() bool { return m == Methods{} }

// MethodsOf reads how a user can sign in.
func MethodsOf(ctx context.Context, q sqlx.ExtContext, user workspace.UserID) (m Methods, err error) {
	err = sqlx.GetContext(ctx, q, &m, `SELECT EXISTS (SELECT 1 FROM passwords WHERE user_id = ?) AS password,
		(SELECT count(*) FROM passkeys WHERE user_id = ?) AS passkeys, (SELECT count(*) FROM subjects WHERE user_id = ?) AS subjects`, user, user, user)
	if err != nil {
		return m, fmt.Errorf("read how %s signs in: %w", user, err)
	}
	return m, nil
}

// AdminCanSignIn reports whether some active organization admin has a way to sign in.
func AdminCanSignIn(ctx context.Context, q sqlx.ExtContext) (can bool, err error) {
	err = sqlx.GetContext(ctx, q, &can, `SELECT EXISTS (SELECT 1 FROM users u WHERE u.organization_admin AND u.disabled_at IS NULL AND u.deleted_at IS NULL AND (
		EXISTS (SELECT 1 FROM passwords p WHERE p.user_id = u.id) OR EXISTS (SELECT 1 FROM passkeys k WHERE k.user_id = u.id) OR
		EXISTS (SELECT 1 FROM subjects s WHERE s.user_id = u.id)))`)
	if err != nil {
		return false, fmt.Errorf("read who can sign in: %w", err)
	}
	return can, nil
}

// DeletePasskeys removes every passkey of a user.
func DeletePasskeys(ctx context.Context, tx sqlx.ExtContext, user workspace.UserID) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM passkeys WHERE user_id = ?`, user); err != nil {
		return fmt.Errorf("delete the passkeys of %s: %w", user, err)
	}
	return nil
}
