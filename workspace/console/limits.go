package console

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// limitField is a limit in the form.
type limitField struct {
	Name, Label, Hint string
	most              int64
	of                func(*quota.Limits) **int64
}

// limitFields are the limits of a quota, each empty for none.
var limitFields = []limitField{
	{"max_keys", "Live API keys", "", quota.MaxObjects, func(l *quota.Limits) **int64 { return &l.MaxKeys }},
	{"max_service_accounts", "Service accounts", "", quota.MaxObjects, func(l *quota.Limits) **int64 { return &l.MaxServiceAccounts }},
	{"exchanges_per_minute", "Exchanges a minute", "Of all keys together.", quota.MaxPerMinute, func(l *quota.Limits) **int64 { return &l.PerMinute }},
	{"burst", "Exchanges at once", "How many may come together. Empty: as many as in a minute.", quota.MaxPerMinute, func(l *quota.Limits) **int64 { return &l.Burst }},
	{"exchanges_per_day", "Exchanges a day", "In UTC.", quota.MaxExchanges, func(l *quota.Limits) **int64 { return &l.PerDay }},
	{"exchanges_per_month", "Exchanges a month", "In UTC.", quota.MaxExchanges, func(l *quota.Limits) **int64 { return &l.PerMonth }},
}

const fieldMode = "mode"

// limitsForm is the form of a quota.
type limitsForm struct {
	Form   url.Values
	Fields []limitField
}

// limitsPreview is what other limits would do, before they are saved.
type limitsPreview struct {
	Form     url.Values
	Changes  []changedValue
	Findings []manage.Finding
	Soft     bool
}

func limitsPage(form url.Values) page {
	return page{template: "limits", title: "Change the quota", section: "usage", data: limitsForm{form, limitFields}}
}

func (r *request) needsLimit() error {
	if r.mayLimit() {
		return nil
	}
	return fmt.Errorf("%w: this needs quota:update", workspace.ErrForbidden)
}

// editLimits shows the limits as a form.
func editLimits(r *request) (page, error) {
	if err := r.needsLimit(); err != nil {
		return page{}, err
	}
	q, err := r.h.Manager.Quota(r.ctx, r.by, r.ws.ID)
	form := url.Values{fieldVersion: {strconv.FormatInt(q.Version, 10)}, fieldMode: {string(q.Value.Mode)}}
	for _, f := range limitFields {
		if n := *f.of(&q.Value); n != nil {
			form.Set(f.Name, strconv.FormatInt(*n, 10))
		}
	}
	return limitsPage(form), err
}

// saveLimits shows what the form would do, and when that was seen, does it.
func saveLimits(r *request) (page, error) {
	limits, err := readLimits(r.form)
	if err != nil {
		return limitsPage(r.form).again(err)
	}
	before, err := r.h.Manager.Quota(r.ctx, r.by, r.ws.ID)
	if err != nil {
		return page{}, err
	}
	findings, _, err := r.h.Manager.PreviewQuota(r.ctx, r.by, r.ws.ID, limits)
	if err != nil {
		return limitsPage(r.form).again(err)
	}
	preview := limitsPreview{r.form, limitChanges(before.Value, limits), findings, limits.Mode == quota.Soft}
	if r.form.Get("seen") != "yes" {
		return page{template: "limits_preview", title: "Save these limits?", section: "usage", data: preview}, nil
	}
	_, err = r.h.Manager.SetQuota(r.ctx, r.by.If(r.form.Get(fieldVersion)), r.ws.ID, limits)
	if err != nil && !pending(err) {
		return limitsPage(r.form).again(err)
	}
	return done(err, r.here("usage"), "quota-changed"), nil
}

// readLimits reads the form; the error is mistakes.
func readLimits(form url.Values) (l quota.Limits, err error) {
	var m mistakes
	for _, f := range limitFields {
		text := strings.TrimSpace(form.Get(f.Name))
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 || n > f.most {
			m.add(f.Name, f.Label+": use a whole number from 1 to "+number(f.most)+", in digits alone, or leave it empty for no limit.")
		}
		*f.of(&l) = &n
	}
	if l.Burst != nil && l.PerMinute == nil && len(m) == 0 {
		m.add("burst", "Exchanges at once belong to a limit a minute: give that too, or leave this empty.")
	}
	if l.Mode = quota.Mode(form.Get(fieldMode)); l.Mode == "" {
		l.Mode = quota.Enforce
	}
	if l.Mode != quota.Enforce && l.Mode != quota.Soft {
		m.add(fieldMode, "Choose whether limits refuse.")
	}
	return l, m.err()
}

// limitChanges are the limits that would be others.
func limitChanges(before, after quota.Limits) (changes []changedValue) {
	for _, f := range limitFields {
		if was, is := limitText(*f.of(&before)), limitText(*f.of(&after)); was != is {
			changes = append(changes, changedValue{f.Label, was, is})
		}
	}
	if was, is := modeText(before.Mode), modeText(after.Mode); was != is {
		changes = append(changes, changedValue{"Above a limit", was, is})
	}
	return changes
}

func limitText(n *int64) string {
	if n == nil {
		return "none"
	}
	return number(*n)
}

func modeText(mode quota.Mode) string {
	if mode == quota.Soft {
		return "only noted"
	}
	return "refused"
}
