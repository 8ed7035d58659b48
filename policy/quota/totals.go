package quota

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Day names the calendar day of an instant, in UTC.
func Day(at time.Time) string { return at.UTC().Format("2006-01-02") }

// Month names the calendar month of an instant, in UTC.
func Month(at time.Time) string { return at.UTC().Format("2006-01") }

// Totals reads how many exchanges a workspace had in each period, of all replicas,
// up to a few seconds ago.
func Totals(ctx context.Context, q sqlx.ExtContext, in workspace.ID, periods ...string) ([]int64, error) {
	var rows []struct {
		Period    string `db:"period"`
		Exchanges int64  `db:"exchanges"`
	}
	args := []any{in}
	for _, p := range periods {
		args = append(args, p)
	}
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(periods)), ", ")
	err := sqlx.SelectContext(ctx, q, &rows, `SELECT period, exchanges FROM exchange_counts WHERE workspace_id = ? AND period IN (`+marks+`)`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the exchanges of %s: %w", in, err)
	}
	totals := make([]int64, len(periods))
	for i, p := range periods {
		for _, row := range rows {
			if row.Period == p {
				totals[i] = row.Exchanges
			}
		}
	}
	return totals, nil
}
