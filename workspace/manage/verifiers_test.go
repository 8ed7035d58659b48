package manage_test

import (
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// People read receipts without a key, as the console does for them; only a key says
// of which workspace a verifier is.
func TestReceiptsWithoutAKey(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		key := h.key(h.sa)
		var first, again manage.Denial
		check(t, h.RevokeKey(t.Context(), operator.Denying(&first), h.ws, key.ID, ""))
		check(t, h.RevokeKey(t.Context(), operator.Denying(&again), h.ws, key.ID, ""))
		if first.Sequence == 0 || first != again {
			t.Errorf("revoked: %+v, again: %+v", first, again)
		}
		for name, c := range map[string]struct {
			by            manage.Caller
			receipt, list error
			all           error
		}{
			"the operator": {operator, nil, nil, nil},
			"an admin":     {manage.User(h.admin), nil, nil, nil},
			"a viewer":     {manage.User(h.viewer), nil, nil, workspace.ErrForbidden},
			"an outsider":  {manage.User(h.outsider), workspace.ErrNotFound, workspace.ErrNotFound, workspace.ErrForbidden},
		} {
			r, err := h.Receipt(t.Context(), c.by, first.Sequence)
			want(t, name+" reads a receipt", c.receipt, err)
			if err == nil && (r.Seq != first.Sequence || r.SubjectID != string(key.ID) || r.Cause != revocation.Revoked || r.Newest.Sequence != first.Sequence) {
				t.Errorf("%s: %+v", name, r)
			}
			_, err = h.Receipt(t.Context(), c.by, first.Sequence+1)
			want(t, name+" reads what is not there", workspace.ErrNotFound, err)
			_, _, err = h.Verifiers(t.Context(), c.by, h.ws, revocation.Verifier{}, 10)
			want(t, name+" lists verifiers", c.list, err)
			_, _, err = h.Verifiers(t.Context(), c.by, "", revocation.Verifier{}, 10)
			want(t, name+" lists all verifiers", c.all, err)
			_, err = h.ReportVerifier(t.Context(), c.by, "x", oauth.Position{Epoch: 1})
			want(t, name+" reports", workspace.ErrForbidden, err)
		}
	})
}
