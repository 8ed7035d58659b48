package console

import (
	"net/http"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) workspacesRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/organization/workspaces", run: listWorkspaces},
		{method: http.MethodGet, path: "/organization/workspaces/new", run: newWorkspace},
		{method: http.MethodPost, path: "/organization/workspaces/new", run: createWorkspace},
	}
}

// workspaceRow is a workspace with how many are in it.
type workspaceRow struct {
	workspace.Workspace
	manage.WorkspaceSize
}

type workspaceList struct {
	Query string
	Chips []chip
	Rows  []workspaceRow
	Pager pager
	All   bool // nothing is filtered
}

// listWorkspaces shows every workspace to organization admins.
func listWorkspaces(r *request) (page, error) {
	part, err := r.page()
	if err != nil {
		return page{}, err
	}
	states := []string{"", "All", "open", "Open", "suspended", "Suspended"}
	f := workspace.Filter{Text: r.QueryParam("q")}
	if state := r.chosen("state", states...); state != "" {
		suspended := state == "suspended"
		f.Suspended = &suspended
	}
	found, err := r.h.Manager.Workspaces(r.ctx, r.by, f, part)
	if err != nil {
		return page{}, err
	}
	list := workspaceList{Query: f.Text, Chips: r.chips("state", states...), All: f.Text == "" && f.Suspended == nil}
	found, list.Pager = shown(r, found, func(w workspace.Workspace) workspace.Position {
		return workspace.Position{At: w.CreatedAt, ID: string(w.ID)}
	})
	list.Rows, err = r.sized(found)
	return page{template: "workspaces", title: "Workspaces", section: "workspaces", data: list}, err
}

// sized adds how many are in each. Whoever is no organization admin is refused by it.
func (r *request) sized(found []workspace.Workspace) ([]workspaceRow, error) {
	var ids []workspace.ID
	for _, w := range found {
		ids = append(ids, w.ID)
	}
	sizes, err := r.h.Manager.WorkspaceSizes(r.ctx, r.by, ids)
	if err != nil {
		return nil, err
	}
	rows := make([]workspaceRow, len(found))
	for i, w := range found {
		rows[i] = workspaceRow{w, sizes[w.ID]}
	}
	return rows, nil
}

type workspaceForm struct{ Name, Slug string }

func newWorkspace(r *request) (page, error) {
	return r.workspaceForm(workspaceForm{}), r.organizationOnly()
}

func (r *request) workspaceForm(f workspaceForm) page {
	return page{template: "workspace_new", title: "Create workspace", section: "workspaces", data: f}
}

func createWorkspace(r *request) (page, error) {
	f := workspaceForm{Name: r.text("name"), Slug: r.text("slug")}
	var m mistakes
	if f.Name == "" {
		m.add("name", "Give the workspace a name.")
	}
	if err := m.err(); err != nil {
		return r.workspaceForm(f).again(err)
	}
	made, err := r.h.Manager.CreateWorkspace(r.ctx, r.by, f.Name, f.Slug)
	if err != nil && !pending(err) {
		return r.workspaceForm(f).again(err)
	}
	return seeOther(r.h.path("w", made.Slug) + "?notice=workspace-created"), nil
}

// organizationOnly refuses a form whose use case would refuse what it sends, so that
// nobody fills it in for nothing.
func (r *request) organizationOnly() error {
	_, err := r.h.Manager.WorkspaceSizes(r.ctx, r.by, nil)
	return err
}
