package quota

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Mode says what happens to what exceeds a limit.
type Mode string

// The modes. In Soft everything is counted and nothing refused.
const (
	Enforce Mode = "enforce"
	Soft    Mode = "soft"
)

// Limits are the quota of one workspace; nil is no limit.
type Limits struct {
	PerMinute          *int64 `json:"exchanges_per_minute"`
	Burst              *int64 `json:"burst"` // at once; nil: as many as PerMinute
	PerDay             *int64 `json:"exchanges_per_day"`
	PerMonth           *int64 `json:"exchanges_per_month"`
	MaxKeys            *int64 `json:"max_keys"` // live ones
	MaxServiceAccounts *int64 `json:"max_service_accounts"`
	Mode               Mode   `json:"mode"` // empty: Enforce
}

// Bounds of the numbers in Limits. All are at least 1: to stop a workspace,
// suspend it.
const (
	MaxPerMinute = keys.MaxPerMinute // above that a limit protects nothing, and its interval is not exact any more
	MaxExchanges = 1_000_000_000_000
	MaxObjects   = 1_000_000_000
)

// ParseLimits reads stored limits. An error wraps workspace.ErrInvalid and says
// what is wrong.
func ParseLimits(text string) (Limits, error) {
	var l Limits
	if err := policy.DecodeDocument(text, &l); err != nil {
		return Limits{}, err
	}
	return l, l.Validate()
}

// Validate checks the limits. Errors wrap workspace.ErrInvalid.
func (l Limits) Validate() error {
	for _, n := range []struct {
		name  string
		value *int64
		most  int64
	}{
		{"exchanges_per_minute", l.PerMinute, MaxPerMinute},
		{"burst", l.Burst, MaxPerMinute},
		{"exchanges_per_day", l.PerDay, MaxExchanges},
		{"exchanges_per_month", l.PerMonth, MaxExchanges},
		{"max_keys", l.MaxKeys, MaxObjects},
		{"max_service_accounts", l.MaxServiceAccounts, MaxObjects},
	} {
		if n.value != nil && (*n.value < 1 || *n.value > n.most) {
			return fmt.Errorf("%w: %s is %d: use 1 to %d, or null for no limit; to stop a workspace, suspend it", workspace.ErrInvalid, n.name, *n.value, n.most)
		}
	}
	switch {
	case l.Burst != nil && l.PerMinute == nil:
		return fmt.Errorf("%w: burst is %d without exchanges_per_minute, which it belongs to", workspace.ErrInvalid, *l.Burst)
	case l.Mode != "" && l.Mode != Enforce && l.Mode != Soft:
		return fmt.Errorf("%w: mode is %.20q: use enforce or soft", workspace.ErrInvalid, l.Mode)
	}
	return nil
}

// Rate is the limit per minute; false: there is none.
func (l Limits) Rate() (Rate, bool) {
	if l.PerMinute == nil {
		return Rate{}, false
	}
	burst := *l.PerMinute
	if l.Burst != nil {
		burst = *l.Burst
	}
	return PerMinute(int(*l.PerMinute), int(burst)), true
}

// Looser reports whether l allows anything that before does not.
func (l Limits) Looser(before Limits) bool {
	more := func(now, was *int64) bool { return was != nil && (now == nil || *now > *was) }
	now, _ := l.Rate()
	was, limited := before.Rate()
	return more(l.PerMinute, before.PerMinute) || limited && now.Burst > was.Burst || more(l.PerDay, before.PerDay) || more(l.PerMonth, before.PerMonth) ||
		more(l.MaxKeys, before.MaxKeys) || more(l.MaxServiceAccounts, before.MaxServiceAccounts) || l.Mode == Soft && before.Mode != Soft
}

// Book holds the quota of every workspace that has one.
type Book struct{ *policy.Book[Limits] }

// NewBook makes an empty book; see policy.NewBook.
func NewBook(reader sqlx.ExtContext, held func(context.Context) bool, log *slog.Logger) *Book {
	return &Book{policy.NewBook(policy.KindQuota, ParseLimits, reader, held, log)}
}

// Limits are those of a workspace, with their version; 0: nobody has set any.
func (b *Book) Limits(ctx context.Context, in workspace.ID) (Limits, int64, error) {
	d, err := b.Get(ctx, string(in), 0)
	if err != nil {
		return Limits{}, 0, fmt.Errorf("quota of %s: %w", in, err)
	}
	return d.Value, d.Version, nil
}
