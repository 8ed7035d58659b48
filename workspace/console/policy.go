package console

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// The pages of the key policy are about the workspace that the path names, or else
// about the organization.
func (h *Handler) policyRoutes() (all []route) {
	const get, post = http.MethodGet, http.MethodPost
	for _, path := range []string{"/organization/policy", "/w/:ws/policy"} {
		all = append(all,
			route{method: get, path: path, run: showPolicy},
			route{method: post, path: path, run: applyPolicy},
			route{method: get, path: path + "/preview", run: func(r *request) (page, error) { return seeOther(r.policyPath()), nil }},
			route{method: post, path: path + "/preview", run: previewPolicy},
		)
	}
	return all
}

func (r *request) policyPath(more ...string) string {
	if r.ws.ID == "" {
		return r.h.path(append([]string{"organization", "policy"}, more...)...)
	}
	return r.here(append([]string{"policy"}, more...)...)
}

func (r *request) policySection() string {
	if r.ws.ID == "" {
		return "organization-policy"
	}
	return "policy"
}

// policyShown is the key policy with the form that changes it.
type policyShown struct {
	Organization bool // it is the organization's
	Lines        []boundLine
	History      []policyStep

	MayChange bool
	Form      rulesForm
	Version   int64             // that the form is about
	Unset     map[string]string // what holds when a field says nothing
	Scopes    []string          // of the catalogue
	Preview   string            // where the form goes
}

// policyStep is one version in the history.
type policyStep struct {
	manage.PolicyVersion
	Changes []ruleChange // against the one before
	Now     bool
}

func showPolicy(r *request) (page, error) {
	p, _, err := r.policyPage(nil)
	return p, err
}

// policyPage shows the policy, with the form as it was filled in; nil: as it is.
func (r *request) policyPage(filled *rulesForm) (page, manage.KeyPolicy, error) {
	found, err := r.h.Manager.KeyPolicy(r.ctx, r.by, r.ws.ID)
	if err != nil {
		return page{}, found, err
	}
	history, err := r.policyHistory(found.Version)
	shown := policyShown{
		Organization: r.ws.ID == "", History: history, MayChange: r.can("policy:update") || r.can("organization:update"),
		Form: formOf(found.Value), Version: found.Version, Scopes: r.h.Manager.Policy.Catalogue.All(), Preview: r.policyPath("preview"),
	}
	above := found.Organization
	if shown.Organization {
		above = policy.Unbounded()
	}
	shown.Lines, shown.Unset = r.boundLines(found.Effective, above), r.boundWords(above)
	if filled != nil {
		shown.Form = *filled
	}
	return page{template: "policy", title: "Key policy", section: r.policySection(), data: shown}, found, err
}

func (r *request) policyHistory(current int64) (steps []policyStep, err error) {
	versions, err := r.h.Manager.KeyPolicyHistory(r.ctx, r.by, r.ws.ID)
	for i, v := range versions {
		step := policyStep{PolicyVersion: v, Now: v.Version == current}
		before := policy.Rules{}
		if i+1 < len(versions) {
			before = versions[i+1].Value
		}
		step.Changes = ruleChanges(before, v.Value)
		steps = append(steps, step)
	}
	return steps, err
}

// refusePolicy shows the form again with what keeps it from being carried out.
func (r *request) refusePolicy(f rulesForm, cause error) (page, error) {
	p, _, err := r.policyPage(&f)
	if err != nil {
		return p, err
	}
	return p.again(ruleMistakes(cause))
}

// policyPreview is what a change would do, before it is done.
type policyPreview struct {
	Organization bool
	Version      int64
	Changes      []ruleChange
	Impact       manage.Impact
	Touched      []touchedKey
	Lines        []boundLine
	Hidden       map[string]string
	Apply, Back  string
}

// touchedKey is a key that a change touches, with why in words.
type touchedKey struct {
	manage.TouchedKey
	Why []string
}

// previewPolicy says what would come of the rules that were sent. Only its page has
// the button that sets them.
func previewPolicy(r *request) (page, error) {
	f := r.readRulesForm()
	if r.text("change") != "" { // back to the form, with all that was typed
		p, _, err := r.policyPage(&f)
		return p, err
	}
	rules, err := f.rules()
	if err != nil {
		return r.refusePolicy(f, err)
	}
	impact, err := r.h.Manager.PreviewKeyPolicy(r.ctx, r.by, r.ws.ID, rules)
	if err != nil {
		return r.refusePolicy(f, err)
	}
	_, found, err := r.policyPage(&f)
	if err != nil {
		return page{}, err
	}
	shown := policyPreview{
		Organization: r.ws.ID == "", Version: found.Version, Changes: ruleChanges(found.Value, rules), Impact: impact,
		Lines: r.boundLines(impact.After, policy.Unbounded()), Hidden: f.Hidden(), Apply: r.policyPath(), Back: r.policyPath("preview"),
	}
	for _, k := range impact.Touched {
		shown.Touched = append(shown.Touched, touchedKey{k, whyTouched(k)})
	}
	return page{template: "policy_preview", title: "Preview of the key policy", section: r.policySection(), data: shown}, nil
}

// whyTouched says in words what a change does to a key.
func whyTouched(k manage.TouchedKey) (why []string) {
	words := map[policy.Rule]string{
		policy.RuleEnabled: "refused: API keys are disabled", policy.RuleMaxLifetime: "refused: it lives too long", policy.RuleAllowNever: "refused: it never expires",
		policy.RuleNetworks: "refused: it is tied to no networks", policy.RuleIdle: "refused: it was not used for too long",
	}
	for _, rule := range k.Breaks {
		why = append(why, words[rule])
	}
	if len(k.Loses) > 0 {
		why = append(why, "loses "+k.Loses.String())
	}
	return why
}

// applyPolicy sets rules that were previewed, unless somebody has set others since.
func applyPolicy(r *request) (page, error) {
	f, version := r.readRulesForm(), r.text("version")
	if _, err := strconv.ParseInt(version, 10, 64); err != nil { // not from the preview
		return previewPolicy(r)
	}
	rules, err := f.rules()
	if err != nil {
		return r.refusePolicy(f, err)
	}
	_, _, err = r.h.Manager.SetKeyPolicy(r.ctx, r.by.If(version), r.ws.ID, rules)
	if err != nil && !pending(err) {
		return r.refusePolicy(f, err)
	}
	return done(err, r.policyPath(), "policy-changed"), nil
}

// Owner is what kind of owner a touched key has.
func (k touchedKey) Owner() string {
	return either(strings.HasPrefix(k.OwnerID, "usr_"), "a person", "a service account")
}
