package console

import (
	"net/http"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) keyRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	const key = "/w/:ws/keys/:client_id"
	return []route{
		{method: get, path: key, run: keyDetail},
		{method: get, path: key + "/edit", run: editKey},
		{method: post, path: key + "/edit", run: saveKey},
		{method: get, path: key + "/rotate", run: rotateForm},
		{method: post, path: key + "/rotate", run: rotateKey},
		{method: get, path: key + "/revoke", run: revokeForm},
		{method: post, path: key + "/revoke", run: revokeKey},
		{method: get, path: key + "/revoked", run: keyRevoked},
		{method: get, path: key + "/revoked/progress", run: revokedProgress},
		{method: get, path: key + "/delete", run: deleteKey},
		{method: post, path: key + "/delete", run: deleteKey},
		{method: get, path: key + "/secrets/:secret/end", run: endSecret},
		{method: post, path: key + "/secrets/:secret/end", run: endSecret},
		{method: get, path: key + "/secrets/:secret/extend", run: extendSecret},
		{method: post, path: key + "/secrets/:secret/extend", run: extendSecret},
	}
}

// detail is all that the page of a key shows.
type detail struct {
	shownKey
	offers
	Key        keys.Listed
	Owner      manage.KeyOwner
	OwnerURL   string // empty: the owner has no page here
	Maker      string // who made it
	Overlap    *handover
	Hindrances []hindrance
	Secrets    []shownSecret
	Grants     []permitted
	Lacking    bool // some of them have no effect
	DefaultTTL time.Duration
	Ranges     []chip
	Chart      chart
	Uses       []keyUse
	Events     []keyEvent
	AuditURL   string // empty: the log is not for this person
}

// keyDetail shows a key with everything that is known of it.
func keyDetail(r *request) (page, error) {
	s, err := r.h.Manager.KeyStanding(r.ctx, r.by, r.ws.ID, r.keyID())
	if err != nil {
		return page{}, err
	}
	d := r.describe(s)
	if err := r.addUsage(&d); err != nil {
		return page{}, err
	}
	if r.can("audit:read") {
		if err := r.addLog(&d); err != nil {
			return page{}, err
		}
	}
	return page{template: "key_detail", title: s.Name, section: r.keySection(s.Listed), data: d}, nil
}

func (r *request) describe(s manage.KeyStanding) detail {
	now := r.h.Manager.Time()
	d := detail{shownKey: r.showKey(s.Listed), Key: s.Listed, Owner: s.Owner, Maker: s.Creator, DefaultTTL: r.h.Manager.Policy.TokenTTL}
	switch {
	case d.CreatedBy == "You":
		d.Maker = "you"
	case d.Maker == "":
		d.Maker = d.CreatedBy
	}
	if s.ServiceAccountID != "" && !s.Owner.Gone && r.can("service-accounts:read") {
		d.OwnerURL = r.here("service-accounts", string(s.ServiceAccountID))
	}
	if !d.Ended {
		d.Overlap, d.Hindrances = overlapOf(s, now), hindrances(s, r.ws)
	}
	d.offers = r.offers(s.Listed, d.Ended)
	d.Secrets = showSecrets(s.Listed, d.Ended, now)
	d.Grants, d.Lacking = permissions(s.Scopes, s.Holds)
	return d
}

// EndsSoon reports whether somebody should see to the end of the key.
func (d detail) EndsSoon() bool { return d.Urgency != "" }

// EndedAt is when a key ended that has.
func (d detail) EndedAt() workspace.Time {
	if !d.Key.RevokedAt.IsZero() {
		return d.Key.RevokedAt
	}
	return d.Key.ExpiresAt
}

// ranges are the times that a chart can show, with how fine it is then.
var ranges = []struct {
	name, text   string
	time, bucket time.Duration
}{
	{"24h", "24 hours", day, time.Hour},
	{"7d", "7 days", 7 * day, 6 * time.Hour},
	{"30d", "30 days", 30 * day, day},
}

// addUsage adds the chart of the time that the address names.
func (r *request) addUsage(d *detail) error {
	var pairs []string
	for _, one := range ranges {
		pairs = append(pairs, one.name, one.text)
	}
	d.Ranges = r.chips("range", pairs...)
	chosen, until := r.chosen("range", pairs...), r.h.Manager.Time()
	for _, one := range ranges {
		if one.name != chosen {
			continue
		}
		rows, err := r.h.Manager.Usage(r.ctx, r.by, r.ws.ID, string(d.ID), until.Add(-one.time), until, one.bucket)
		if err != nil {
			return err
		}
		d.Chart = newChart(rows, until.Add(-one.time), until, one.bucket)
	}
	return nil
}
