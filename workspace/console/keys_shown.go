package console

import (
	"slices"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// shownKey is a key as lists show it.
type shownKey struct {
	ID                     keys.ID
	Name, Description, URL string
	Personal               bool

	Status   keys.Status
	Pill     map[string]any // for the part of that name
	Ended    bool           // revoked or expired
	Blocked  []string       // what refuses it although it has not ended, in words
	Rotating workspace.Time // until when the old secret works beside the new one; zero: it has one secret

	Permissions string   // Read-only, Full, Custom (3), None, or As its owner
	Scopes      []string // empty when it may do whatever its owner may

	LastUsed    workspace.Time // zero: never
	LastAddress string
	LastAgent   string

	Expires   workspace.Time // zero: never
	Urgency   string         // warn from 14 days before, danger from 3; empty: none
	Created   workspace.Time
	Creator   string // as stored: kind and ID
	CreatedBy string
}

// urgentSoon is how long before its end a key is about to expire.
const urgentSoon = 3 * day

// showKey is what a list shows of a key.
func (r *request) showKey(k keys.Listed) shownKey {
	now := r.h.Manager.Time()
	s := shownKey{
		ID: k.ID, Name: k.Name, Description: k.Description, URL: r.here("keys", string(k.ID)), Personal: k.UserID != "",
		Status: k.Status(now), LastUsed: k.LastUsedAt, Expires: k.ExpiresAt, Created: k.CreatedAt, Creator: k.CreatedBy, CreatedBy: r.creator(k.CreatedBy),
	}
	s.Ended = s.Status == keys.StatusRevoked || s.Status == keys.StatusExpired
	if !s.Ended {
		s.Urgency = urgency(k.ExpiresAt, now)
		s.Rotating = rotatingUntil(k, now)
		for _, rule := range k.Blocked {
			s.Blocked = append(s.Blocked, blockedText(rule))
		}
	}
	s.Pill = s.pill()
	for _, secret := range k.Secrets {
		if !secret.LastUsedAt.IsZero() && secret.LastUsedAt == k.LastUsedAt {
			s.LastAddress, s.LastAgent = secret.LastUsedAddress, secret.LastUsedAgent
		}
	}
	s.Permissions = "As its owner"
	if k.Scopes != nil {
		s.permit(*k.Scopes, r.h.Manager.Policy.Catalogue)
	}
	return s
}

// LastFrom is from where and by what a key was used last; empty: nobody knows.
func (s shownKey) LastFrom() string {
	return strings.Join(slices.DeleteFunc([]string{s.LastAddress, s.LastAgent}, func(part string) bool { return part == "" }), ", ")
}

// permit says in short what a key may do.
func (s *shownKey) permit(scopes oauth.Scope, catalogue *policy.Catalogue) {
	s.Scopes = scopes
	switch all := catalogue.All(); {
	case len(scopes) == 0:
		s.Permissions = "None"
	case !slices.ContainsFunc(scopes, func(scope string) bool { return !onlyReads(scope) }):
		s.Permissions = "Read-only"
	case scopes.Contains(all):
		s.Permissions = "Full"
	default:
		s.Permissions = "Custom (" + number(int64(len(scopes))) + ")"
	}
}

// onlyReads reports whether a scope changes nothing, by the name of its action.
func onlyReads(scope string) bool {
	_, action, _ := strings.Cut(scope, ":")
	return slices.Contains([]string{"read", "list", "get", "view"}, action)
}

// urgency is how much the end of a key presses.
func urgency(expires workspace.Time, now time.Time) string {
	switch left := expires.Sub(now); {
	case expires.IsZero() || left > keys.ExpiringSoon:
		return ""
	case left > urgentSoon:
		return "warn"
	}
	return "danger"
}

// rotatingUntil is until when an older secret works beside the newest.
func rotatingUntil(k keys.Listed, now time.Time) workspace.Time {
	for i, secret := range k.Secrets {
		if i > 0 && !secret.ExpiresAt.IsZero() && secret.ExpiresAt.After(now) {
			return secret.ExpiresAt
		}
	}
	return workspace.Time{}
}

// pill says how a key stands. What refuses it goes before what will end it.
func (s *shownKey) pill() map[string]any {
	kind, text := "ok", "Active"
	switch {
	case s.Status == keys.StatusRevoked:
		kind, text = "off", "Revoked"
	case s.Status == keys.StatusExpired:
		kind, text = "off", "Expired"
	case len(s.Blocked) > 0:
		kind, text = "danger", "Blocked"
	case s.Urgency == "danger":
		kind, text = "danger", "About to expire"
	case s.Urgency == "warn":
		kind, text = "warn", "Expiring soon"
	}
	return map[string]any{"kind": kind, "text": text}
}

// blockedTexts are what refuses keys that have not ended.
var blockedTexts = map[string]string{
	string(policy.RuleEnabled):     "API keys are switched off by policy",
	string(policy.RuleMaxLifetime): "lives longer than policy allows",
	string(policy.RuleAllowNever):  "never expires, which policy does not allow",
	string(policy.RuleNetworks):    "is not tied to networks, as policy wants",
	string(policy.RuleIdle):        "was not used for longer than policy allows",
	"max_uses":                     "has had all the uses that it may have",
}

func blockedText(rule string) string {
	if text, known := blockedTexts[rule]; known {
		return text
	}
	return rule
}

// creator says who made a key, as far as that can be told without looking them up.
func (r *request) creator(stored string) string {
	kind, id, _ := strings.Cut(stored, ":")
	switch {
	case kind == "operator":
		return "Operator (" + id + ")"
	case kind == "user" && id == string(r.me.ID):
		return "You"
	case id != "":
		return id
	}
	return stored
}
