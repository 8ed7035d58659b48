package manage

import (
	"context"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// KeyRow is a key as a list for people has it.
type KeyRow struct {
	keys.Attended
	Holds oauth.Scope // what its tokens can carry now
}

// KeyPage is a part of the keys of a workspace.
type KeyPage struct {
	Rows   []KeyRow
	Total  int64       // how many the selection has
	Offset int         // of the first row in that
	Counts keys.Counts // of every group, within the owner and text of the selection
}

// KeyList lists keys of a workspace by how much they need attention, or in another
// order, with how many there are of each group and who made them. An offset beyond
// the end shows the last page.
func (m *Manager) KeyList(ctx context.Context, by Caller, in workspace.ID, s keys.Selection, offset, limit int) (p KeyPage, err error) {
	err = m.view(ctx, by, operation{need: "api-keys:read", in: in}, func(ctx context.Context, u *unit) error {
		b, err := u.bounds(ctx, in)
		if err != nil {
			return err
		}
		s.Now, s.Blocks = u.now, b.Blocks()
		found, counts, err := keys.Attention(ctx, u.tx, in, s, offset, limit)
		if err == nil && len(found) == 0 && offset > 0 { // beyond the end
			offset = max(0, int(counts.Of(s.Group))-1) / limit * limit
			found, counts, err = keys.Attention(ctx, u.tx, in, s, offset, limit)
		}
		if err != nil {
			return err
		}
		p.Counts, p.Total, p.Offset = counts, counts.Of(s.Group), offset
		p.Rows, err = u.keyRows(ctx, in, b, found)
		return err
	})
	return p, err
}

// keyRows adds what policy says of keys.
func (u *unit) keyRows(ctx context.Context, in workspace.ID, b *policy.Bounds, found []keys.Attended) ([]KeyRow, error) {
	rows := make([]KeyRow, len(found))
	listed := make([]*keys.Listed, len(found))
	for i, k := range found {
		rows[i].Attended = k
		rows[i].Holds = b.Keep(u.Policy.Holds(&keys.Record{
			Key: k.Key, OwnerRole: k.OwnerRole, OwnerScopes: k.OwnerScopes, OwnerIsAdmin: k.OwnerIsAdmin,
		}))
		listed[i] = &rows[i].Listed
	}
	return rows, u.judge(ctx, in, listed...)
}
