package console

import (
	"slices"
	"strings"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// names are what the IDs on a page stand for.
type names struct {
	r     *request
	found map[string]manage.Named
}

// who is somebody or something as a page names it.
type who struct {
	Text string
	Kind string // what it is, in a word or two
	ID   string // empty: it has none, or Text says it
	URL  string // of its page; empty: there is none, or not for this person
	Gone bool   // deleted
}

// names looks up IDs, all in one go, in the workspace of the page or in the
// installation. Those that nothing is known of are shown as they are.
func (r *request) names(ids ...string) (names, error) {
	slices.Sort(ids)
	found, err := r.h.Manager.Names(r.ctx, r.by, r.ws.ID, slices.Compact(ids))
	return names{r, found}, err
}

// creator names who made something, from how it is stored: kind and ID.
func (n names) creator(stored string) who {
	kind, id, _ := strings.Cut(stored, ":")
	return n.actor(kind, id)
}

// creatorID is the ID to look up for creator.
func creatorID(stored string) string {
	_, id, _ := strings.Cut(stored, ":")
	return id
}

// actor names who did something.
func (n names) actor(kind, id string) who {
	switch kind {
	case "operator":
		return who{Text: "Operator (" + id + ")"}
	case "provider":
		return who{Text: "Sign-in provider (" + id + ")"}
	case "server":
		return who{Text: "The server"}
	case "":
		return who{}
	}
	return n.of(id)
}

// of names anything by its ID.
func (n names) of(id string) who {
	named, known := n.found[id]
	w := who{Text: id, Gone: named.Gone}
	if known && named.Name != "" {
		w.Text, w.ID = named.Name, id
	}
	switch {
	case strings.HasPrefix(id, "usr_"):
		w.Kind, w.URL = "Person", n.personURL(id)
	case strings.HasPrefix(id, "sa_"):
		w.Kind, w.URL = "Service account", n.page("service-accounts", id)
	case strings.HasPrefix(id, "quota:"):
		w.Kind, w.Text, w.URL = "", "Quota", n.page("usage")
		return w
	case strings.HasPrefix(id, "policy:"):
		return n.policy()
	case id == string(n.r.ws.ID):
		return who{Text: n.r.ws.Name, Kind: "Workspace", ID: id, URL: n.page()}
	case known:
		w.Kind, w.URL = "API key", n.page("keys", id)
	default:
		return n.unknown(id)
	}
	if w.Gone || !known {
		w.URL = ""
	}
	return w
}

// unknown names what has no page and no name.
func (n names) unknown(id string) who {
	if kid, ok := strings.CutPrefix(id, "signing_key:"); ok {
		return who{Text: kid, Kind: "Signing key", URL: n.organizationPage("signing-keys")}
	}
	return who{Text: id}
}

func (n names) policy() who {
	w := who{Text: "Key policy", URL: n.page("policy")}
	if n.r.ws.ID == "" {
		w.URL = n.organizationPage("policy")
	}
	return w
}

// personURL is the page of a person, which organization admins have, or the list of
// members.
func (n names) personURL(id string) string {
	if n.r.me.OrganizationAdmin {
		return n.r.h.path("organization", "people", id)
	}
	return n.page("members")
}

// page is an address in the workspace; empty outside of any.
func (n names) page(parts ...string) string {
	if n.r.ws.ID == "" {
		return ""
	}
	return n.r.here(parts...)
}

func (n names) organizationPage(name string) string {
	if !n.r.me.OrganizationAdmin {
		return ""
	}
	return n.r.h.path("organization", name)
}

// isMe reports whether a user is the person who looks.
func (r *request) isMe(id workspace.UserID) bool { return id == r.me.ID }
