package adminhttp

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// Each operation is about the workspace that the path names, or else about the
// organization.

func showPolicy(r *request) (answer, error) {
	found, err := r.h.Manager.KeyPolicy(r.ctx(), r.by, r.ws)
	return r.showingPolicy(found, err)
}

func setPolicy(r *request) (answer, error) {
	rules, err := r.rules()
	if err != nil {
		return answer{}, err
	}
	after, _, err := r.h.Manager.SetKeyPolicy(r.ctx(), r.by, r.ws, rules)
	return r.showingPolicy(after, blame(err, &admin.PolicyRules{}))
}

func previewPolicy(r *request) (answer, error) {
	rules, err := r.rules()
	if err != nil {
		return answer{}, err
	}
	impact, err := r.h.Manager.PreviewKeyPolicy(r.ctx(), r.by, r.ws, rules)
	return answer{body: r.wireImpact(impact)}, blame(err, &admin.PolicyRules{})
}

func (r *request) rules() (policy.Rules, error) {
	var wire admin.PolicyRules
	err := r.decodeDocument(&wire, "effective")
	return policy.Rules(wire), err
}

// decodeDocument reads a document that is set as a whole. Members that it shows and
// does not take are ignored: whoever changes it may send back what they have read.
func (r *request) decodeDocument(into any, more string) error {
	return r.decode(into, "version", "updated_at", "updated_by", more)
}

func (r *request) showingPolicy(p manage.KeyPolicy, err error) (answer, error) {
	return answer{
		body: admin.Policy{
			PolicyRules: admin.PolicyRules(p.Value), Version: p.Version, UpdatedAt: orNull(p.CreatedAt), UpdatedBy: who(p.CreatedBy),
			Effective: r.wireBounds(p.Effective),
		},
		version: strconv.FormatInt(p.Version, 10),
	}, err
}

func (r *request) wireBounds(b policy.Bounds) admin.PolicyBounds {
	const day = 24 * time.Hour
	return admin.PolicyBounds{
		Enabled: b.Enabled, MaxLifetimeDays: unless0(int64(b.MaxLifetime / day)), DefaultLifetimeDays: int64(b.DefaultLifetime / day), AllowNever: b.AllowNever,
		MaxGraceSeconds: int64(b.MaxGrace / time.Second), RequireNetworks: b.RequireNetworks, IdleDays: unless0(int64(b.Idle / day)),
		AllowedScopes: append([]string{}, b.Keep(r.h.Manager.Policy.Catalogue.All())...), ServiceAccounts: b.ServiceAccounts,
	}
}

// unless0 is a number, or null for 0.
func unless0(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

func (r *request) wireImpact(i manage.Impact) admin.PolicyImpact {
	wire := admin.PolicyImpact{
		Keys: i.Keys, Blocked: i.Blocked, Narrowed: i.Narrowed, Freed: i.Freed,
		Findings: []admin.PolicyFinding{}, Touched: []admin.TouchedKey{}, Effective: r.wireBounds(i.After),
	}
	for _, f := range i.Findings {
		wire.Findings = append(wire.Findings, admin.PolicyFinding{Rule: f.Rule, Keys: f.Keys, Detail: f.Text})
	}
	for _, k := range i.Touched {
		wire.Touched = append(wire.Touched, wireTouched(k))
	}
	return wire
}

func wireTouched(k manage.TouchedKey) admin.TouchedKey {
	wire := admin.TouchedKey{
		ClientID: string(k.ID), Name: k.Name, WorkspaceID: string(k.WorkspaceID), Workspace: k.Workspace, OwnerID: k.OwnerID,
		ExpiresAt: orNull(k.ExpiresAt), Breaks: []string{}, Loses: append([]string{}, k.Loses...),
	}
	for _, rule := range k.Breaks {
		wire.Breaks = append(wire.Breaks, string(rule))
	}
	return wire
}

// blame gives what is wrong with a document a pointer: its sentence begins with the
// member that is to blame, if there is one.
func blame(err error, document any) error {
	if !errors.Is(err, workspace.ErrInvalid) {
		return err
	}
	text := sentence(err, workspace.ErrInvalid)
	name, rest, _ := strings.Cut(text, " ")
	name = lower(name)
	if _, known := fieldsOf(document)[name]; !known {
		return err
	}
	return invalid([]oauth.FieldError{mistake(name, strings.TrimSuffix(rest, "."))})
}
