package console

import (
	"cmp"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// blast is what stops when a key is revoked.
type blast struct {
	Uses    int64 // in the last 24 hours
	Recent  bool  // it was used in that time: what is counted is a little late
	LastUse string
	TTL     string // for how long a token that was issued lives at most
}

// Busy reports whether somebody uses the key: then its name is asked for.
func (b blast) Busy() bool { return b.Uses > 0 || b.Recent }

// blastOf says what stops when a key is revoked.
func (r *request) blastOf(k keys.Listed) (b blast, err error) {
	now := r.h.Manager.Time()
	rows, err := r.h.Manager.Usage(r.ctx, r.by, r.ws.ID, string(k.ID), now.Add(-day), now, day)
	for _, row := range rows {
		if row.Outcome == outcomeIssued {
			b.Uses += row.Count
		}
	}
	b.Recent = now.Sub(k.LastUsedAt.Time) < day
	b.TTL = readDuration(cmp.Or(k.TokenTTL, r.h.Manager.Policy.TokenTTL))
	for _, s := range k.Secrets {
		if s.LastUsedAt == k.LastUsedAt && !k.LastUsedAt.IsZero() {
			b.LastUse = r.lastUse(s, "It")
		}
	}
	return b, err
}

type revoking struct {
	Key    keys.Listed
	Blast  blast
	Reason string
}

func (r *request) revokePage() (page, revoking, error) {
	k, err := r.h.Manager.Key(r.ctx, r.by, r.ws.ID, r.keyID())
	if err != nil {
		return page{}, revoking{}, err
	}
	data := revoking{Key: k, Reason: r.text("reason")}
	data.Blast, err = r.blastOf(k)
	return page{template: "key_revoke", title: "Revoke " + k.Name, section: r.keySection(k), data: data}, data, err
}

// revokeForm asks before a key is revoked. Of one that is, it tells what became of it.
func revokeForm(r *request) (page, error) {
	p, data, err := r.revokePage()
	if err == nil && !data.Key.RevokedAt.IsZero() {
		return seeOther(r.keyURL(data.Key.ID, "revoked")), nil
	}
	if err == nil {
		err = asked(r.offers(data.Key, false).Revoke, "api-keys:delete")
	}
	return p, err
}

// revokeKey ends a key for good. Sent again, it changes nothing and tells the same.
func revokeKey(r *request) (page, error) {
	p, data, err := r.revokePage()
	if err != nil {
		return p, err
	}
	if data.Key.RevokedAt.IsZero() && data.Blast.Busy() && r.text("confirm") != strings.TrimSpace(data.Key.Name) {
		return p.again(mistakes{{"confirm", "Type “" + data.Key.Name + "” exactly: somebody used the key in the last 24 hours."}})
	}
	_, err = r.h.Manager.EndKey(r.ctx, r.by, r.ws.ID, data.Key.ID, data.Reason)
	var late *manage.PendingError
	if errors.As(err, &late) {
		err = r.keep(pendingName, pendingKey{data.Key.ID, late.Until}, late.Until.Sub(r.h.Manager.Time())+time.Minute)
	}
	if err != nil {
		return p.again(err)
	}
	return seeOther(r.keyURL(data.Key.ID, "revoked")), nil
}

// pendingKey is a key that some replica may still issue tokens for until then.
type pendingKey struct {
	ID    keys.ID
	Until time.Time
}

// pendingName is under which that is kept for the page after.
const pendingName = "pending-revocation"

// notInForce is until when a replica may still act as before a key was revoked, as far
// as this browser knows; zero: none does.
func (r *request) notInForce(id keys.ID) workspace.Time {
	var p pendingKey
	if r.kept(pendingName, &p) && p.ID == id && p.Until.After(r.h.Manager.Time()) {
		return workspace.At(p.Until)
	}
	return workspace.Time{}
}

// deleteKey takes a key that has ended out of sight: asked with GET, done with POST.
func deleteKey(r *request) (page, error) {
	k, err := r.h.Manager.Key(r.ctx, r.by, r.ws.ID, r.keyID())
	if err != nil {
		return page{}, err
	}
	if !r.showKey(k).Ended { // there is a page that says what that stops
		return seeOther(r.keyURL(k.ID, "revoke")), nil
	}
	section := r.keySection(k)
	a := asking{
		Lead: "The key disappears from every list. This cannot be undone.", Button: "Delete key", Danger: true, Back: r.keyURL(k.ID), BackText: k.Name,
		Effects: []string{
			"It works no more already, so nothing stops.",
			"What it did and what was done to it stays in the audit log.",
		},
	}
	if r.Request().Method == http.MethodPost {
		r.by = r.by.If(manage.Version(k.UpdatedAt))
	}
	return r.answered("Delete "+k.Name, section, a, func() error {
		return r.h.Manager.DeleteKey(r.ctx, r.by, r.ws.ID, k.ID)
	}, r.here(section), "key-deleted")
}
