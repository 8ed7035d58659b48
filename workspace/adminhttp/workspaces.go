package adminhttp

import (
	"context"
	"net/http"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func wireWorkspace(ws workspace.Workspace) admin.Workspace {
	return admin.Workspace{
		ID: string(ws.ID), Slug: ws.Slug, Name: ws.Name, Suspended: !ws.SuspendedAt.IsZero(), SuspendedAt: orNull(ws.SuspendedAt),
		CreatedAt: ws.CreatedAt.Time, UpdatedAt: ws.UpdatedAt.Time,
	}
}

func showingWorkspace(ws workspace.Workspace, err error) (answer, error) {
	return answer{body: wireWorkspace(ws), version: manage.Version(ws.UpdatedAt)}, err
}

func listWorkspaces(r *request) (answer, error) {
	f := workspace.Filter{Text: r.query["q"]}
	var err error
	if f.Suspended, err = r.query.flag("suspended"); err != nil {
		return answer{}, err
	}
	page, err := r.page()
	if err != nil {
		return answer{}, err
	}
	found, err := r.h.Manager.Workspaces(r.ctx(), r.by, f, page)
	if err != nil {
		return answer{}, err
	}
	return listOf(r, found, page, wireWorkspace, func(ws workspace.Workspace) workspace.Position {
		return workspace.Position{At: ws.CreatedAt, ID: string(ws.ID)}
	})
}

func createWorkspace(r *request) (answer, error) {
	var n admin.NewWorkspace
	if err := r.decode(&n); err != nil {
		return answer{}, err
	}
	if n.Name == "" {
		n.Name = n.Slug
	}
	a, err := showingWorkspace(r.h.Manager.CreateWorkspace(r.ctx(), r.by, n.Name, n.Slug))
	a.status = http.StatusCreated
	if ws, ok := a.body.(admin.Workspace); ok {
		a.location = "/workspaces/" + ws.ID
	}
	return a, err
}

func showWorkspace(r *request) (answer, error) {
	return showingWorkspace(r.h.Manager.Workspace(r.ctx(), r.by, string(r.ws)))
}

func updateWorkspace(r *request) (answer, error) {
	var c admin.WorkspaceChange
	if err := r.decode(&c); err != nil {
		return answer{}, err
	}
	if c.Name == nil {
		return showWorkspace(r)
	}
	return showingWorkspace(r.h.Manager.RenameWorkspace(r.ctx(), r.by, r.ws, *c.Name))
}

func deleteWorkspace(r *request) (answer, error) {
	return answer{}, r.h.Manager.DeleteWorkspace(r.ctx(), r.by, r.ws)
}

func suspendWorkspace(r *request) (answer, error) { return r.act(r.h.Manager.CloseWorkspace) }

func resumeWorkspace(r *request) (answer, error) { return r.act(r.h.Manager.OpenWorkspace) }

// act does something to the workspace and shows it as it is then.
func (r *request) act(do func(context.Context, manage.Caller, workspace.ID) (workspace.Workspace, error)) (answer, error) {
	var nothing struct{}
	if err := r.decode(&nothing); err != nil {
		return answer{}, err
	}
	return showingWorkspace(do(r.ctx(), r.by, r.ws))
}
