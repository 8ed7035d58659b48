package keys

import (
	"strings"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// creatorID is the ID of who made a key, without its kind.
const creatorID = `CASE WHEN k.created_by LIKE 'user:%' THEN SUBSTR(k.created_by, 6)
	WHEN k.created_by LIKE 'service_account:%' THEN SUBSTR(k.created_by, 17)
	WHEN k.created_by LIKE 'operator:%' THEN SUBSTR(k.created_by, 10) END`

// searched are the texts in which people look for a key. The look-ups are made only
// for keys in which what comes before has not been found.
var searched = []string{
	"k.name", "k.description", "k.id", creatorID,
	"(SELECT u.email || ' ' || u.name FROM users u WHERE u.deleted_at IS NULL AND u.id = k.user_id)",
	"(SELECT u.email || ' ' || u.name FROM users u WHERE u.deleted_at IS NULL AND u.id = " + creatorID + ")",
	"(SELECT a.name FROM service_accounts a WHERE a.id = " + creatorID + ")",
	"(SELECT a.name FROM service_accounts a WHERE a.id = k.service_account_id)",
}

// seen begins a statement over the keys of the selection, whatever its group: seen is
// what their order and their groups depend on, and counted is how many each group has.
// When a key was used is looked up once, and all are counted once, whatever a planner
// expects of a table that it knows nothing of.
func (s Selection) seen(ws workspace.ID) (query string, args []any) {
	blocked, args := s.Blocks.condition(s.Now)
	w := workspace.Where{}
	w.Add("k.workspace_id = ?", ws)
	w.Add("k.deleted_at IS NULL")
	if s.Owner != "" {
		w.Add("(k.service_account_id = ? OR k.user_id = ?)", s.Owner, s.Owner)
	}
	if len(s.IDs) > 0 {
		var ids []any
		for _, id := range s.IDs {
			ids = append(ids, id)
		}
		w.Add("k.id IN ("+repeat("?", len(ids))+")", ids...)
	}
	w.Contains(s.Text, searched...)
	where, conditions := w.SQL()
	since := workspace.At(s.Now.Add(-UnusedLong))
	args = append(append(args, conditions...), s.Now, workspace.At(s.Now.Add(ExpiringSoon)), since, since)
	return `WITH used AS MATERIALIZED (SELECT k.id, k.name, k.created_at, k.expires_at, k.revoked_at,
				(SELECT MAX(s.last_used_at) FROM key_secrets s WHERE s.key_id = k.id) AS used_at, ` + blocked + ` AS blocked
			FROM keys k` + where + `),
		seen AS (SELECT id, name, created_at, expires_at, revoked_at, used_at, blocked,
				revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?) AS live,
				expires_at <= ? AS soon, created_at <= ? AND COALESCE(used_at, 0) <= ? AS unused
			FROM used),
		counted AS MATERIALIZED (SELECT COUNT(CASE WHEN live THEN 1 END) AS live,
				COUNT(CASE WHEN live AND soon THEN 1 END) AS expiring,
				COUNT(CASE WHEN live AND unused THEN 1 END) AS unused,
				COUNT(CASE WHEN live AND used_at IS NULL THEN 1 END) AS never_used,
				COUNT(CASE WHEN NOT live AND revoked_at IS NULL THEN 1 END) AS expired,
				COUNT(CASE WHEN revoked_at IS NOT NULL THEN 1 END) AS revoked
			FROM seen)`, args
}

// condition is what the rows r of the group have in common.
func (s Selection) condition() (sql string, args []any) {
	switch s.Group {
	case GroupAll:
		return "TRUE", nil
	case GroupExpired:
		return "NOT r.live AND r.revoked_at IS NULL", nil
	case GroupRevoked:
		return "r.revoked_at IS NOT NULL", nil
	case GroupExpiring:
		return "r.live AND r.soon", nil
	case GroupUnused:
		return "r.live AND r.unused", nil
	case GroupNeverUsed:
		return "r.live AND r.used_at IS NULL", nil
	case GroupRotating:
		return "r.live AND EXISTS (SELECT 1 FROM key_secrets s WHERE s.key_id = r.id AND s.expires_at > ?)", []any{s.Now}
	}
	return "r.live", nil
}

// condition is what refuses a key now although it has not ended. It follows
// policy.Bounds.Violations, for the order of a list: what is shown of a key, and
// what is done with it, goes by that.
func (b Blocks) condition(now workspace.Time) (sql string, args []any) {
	const made = `(SELECT MAX(s.created_at) FROM key_secrets s WHERE s.key_id = k.id)`
	var any []string
	if b.Never {
		any = append(any, "k.expires_at IS NULL")
	}
	if b.Anywhere {
		any = append(any, "k.allowed_cidrs = ''")
	}
	if b.Lifetime > 0 {
		any = append(any, "k.expires_at - k.created_at > ? AND k.expires_at - COALESCE("+made+", 0) > ?")
		args = append(args, b.Lifetime.Microseconds(), b.Lifetime.Microseconds())
	}
	if b.Idle > 0 {
		since := workspace.At(now.Add(-b.Idle))
		any = append(any, "k.created_at < ? AND NOT EXISTS (SELECT 1 FROM key_secrets s WHERE s.key_id = k.id AND (s.created_at >= ? OR s.last_used_at >= ?))")
		args = append(args, since, since, since)
	}
	sql = `COALESCE(k.max_uses > 0 AND k.uses >= k.max_uses, FALSE)`
	if len(any) > 0 {
		sql += ` OR COALESCE((` + strings.Join(any, ") OR (") + `), FALSE)
			AND NOT EXISTS (SELECT 1 FROM users o WHERE o.id = k.user_id AND o.organization_admin)`
	}
	return "(" + sql + ")", args
}

// order is that of the rows r. IDs make it total, so that pages neither repeat nor
// leave out a key.
func (s Selection) order() string {
	way, back := "ASC", "DESC"
	if s.Reverse {
		way, back = back, way
	}
	switch s.Order {
	case ByName:
		return "lower(r.name) " + way + ", r.name, r.id"
	case ByUse:
		return "r.used_at " + back + " NULLS LAST, r.created_at DESC, r.id"
	case ByExpiry:
		return "r.expires_at " + way + " NULLS LAST, r.created_at DESC, r.id"
	case ByCreation:
		return "r.created_at " + back + ", r.id"
	}
	return `CASE WHEN NOT r.live THEN 4 WHEN r.soon THEN 0 WHEN r.blocked THEN 1 WHEN r.used_at IS NOT NULL THEN 2 ELSE 3 END,
		CASE WHEN NOT r.live THEN -COALESCE(r.revoked_at, r.expires_at) WHEN r.soon THEN r.expires_at END, r.used_at DESC NULLS LAST, r.created_at, r.id`
}
