package console

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// auditFilter is the form that an audit log is filtered with, as it was filled in.
type auditFilter struct {
	Actor, Key, ServiceAccount, Action, Outcome string
	Since, Until                                string // dates in UTC; both count
}

// readAuditFilter reads the filter from the address, or from a form.
func readAuditFilter(q url.Values) auditFilter {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	return auditFilter{
		Actor: get("actor"), Key: get("key"), ServiceAccount: get("service_account"),
		Action: get("action"), Outcome: get("outcome"), Since: get("since"), Until: get("until"),
	}
}

// Any reports whether anything is asked.
func (f auditFilter) Any() bool { return f != auditFilter{} }

// query is the filter as part of an address.
func (f auditFilter) query() string {
	q := url.Values{}
	for name, value := range map[string]string{
		"actor": f.Actor, "key": f.Key, "service_account": f.ServiceAccount, "action": f.Action,
		"outcome": f.Outcome, "since": f.Since, "until": f.Until,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// longestValue is more than any name, address or ID has.
const longestValue = 300

// read makes a filter of the log; the error is mistakes.
func (f auditFilter) read(r *request) (audit.Filter, error) {
	var m mistakes
	found := audit.Filter{Action: f.Action, Outcome: f.Outcome}
	for _, field := range []struct{ name, value string }{{"actor", f.Actor}, {"key", f.Key}, {"service_account", f.ServiceAccount}} {
		if len(field.value) > longestValue || strings.ContainsFunc(field.value, unicode.IsControl) {
			m.add(field.name, "This is no name, address or ID.")
		}
	}
	if len(m) > 0 {
		return found, m.err()
	}
	if f.Key != "" {
		id, err := r.h.Manager.Format.ParseID(f.Key)
		if err != nil {
			m.add("key", "This is no key ID of this installation: copy it from the page of the key.")
		}
		found.KeyID = string(id)
	}
	found.Since, found.Until = f.span(&m)
	if _, known := outcomeTexts[f.Outcome]; f.Outcome != "" && !known {
		m.add("outcome", "There is no such outcome: choose one of the list.")
	}
	if !isAction(f.Action) {
		m.add("action", "There is no such action: choose one of the list.")
	}
	err := f.people(r, &found, &m)
	return found, errors.Join(err, m.err())
}

// people finds the IDs of whom the filter names.
func (f auditFilter) people(r *request, found *audit.Filter, m *mistakes) (err error) {
	if f.Actor != "" {
		found.ActorID, err = r.h.Manager.LogID(r.ctx, r.by, r.ws.ID, f.Actor)
		if errors.Is(err, workspace.ErrInvalid) {
			m.add("actor", "This is no e-mail address: use the form name@example.com, the name of a service account, or an ID.")
			err = nil
		}
	}
	if f.ServiceAccount == "" || err != nil {
		return err
	}
	id, err := r.h.Manager.ResolveServiceAccount(r.ctx, r.ws.ID, f.ServiceAccount)
	found.OwnerID = string(id)
	return err
}

// span reads the dates: from the beginning of the first to the end of the last.
func (f auditFilter) span(m *mistakes) (since, until time.Time) {
	since, until = readDate(m, "since", f.Since), readDate(m, "until", f.Until)
	if !since.IsZero() && !until.IsZero() && until.Before(since) {
		m.add("until", "The last day is before the first.")
	}
	if !until.IsZero() {
		until = until.Add(day)
	}
	return since, until
}

func readDate(m *mistakes, field, text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.DateOnly, text)
	if err != nil || at.Year() < 1970 || at.Year() > 9998 {
		m.add(field, "This is no date since 1970: use the form 2027-01-31.")
		return time.Time{}
	}
	return at
}

// isAction accepts what can be asked for: one action, or a topic's.
func isAction(text string) bool {
	if name, ok := strings.CutSuffix(text, ".*"); ok {
		return slices.ContainsFunc(slices.Concat(workspaceTopics, organizationTopics), func(t topic) bool { return t.Name == name })
	}
	_, known := deeds[text]
	return text == "" || known
}

// outcomes are what exchanges can be filtered by, the issued first.
func outcomes() (found []action) {
	for _, name := range slices.SortedFunc(maps.Keys(outcomeTexts), byWeight) {
		found = append(found, action{name, outcomeTexts[name]})
	}
	return found
}
