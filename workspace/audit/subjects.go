package audit

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// Concerned says which of some IDs are the subject of an event on a chain: whoever
// was ever a member of a workspace is.
func Concerned(ctx context.Context, q sqlx.ExtContext, chain string, ids []string) (map[string]bool, error) {
	found := map[string]bool{}
	if len(ids) == 0 {
		return found, nil
	}
	query, args, err := sqlx.In(`SELECT DISTINCT subject_id FROM audit_events WHERE subject_id IN (?) AND chain = ?`, ids, chain)
	if err != nil {
		return nil, fmt.Errorf("read the subjects of %s: %w", chain, err)
	}
	var subjects []string
	if err := sqlx.SelectContext(ctx, q, &subjects, query, args...); err != nil {
		return nil, fmt.Errorf("read the subjects of %s: %w", chain, err)
	}
	for _, id := range subjects {
		found[id] = true
	}
	return found, nil
}
