package identity

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// MethodsOfAll is MethodsOf of many users, in as many statements as for one.
func MethodsOfAll(ctx context.Context, q sqlx.ExtContext, users []workspace.UserID) (map[workspace.UserID]Methods, error) {
	all := map[workspace.UserID]Methods{}
	for _, kind := range []struct {
		table string
		set   func(*Methods, int)
	}{
		{"passwords", func(m *Methods, n int) { m.Password = n > 0 }},
		{"passkeys", func(m *Methods, n int) { m.Passkeys = n }},
		{"subjects", func(m *Methods, n int) { m.Subjects = n }},
	} {
		counts, err := workspace.CountBy[workspace.UserID](ctx, q, kind.table, `SELECT user_id AS id, count(*) AS n FROM `+kind.table+` WHERE user_id IN (?) GROUP BY user_id`, users)
		if err != nil {
			return nil, err
		}
		for user, n := range counts {
			m := all[user]
			kind.set(&m, int(n))
			all[user] = m
		}
	}
	return all, nil
}
