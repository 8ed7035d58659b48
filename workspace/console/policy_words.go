package console

import (
	"fmt"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
)

// notSet is what a rule that says nothing is in words.
const notSet = "not set"

// ruleWords says rules in words, each under its label.
func ruleWords(r policy.Rules) map[string]string {
	scopes := notSet
	if r.AllowedScopes != nil {
		if scopes = strings.Join(*r.AllowedScopes, ", "); scopes == "" {
			scopes = "none"
		}
	}
	return map[string]string{
		fieldEnabled: choiceWords(r.Enabled, "enabled", "disabled"), fieldNever: choiceWords(r.AllowNever, "allowed", "not allowed"),
		fieldNetworks: choiceWords(r.RequireNetworks, "required", "not required"), fieldAccounts: choiceWords(r.ServiceAccounts, "allowed", "not allowed"),
		fieldMax: daysWords(r.MaxLifetimeDays), fieldDefault: daysWords(r.DefaultLifetimeDays), fieldIdle: daysWords(r.IdleDays),
		fieldGrace: graceWords(r.MaxGraceSeconds), fieldScopes: scopes,
	}
}

func choiceWords(choice *bool, yes, no string) string {
	switch {
	case choice == nil:
		return notSet
	case *choice:
		return yes
	}
	return no
}

func daysWords(n *int64) string {
	if n == nil {
		return notSet
	}
	return count(*n, "day")
}

func graceWords(seconds *int64) string {
	if seconds == nil {
		return notSet
	}
	return overlap(time.Duration(*seconds) * time.Second)
}

// overlap says a grace period exactly.
func overlap(d time.Duration) string {
	seconds := int64(d / time.Second)
	if seconds == 0 {
		return "none"
	}
	for _, unit := range graceUnits {
		if seconds%unit.seconds == 0 {
			return count(seconds/unit.seconds, strings.TrimSuffix(unit.name, "s"))
		}
	}
	return count(seconds, "second")
}

// ruleChange is a rule that differs between two versions.
type ruleChange struct{ Label, Before, After string }

// ruleChanges lists what differs between rules, in the order of the form.
func ruleChanges(before, after policy.Rules) (changes []ruleChange) {
	was, is := ruleWords(before), ruleWords(after)
	for _, known := range ruleLabels {
		if was[known.field] != is[known.field] {
			changes = append(changes, ruleChange{known.label, was[known.field], is[known.field]})
		}
	}
	return changes
}

// boundLine is one bound in words, with what the organization says of it.
type boundLine struct {
	Label, Text string
	Says        string // the organization; empty: nothing
}

// boundLines says in words what applies.
func (r *request) boundLines(b, organization policy.Bounds) []boundLine {
	is, says, open := r.boundWords(b), r.boundWords(organization), r.boundWords(policy.Unbounded())
	var lines []boundLine
	for _, known := range ruleLabels {
		line := boundLine{Label: known.label, Text: is[known.field]}
		if says[known.field] != open[known.field] {
			line.Says = says[known.field]
		}
		lines = append(lines, line)
	}
	return lines
}

// boundWords says what bounds come to, each under the name of its rule.
func (r *request) boundWords(b policy.Bounds) map[string]string {
	all := r.h.Manager.Policy.Catalogue.All()
	words := map[string]string{
		fieldEnabled:  either(b.Enabled, "enabled", "disabled: no key is exchanged"),
		fieldMax:      "any",
		fieldDefault:  "a key ends after " + wholeDays(b.DefaultLifetime) + " unless its creator says otherwise",
		fieldNever:    either(b.AllowNever, "allowed", "not allowed: every key has an end"),
		fieldGrace:    "the old secret works for at most " + overlap(b.MaxGrace) + " beside the new one",
		fieldNetworks: either(b.RequireNetworks, "required: a key without allowed networks is refused", "not required"),
		fieldIdle:     "never",
		fieldScopes:   scopeWords(b.Keep(all), all),
		fieldAccounts: either(b.ServiceAccounts, "allowed, within what they hold", "not allowed: only people manage keys"),
	}
	if b.MaxLifetime > 0 {
		words[fieldMax] = "at most " + wholeDays(b.MaxLifetime) + ", and no key without an end"
	}
	if b.MaxGrace == 0 {
		words[fieldGrace] = "none: the old secret stops as soon as the new one is there"
	}
	if b.Idle > 0 {
		words[fieldIdle] = wholeDays(b.Idle) + " without use"
	}
	return words
}

func either(yes bool, ifYes, ifNo string) string {
	if yes {
		return ifYes
	}
	return ifNo
}

func wholeDays(d time.Duration) string { return count(int64(d/day), "day") }

// scopeWords says which of all scopes there are.
func scopeWords(some, all oauth.Scope) string {
	switch {
	case len(some) == len(all):
		return "all of the catalogue"
	case len(some) == 0:
		return "none"
	case len(some) > 12:
		return fmt.Sprintf("%d of the %d in the catalogue", len(some), len(all))
	}
	return strings.Join(some, ", ")
}
