package console

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// An export holds the newest entries of a filter, at most exportMost of them, read
// in parts.
const (
	exportMost = 100_000
	exportPart = 1_000
)

// export reads a log part by part.
type export struct {
	r      *request
	filter audit.Filter
	first  []audit.Entry
}

// newExport reads the filter and the first part, so that what can be wrong with
// those is told by a page.
func (r *request) newExport() (e export, err error) {
	e.r = r
	if e.filter, err = readAuditFilter(r.QueryParams()).read(r); err != nil {
		return e, err
	}
	e.first, err = e.read(audit.Position{})
	return e, err
}

func (e export) read(after audit.Position) ([]audit.Entry, error) {
	return e.r.h.Manager.AuditEvents(e.r.ctx, e.r.by, e.r.ws.ID, e.filter, after, exportPart)
}

// each hands over the parts, the newest first.
func (e export) each(write func([]audit.Entry) error) (err error) {
	part := e.first
	for n := len(part); len(part) > 0; n += len(part) {
		if err := write(part); err != nil {
			return err
		}
		if len(part) < exportPart || n >= exportMost {
			return nil
		}
		last := part[len(part)-1]
		if part, err = e.read(audit.Position{At: last.At, ID: last.ID}); err != nil {
			return err
		}
	}
	return nil
}

// filename is for the workspace, or the installation.
func (e export) filename(ending string) string {
	name := "audit"
	if e.r.ws.ID != "" {
		name += "-" + e.r.ws.Slug
	}
	return name + ending
}

// noExport sends a filter with mistakes to the page that tells them.
func (r *request) noExport(err error) (page, error) {
	if !errors.As(err, new(mistakes)) {
		return page{}, err
	}
	address := url.URL{Path: strings.TrimSuffix(r.Request().URL.Path, path.Ext(r.Path())), RawQuery: r.QueryParams().Encode()}
	return seeOther(address.String()), nil
}

// exportAuditJSON writes an entry on each line, in the form of the management API.
func exportAuditJSON(r *request) (page, error) {
	e, err := r.newExport()
	if err != nil {
		return r.noExport(err)
	}
	return page{contentType: "application/jsonl", filename: e.filename(".jsonl"), stream: func(w io.Writer) error {
		lines := json.NewEncoder(w)
		return e.each(func(part []audit.Entry) error {
			for _, entry := range part {
				if err := lines.Encode(exported(entry)); err != nil {
					return err
				}
			}
			return nil
		})
	}}, nil
}

func exported(e audit.Entry) admin.AuditEvent {
	wire := admin.AuditEvent{
		ID: e.ID, At: e.At.Time, WorkspaceID: e.Chain, Seq: e.Seq, Action: e.Action, ActorKind: e.ActorKind, ActorID: e.ActorID,
		ClientID: e.KeyID, SubjectID: e.SubjectID, OwnerID: e.OwnerID, Outcome: e.Outcome, Address: e.Address, UserAgent: e.Agent,
		RequestID: e.RequestID, Count: e.Count, Detail: json.RawMessage(e.Detail),
	}
	if e.Chain == audit.Instance {
		wire.WorkspaceID = ""
	}
	if e.Detail == "" {
		wire.Detail = json.RawMessage("{}")
	}
	return wire
}

// auditColumns head a CSV file; the named ones are for people, beside the IDs.
var auditColumns = []string{
	"time", "action", "outcome", "count", "actor_kind", "actor_id", "actor_name", "client_id", "client_name", "subject_id", "subject_name",
	"owner_id", "address", "user_agent", "request_id", "detail", "id",
}

// exportAuditCSV writes a table that spreadsheets take for text.
func exportAuditCSV(r *request) (page, error) {
	e, err := r.newExport()
	if err != nil {
		return r.noExport(err)
	}
	return page{contentType: "text/csv; charset=utf-8", filename: e.filename(".csv"), stream: func(w io.Writer) error {
		table := csv.NewWriter(w)
		if err := table.Write(auditColumns); err != nil {
			return err
		}
		err := e.each(func(part []audit.Entry) error { return r.writeRows(table, part) })
		table.Flush()
		if err == nil {
			err = table.Error()
		}
		return err
	}}, nil
}

func (r *request) writeRows(table *csv.Writer, part []audit.Entry) error {
	n, err := r.namesIn(part)
	if err != nil {
		return err
	}
	for _, e := range part {
		row := []string{
			e.At.Format(time.RFC3339Nano), e.Action, e.Outcome, strconv.FormatInt(e.Count, 10), e.ActorKind, e.ActorID, n.found[e.ActorID].Name,
			e.KeyID, n.found[e.KeyID].Name, e.SubjectID, n.found[e.SubjectID].Name, e.OwnerID, e.Address, e.Agent, e.RequestID, e.Detail, e.ID,
		}
		for i := range row {
			row[i] = admin.CSVCell(row[i])
		}
		if err := table.Write(row); err != nil {
			return err
		}
	}
	return nil
}
