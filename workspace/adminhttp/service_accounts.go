package adminhttp

import (
	"net/http"
	"strings"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func wireServiceAccount(sa workspace.ServiceAccount) admin.ServiceAccount {
	wire := admin.ServiceAccount{
		ID: string(sa.ID), Name: sa.Name, Description: sa.Description, Enabled: sa.DisabledAt.IsZero(),
		CreatedAt: sa.CreatedAt.Time, CreatedBy: who(sa.CreatedBy), UpdatedAt: sa.UpdatedAt.Time,
	}
	if sa.Role != "" {
		wire.Role = &sa.Role
		return wire
	}
	wire.Scopes = append([]string{}, strings.Fields(sa.Scopes)...)
	return wire
}

func showingServiceAccount(sa workspace.ServiceAccount, err error) (answer, error) {
	return answer{body: wireServiceAccount(sa), version: manage.Version(sa.UpdatedAt)}, err
}

// account is the service account of the path.
func (r *request) account() (workspace.ServiceAccountID, error) {
	return r.h.Manager.ResolveServiceAccount(r.ctx(), r.ws, r.Param("sa"))
}

func listServiceAccounts(r *request) (answer, error) {
	f := workspace.ServiceAccountFilter{Text: r.query["q"], Name: r.query["name"]}
	var err error
	if f.Disabled, err = not(r.query.flag("enabled")); err != nil {
		return answer{}, err
	}
	page, err := r.page()
	if err != nil {
		return answer{}, err
	}
	found, err := r.h.Manager.ServiceAccounts(r.ctx(), r.by, r.ws, f, page)
	if err != nil {
		return answer{}, err
	}
	return listOf(r, found, page, wireServiceAccount, func(sa workspace.ServiceAccount) workspace.Position {
		return workspace.Position{At: sa.CreatedAt, ID: string(sa.ID)}
	})
}

func createServiceAccount(r *request) (answer, error) {
	var n admin.NewServiceAccount
	if err := r.decode(&n); err != nil {
		return answer{}, err
	}
	scopes, mistakes := readScopes(n.Scopes)
	if n.Role == "" && n.Scopes == nil {
		mistakes = append(mistakes, mistake("role", "or scopes is needed: say what the service account may do"))
	}
	if err := invalid(mistakes); err != nil {
		return answer{}, err
	}
	sa, err := r.h.Manager.CreateServiceAccount(r.ctx(), r.by, r.ws, manage.NewServiceAccount{
		Name: n.Name, Description: n.Description, Role: n.Role, Scopes: scopes,
	})
	a, err := showingServiceAccount(sa, err)
	a.status, a.location = http.StatusCreated, "/workspaces/"+string(r.ws)+"/service-accounts/"+string(sa.ID)
	return a, err
}

func showServiceAccount(r *request) (answer, error) {
	return showingServiceAccount(r.h.Manager.ServiceAccount(r.ctx(), r.by, r.ws, r.Param("sa")))
}

func updateServiceAccount(r *request) (answer, error) {
	var c admin.ServiceAccountChange
	if err := r.decode(&c); err != nil {
		return answer{}, err
	}
	change := manage.ServiceAccountChange{Name: c.Name, Description: c.Description, Role: c.Role, Enabled: c.Enabled}
	if c.Scopes != nil {
		scopes, mistakes := readScopes(*c.Scopes)
		if err := invalid(mistakes); err != nil {
			return answer{}, err
		}
		change.Scopes = &scopes
	}
	id, err := r.account()
	if err != nil {
		return answer{}, err
	}
	return showingServiceAccount(r.h.Manager.UpdateServiceAccount(r.ctx(), r.by, r.ws, id, change))
}

func deleteServiceAccount(r *request) (answer, error) {
	id, err := r.account()
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.h.Manager.DeleteServiceAccount(r.ctx(), r.by, r.ws, id)
}

// readScopes reads a list of scopes.
func readScopes(list []string) (oauth.Scope, []oauth.FieldError) {
	for _, one := range list {
		if parsed, err := oauth.ParseScope(one); err != nil || len(parsed) != 1 {
			return nil, []oauth.FieldError{mistake("scopes", "has to be an array of scopes such as collectors:read, one in each string")}
		}
	}
	scopes, err := oauth.ParseScope(strings.Join(list, " "))
	if err != nil {
		return nil, []oauth.FieldError{mistake("scopes", "is too long")}
	}
	return scopes, nil
}

// who is the ID of whoever made something; of an operator, the name.
func who(createdBy string) string {
	for _, kind := range []string{"user:", "service_account:"} {
		if id, ok := strings.CutPrefix(createdBy, kind); ok {
			return id
		}
	}
	return createdBy
}
