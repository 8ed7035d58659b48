package console

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// deed is a kind of event as people read it.
type deed struct {
	Text string
	Kind string // of pill
}

// deeds are the actions of the audit log.
var deeds = map[string]deed{
	"token.issue":  {"Token issued", "ok"},
	"token.refuse": {"Token refused", "danger"},
	"token.revoke": {"Token revoked", "warn"},

	"key.use":           {"Key used directly", "ok"},
	"key.refuse":        {"Key refused", "danger"},
	"key.create":        {"Key created", "accent"},
	"key.update":        {"Key changed", "accent"},
	"key.rotate":        {"Key rotated", "accent"},
	"key.end_secret":    {"Old secret ended", "warn"},
	"key.extend_secret": {"Old secret given more time", "accent"},
	"key.revoke":        {"Key revoked", "warn"},
	"key.delete":        {"Key deleted", "warn"},

	"service_account.create":  {"Service account created", "accent"},
	"service_account.update":  {"Service account changed", "accent"},
	"service_account.disable": {"Service account disabled", "warn"},
	"service_account.enable":  {"Service account enabled", "accent"},
	"service_account.delete":  {"Service account deleted", "warn"},

	"member.add":    {"Member added", "accent"},
	"member.update": {"Role changed", "accent"},
	"member.remove": {"Member removed", "warn"},

	"invitation.create":   {"Invitation created", "accent"},
	"invitation.accept":   {"Invitation accepted", "accent"},
	"invitation.withdraw": {"Invitation withdrawn", "warn"},

	"workspace.create":  {"Workspace created", "accent"},
	"workspace.update":  {"Workspace renamed", "accent"},
	"workspace.suspend": {"Workspace suspended", "warn"},
	"workspace.resume":  {"Workspace resumed", "accent"},
	"workspace.delete":  {"Workspace deleted", "warn"},

	"policy.update": {"Key policy changed", "accent"},
	"quota.update":  {"Quota changed", "accent"},
	"quota.exceed":  {"Soft limit exceeded", "warn"},

	"user.create":  {"Person created", "accent"},
	"user.update":  {"Person changed", "accent"},
	"user.delete":  {"Person deleted", "warn"},
	"user.sign_in": {"Signed in", "off"},

	"password.set":       {"Password set", "accent"},
	"session.end":        {"Sessions ended", "warn"},
	"access_link.create": {"Access link created", "accent"},
	"access_link.use":    {"Access link used", "accent"},
	"setup_link.create":  {"Set-up link created", "accent"},

	"passkey.add":     {"Passkey added", "accent"},
	"passkey.remove":  {"Passkey removed", "warn"},
	"passkey.refuse":  {"Passkey refused", "danger"},
	"provider.link":   {"Single sign-on linked", "accent"},
	"provider.unlink": {"Single sign-on unlinked", "warn"},

	"signing_key.create":   {"Signing key created", "accent"},
	"signing_key.activate": {"Signing key took over", "accent"},
	"signing_key.confirm":  {"Signing key confirmed", "accent"},
	"signing_key.retire":   {"Signing key retired", "warn"},
	"signing_key.rewrap":   {"Signing key sealed anew", "accent"},
	"signing_key.remove":   {"Signing key removed", "off"},
	"signing_key.distrust": {"Signing key distrusted", "danger"},

	"verifier.remove":     {"Verifier forgotten", "off"},
	"revocations.merge":   {"Revocations merged", "warn"},
	"revocations.restore": {"Revocation restored", "warn"},
	"revocations.epoch":   {"Revocations begun anew", "warn"},
	"installation.create": {"Installation created", "accent"},
	"installation.set_up": {"Set up", "accent"},
	"installation.update": {"Installation changed", "accent"},
}

// deedOf says an action in words; one that is not known keeps its name.
func deedOf(action string) deed {
	if known, ok := deeds[action]; ok {
		return known
	}
	return deed{action, "off"}
}

// topics are what actions are about, as they are offered to filter by, for the log
// of a workspace and that of the installation.
var (
	workspaceTopics = []topic{
		{"token", "Tokens"},
		{"key", "API keys"},
		{"service_account", "Service accounts"},
		{"member", "Members"},
		{"invitation", "Invitations"},
		{"workspace", "Workspace"},
		{"policy", "Key policy"},
		{"quota", "Quota"},
		{"revocations", "Revocations"},
		{"verifier", "Verifiers"},
	}
	organizationTopics = []topic{
		{"user", "People"},
		{"password", "Passwords"},
		{"passkey", "Passkeys"},
		{"session", "Sessions"},
		{"access_link", "Access links"},
		{"provider", "Single sign-on"},
		{"policy", "Key policy"},
		{"signing_key", "Signing keys"},
		{"revocations", "Revocations"},
		{"installation", "Installation"},
		{"setup_link", "Set-up links"},
		{"token", "Tokens of unknown keys"},
		{"key", "Unknown keys"},
	}
)

// topic is a group of actions: those that begin with its name and a dot.
type topic struct{ Name, Text string }

// Pattern chooses all actions of the topic.
func (t topic) Pattern() string { return t.Name + ".*" }

// Actions are those of the topic by name, each with its words.
func (t topic) Actions() (found []action) {
	for _, name := range slices.Sorted(maps.Keys(deeds)) {
		if strings.HasPrefix(name, t.Name+".") {
			found = append(found, action{name, deeds[name].Text})
		}
	}
	return found
}

// action is one action to choose.
type action struct{ Name, Text string }

// changedValue is a value of an event that was another before.
type changedValue struct{ Name, Before, After string }

// differences finds what an event tells of before and after: two documents, or one
// value that was before with what took its place.
func differences(detail string) (found []changedValue) {
	var values map[string]json.RawMessage
	if json.Unmarshal([]byte(detail), &values) != nil {
		return nil
	}
	var before, after map[string]json.RawMessage
	if json.Unmarshal(values["before"], &before) == nil && json.Unmarshal(values["after"], &after) == nil {
		for _, name := range slices.Sorted(maps.Keys(after)) {
			if was, is := compactJSON(before[name]), compactJSON(after[name]); was != is {
				found = append(found, changedValue{name, was, is})
			}
		}
		return found
	}
	for _, name := range []string{"role", "after"} {
		if values["before"] != nil && values[name] != nil {
			found = append(found, changedValue{name, compactJSON(values["before"]), compactJSON(values[name])})
		}
	}
	return found
}

// compactJSON is a value on one line: a text without its quotes, and nothing for null.
func compactJSON(value json.RawMessage) string {
	var text string
	switch {
	case len(value) == 0 || string(value) == "null":
		return "none"
	case json.Unmarshal(value, &text) == nil:
		return text
	}
	return string(value)
}
