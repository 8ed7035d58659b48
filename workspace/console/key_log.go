package console

import (
	"net/url"

	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// keyUse is one use of a key, or a few alike that count as one.
type keyUse struct {
	audit.Entry
	Good   bool
	Result string
}

// keyEvent is what somebody did to a key.
type keyEvent struct {
	audit.Entry
	Deed  deed
	Actor who
}

// How much of its log the page of a key shows.
const (
	usesShown   = 10
	eventsShown = 10
)

// addLog adds the newest uses of a key, and what was done to it.
func (r *request) addLog(d *detail) error {
	uses, err := r.h.Manager.AuditEvents(r.ctx, r.by, r.ws.ID, audit.Filter{KeyID: string(d.ID), Only: audit.OnlyUses}, audit.Position{}, usesShown)
	if err != nil {
		return err
	}
	for _, e := range uses {
		good := e.Action == audit.TokenIssue || e.Action == audit.KeyUse
		d.Uses = append(d.Uses, keyUse{e, good, useText(e)})
	}
	events, err := r.h.Manager.AuditEvents(r.ctx, r.by, r.ws.ID, audit.Filter{SubjectID: string(d.ID), Only: audit.OnlyEvents}, audit.Position{}, eventsShown)
	if err != nil {
		return err
	}
	var actors []string
	for _, e := range events {
		actors = append(actors, e.ActorID)
	}
	named, err := r.names(actors...)
	for _, e := range events {
		d.Events = append(d.Events, keyEvent{e, deedOf(e.Action), named.actor(e.ActorKind, e.ActorID)})
	}
	d.AuditURL = r.here("audit") + "?" + url.Values{"key": {string(d.ID)}}.Encode()
	return err
}

// useText says what became of a use.
func useText(e audit.Entry) string {
	text := outcomeText(e.Outcome)
	switch e.Action {
	case audit.KeyUse:
		text = "Used at our own API"
	case audit.KeyRefuse:
		text += ", at our own API"
	}
	return text
}
