package audit

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// LastOf reads when something was done last to each of some subjects; those to which
// it never was are missing.
func LastOf[T ~string](ctx context.Context, q sqlx.ExtContext, action string, subjects []T) (map[T]workspace.Time, error) {
	micros, err := workspace.CountBy[T](ctx, q, action+" events",
		`SELECT subject_id AS id, max(at) AS n FROM audit_events WHERE subject_id IN (?) AND action = ? GROUP BY subject_id`, subjects, action)
	if err != nil {
		return nil, err
	}
	last := map[T]workspace.Time{}
	for subject, at := range micros {
		last[subject] = workspace.At(time.UnixMicro(at))
	}
	return last, nil
}
