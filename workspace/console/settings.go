package console

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) settingsRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	const settings = "/w/:ws/settings"
	return []route{
		{method: get, path: settings, run: showSettings},
		{method: post, path: settings, run: renameWorkspace},
		{method: get, path: settings + "/suspend", run: suspendWorkspace},
		{method: post, path: settings + "/suspend", run: suspendWorkspace},
		{method: get, path: settings + "/resume", run: resumeWorkspace},
		{method: post, path: settings + "/resume", run: resumeWorkspace},
		{method: get, path: settings + "/delete", run: deleteWorkspace},
		{method: post, path: settings + "/delete", run: deleteWorkspace},
	}
}

// settings are what can be changed of a workspace itself.
type settings struct {
	Name, Version string
	MayRename     bool
}

func (r *request) settingsPage(name, version string) page {
	return page{template: "settings", title: "Settings", section: "settings", data: settings{
		name, version, r.can("workspace:update") || r.can("organization:update"),
	}}
}

func showSettings(r *request) (page, error) {
	return r.settingsPage(r.ws.Name, manage.Version(r.ws.UpdatedAt)), nil
}

// renameWorkspace changes the name that people see.
func renameWorkspace(r *request) (page, error) {
	name := r.text("name")
	p := r.settingsPage(name, r.form.Get(fieldVersion))
	var m mistakes
	m.of("name", workspace.ValidName("name", name))
	if err := m.err(); err != nil {
		return p.again(err)
	}
	_, err := r.h.Manager.RenameWorkspace(r.ctx, r.by.If(r.form.Get(fieldVersion)), r.ws.ID, name)
	if err != nil && !pending(err) {
		return p.again(err)
	}
	return done(err, r.here("settings"), "workspace-renamed"), nil
}

func suspendWorkspace(r *request) (page, error) {
	return r.changeWorkspace("suspend", "Suspend", asking{
		Lead: "Everything that uses this workspace stops until an organization admin resumes it.",
		Effects: []string{
			"No key of it is exchanged for a token any more; nothing is revoked.",
			"Tokens stop within seconds at services that follow revocations, and elsewhere when they expire.",
			"Its people can still sign in, and read and change what is in it.",
		},
		Danger: true, Type: r.ws.Slug,
	}, r.here("settings"), func() error {
		return r.h.Manager.SuspendWorkspace(r.ctx, r.by, r.ws.ID)
	})
}

func resumeWorkspace(r *request) (page, error) {
	return r.changeWorkspace("resume", "Resume", asking{
		Effects: []string{"Its keys are exchanged for tokens again.", "Tokens from before it was suspended stay denied, and what was revoked stays revoked."},
	}, r.here("settings"), func() error {
		return r.h.Manager.ResumeWorkspace(r.ctx, r.by, r.ws.ID)
	})
}

func deleteWorkspace(r *request) (page, error) {
	return r.changeWorkspace("delete", "Delete", asking{
		Lead: "It cannot be brought back. To stop it for a while, suspend it instead.",
		Effects: []string{
			"Every key of it is revoked for good, and tokens stop within seconds at services that follow revocations.",
			"Its members lose access to it; their accounts stay.",
			"Its audit log is kept in the database, and nobody gets its slug " + r.ws.Slug + " again.",
		},
		Danger: true, Type: r.ws.Slug,
	}, r.h.path("organization", "workspaces"), func() error {
		return r.h.Manager.DeleteWorkspace(r.ctx, r.by, r.ws.ID)
	})
}

// changeWorkspace asks organization admins for, and does, something to the whole
// workspace. How much it touches is said first.
func (r *request) changeWorkspace(verb, title string, a asking, to string, do func() error) (page, error) {
	sizes, err := r.h.Manager.WorkspaceSizes(r.ctx, r.by, []workspace.ID{r.ws.ID})
	if err != nil {
		return page{}, err
	}
	size := sizes[r.ws.ID]
	a.Lead = strings.TrimSpace(a.Lead + fmt.Sprintf(" It has %s and %s.", count(size.Keys, "live key"), count(size.Members, "member")))
	a.Button, a.Back, a.BackText = title+" "+r.ws.Name, r.here("settings"), "Settings"
	past := strings.TrimSuffix(verb, "e") + "ed"
	return r.answered(title+" "+r.ws.Name+"?", "settings", a, do, to, "workspace-"+past)
}
