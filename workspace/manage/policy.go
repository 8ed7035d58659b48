package manage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// KeyPolicy is the API-key policy of the organization or of a workspace, and what
// it comes to for the keys there.
type KeyPolicy struct {
	policy.Document[policy.Rules]
	Effective    policy.Bounds
	Organization policy.Bounds // what the organization says by itself
}

// policyOf is whose policy is meant: an empty workspace is the organization.
func policyOf(in workspace.ID) string {
	if in == "" {
		return policy.Organization
	}
	return string(in)
}

// seePolicy and changePolicy are what reading and changing a policy needs. A
// workspace may bind itself more tightly; what is looser is for organization admins
// (mayLoosen).
func seePolicy(need string, in workspace.ID) operation {
	if in == "" {
		return operation{need: seeAll}
	}
	return operation{need: need, in: in, elsewhere: seeAll + " " + changeAll}
}

func changePolicy(need string, in workspace.ID) operation {
	if in == "" {
		return operation{need: changeAll}
	}
	return operation{need: need, in: in, elsewhere: changeAll}
}

// mayLoosen refuses whoever may only tighten.
func (u *unit) mayLoosen(looser bool) error {
	if !looser || u.all || u.rights.Has(changeAll) {
		return nil
	}
	return fmt.Errorf("%w: a workspace can only narrow what it has; to allow more needs %s, which organization admins hold", workspace.ErrForbidden, changeAll)
}

// KeyPolicy reads the API-key policy of a workspace, or with an empty one that of
// the organization.
func (m *Manager) KeyPolicy(ctx context.Context, by Caller, in workspace.ID) (found KeyPolicy, err error) {
	err = m.view(ctx, by, seePolicy("policy:read", in), func(ctx context.Context, u *unit) error {
		found, err = u.keyPolicy(ctx, in)
		return err
	})
	return found, err
}

func (u *unit) keyPolicy(ctx context.Context, in workspace.ID) (found KeyPolicy, err error) {
	if found.Document, err = u.rules(ctx, policyOf(in)); err != nil {
		return found, err
	}
	b, err := u.bounds(ctx, in)
	if err != nil {
		return found, err
	}
	organization, err := u.rules(ctx, policy.Organization)
	found.Effective, found.Organization = *b, policy.Combine(organization.Value, policy.Rules{})
	return found, err
}

// SetKeyPolicy puts rules in the place of those that the organization or a
// workspace has. Keys that break them are refused from when it returns, and tokens
// that carry more than is allowed are denied; no key is changed (PreviewKeyPolicy).
func (m *Manager) SetKeyPolicy(ctx context.Context, by Caller, in workspace.ID, rules policy.Rules) (after KeyPolicy, impact Impact, err error) {
	err = m.do(ctx, by, changePolicy("policy:update", in), func(ctx context.Context, u *unit) error {
		before, err := u.rules(ctx, policyOf(in))
		if err != nil {
			return err
		}
		if err := u.matchesDocument(before.Version); err != nil {
			return err
		}
		if impact, err = u.impact(ctx, in, rules); err != nil {
			return err
		}
		u.denies = true
		if err := u.store(ctx, policy.KindKeys, in, before.Version, before.Value, rules, map[string]any{
			"keys_blocked": impact.Blocked, "keys_narrowed": impact.Narrowed,
		}); err != nil {
			return err
		}
		generations, err := keys.BumpAll(ctx, u.tx, impact.bump)
		if err != nil {
			return err
		}
		for id, generation := range generations {
			u.deny(in, oauth.RevocableKey, string(id), generation, revocation.Changed)
			u.touched = append(u.touched, string(id))
		}
		u.bounded = nil // what was read before
		after, err = u.keyPolicy(ctx, in)
		return err
	})
	return after, impact, err
}

// PreviewKeyPolicy tells what SetKeyPolicy would do, and changes nothing.
func (m *Manager) PreviewKeyPolicy(ctx context.Context, by Caller, in workspace.ID, rules policy.Rules) (impact Impact, err error) {
	err = m.view(ctx, by, changePolicy("policy:update", in), func(ctx context.Context, u *unit) error {
		impact, err = u.impact(ctx, in, rules)
		return err
	})
	return impact, err
}

// matchesDocument checks the caller's condition against a version.
func (u *unit) matchesDocument(version int64) error {
	if len(u.by.match) == 0 || slices.Contains(u.by.match, strconv.FormatInt(version, 10)) {
		return nil
	}
	return fmt.Errorf("%w: it is at version %d now; read it again, and repeat what is still wanted", workspace.ErrChanged, version)
}

// store writes a new version, unless it says the same as the last.
func (u *unit) store(ctx context.Context, kind policy.Kind, in workspace.ID, version int64, before, after any, detail map[string]any) error {
	was, err := json.Marshal(before)
	if err != nil {
		return fmt.Errorf("document: %w", err)
	}
	is, err := json.Marshal(after)
	if err != nil {
		return fmt.Errorf("document: %w", err)
	}
	if version > 0 && string(was) == string(is) {
		return nil
	}
	newest, err := policy.Versions(ctx, u.tx, kind, policyOf(in)) // there may be newer ones that nobody understands
	if err != nil {
		return err
	}
	next := int64(1)
	if len(newest) > 0 {
		next = newest[0].Version + 1
	}
	if next > maxVersion || next < 1 {
		return fmt.Errorf("%w: somebody wrote version %d of this document to the database by hand: the operator has to delete that row of the table policies", workspace.ErrConflict, newest[0].Version)
	}
	err = policy.InsertDocument(ctx, u.tx, policy.Stored{
		Kind: kind, Subject: policyOf(in), Version: next, Text: string(is), CreatedAt: u.now, CreatedBy: u.by.String(),
	})
	if err != nil {
		return err
	}
	action := map[policy.Kind]string{policy.KindKeys: "policy.update", policy.KindQuota: "quota.update"}[kind]
	detail["version"], detail["before"], detail["after"] = next, json.RawMessage(was), json.RawMessage(is)
	u.record(action, in, kind.Subject(policyOf(in)), detail)
	return nil
}

// maxVersion is more than anybody reaches by changing a document.
const maxVersion = 1 << 53

// Impact is whom a change of policy touches.
type Impact struct {
	Keys     int64         // live ones that were looked at
	Blocked  int64         // work now, and would be refused
	Narrowed int64         // would lose scopes
	Freed    int64         // are refused now, and would work
	Findings []Finding     // in words, the weightiest first
	Touched  []TouchedKey  // the first of those that are blocked or narrowed
	After    policy.Bounds // what the rules come to

	bump []keys.ID // all of those: their tokens are denied
}

// Finding is what a change of policy does, in words.
type Finding struct {
	Rule string // the member that does it
	Keys int64
	Text string
}

// TouchedKey is a key that a change of policy touches.
type TouchedKey struct {
	ID          keys.ID
	Name        string
	WorkspaceID workspace.ID
	Workspace   string // slug
	OwnerID     string
	ExpiresAt   workspace.Time
	Breaks      []policy.Rule // would be refused for these
	Loses       oauth.Scope
}

// maxTouched is how many keys an Impact names.
const maxTouched = 100
