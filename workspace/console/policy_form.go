package console

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/tokenbooth/tokenbooth/policy"
)

// rulesForm is policy.Rules as a form holds them: by the names of their members,
// each as it was typed. What is empty says nothing.
type rulesForm struct{ url.Values }

// The members of policy.Rules, which the fields of the form are named by, and what
// people call them.
const (
	fieldEnabled  = "api_keys_enabled"
	fieldMax      = "max_lifetime_days"
	fieldDefault  = "default_lifetime_days"
	fieldNever    = "allow_never_expiring"
	fieldGrace    = "max_grace_period_seconds"
	fieldNetworks = "require_allowed_cidrs"
	fieldIdle     = "disable_idle_after_days"
	fieldScopes   = "allowed_scopes"
	fieldAccounts = "service_accounts_manage_keys"

	fieldGraceUnit    = "grace_unit"
	fieldScopesBounds = "scopes_bounded" // "yes": fieldScopes counts, also when it is empty
)

var ruleLabels = []struct{ field, label string }{
	{fieldEnabled, "API keys"},
	{fieldMax, "Longest lifetime"},
	{fieldDefault, "Default lifetime"},
	{fieldNever, "Keys that never expire"},
	{fieldGrace, "Longest overlap when a key is rotated"},
	{fieldNetworks, "Keys tied to networks"},
	{fieldIdle, "Refuse unused keys after"},
	{fieldScopes, "Scopes that may be held"},
	{fieldAccounts, "Service accounts that manage keys"},
}

// graceUnits are what a grace period may be counted in, in seconds, the largest first.
var graceUnits = []struct {
	name    string
	seconds int64
}{{"days", 86400}, {"hours", 3600}, {"minutes", 60}, {"seconds", 1}}

// formOf is the form of rules.
func formOf(r policy.Rules) rulesForm {
	f := rulesForm{url.Values{}}
	for field, choice := range map[string]*bool{fieldEnabled: r.Enabled, fieldNever: r.AllowNever, fieldNetworks: r.RequireNetworks, fieldAccounts: r.ServiceAccounts} {
		f.choose(field, choice)
	}
	for field, n := range map[string]*int64{fieldMax: r.MaxLifetimeDays, fieldDefault: r.DefaultLifetimeDays, fieldIdle: r.IdleDays} {
		if n != nil {
			f.Set(field, strconv.FormatInt(*n, 10))
		}
	}
	f.Set(fieldGraceUnit, "hours")
	if r.MaxGraceSeconds != nil {
		for _, unit := range graceUnits {
			if *r.MaxGraceSeconds%unit.seconds == 0 {
				f.Set(fieldGrace, strconv.FormatInt(*r.MaxGraceSeconds/unit.seconds, 10))
				f.Set(fieldGraceUnit, unit.name)
				break
			}
		}
	}
	if r.AllowedScopes != nil {
		f.Set(fieldScopesBounds, "yes")
		f.Set(fieldScopes, strings.Join(*r.AllowedScopes, "\n"))
	}
	return f
}

func (f rulesForm) choose(field string, choice *bool) {
	switch {
	case choice == nil:
	case *choice:
		f.Set(field, "yes")
	default:
		f.Set(field, "no")
	}
}

// readRulesForm takes the form's fields out of what was sent.
func (r *request) readRulesForm() rulesForm {
	f := rulesForm{url.Values{}}
	for _, known := range ruleLabels {
		f.Set(known.field, r.text(known.field))
	}
	f.Set(fieldGraceUnit, r.text(fieldGraceUnit))
	f.Set(fieldScopesBounds, r.text(fieldScopesBounds))
	return f
}

// Hidden are the fields that say something, to be sent again.
func (f rulesForm) Hidden() map[string]string {
	all := map[string]string{}
	for field := range f.Values {
		if value := f.Get(field); value != "" {
			all[field] = value
		}
	}
	return all
}

// rules are what the form says; the error is mistakes.
func (f rulesForm) rules() (policy.Rules, error) {
	var m mistakes
	r := policy.Rules{
		Enabled: f.choice(fieldEnabled), AllowNever: f.choice(fieldNever), RequireNetworks: f.choice(fieldNetworks), ServiceAccounts: f.choice(fieldAccounts),
		MaxLifetimeDays: f.days(&m, fieldMax), DefaultLifetimeDays: f.days(&m, fieldDefault), IdleDays: f.days(&m, fieldIdle),
		MaxGraceSeconds: f.grace(&m),
	}
	if f.Get(fieldScopesBounds) == "yes" {
		patterns := strings.Fields(f.Get(fieldScopes))
		r.AllowedScopes = &patterns
	}
	if len(m) == 0 {
		if err := r.Validate(); err != nil {
			return r, ruleMistakes(err)
		}
	}
	return r, m.err()
}

func (f rulesForm) choice(field string) *bool {
	yes := f.Get(field) == "yes"
	if !yes && f.Get(field) != "no" {
		return nil
	}
	return &yes
}

func (f rulesForm) days(m *mistakes, field string) *int64 {
	return f.number(m, field, 1, policy.MaxDays, "days")
}

func (f rulesForm) grace(m *mistakes) *int64 {
	for _, unit := range graceUnits {
		if unit.name == f.Get(fieldGraceUnit) {
			n := f.number(m, fieldGrace, 0, policy.MaxGraceSeconds/unit.seconds, unit.name)
			if n != nil {
				*n *= unit.seconds
			}
			return n
		}
	}
	if f.Get(fieldGrace) != "" {
		m.add(fieldGrace, "Choose what the overlap is counted in.")
	}
	return nil
}

func (f rulesForm) number(m *mistakes, field string, low, high int64, unit string) *int64 {
	text := f.Get(field)
	if text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < low || n > high {
		m.add(field, fmt.Sprintf("%s: use a whole number from %d to %d %s, or leave it empty.", labelOf(field), low, high, unit))
		return nil
	}
	return &n
}

func labelOf(field string) string {
	for _, known := range ruleLabels {
		if known.field == field {
			return known.label
		}
	}
	return field
}

// ruleMistakes says what is wrong with rules in the words of the form, at the field
// that it is about. An error that names none stays as it is.
func ruleMistakes(err error) error {
	wrong := problemOf(err)
	if wrong == nil || len(wrong.Items) != 1 || wrong.status != 422 {
		return err
	}
	text, field := wrong.Items[0].Text, ""
	for _, known := range ruleLabels {
		if strings.Contains(strings.ToLower(text), known.field) && field == "" {
			field = known.field
		}
		text = replaceFold(text, known.field, "“"+known.label+"”")
	}
	if field == "" {
		return err
	}
	text = strings.NewReplacer("or null to say nothing", "or leave it empty", "use null to follow", "say nothing here to follow").Replace(text)
	return mistakes{{field, text}}
}

// replaceFold replaces a name, also where a sentence has given it a capital.
func replaceFold(text, name, by string) string {
	return strings.NewReplacer(name, by, strings.ToUpper(name[:1])+name[1:], by).Replace(text)
}
