package manage

import (
	"context"
	"errors"
	"strings"

	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// PolicyVersion is a version that the API-key policy has or had.
type PolicyVersion struct {
	policy.Document[policy.Rules]
	Author string // who made it, as people know them; empty: nobody knows
	Fault  error  // why it is passed over: it cannot be understood
}

// maxVersions is how many versions of a document are listed.
const maxVersions = 50

// KeyPolicyHistory lists the versions of the API-key policy of a workspace, or with
// an empty one of the organization: the newest first.
func (m *Manager) KeyPolicyHistory(ctx context.Context, by Caller, in workspace.ID) (found []PolicyVersion, err error) {
	err = m.view(ctx, by, seePolicy("policy:read", in), func(ctx context.Context, u *unit) error {
		stored, err := policy.Versions(ctx, u.tx, policy.KindKeys, policyOf(in))
		if err != nil {
			return err
		}
		names := map[string]string{}
		for _, s := range stored[:min(len(stored), maxVersions)] {
			rules, fault := policy.ParseRules(s.Text)
			author, err := u.author(ctx, names, s.CreatedBy)
			if err != nil {
				return err
			}
			document := policy.Document[policy.Rules]{Value: rules, Version: s.Version, CreatedAt: s.CreatedAt, CreatedBy: s.CreatedBy}
			found = append(found, PolicyVersion{Document: document, Author: author, Fault: fault})
		}
		return nil
	})
	return found, err
}

// author is how people know who is named in created_by: a user's address, a service
// account's name. known keeps what was looked up.
func (u *unit) author(ctx context.Context, known map[string]string, createdBy string) (string, error) {
	kind, id, _ := strings.Cut(createdBy, ":")
	if kind == string(operatorCaller) {
		return "the operator " + id, nil
	}
	if name, looked := known[id]; looked {
		return name, nil
	}
	who, err := workspace.FindStoppable(ctx, u.tx, id)
	switch {
	case errors.Is(err, workspace.ErrNotFound):
	case err != nil:
		return "", err
	case !who.DeletedAt.IsZero():
		who.Name = "somebody who was deleted"
	}
	known[id] = who.Name
	return who.Name, nil
}
