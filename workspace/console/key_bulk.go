package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// maxRevoked is how many keys are revoked by one form.
const maxRevoked = 200

// bulk is a page about keys that are to be revoked together.
type bulk struct {
	Keys   []bulkKey
	Reason string
	Used   int64  // how many of them were used in the last 24 hours
	Live   int64  // how many are not revoked; afterwards, how many are
	Query  string // of the list to go back to
	Back   string
}

// bulkKey is one of them.
type bulkKey struct {
	shownKey
	Exchanges int64 // in the last 24 hours
	Failure   string
	Pending   bool
}

// Size is how many keys there are.
func (b bulk) Size() int64 { return int64(len(b.Keys)) }

// Failed is how many were not revoked.
func (b bulk) Failed() int64 { return b.Size() - b.Live }

// Waiting reports whether some replica may not have taken it in.
func (b bulk) Waiting() bool {
	return slices.ContainsFunc(b.Keys, func(k bulkKey) bool { return k.Pending })
}

// chosenKeys are the keys of a form, each once.
func (r *request) chosenKeys() ([]keys.ID, error) {
	var ids []keys.ID
	for _, id := range r.form["key"] {
		if plain(id) && !slices.Contains(ids, keys.ID(id)) {
			ids = append(ids, keys.ID(id))
		}
	}
	var m mistakes
	switch {
	case len(ids) == 0:
		m.add("", "Tick the keys to revoke first.")
	case len(ids) > maxRevoked:
		m.add("", fmt.Sprintf("Revoke at most %d keys at once: %d are ticked.", maxRevoked, len(ids)))
	}
	return ids, m.err()
}

// listBefore is the list that a form was sent from.
func (r *request) listBefore() choice {
	query, err := url.ParseQuery(r.form.Get("list"))
	if err != nil {
		query = nil
	}
	return r.readChoice(query)
}

// confirmRevoking asks before keys are revoked. It changes nothing.
func confirmRevoking(r *request) (page, error) {
	if !r.can("api-keys:delete") {
		return page{}, fmt.Errorf("%w: this needs api-keys:delete", workspace.ErrForbidden)
	}
	ids, err := r.chosenKeys()
	if err != nil {
		p, other := r.keyListPage(r.listBefore())
		if other != nil {
			return page{}, other
		}
		return p.again(err)
	}
	return r.bulkPage(ids)
}

func (r *request) bulkPage(ids []keys.ID) (page, error) {
	list := r.listBefore()
	d := bulk{Reason: r.text("reason"), Query: list.Query(), Back: list.URL()}
	found, err := r.h.Manager.KeyList(r.ctx, r.by, r.ws.ID, keys.Selection{IDs: ids, Group: keys.GroupAll}, 0, maxRevoked)
	if err != nil {
		return page{}, err
	}
	if len(found.Rows) == 0 {
		return page{}, workspace.ErrNotFound
	}
	uses, err := r.usesOfADay()
	if err != nil {
		return page{}, err
	}
	for _, row := range found.Rows {
		k := bulkKey{shownKey: r.showRow(row), Exchanges: uses[string(row.ID)]}
		d.Keys = append(d.Keys, k)
		if k.Exchanges > 0 {
			d.Used++
		}
		if k.Status != keys.StatusRevoked {
			d.Live++
		}
	}
	return page{template: "key_bulk", title: "Revoke " + count(d.Size(), "key"), section: "keys", data: d}, nil
}

// usesOfADay counts the tokens of each key in the last 24 hours.
func (r *request) usesOfADay() (map[string]int64, error) {
	now := r.h.Manager.Time()
	rows, err := r.h.Manager.Usage(r.ctx, r.by, r.ws.ID, "", now.Add(-day), now.Add(time.Second), day)
	uses := map[string]int64{}
	for _, row := range rows {
		if row.Outcome == outcomeIssued {
			uses[row.KeyID] += row.Count
		}
	}
	return uses, err
}

// revokeKeys revokes keys one by one and tells what became of each. Sent again, the
// form finds them revoked and says the same.
func revokeKeys(r *request) (page, error) {
	ids, err := r.chosenKeys()
	if err != nil {
		p, other := r.keyListPage(r.listBefore())
		if other != nil {
			return page{}, other
		}
		return p.again(err)
	}
	d := bulk{Reason: r.text("reason"), Back: r.listBefore().URL()}
	for i, id := range ids {
		after, err := r.h.Manager.EndKey(r.ctx, r.by, r.ws.ID, id, d.Reason)
		switch {
		case i == 0 && errors.Is(err, workspace.ErrInvalid): // the reason, which is that of all
			p, other := r.bulkPage(ids)
			if other != nil {
				return page{}, other
			}
			return p.again(mistakes{{"reason", explain(err).detail}})
		case i == 0 && err != nil && explain(err).status >= http.StatusInternalServerError && !pending(err):
			return page{}, err // nothing was done
		}
		d.Keys = append(d.Keys, r.ended(id, after, err))
		if d.Keys[i].Failure == "" {
			d.Live++
		}
	}
	title := count(d.Live, "key") + " revoked"
	return page{template: "key_bulk_done", title: title, section: "keys", data: d}, nil
}

// ended is what became of one key.
func (r *request) ended(id keys.ID, after keys.Listed, err error) bulkKey {
	if err == nil || pending(err) {
		return bulkKey{shownKey: r.showKey(after), Pending: err != nil}
	}
	f := explain(err)
	if f.status >= http.StatusInternalServerError {
		r.h.Log.Error("a key was not revoked", "error", err, "key", id, "request_id", r.requestID())
	}
	return bulkKey{shownKey: shownKey{ID: id, Name: string(id), URL: r.here("keys", string(id))}, Failure: f.detail}
}
