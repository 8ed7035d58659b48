package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) keyNewRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	var all []route
	for path, personal := range map[string]bool{"/w/:ws/keys/new": false, "/w/:ws/my-keys/new": true} {
		all = append(all,
			route{method: get, path: path, run: showNewKey(personal)},
			route{method: post, path: path, run: createKey(personal)},
			route{method: post, path: path + "/summary", run: summariseKey(personal)})
	}
	return all
}

// keyDraft is a key that is being made: the form, and what there is to choose from.
type keyDraft struct {
	r        *request
	Personal bool
	Form     url.Values
	Bounds   policy.Bounds
	Accounts []workspace.ServiceAccount
	now      time.Time
}

// mostListed is how many accounts and keys are offered to choose from.
const mostListed = 200

// draftKey begins a draft; it refuses those who may not make keys.
func (r *request) draftKey(personal bool) (*keyDraft, error) {
	switch {
	case personal && r.role == "":
		return nil, fmt.Errorf("%w: personal keys are for members of the workspace", workspace.ErrForbidden)
	case !personal && !r.can("api-keys:create"):
		return nil, fmt.Errorf("%w: this needs api-keys:create", workspace.ErrForbidden)
	}
	rules, err := r.h.Manager.KeyPolicy(r.ctx, r.by, r.ws.ID)
	if err != nil {
		return nil, err
	}
	d := &keyDraft{r: r, Personal: personal, Form: r.form, Bounds: rules.Effective, now: r.h.Manager.Time()}
	if !personal {
		d.Accounts, err = r.h.Manager.ServiceAccounts(r.ctx, r.by, r.ws.ID, workspace.ServiceAccountFilter{}, workspace.Page{Limit: mostListed})
	}
	return d, err
}

// showNewKey shows the form, filled in as its address says.
func showNewKey(personal bool) operation {
	return func(r *request) (page, error) {
		d, err := r.draftKey(personal)
		if err != nil {
			return page{}, err
		}
		notes, err := d.prefill(r.QueryParams())
		if err != nil {
			return page{}, err
		}
		return d.page(nil, notes)
	}
}

// createKey makes the key and shows its secret.
func createKey(personal bool) operation {
	return func(r *request) (page, error) {
		d, err := r.draftKey(personal)
		if err != nil {
			return page{}, err
		}
		issued, err := d.create()
		if err == nil || pending(err) {
			return r.reveal(issued, revealOptions{Pending: err}), nil
		}
		wrong := problemOf(err)
		if wrong == nil {
			return page{}, err
		}
		if errors.Is(err, manage.ErrReused) {
			wrong.Items = []mistake{{Text: "It was sent before with other contents, and that key was made. Create key makes another one, of what is filled in now."}}
		}
		return d.page(wrong, nil)
	}
}

// create carries the form out.
func (d *keyDraft) create() (manage.Issued, error) {
	key, err := d.key()
	if err != nil {
		return manage.Issued{}, err
	}
	m, by := d.r.h.Manager, d.r.onceCaller()
	switch {
	case d.Personal:
		return m.CreatePersonalKey(d.r.ctx, by, d.r.ws.ID, key)
	case key.ServiceAccountID != "":
		return m.CreateKey(d.r.ctx, by, d.r.ws.ID, key)
	}
	name := accountName(key.Name)
	issued, err := m.CreateAccountWithKey(d.r.ctx, by, d.r.ws.ID, manage.NewServiceAccount{Name: name, Scopes: *key.Scopes}, key)
	if errors.Is(err, workspace.ErrConflict) && !errors.Is(err, manage.ErrLimit) {
		return issued, mistakes{{fieldAccount, "There is a service account “" + name + "” already. Choose it here, or name the key differently."}}
	}
	return issued, err
}

// accountName is the name of the service account that is made with a key; empty:
// none can be made of the key's.
func accountName(name string) string {
	if (workspace.ServiceAccount{Name: name}).Validate() == nil {
		return name
	}
	return workspace.Slug(name)
}

// The fields of the form that say what the key is.
const (
	fieldName        = "name"
	fieldDescription = "description"
	fieldAccount     = "service_account" // empty: a new one
)

// key reads the form. The error is mistakes.
func (d *keyDraft) key() (manage.NewKey, error) {
	var m mistakes
	key := manage.NewKey{Name: d.name(), Description: strings.TrimSpace(strings.ReplaceAll(d.Form.Get(fieldDescription), "\r\n", "\n"))}
	m.of(fieldName, workspace.ValidName("name", key.Name))
	m.of(fieldDescription, workspace.ValidDescription(key.Description))
	if !d.Personal {
		key.ServiceAccountID = workspace.ServiceAccountID(d.Form.Get(fieldAccount))
		if key.ServiceAccountID == "" && len(m) == 0 && accountName(key.Name) == "" {
			m.add(fieldName, "The name needs a letter a-z or a digit, from which its service account gets a name.")
		}
	}
	var wrong error
	key.Scopes, wrong = scopesFrom(d.Form, d.r.h.Manager.Policy.Catalogue.Known())
	m.take(wrong)
	switch {
	case key.Scopes == nil && !d.Personal && key.ServiceAccountID == "":
		m.add(fieldPermissions, "A new service account may do nothing yet: choose its permissions here.")
	case key.Scopes != nil && len(*key.Scopes) == 0 && wrong == nil && len(d.r.h.Manager.Policy.Catalogue.All()) > 0:
		m.add(fieldPermissions, "Choose at least one permission: a key without any is of no use.")
	}
	key.ExpiresAt, wrong = expiryFrom(d.Form, d.Bounds, d.now)
	m.take(wrong)
	restricted, wrong := d.r.restrictionFrom(d.Form)
	m.take(wrong)
	if wrong == nil && d.Bounds.RequireNetworks && len(restricted.Networks) == 0 {
		m.add(fieldNetworksOf, "Policy wants every key tied to networks: say from where it is used.")
	}
	key.AllowedCIDRs, key.Audiences, key.TokenTTL = restricted.Networks, restricted.Audiences, restricted.TokenTTL
	key.PerMinute, key.MaxUses = restricted.PerMinute, restricted.MaxUses
	return key, m.err()
}

func (d *keyDraft) name() string { return strings.TrimSpace(d.Form.Get(fieldName)) }

// of notes what is wrong with a field, if anything is.
func (m *mistakes) of(field string, err error) {
	if err != nil {
		m.add(field, sentence(err, workspace.ErrInvalid))
	}
}

// take notes mistakes that were found elsewhere.
func (m *mistakes) take(err error) {
	var more mistakes
	if errors.As(err, &more) {
		*m = append(*m, more...)
	}
}

// summariseKey tells the script what the form would make, in the words of the page.
func summariseKey(personal bool) operation {
	return func(r *request) (page, error) {
		d, err := r.draftKey(personal)
		if err != nil {
			return page{}, err
		}
		twin, err := d.twin()
		if err != nil {
			return page{}, err
		}
		content, err := json.Marshal(map[string]string{"summary": d.summary(), "twin": twin})
		return page{content: content, contentType: "application/json"}, err
	}
}

// twin warns of a live key of the same name; empty: there is none.
func (d *keyDraft) twin() (string, error) {
	if d.name() == "" {
		return "", nil
	}
	f := keys.Filter{Text: d.name()}
	if d.Personal {
		f.Owner, f.User = string(d.r.me.ID), true
	}
	found, err := d.r.h.Manager.Keys(d.r.ctx, d.r.by, d.r.ws.ID, f, workspace.Page{Limit: mostListed})
	for _, k := range found {
		if strings.EqualFold(k.Name, d.name()) && !d.r.showKey(k).Ended {
			return "There is a live key of this name already (" + string(k.ID) + "). Two of one name are hard to tell apart.", nil
		}
	}
	return "", err
}
