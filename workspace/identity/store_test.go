package identity_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/workspace"
)

var noon = workspace.At(time.Date(2030, 1, 2, 12, 0, 0, 123456000, time.UTC))

// after is so long after noon.
func after(d time.Duration) workspace.Time { return workspace.At(noon.Add(d)) }

// want checks the kind of an error; nil wants none.
func want(t *testing.T, what string, kind, err error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

// someone is a new user.
func someone(t *testing.T, db *schema.DB, email string) workspace.User {
	t.Helper()
	user := workspace.User{ID: workspace.NewUserID(), Email: email, Generation: 1, CreatedAt: noon, UpdatedAt: noon}
	fatal(t, workspace.InsertUser(t.Context(), db.Writer(), user))
	return user
}

// within runs f in a transaction.
func within(t *testing.T, db *schema.DB, f func(context.Context, sqlx.ExtContext) error) error {
	t.Helper()
	return db.InTx(t.Context(), f)
}
