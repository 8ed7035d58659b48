package console

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) usageRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{method: get, path: "/w/:ws/usage", run: showUsage},
		{method: get, path: "/w/:ws/usage/limits", run: editLimits},
		{method: post, path: "/w/:ws/usage/limits", run: saveLimits},
	}
}

// usageSpan is a time that exchanges are counted in.
type usageSpan struct {
	name, text   string
	span, bucket time.Duration
}

var usageSpans = []usageSpan{
	{"7d", "7 days", 7 * day, 6 * time.Hour},
	{"24h", "24 hours", day, time.Hour},
	{"30d", "30 days", 30 * day, day},
}

// usagePage is how much of its quota a workspace takes, and what it does with it.
type usagePage struct {
	Meters    []meter
	Rate      string // the limit per minute in words
	Soft      bool   // limits are only counted
	Changed   workspace.Time
	ChangedBy who
	Version   int64
	MayLimit  bool

	Chips   []chip
	Chart   *chart // nil: not for this person
	Keys    []keyUsage
	Refused []refusedFor
}

// meter is how much of a limit is taken.
type meter struct {
	Name, Noun string
	Used       int64
	Most       *int64 // nil: no limit
	Hint       string
}

// Limited reports whether there is a limit.
func (m meter) Limited() bool { return m.Most != nil }

// Limit is the limit, of which there is one.
func (m meter) Limit() int64 { return *m.Most }

// State is ok, warn from nine tenths on, and danger when nothing is left.
func (m meter) State() string {
	switch {
	case m.Most == nil:
		return ""
	case m.Used >= *m.Most:
		return "danger"
	case m.Used*10 >= *m.Most*9:
		return "warn"
	}
	return "ok"
}

// Text says how much is taken.
func (m meter) Text() string {
	if m.Most == nil {
		return count(m.Used, m.Noun) + ", no limit"
	}
	return number(m.Used) + " of " + count(*m.Most, m.Noun)
}

func meters(q manage.Quota) []meter {
	l := q.Value
	return []meter{
		{Name: "API keys", Noun: "live key", Used: q.Use.Keys, Most: l.MaxKeys},
		{Name: "Service accounts", Noun: "service account", Used: q.Use.ServiceAccounts, Most: l.MaxServiceAccounts},
		{Name: "Today", Noun: "exchange", Used: q.Use.Today, Most: l.PerDay, Hint: "until midnight UTC"},
		{Name: "This month", Noun: "exchange", Used: q.Use.ThisMonth, Most: l.PerMonth, Hint: "until the month ends in UTC"},
	}
}

// rateText says the limit per minute.
func rateText(l quota.Limits) string {
	rate, limited := l.Rate()
	if !limited {
		return "No limit per minute."
	}
	text := "At most " + count(*l.PerMinute, "exchange") + " a minute"
	if int64(rate.Burst) != *l.PerMinute {
		text += ", " + number(int64(rate.Burst)) + " of them at once"
	}
	return text + "."
}

// showUsage shows the quota of a workspace and its exchanges.
func showUsage(r *request) (page, error) {
	q, err := r.h.Manager.Quota(r.ctx, r.by, r.ws.ID)
	if err != nil {
		return page{}, err
	}
	data := usagePage{
		Meters: meters(q), Rate: rateText(q.Value), Soft: q.Value.Mode == quota.Soft, Changed: q.CreatedAt, Version: q.Version,
		MayLimit: r.mayLimit(),
	}
	if r.can("api-keys:read") {
		if err := r.addExchanges(&data); err != nil {
			return page{}, err
		}
	}
	if r.can("audit:read") {
		n, err := r.names(creatorID(q.CreatedBy))
		if err != nil {
			return page{}, err
		}
		data.ChangedBy = n.creator(q.CreatedBy)
	}
	return page{template: "usage", title: "Quotas and usage", section: "usage", data: data}, nil
}

// mayLimit is whether to offer changing the quota.
func (r *request) mayLimit() bool { return r.can("quota:update") || r.can("organization:update") }

// addExchanges adds what was exchanged in the chosen time.
func (r *request) addExchanges(data *usagePage) error {
	var choices []string
	for _, s := range usageSpans {
		choices = append(choices, s.name, s.text)
	}
	data.Chips = r.chips("span", choices...)
	data.Chips[0], data.Chips[1] = data.Chips[1], data.Chips[0] // by length; what is shown first is in the middle
	chosen := usageSpans[slices.IndexFunc(usageSpans, func(s usageSpan) bool { return s.name == r.chosen("span", choices...) })]
	until := r.h.Manager.Time()
	since := until.Add(-chosen.span)
	rows, err := r.h.Manager.Usage(r.ctx, r.by, r.ws.ID, "", since, until, chosen.bucket)
	if err != nil {
		return err
	}
	c := newChart(rows, since, until, chosen.bucket)
	data.Chart, data.Refused = &c, refusals(rows)
	data.Keys, err = r.busiest(rows)
	return err
}

// keyUsage is how often a key was exchanged.
type keyUsage struct {
	Key             who
	Issued, Refused int64
}

// busiestShown is how many keys are told apart.
const busiestShown = 10

// busiest are the keys with the most exchanges.
func (r *request) busiest(rows []audit.UsageRow) ([]keyUsage, error) {
	byKey := map[string]*keyUsage{}
	var ids []string
	for _, row := range rows {
		use := byKey[row.KeyID]
		if use == nil {
			use = &keyUsage{}
			byKey[row.KeyID], ids = use, append(ids, row.KeyID)
		}
		if row.Outcome == outcomeIssued {
			use.Issued += row.Count
		} else {
			use.Refused += row.Count
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		all := func(id string) int64 { return byKey[id].Issued + byKey[id].Refused }
		return cmp.Or(cmp.Compare(all(b), all(a)), strings.Compare(a, b))
	})
	ids = ids[:min(len(ids), busiestShown)]
	n, err := r.names(slices.Clone(ids)...)
	var found []keyUsage
	for _, id := range ids {
		use := *byKey[id]
		use.Key = n.of(id)
		found = append(found, use)
	}
	return found, err
}

// refusedFor is how often exchanges were refused for one reason.
type refusedFor struct {
	Outcome, Text string
	Count         int64
}

// refusals are the reasons, the most frequent first.
func refusals(rows []audit.UsageRow) (found []refusedFor) {
	counts := map[string]int64{}
	for _, row := range rows {
		if row.Outcome != outcomeIssued {
			counts[row.Outcome] += row.Count
		}
	}
	for outcome, n := range counts {
		found = append(found, refusedFor{outcome, outcomeText(outcome), n})
	}
	slices.SortFunc(found, func(a, b refusedFor) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Outcome, b.Outcome))
	})
	return found
}
