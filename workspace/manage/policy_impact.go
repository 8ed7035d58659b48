package manage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// impact looks at every live key that rules would apply to. The rules are checked
// on the way, and whether the caller may set them.
func (u *unit) impact(ctx context.Context, in workspace.ID, rules policy.Rules) (Impact, error) {
	if err := u.mayRule(ctx, in, rules); err != nil {
		return Impact{}, err
	}
	documents, _, err := policy.Documents(ctx, u.tx, policy.KindKeys, policy.ParseRules)
	if err != nil {
		return Impact{}, err
	}
	c := counting{unit: u, in: in, rules: rules, documents: documents, byRule: map[policy.Rule]int64{}, workspaces: map[workspace.ID]pair{}}
	c.After = c.bounds(in).after
	if err := keys.EachLive(ctx, u.tx, in, u.now, c.count); err != nil {
		return Impact{}, err
	}
	c.tell()
	if !u.all && !u.rights.Has("api-keys:read") && !u.rights.Has(changeAll) {
		c.Touched = nil // whoever may not list keys learns how many there are
	}
	return c.Impact, nil
}

// mayRule checks rules by themselves and within the organization's, and whether the
// caller may allow what they allow.
func (u *unit) mayRule(ctx context.Context, in workspace.ID, rules policy.Rules) error {
	if err := rules.Validate(); err != nil {
		return err
	}
	if in == "" {
		return nil
	}
	organization, err := u.rules(ctx, policy.Organization)
	if err != nil {
		return err
	}
	if err := rules.Within(policy.Combine(organization.Value, policy.Rules{})); err != nil {
		return err
	}
	before, err := u.rules(ctx, string(in))
	if err != nil {
		return err
	}
	return u.mayLoosen(rules.Looser(before.Value))
}

// counting goes through keys.
type counting struct {
	*unit
	Impact
	in         workspace.ID
	rules      policy.Rules
	documents  map[string]policy.Document[policy.Rules]
	byRule     map[policy.Rule]int64
	workspaces map[workspace.ID]pair
}

// pair is what applies in a workspace before and after the change.
type pair struct{ before, after policy.Bounds }

func (c *counting) bounds(in workspace.ID) pair {
	if p, known := c.workspaces[in]; known {
		return p
	}
	organization, own := c.documents[policy.Organization].Value, c.documents[string(in)].Value
	p := pair{policy.Combine(organization, own), policy.Combine(organization, c.rules)}
	if c.in == "" {
		p.after = policy.Combine(c.rules, own)
	}
	c.workspaces[in] = p
	return p
}

// count looks at one key.
func (c *counting) count(r *keys.Record) {
	c.Keys++
	p, standing := c.bounds(r.WorkspaceID), r.Standing()
	was, is := rulesBroken(p.before.Violations(standing, c.now.Time)), rulesBroken(p.after.Violations(standing, c.now.Time))
	newly := slices.DeleteFunc(slices.Clone(is), func(rule policy.Rule) bool { return slices.Contains(was, rule) })
	holds := c.Policy.Holds(r)
	loses := p.before.Keep(holds).Minus(p.after.Keep(holds))
	for _, rule := range newly {
		c.byRule[rule]++
	}
	switch {
	case len(was) > 0 && len(is) == 0:
		c.Freed++
	case len(was) == 0 && len(is) > 0:
		c.Blocked++
	}
	if len(loses) > 0 {
		c.Narrowed++
	}
	if len(newly) == 0 && len(loses) == 0 {
		return
	}
	c.bump = append(c.bump, r.ID)
	if len(c.Touched) < maxTouched {
		c.Touched = append(c.Touched, TouchedKey{
			ID: r.ID, Name: r.Name, WorkspaceID: r.WorkspaceID, Workspace: r.WorkspaceSlug, OwnerID: r.OwnerID(), ExpiresAt: r.ExpiresAt, Breaks: newly, Loses: loses,
		})
	}
}

func rulesBroken(violations []policy.Violation) (rules []policy.Rule) {
	for _, v := range violations {
		rules = append(rules, v.Rule)
	}
	return rules
}

// tell says in words what was counted.
func (c *counting) tell() {
	day := 24 * time.Hour
	words := map[policy.Rule]string{
		policy.RuleEnabled:     "works now and would be refused: API keys would be disabled|work now and would be refused: API keys would be disabled",
		policy.RuleMaxLifetime: fmt.Sprintf("lives longer than %d days and would be refused|live longer than %d days and would be refused", c.After.MaxLifetime/day, c.After.MaxLifetime/day),
		policy.RuleAllowNever:  "never expires and would be refused|never expire and would be refused",
		policy.RuleNetworks:    "is not tied to networks and would be refused|are not tied to networks and would be refused",
		policy.RuleIdle:        fmt.Sprintf("was not used for %d days and would be refused|were not used for %d days and would be refused", c.After.Idle/day, c.After.Idle/day),
	}
	for rule, n := range c.byRule {
		c.Findings = append(c.Findings, Finding{string(rule), n, sentenceOf(n, words[rule])})
	}
	slices.SortFunc(c.Findings, func(a, b Finding) int { return cmp.Or(cmp.Compare(b.Keys, a.Keys), cmp.Compare(a.Rule, b.Rule)) })
	if c.Narrowed > 0 {
		c.Findings = append(c.Findings, Finding{"allowed_scopes", c.Narrowed, sentenceOf(c.Narrowed, "would lose scopes|would lose scopes")})
	}
	if c.Freed > 0 {
		c.Findings = append(c.Findings, Finding{"", c.Freed, sentenceOf(c.Freed, "is refused now and would work|are refused now and would work")})
	}
}

// sentenceOf says how many keys do something; words are "one does|many do".
func sentenceOf(n int64, words string) string {
	one, many, _ := strings.Cut(words, "|")
	if n == 1 {
		return "1 key " + one + "."
	}
	return fmt.Sprintf("%d keys %s.", n, many)
}
