package console

import (
	"net/http"
	"strings"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) serviceAccountsRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	const accounts, one = "/w/:ws/service-accounts", "/w/:ws/service-accounts/:sa"
	return []route{
		{method: get, path: accounts, run: listServiceAccounts},
		{method: get, path: accounts + "/new", run: newServiceAccount},
		{method: post, path: accounts + "/new", run: createServiceAccount},
		{method: get, path: one, run: showServiceAccount},
		{method: get, path: one + "/edit", run: editServiceAccount},
		{method: post, path: one + "/edit", run: saveServiceAccount},
		{method: get, path: one + "/disable", run: disableServiceAccount},
		{method: post, path: one + "/disable", run: disableServiceAccount},
		{method: get, path: one + "/enable", run: enableServiceAccount},
		{method: post, path: one + "/enable", run: enableServiceAccount},
		{method: get, path: one + "/delete", run: deleteServiceAccount},
		{method: post, path: one + "/delete", run: deleteServiceAccount},
	}
}

// serviceAccountRow is a service account as pages show it.
type serviceAccountRow struct {
	workspace.ServiceAccount
	URL    string
	Scopes oauth.Scope // what its keys may do at most
	Role   string      // empty: it has explicit scopes
	Keys   int64       // live ones
	Pill   map[string]any
}

// Disabled reports whether it stands still.
func (a serviceAccountRow) Disabled() bool { return !a.DisabledAt.IsZero() }

// Permissions says in short what its keys may do.
func (a serviceAccountRow) Permissions() string {
	if a.Role != "" {
		return "Role " + a.Role
	}
	return count(int64(len(a.Scopes)), "permission")
}

func (r *request) showAccount(a workspace.ServiceAccount, keys int64) serviceAccountRow {
	s := serviceAccountRow{
		ServiceAccount: a, URL: r.here("service-accounts", a.Name), Role: a.Role, Keys: keys,
		Scopes: r.h.Manager.Policy.ServiceAccountHolds(a.Role, scopesOf(a)),
		Pill:   map[string]any{"kind": "ok", "text": "Active"},
	}
	if s.Disabled() {
		s.Pill = map[string]any{"kind": "danger", "text": "Disabled"}
	}
	return s
}

// scopesOf are the explicit scopes of a service account.
func scopesOf(a workspace.ServiceAccount) oauth.Scope {
	return oauth.NewScope(strings.Fields(a.Scopes)...)
}

type accountList struct {
	Query string
	Chips []chip
	Rows  []serviceAccountRow
	Pager pager
	Any   bool // nothing is filtered
}

// listServiceAccounts shows the service accounts of a workspace.
func listServiceAccounts(r *request) (page, error) {
	part, err := r.page()
	if err != nil {
		return page{}, err
	}
	states := []string{"", "All", "active", "Active", "disabled", "Disabled"}
	f := workspace.ServiceAccountFilter{Text: r.QueryParam("q")}
	if state := r.chosen("state", states...); state != "" {
		disabled := state == "disabled"
		f.Disabled = &disabled
	}
	list := accountList{Query: f.Text, Chips: r.chips("state", states...), Any: f.Text == "" && f.Disabled == nil}
	found, err := r.h.Manager.ServiceAccounts(r.ctx, r.by, r.ws.ID, f, part)
	if err != nil {
		return page{}, err
	}
	found, list.Pager = shown(r, found, func(a workspace.ServiceAccount) workspace.Position {
		return workspace.Position{At: a.CreatedAt, ID: string(a.ID)}
	})
	list.Rows, err = r.withKeys(found)
	return page{template: "service_accounts", title: "Service accounts", section: "service-accounts", data: list}, err
}

// withKeys adds how many keys each has.
func (r *request) withKeys(found []workspace.ServiceAccount) (rows []serviceAccountRow, err error) {
	var ids []string
	for _, a := range found {
		ids = append(ids, string(a.ID))
	}
	counts, err := r.h.Manager.LiveKeys(r.ctx, r.by, r.ws.ID, ids)
	for _, a := range found {
		rows = append(rows, r.showAccount(a, counts[string(a.ID)]))
	}
	return rows, err
}

// account is the service account of the path, with how many keys it has.
func (r *request) account() (serviceAccountRow, error) {
	a, err := r.h.Manager.ServiceAccount(r.ctx, r.by, r.ws.ID, r.Param("sa"))
	if err != nil {
		return serviceAccountRow{}, err
	}
	counts, err := r.h.Manager.LiveKeys(r.ctx, r.by, r.ws.ID, []string{string(a.ID)})
	return r.showAccount(a, counts[string(a.ID)]), err
}

// accountDetail is one service account with its keys.
type accountDetail struct {
	serviceAccountRow
	By      who
	Listed  []shownKey
	More    bool   // there are more keys than are listed
	NewKey  string // addresses
	AllKeys string
	Audit   string
}

// accountKeys is how many keys the page of a service account lists.
const accountKeys = 20

// showServiceAccount shows one with its keys and what they may do.
func showServiceAccount(r *request) (page, error) {
	a, err := r.account()
	if err != nil {
		return page{}, err
	}
	d := accountDetail{
		serviceAccountRow: a, NewKey: r.here("keys", "new") + "?service_account=" + a.Name,
		AllKeys: r.here("keys") + "?q=" + a.Name, Audit: r.here("audit") + "?service_account=" + a.Name,
	}
	found, err := r.h.Manager.Keys(r.ctx, r.by, r.ws.ID, keys.Filter{Owner: string(a.ID), Now: workspace.At(r.h.Manager.Time())}, workspace.Page{Limit: accountKeys + 1})
	if err != nil {
		return page{}, err
	}
	if d.More = len(found) > accountKeys; d.More {
		found = found[:accountKeys]
	}
	for _, k := range found {
		d.Listed = append(d.Listed, r.showKey(k))
	}
	n, err := r.names(creatorID(a.CreatedBy))
	d.By = n.creator(a.CreatedBy)
	return page{template: "service_account", title: a.Name, section: "service-accounts", data: d}, err
}

// stops is what happens to tokens when something is taken from a service account.
const stops = "Tokens that it has stop within seconds at services that follow revocations, and elsewhere when they expire."

func disableServiceAccount(r *request) (page, error) {
	return r.changeAccount("disable", "service-accounts:update", func(a serviceAccountRow) asking {
		return asking{
			Lead:    "Everything that uses it stops until somebody enables it again.",
			Effects: []string{"Its " + count(a.Keys, "live key") + ": not exchanged any more, but not revoked either.", stops},
			Button:  "Disable " + a.Name, Danger: true,
		}
	}, func(by manage.Caller, a serviceAccountRow) error {
		return r.h.Manager.DisableServiceAccount(r.ctx, by, r.ws.ID, a.ID)
	})
}

func enableServiceAccount(r *request) (page, error) {
	return r.changeAccount("enable", "service-accounts:update", func(a serviceAccountRow) asking {
		return asking{
			Effects: []string{"Its " + count(a.Keys, "live key") + ": exchanged again.", "Tokens from before it was disabled stay denied."},
			Button:  "Enable " + a.Name,
		}
	}, func(by manage.Caller, a serviceAccountRow) error {
		yes := true
		_, err := r.h.Manager.UpdateServiceAccount(r.ctx, by, r.ws.ID, a.ID, manage.ServiceAccountChange{Enabled: &yes})
		return err
	})
}

func deleteServiceAccount(r *request) (page, error) {
	return r.changeAccount("delete", "service-accounts:delete", func(a serviceAccountRow) asking {
		return asking{
			Lead:    "It cannot be brought back. To stop it for a while, disable it instead.",
			Effects: []string{"Its " + count(a.Keys, "live key") + ": revoked for good.", stops, "Its name is free again; its entries in the audit log stay."},
			Button:  "Delete " + a.Name, Danger: true, Type: a.Name,
		}
	}, func(by manage.Caller, a serviceAccountRow) error {
		return r.h.Manager.DeleteServiceAccount(r.ctx, by, r.ws.ID, a.ID)
	})
}

// changeAccount asks for, and does, something to the service account of the path.
func (r *request) changeAccount(verb, right string, about func(serviceAccountRow) asking, do func(manage.Caller, serviceAccountRow) error) (page, error) {
	if err := r.needs(right); err != nil {
		return page{}, err
	}
	a, err := r.account()
	if err != nil {
		return page{}, err
	}
	asked := about(a)
	asked.Back, asked.BackText = a.URL, a.Name
	to := a.URL
	if verb == "delete" {
		to = r.here("service-accounts")
	}
	title := strings.ToUpper(verb[:1]) + verb[1:] + " " + a.Name + "?"
	return r.answered(title, "service-accounts", asked, func() error { return do(r.by, a) }, to, "service-account-"+verb+"d")
}
