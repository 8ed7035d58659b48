package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
)

func (h *Handler) verifiersRoutes() []route {
	const path = "/organization/verifiers"
	return []route{
		{method: http.MethodGet, path: path, run: listVerifiers},
		{method: http.MethodGet, path: path + "/forget", run: forgetVerifier},
		{method: http.MethodPost, path: path + "/forget", run: forgetVerifier},
	}
}

// verifierRow is a verifier with how it stands.
type verifierRow struct {
	revocation.Verifier
	Workspace  workspace.Workspace // zero: it was deleted
	Kind, Text string              // of its pill
	Forget     string              // address; empty: it cannot be forgotten here
}

type verifierList struct {
	Rows   []verifierRow
	Newest oauth.Position
	Pager  pager
}

// listVerifiers shows how far each service that reports has followed the revocations.
func listVerifiers(r *request) (page, error) {
	part, err := r.page()
	if err != nil {
		return page{}, err
	}
	ws, name, _ := strings.Cut(part.After.ID, "/")
	found, newest, err := r.h.Manager.Verifiers(r.ctx, r.by, "", revocation.Verifier{WorkspaceID: workspace.ID(ws), Name: name}, part.Limit)
	if err != nil {
		return page{}, err
	}
	list := verifierList{Newest: newest}
	found, list.Pager = shown(r, found, func(v revocation.Verifier) workspace.Position {
		return workspace.Position{At: v.ReportedAt, ID: string(v.WorkspaceID) + "/" + v.Name}
	})
	list.Rows, err = r.verifierRows(found, newest)
	return page{template: "verifiers", title: "Verifiers", section: "verifiers", data: list}, err
}

func (r *request) verifierRows(found []revocation.Verifier, newest oauth.Position) (rows []verifierRow, err error) {
	now, known := r.h.Manager.Time(), map[workspace.ID]workspace.Workspace{}
	for _, v := range found {
		ws, looked := known[v.WorkspaceID]
		if !looked {
			if ws, err = r.h.Manager.Workspace(r.ctx, r.by, string(v.WorkspaceID)); err != nil && !errors.Is(err, workspace.ErrNotFound) {
				return nil, err
			}
			known[v.WorkspaceID] = ws
		}
		row := verifierRow{Verifier: v, Workspace: ws}
		row.Kind, row.Text = standing(v, newest, now)
		if ws.ID != "" {
			row.Forget = r.h.path("organization", "verifiers", "forget") + "?" + url.Values{"workspace": {ws.Slug}, "name": {v.Name}}.Encode()
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// standing says how far a verifier is.
func standing(v revocation.Verifier, newest oauth.Position, now time.Time) (kind, text string) {
	behind := newest.Sequence - v.Seq
	switch {
	case v.Silent(now):
		return "off", "Silent for " + readDuration(now.Sub(v.ReportedAt.Time))
	case v.Epoch != newest.Epoch:
		return "danger", "In an earlier epoch"
	case behind > 0:
		return "warn", fmt.Sprintf("%s behind", number(behind))
	}
	return "ok", "Follows"
}

// forgetVerifier takes a verifier out that does not run any more.
func forgetVerifier(r *request) (page, error) {
	ws, err := r.h.Manager.Workspace(r.ctx, r.by, r.QueryParam("workspace"))
	if err != nil {
		return page{}, err
	}
	if err := r.organizationOnly(); err != nil {
		return page{}, err
	}
	name := r.QueryParam("name")
	if !plain(name) {
		return page{}, workspace.ErrNotFound
	}
	a := asking{
		Button: "Forget the verifier", Back: r.h.path("organization", "verifiers"), BackText: "Verifiers",
		Effects: []string{
			"Nobody waits for it any more when something is revoked.",
			"If it still runs, it is back with its next report. What it accepts does not change.",
		},
	}
	return r.answered("Forget "+name+" of "+ws.Name, "verifiers", a, func() error {
		return r.h.Manager.ForgetVerifier(r.ctx, r.by, ws.ID, name)
	}, a.Back, "verifier-forgotten")
}
