package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Rules are the API-key policy of the organization, or that of one workspace,
// which narrows it: what API keys may be and do. A nil field says nothing, and
// what nobody says is as in Unbounded.
type Rules struct {
	Enabled             *bool     `json:"api_keys_enabled"`
	MaxLifetimeDays     *int64    `json:"max_lifetime_days"`            // of one secret, from its making to the key's expiry
	DefaultLifetimeDays *int64    `json:"default_lifetime_days"`        // of a key whose creator does not say
	AllowNever          *bool     `json:"allow_never_expiring"`         // only without MaxLifetimeDays
	MaxGraceSeconds     *int64    `json:"max_grace_period_seconds"`     // for the old secret of a key that is rotated
	RequireNetworks     *bool     `json:"require_allowed_cidrs"`        // keys are tied to networks
	IdleDays            *int64    `json:"disable_idle_after_days"`      // a key that is not used for so long is refused
	AllowedScopes       *[]string `json:"allowed_scopes"`               // patterns over the catalogue that a workspace may hold
	ServiceAccounts     *bool     `json:"service_accounts_manage_keys"` // may service accounts manage service accounts and keys
}

// Bounds of the numbers in Rules.
const (
	MaxDays         = 3650
	MaxGraceSeconds = 7 * 24 * 60 * 60
	maxPatterns     = 100
)

// ParseRules reads stored rules. An error wraps workspace.ErrInvalid and says
// what is wrong: unknown and repeated members, other kinds, numbers out of bounds.
func ParseRules(text string) (Rules, error) {
	var r Rules
	if err := DecodeDocument(text, &r); err != nil {
		return Rules{}, err
	}
	return r, r.Validate()
}

// DecodeDocument reads a JSON object into a struct by the exact names of its members.
// Errors wrap workspace.ErrInvalid: unknown and repeated members, other kinds.
func DecodeDocument(text string, into any) error {
	members, err := oauth.ParseObject([]byte(text))
	if err != nil {
		return fmt.Errorf("%w: %w", workspace.ErrInvalid, err)
	}
	known := map[string]json.RawMessage{}
	shape, err := json.Marshal(into)
	if err == nil {
		err = json.Unmarshal(shape, &known)
	}
	if err != nil {
		return fmt.Errorf("the shape of %T: %w", into, err)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if _, ok := known[name]; !ok {
			return fmt.Errorf("%w: the member %q is not known", workspace.ErrInvalid, name)
		}
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("%w: %w", workspace.ErrInvalid, err)
	}
	return nil
}

// Validate checks the rules by themselves. Errors wrap workspace.ErrInvalid.
func (r Rules) Validate() error {
	for _, n := range []struct {
		name      string
		value     *int64
		low, high int64
	}{
		{"max_lifetime_days", r.MaxLifetimeDays, 1, MaxDays},
		{"default_lifetime_days", r.DefaultLifetimeDays, 1, MaxDays},
		{"max_grace_period_seconds", r.MaxGraceSeconds, 0, MaxGraceSeconds},
		{"disable_idle_after_days", r.IdleDays, 1, MaxDays},
	} {
		if n.value != nil && (*n.value < n.low || *n.value > n.high) {
			return fmt.Errorf("%w: %s is %d: use %d to %d, or null to say nothing", workspace.ErrInvalid, n.name, *n.value, n.low, n.high)
		}
	}
	if r.MaxLifetimeDays != nil && r.DefaultLifetimeDays != nil && *r.DefaultLifetimeDays > *r.MaxLifetimeDays {
		return fmt.Errorf("%w: default_lifetime_days is %d, which is more than max_lifetime_days %d", workspace.ErrInvalid, *r.DefaultLifetimeDays, *r.MaxLifetimeDays)
	}
	if r.AllowedScopes == nil {
		return nil
	}
	return validPatterns(*r.AllowedScopes)
}

func validPatterns(patterns []string) error {
	if len(patterns) > maxPatterns {
		return fmt.Errorf("%w: allowed_scopes has %d patterns: use at most %d", workspace.ErrInvalid, len(patterns), maxPatterns)
	}
	for _, pattern := range patterns {
		resource, action, ok := strings.Cut(pattern, ":")
		if !ok || !wildOrName(resource) || !wildOrName(action) {
			return fmt.Errorf("%w: allowed_scopes has %q: use resource:action, with * for any, such as collectors:read or *:read", workspace.ErrInvalid, oauth.Printable(pattern[:min(len(pattern), 64)]))
		}
		if _, reserved := reserved[resource]; reserved {
			return fmt.Errorf("%w: allowed_scopes has %q: management rights come from a person's role and are not bounded here", workspace.ErrInvalid, pattern)
		}
	}
	return nil
}

func wildOrName(part string) bool { return part == "*" || name.MatchString(part) }
