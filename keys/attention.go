package keys

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Group is a part of a workspace's keys that people look at.
type Group string

// The groups. Ended keys are those that have expired or were revoked; all others
// are live.
const (
	GroupLive      Group = "active"
	GroupExpiring  Group = "expiring"   // live, and ends within ExpiringSoon
	GroupUnused    Group = "unused"     // live, older than UnusedLong, and not used for that time
	GroupNeverUsed Group = "never-used" // live, and not used since it was made
	GroupExpired   Group = "expired"
	GroupRevoked   Group = "revoked"
	GroupAll       Group = "all"
	GroupRotating  Group = "rotating" // live, with an older secret that works still; it is not counted
)

// UnusedLong is after how much time without use a key may not be needed any more.
const UnusedLong = 90 * 24 * time.Hour

// Order is how a list is ordered.
type Order string

// The orders.
const (
	ByAttention Order = "attention" // see Attention
	ByName      Order = "name"      // A to Z
	ByUse       Order = "used"      // the newest first
	ByExpiry    Order = "expires"   // the earliest first
	ByCreation  Order = "created"   // the newest first
)

// Selection says which keys, and in which order.
type Selection struct {
	Group   Group  // empty: GroupLive
	Owner   string // a service account or user; empty: everybody's
	Text    string // part of the name, the description, the ID, or of who made or owns the key
	IDs     []ID   // these alone; empty: any
	Order   Order  // empty: ByAttention
	Reverse bool
	Blocks  Blocks
	Now     workspace.Time
}

// Blocks is what of policy refuses keys that have not ended, as far as they differ
// in it: such keys need attention. Personal keys of organization admins are exempt.
type Blocks struct {
	Never    bool          // those that never expire
	Anywhere bool          // those that are tied to no network
	Lifetime time.Duration // those that live longer, counted from their newest secret; 0: none
	Idle     time.Duration // those that were not used for longer; 0: none
}

// Attended is a key with who is behind it.
type Attended struct {
	Listed
	OwnerName   string
	OwnerRole   string      // of a service account, or of the member
	OwnerScopes oauth.Scope // of a service account without a role
	CreatorName string      // empty: nobody who is known, such as the operator

	OwnerDisabled bool // or deleted: none of their keys works meanwhile
}

// Attention lists keys of a workspace that were not deleted, by how much they need
// somebody's attention: the ones that end soon, the earliest first; those that are
// refused although they live; then by use, the newest first; the ones that were
// never used, the oldest first; and ended ones, the newest first. It counts all
// groups, whatever the group of the selection.
func Attention(ctx context.Context, q sqlx.ExtContext, ws workspace.ID, s Selection, offset, limit int) ([]Attended, Counts, error) {
	seen, seenArgs := s.seen(ws)
	group, groupArgs := s.condition()
	order, args := s.order(), slices.Concat(seenArgs, groupArgs, []any{limit, offset})
	var rows []attendedRow
	err := sqlx.SelectContext(ctx, q, &rows, seen+`,
			page AS (SELECT r.id, r.name, r.created_at, r.expires_at, r.revoked_at, r.used_at, r.blocked, r.live, r.soon
				FROM seen r WHERE `+group+` ORDER BY `+order+` LIMIT ? OFFSET ?)
		SELECT c.live, c.expiring, c.unused, c.never_used, c.expired, c.revoked, `+keyColumns+`,
			k.description, k.revoked_reason, k.last_failed_at, k.created_by, k.updated_at,
			COALESCE(u.organization_admin, FALSE) AS organization_admin, COALESCE(a.name, NULLIF(u.name, ''), u.email, '') AS owner_name,
			COALESCE(a.role, m.role, '') AS owner_role, COALESCE(a.scopes, '') AS owner_scopes, COALESCE(ca.name, NULLIF(cu.name, ''), cu.email, '') AS creator_name,
			COALESCE(a.disabled_at, a.deleted_at, u.disabled_at, u.deleted_at) IS NOT NULL AS owner_disabled
		FROM page r CROSS JOIN counted c JOIN keys k ON k.id = r.id
		LEFT JOIN service_accounts a ON a.id = k.service_account_id
		LEFT JOIN users u ON u.id = k.user_id
		LEFT JOIN members m ON m.workspace_id = k.workspace_id AND m.user_id = k.user_id
		LEFT JOIN users cu ON cu.deleted_at IS NULL AND cu.id = `+creatorID+`
		LEFT JOIN service_accounts ca ON ca.id = `+creatorID+`
		ORDER BY `+order, args...)
	if err != nil {
		return nil, Counts{}, fmt.Errorf("list the keys of %s: %w", ws, err)
	}
	if len(rows) == 0 { // then there is no row that the counts could come with
		var c Counts
		if err := sqlx.GetContext(ctx, q, &c, seen+` SELECT live, expiring, unused, never_used, expired, revoked FROM counted`, seenArgs...); err != nil {
			return nil, c, fmt.Errorf("count the keys of %s: %w", ws, err)
		}
		return nil, c, nil
	}
	found, err := attended(ctx, q, rows, s.Now)
	return found, rows[0].Counts, err
}

type attendedRow struct {
	listedRow
	Counts
	OwnerName   string `db:"owner_name"`
	OwnerRole   string `db:"owner_role"`
	OwnerScopes string `db:"owner_scopes"`
	CreatorName string `db:"creator_name"`

	OwnerDisabled bool `db:"owner_disabled"`
}

// attended adds the secrets.
func attended(ctx context.Context, q sqlx.ExtContext, rows []attendedRow, now workspace.Time) ([]Attended, error) {
	plain := make([]listedRow, len(rows))
	for i, row := range rows {
		plain[i] = row.listedRow
	}
	listed, err := withSecrets(ctx, q, plain, now)
	if err != nil {
		return nil, err
	}
	found := make([]Attended, len(rows))
	for i, row := range rows {
		found[i] = Attended{
			Listed: listed[i], OwnerName: row.OwnerName, OwnerRole: row.OwnerRole,
			OwnerScopes: oauth.NewScope(strings.Fields(row.OwnerScopes)...), CreatorName: row.CreatorName, OwnerDisabled: row.OwnerDisabled,
		}
	}
	return found, nil
}

// Counts is how many keys are in each group.
type Counts struct {
	Live      int64 `db:"live"`
	Expiring  int64 `db:"expiring"`
	Unused    int64 `db:"unused"`
	NeverUsed int64 `db:"never_used"`
	Expired   int64 `db:"expired"`
	Revoked   int64 `db:"revoked"`
}

// Of is the number of one group; of an unknown one 0.
func (c Counts) Of(g Group) int64 {
	return map[Group]int64{
		"": c.Live, GroupLive: c.Live, GroupExpiring: c.Expiring, GroupUnused: c.Unused, GroupNeverUsed: c.NeverUsed,
		GroupExpired: c.Expired, GroupRevoked: c.Revoked, GroupAll: c.Live + c.Ended(),
	}[g]
}

// Ended is how many keys have expired or were revoked.
func (c Counts) Ended() int64 { return c.Expired + c.Revoked }
