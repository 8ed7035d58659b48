package identity_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

const elsewhere workspace.ID = "ws_elsewhere"

// invitation stores a link that works for an hour from noon.
func invitation(t *testing.T, db *schema.DB, in workspace.ID, email string) (identity.Link, string) {
	t.Helper()
	l := identity.Link{
		ID: "lnk_" + workspace.Unique(), Kind: identity.InvitationLink, WorkspaceID: in, Role: workspace.Viewer, Email: email,
		CreatedAt: noon, CreatedBy: "user:usr_1", ExpiresAt: after(time.Hour),
	}
	token := identity.NewLinkToken()
	fatal(t, identity.InsertLink(t.Context(), db.Writer(), l, token))
	return l, token
}

func TestLinkTokens(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		token := identity.NewLinkToken()
		if len(token) != 43 || strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" || seen[token] {
			t.Fatalf("token %q", token)
		}
		seen[token] = true
	}
}

func TestLinkIsFound(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		ctx := t.Context()
		l, token := invitation(t, db, "ws_1", "ada@example.com")
		got, err := identity.FindLink(ctx, db.Reader(), identity.InvitationLink, token, noon)
		fatal(t, err)
		if diff := cmp.Diff(l, got); diff != "" {
			t.Error(diff)
		}
		if got, err = identity.LinkByID(ctx, db.Reader(), l.ID); err != nil || got != l {
			t.Errorf("by its ID: %+v, %v", got, err)
		}
		var errs []string
		for what, find := range map[string]func() (identity.Link, error){
			"another token": func() (identity.Link, error) {
				return identity.FindLink(ctx, db.Reader(), identity.InvitationLink, identity.NewLinkToken(), noon)
			},
			"no token": func() (identity.Link, error) {
				return identity.FindLink(ctx, db.Reader(), identity.InvitationLink, "", noon)
			},
			"its ID": func() (identity.Link, error) {
				return identity.FindLink(ctx, db.Reader(), identity.InvitationLink, l.ID, noon)
			},
			"a longer token": func() (identity.Link, error) {
				return identity.FindLink(ctx, db.Reader(), identity.InvitationLink, token+"A", noon)
			},
			"NUL and bytes": func() (identity.Link, error) {
				return identity.FindLink(ctx, db.Reader(), identity.InvitationLink, token+"\x00\xff", noon)
			},
			"much": func() (identity.Link, error) {
				return identity.FindLink(ctx, db.Reader(), identity.InvitationLink, strings.Repeat(token, 10_000), noon)
			},
			"another kind": func() (identity.Link, error) {
				return identity.FindLink(ctx, db.Reader(), identity.AccessLink, token, noon)
			},
			"use as another": func() (identity.Link, error) {
				return identity.UseLink(ctx, db.Writer(), identity.SetupLink, token, noon)
			},
			"after its time": func() (identity.Link, error) {
				return identity.FindLink(ctx, db.Reader(), identity.InvitationLink, token, after(time.Hour))
			},
			"use after its end": func() (identity.Link, error) {
				return identity.UseLink(ctx, db.Writer(), identity.InvitationLink, token, after(time.Hour))
			},
		} {
			_, err := find()
			want(t, what, workspace.ErrNotFound, err)
			errs = append(errs, err.Error())
		}
		fatal(t, justOnce(identity.UseLink(ctx, db.Writer(), identity.InvitationLink, token, after(time.Minute))))
		for what, find := range map[string]func(context.Context, sqlx.ExtContext, identity.LinkKind, string, workspace.Time) (identity.Link, error){"found": identity.FindLink, "used again": identity.UseLink} {
			_, err := find(ctx, db.Writer(), identity.InvitationLink, token, after(time.Minute))
			want(t, what, workspace.ErrNotFound, err)
			errs = append(errs, err.Error())
		}
		for _, text := range errs {
			if text != errs[0] {
				t.Errorf("a link that was, and one that never was, are told apart: %q, %q", text, errs[0])
			}
		}
		if got, err = identity.LinkByID(ctx, db.Reader(), l.ID); err != nil || got.UsedAt != after(time.Minute) {
			t.Errorf("used: %+v, %v", got, err)
		}
	})
}

func justOnce(_ identity.Link, err error) error { return err }

// Nothing that opens anything is in the database.
func TestLinkTokenIsNotStored(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		_, token := invitation(t, db, "ws_1", "ada@example.com")
		var row struct {
			identity.Link
			Digest []byte `db:"digest"`
		}
		fatal(t, sqlx.GetContext(t.Context(), db.Reader(), &row, `SELECT * FROM links`))
		if stored := fmt.Sprintf("%+v %s", row, row.Digest); strings.Contains(stored, token) {
			t.Errorf("the token is stored: %s", stored)
		}
		if raw, err := base64.RawURLEncoding.DecodeString(token); err != nil || len(raw) != 32 || bytes.Contains(row.Digest, raw) {
			t.Errorf("the token's bytes are stored: %v", err)
		}
	})
}

// Of many who use a link at the same time, one succeeds.
func TestLinkIsUsedOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		for range 5 {
			_, token := invitation(t, db, "ws_1", "ada@example.com")
			errs := make([]error, 8)
			var all sync.WaitGroup
			for i := range errs {
				all.Go(func() {
					errs[i] = db.InTx(context.WithoutCancel(t.Context()), func(ctx context.Context, tx sqlx.ExtContext) error {
						return justOnce(identity.UseLink(ctx, tx, identity.InvitationLink, token, noon))
					})
				})
			}
			all.Wait()
			won := 0
			for _, err := range errs {
				if err == nil {
					won++
				} else if !errors.Is(err, workspace.ErrNotFound) {
					t.Error(err)
				}
			}
			if won != 1 {
				t.Errorf("%d of them used it", won)
			}
		}
	})
}

// A use that is rolled back was none.
func TestLinkOfAFailedUse(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		_, token := invitation(t, db, "ws_1", "ada@example.com")
		failed := errors.New("failed")
		err := within(t, db, func(ctx context.Context, tx sqlx.ExtContext) error {
			return errors.Join(justOnce(identity.UseLink(ctx, tx, identity.InvitationLink, token, noon)), failed)
		})
		want(t, "the transaction", failed, err)
		fatal(t, justOnce(identity.UseLink(t.Context(), db.Writer(), identity.InvitationLink, token, noon)))
	})
}

func TestLinksAreListedAndDeleted(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		ctx := t.Context()
		ada, _ := invitation(t, db, "ws_1", "ada@example.com")
		bob, _ := invitation(t, db, "ws_1", "bob@example.com")
		_, token := invitation(t, db, "ws_1", "used@example.com")
		there, _ := invitation(t, db, elsewhere, "ada@example.com")
		fatal(t, justOnce(identity.UseLink(ctx, db.Writer(), identity.InvitationLink, token, noon)))
		is := func(in workspace.ID, at workspace.Time, want ...identity.Link) {
			t.Helper()
			found, err := identity.ListLinks(ctx, db.Reader(), in, identity.InvitationLink, at)
			fatal(t, err)
			if diff := cmp.Diff(append([]identity.Link{}, want...), found); diff != "" {
				t.Error(diff)
			}
		}
		is("ws_1", noon, bob, ada)
		is(elsewhere, noon, there)
		is("ws_1", after(time.Hour))
		for _, other := range []identity.LinkFilter{{ID: ada.ID, WorkspaceID: elsewhere}, {ID: ada.ID, Kind: identity.AccessLink}} {
			if gone, err := identity.DeleteLinks(ctx, db.Writer(), other); err != nil || len(gone) > 0 {
				t.Errorf("%+v deletes %+v, error %v", other, gone, err)
			}
		}
		if _, err := identity.DeleteLinks(ctx, db.Writer(), identity.LinkFilter{}); err == nil {
			t.Error("a filter that says nothing deletes all of them")
		}
		is("ws_1", noon, bob, ada)
		gone, err := identity.DeleteLinks(ctx, db.Writer(), identity.LinkFilter{ID: ada.ID, WorkspaceID: "ws_1"})
		if fatal(t, err); len(gone) != 1 || gone[0] != ada {
			t.Errorf("deleted %+v", gone)
		}
		is("ws_1", noon, bob)
		all, err := identity.DeleteLinks(ctx, db.Writer(), identity.LinkFilter{CreatedBy: "user:usr_1"})
		if fatal(t, err); len(all) != 2 {
			t.Errorf("deleted %+v", all)
		}
		is("ws_1", noon)
		is(elsewhere, noon)
	})
}

func TestLinksAreForgotten(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		ctx := t.Context()
		l, token := invitation(t, db, "ws_1", "ada@example.com")
		fatal(t, identity.ForgetLinks(ctx, db.Writer(), after(time.Hour-time.Microsecond)))
		fatal(t, justOnce(identity.FindLink(ctx, db.Reader(), identity.InvitationLink, token, noon)))
		fatal(t, identity.ForgetLinks(ctx, db.Writer(), after(time.Hour)))
		_, err := identity.LinkByID(ctx, db.Reader(), l.ID)
		want(t, "a forgotten one", workspace.ErrNotFound, err)
	})
}

func TestSpendOnce(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		ctx, digest := t.Context(), []byte("digest")
		fatal(t, identity.Spend(ctx, db.Writer(), digest, after(time.Minute)))
		want(t, "again", workspace.ErrConflict, identity.Spend(ctx, db.Writer(), digest, after(time.Hour)))
		fatal(t, identity.Spend(ctx, db.Writer(), []byte("other"), after(time.Hour)))
		fatal(t, identity.ForgetSpent(ctx, db.Writer(), after(time.Minute)))
		fatal(t, identity.Spend(ctx, db.Writer(), digest, after(time.Hour))) // whoever forgets refuses it for its age
		want(t, "what is not forgotten", workspace.ErrConflict, identity.Spend(ctx, db.Writer(), []byte("other"), after(time.Hour)))
	})
}
