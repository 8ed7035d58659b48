package console

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// keyID is the key that the path names.
func (r *request) keyID() keys.ID { return keys.ID(r.Param("client_id")) }

// keyURL is an address of a key in the workspace of the page.
func (r *request) keyURL(id keys.ID, parts ...string) string {
	return r.here(append([]string{"keys", string(id)}, parts...)...)
}

// keySection is the part of the navigation that a key belongs to.
func (r *request) keySection(k keys.Listed) string {
	if k.UserID == r.me.ID && k.UserID != "" {
		return "my-keys"
	}
	return "keys"
}

// offers are what a person can do with a key, as far as it makes sense. The use cases
// decide.
type offers struct {
	Edit, Rotate, Revoke, Delete bool
	Copy                         string // address of a form for a key like it; empty: not offered
}

func (r *request) offers(k keys.Listed, ended bool) offers {
	mine := k.UserID != "" && k.UserID == r.me.ID
	update, end := mine || r.can("api-keys:update"), mine || r.can("api-keys:delete")
	if !ended {
		return offers{Edit: update, Rotate: update && (mine || k.UserID == ""), Revoke: end}
	}
	o := offers{Delete: end}
	switch {
	case mine:
		o.Copy = r.here("my-keys", "new") + "?from=" + string(k.ID)
	case k.UserID == "" && r.can("api-keys:create"):
		o.Copy = r.here("keys", "new") + "?from=" + string(k.ID)
	}
	return o
}

// asked refuses to show a form to somebody who could not send it. What is sent, the
// use case decides.
func asked(offered bool, right string) error {
	if offered {
		return nil
	}
	return fmt.Errorf("%w: this needs %s", workspace.ErrForbidden, right)
}

// hindrance is what refuses a key although it has not ended, and what to do about it.
type hindrance struct{ Text, Advice string }

// hindrances says what refuses a key now: rules of policy, and what became of its
// owner or its workspace.
func hindrances(s manage.KeyStanding, ws workspace.Workspace) (found []hindrance) {
	for _, rule := range s.Blocked {
		text := blockedText(rule)
		if rule != string(policy.RuleEnabled) {
			text = "The key " + text
		}
		found = append(found, hindrance{text + ".", adviceOn(rule, s.Bounds)})
	}
	switch {
	case s.Owner.Gone && s.UserID != "":
		found = append(found, hindrance{"Its user is not a member of the workspace any more.", "Revoke it, or add them again."})
	case s.Owner.Gone:
		found = append(found, hindrance{"Its service account is deleted.", "Revoke it, and create a key of another one."})
	case !s.Owner.DisabledAt.IsZero() && s.UserID != "":
		found = append(found, hindrance{"Its user is disabled.", "An organization admin can let them in again."})
	case !s.Owner.DisabledAt.IsZero():
		found = append(found, hindrance{"Its service account is disabled.", "Enable the service account to use its keys again."})
	}
	if !ws.SuspendedAt.IsZero() {
		found = append(found, hindrance{"The workspace is suspended.", "An organization admin can resume it."})
	}
	return found
}

// adviceOn is what to do about a rule that refuses a key.
func adviceOn(rule string, b policy.Bounds) string {
	switch policy.Rule(rule) {
	case policy.RuleEnabled:
		return "Ask an organization admin to switch API keys on again."
	case policy.RuleMaxLifetime:
		return "A secret may live for " + readDuration(b.MaxLifetime) + " at most: give the key an earlier end, or rotate it, which begins a new life."
	case policy.RuleAllowNever:
		return "Edit it and give it an end."
	case policy.RuleNetworks:
		return "Edit it and say from which networks it may be used."
	case policy.RuleIdle:
		return "Rotate it without an overlap to use it again, or revoke it if nobody needs it."
	}
	return "Edit it to allow more uses, or create a new key."
}

// permitted is what a key may do with a resource.
type permitted struct {
	Resource string
	Actions  []permittedAction
}

type permittedAction struct {
	Name     string
	NoEffect bool // it was given, and tokens do not carry it now
}

// permissions groups what a key was given by resource. given nil is whatever its
// owner holds.
func permissions(given *oauth.Scope, holds oauth.Scope) (groups []permitted, lacking bool) {
	all := holds
	if given != nil {
		all = *given
	}
	for _, scope := range all {
		resource, action, _ := strings.Cut(scope, ":")
		if len(groups) == 0 || groups[len(groups)-1].Resource != resource {
			groups = append(groups, permitted{Resource: resource})
		}
		last := &groups[len(groups)-1]
		without := !slices.Contains(holds, scope)
		last.Actions = append(last.Actions, permittedAction{action, without})
		lacking = lacking || without
	}
	return groups, lacking
}

// instant is a time as sentences have it, beside how far it is away.
func instant(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") }
