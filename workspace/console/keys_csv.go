package console

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// An export has the keys of a list, at most exportKeysMost of them, read in parts.
const (
	exportKeysMost = 100_000
	exportKeysPart = 25_000 // each part costs a pass over all of them
)

// keyExportColumns head the file. There is no secret among them.
var keyExportColumns = []string{
	"name", "description", "client_id", "owner", "owner_id", "status", "blocked", "permissions", "scopes",
	"last_used_at", "last_used_address", "last_used_agent", "expires_at", "created_at", "created_by", "created_by_name",
}

// exportKeys writes what the list shows, with all its pages, as a table that
// spreadsheets take for text.
func exportKeys(r *request) (page, error) {
	selection := r.readChoice(r.QueryParams()).selection()
	first, err := r.h.Manager.KeyList(r.ctx, r.by, r.ws.ID, selection, 0, 1)
	if err != nil {
		return page{}, err
	}
	if first.Total > exportKeysMost {
		return page{}, fmt.Errorf("%w: %s keys are more than the %s that an export has: search or choose a status first", workspace.ErrInvalid, number(first.Total), number(exportKeysMost))
	}
	return page{contentType: "text/csv; charset=utf-8", filename: "keys-" + r.ws.Slug + ".csv", stream: func(w io.Writer) error {
		table := csv.NewWriter(w)
		if err := table.Write(keyExportColumns); err != nil {
			return err
		}
		for done := 0; int64(done) < first.Total; done += exportKeysPart {
			part, err := r.h.Manager.KeyList(r.ctx, r.by, r.ws.ID, selection, done, exportKeysPart)
			if err == nil {
				err = r.writeKeys(table, part.Rows)
			}
			if err != nil {
				return err
			}
		}
		table.Flush()
		return table.Error()
	}}, nil
}

func (r *request) writeKeys(table *csv.Writer, rows []manage.KeyRow) error {
	for _, row := range rows {
		s := r.showRow(row)
		cells := []string{
			s.Name, s.Description, string(s.ID), row.OwnerName, row.OwnerID(), string(s.Status), strings.Join(s.Blocked, "; "), s.Permissions, scopeText(row.Holds),
			machineTime(s.LastUsed), s.LastAddress, s.LastAgent, machineTime(s.Expires), machineTime(s.Created), s.Creator, row.CreatorName,
		}
		for i, cell := range cells {
			cells[i] = admin.CSVCell(cell)
		}
		if err := table.Write(cells); err != nil {
			return err
		}
	}
	return nil
}

// machineTime is an instant in RFC 3339; never is nothing.
func machineTime(t workspace.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
