package adminhttp

import (
	"encoding/json"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

func wireEvent(e audit.Entry) admin.AuditEvent {
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

func listAuditEvents(r *request) (answer, error) {
	f := audit.Filter{KeyID: r.query["client_id"], ActorID: r.query["actor"], SubjectID: r.query["subject"], Action: r.query["action"]}
	var err error
	if f.Since, f.Until, err = r.query.span(); err != nil {
		return answer{}, err
	}
	if named, given := r.query["service_account"]; given {
		id, err := r.h.Manager.ResolveServiceAccount(r.ctx(), r.ws, named)
		if err != nil {
			return answer{}, err
		}
		f.OwnerID = string(id)
	}
	page, err := r.page()
	if err != nil {
		return answer{}, err
	}
	found, err := r.h.Manager.AuditEvents(r.ctx(), r.by, r.ws, f, audit.Position(page.After), page.Limit)
	if err != nil {
		return answer{}, err
	}
	return listOf(r, found, page, wireEvent, func(e audit.Entry) workspace.Position {
		return workspace.Position{At: e.At, ID: e.ID}
	})
}

// span reads since and until.
func (q query) span() (since, until time.Time, err error) {
	if since, err = q.time("since"); err != nil {
		return since, until, err
	}
	until, err = q.time("until")
	return since, until, err
}

// usageSpan is how far back usage is counted unless the request says, and at most.
const (
	usageSpan    = 30 * 24 * time.Hour
	maxUsageSpan = 400 * 24 * time.Hour
)

func showUsage(r *request) (answer, error) {
	since, until, err := r.query.span()
	if err != nil {
		return answer{}, err
	}
	bucket, err := r.query.word("bucket", "hour", "day")
	if err != nil {
		return answer{}, err
	}
	if until.IsZero() {
		until = r.h.Manager.Time()
	}
	if since.IsZero() {
		since = until.Add(-usageSpan)
	}
	if !since.Before(until) || until.Sub(since) > maxUsageSpan {
		return answer{}, oauth.TopicParameterUnknown.Errorf("The parameter since has to be before until, by at most 400 days.")
	}
	size := 24 * time.Hour
	if bucket == "hour" {
		size = time.Hour
	} else {
		bucket = "day"
	}
	rows, err := r.h.Manager.Usage(r.ctx(), r.by, r.ws, r.query["client_id"], since, until, size)
	wire := admin.Usage{Since: since.UTC(), Until: until.UTC(), Bucket: bucket, Data: []admin.UsageRow{}}
	for _, row := range rows {
		if row.Outcome == "issued" {
			wire.Issued += row.Count
		} else {
			wire.Refused += row.Count
		}
		wire.Data = append(wire.Data, admin.UsageRow{Start: row.Start.Time, ClientID: row.KeyID, Outcome: row.Outcome, Count: row.Count})
	}
	return answer{body: wire}, err
}
