package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

func (h *Handler) auditRoutes() (routes []route) {
	for _, base := range []string{"/w/:ws/audit", "/organization/audit"} {
		routes = append(routes,
			route{method: http.MethodGet, path: base, run: showAudit},
			route{method: http.MethodGet, path: base + ".jsonl", run: exportAuditJSON},
			route{method: http.MethodGet, path: base + ".csv", run: exportAuditCSV},
		)
	}
	return routes
}

// auditPage is a part of an audit log.
type auditPage struct {
	Address  string // of the log without a filter
	Form     auditFilter
	Topics   []topic
	Outcomes []action
	Rows     []auditRow
	Pager    pager
	Export   map[string]string // addresses by format
	Limit    int64             // of an export
}

// auditRow is an entry as people read it.
type auditRow struct {
	ID      string
	At      workspace.Time
	Action  string
	Deed    deed
	Outcome string // in words, of what was refused
	Count   int64  // more than 1: it stands for as many alike

	Actor, Via, Subject who

	Address, Agent, RequestID string

	Differences []changedValue
	Detail      string // JSON with a line for each value; empty: nothing to tell
}

// showAudit shows what happened in a workspace, or without one in the installation.
func showAudit(r *request) (page, error) {
	data := auditPage{Address: r.Request().URL.Path, Form: readAuditFilter(r.QueryParams()), Topics: workspaceTopics, Outcomes: outcomes(), Limit: exportMost}
	p := page{template: "audit", title: "Audit log", section: "audit"}
	if r.ws.ID == "" {
		data.Topics, p.section = organizationTopics, "organization-audit"
	}
	f, position, err := r.auditQuery(data.Form)
	if err == nil {
		err = r.auditEntries(&data, f, position)
	}
	p.data = data
	switch {
	case errors.Is(err, workspace.ErrForbidden):
		return page{}, err
	case err != nil:
		return p.again(err)
	}
	return p, nil
}

// auditQuery reads what of the log is wanted.
func (r *request) auditQuery(form auditFilter) (audit.Filter, workspace.Page, error) {
	f, err := form.read(r)
	if err != nil {
		return f, workspace.Page{}, err
	}
	part, err := r.page()
	return f, part, err
}

func (r *request) auditEntries(data *auditPage, f audit.Filter, part workspace.Page) error {
	found, err := r.h.Manager.AuditEvents(r.ctx, r.by, r.ws.ID, f, audit.Position(part.After), part.Limit)
	if err != nil {
		return err
	}
	found, data.Pager = shown(r, found, func(e audit.Entry) workspace.Position {
		return workspace.Position{At: e.At, ID: e.ID}
	})
	data.Export = map[string]string{}
	for _, format := range []string{"jsonl", "csv"} {
		data.Export[format] = r.Request().URL.Path + "." + format + data.Form.query()
	}
	n, err := r.namesIn(found)
	for _, e := range found {
		data.Rows = append(data.Rows, newAuditRow(n, e))
	}
	return err
}

// namesIn looks up what entries name.
func (r *request) namesIn(entries []audit.Entry) (names, error) {
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.ActorID, e.KeyID, e.SubjectID)
	}
	return r.names(ids...)
}

func newAuditRow(n names, e audit.Entry) auditRow {
	row := auditRow{
		ID: e.ID, At: e.At, Action: e.Action, Deed: deedOf(e.Action), Count: e.Count,
		Actor: n.actor(e.ActorKind, e.ActorID), Subject: n.of(e.SubjectID),
		Address: e.Address, Agent: e.Agent, RequestID: e.RequestID,
		Differences: differences(e.Detail), Detail: indentJSON(e.Detail),
	}
	if e.Outcome != "" && e.Outcome != outcomeIssued {
		row.Outcome = outcomeText(e.Outcome)
	}
	if address := inviteeOf(e); address != "" {
		row.Subject = who{Text: address, Kind: "Invitation", ID: e.SubjectID}
	}
	if e.KeyID != "" && e.KeyID != e.SubjectID {
		row.Via = n.of(e.KeyID)
	}
	return row
}

// inviteeOf is the address that an invitation was for; empty: the entry is of none.
func inviteeOf(e audit.Entry) string {
	var detail struct {
		Email string `json:"email"`
	}
	if strings.HasPrefix(e.Action, "invitation.") {
		_ = json.Unmarshal([]byte(e.Detail), &detail) // without an address the ID is shown
	}
	return detail.Email
}

// indentJSON writes a JSON object with a line for each value; an empty one is
// nothing.
func indentJSON(text string) string {
	var b bytes.Buffer
	if text == "" || text == "{}" {
		return ""
	}
	if json.Indent(&b, []byte(text), "", "  ") != nil {
		return text
	}
	return b.String()
}
