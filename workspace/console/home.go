package console

import (
	"net/http"

	"github.com/tokenbooth/tokenbooth/keys"
)

func (h *Handler) homeRoutes() []route {
	return []route{{method: http.MethodGet, path: "/w/:ws", run: home}}
}

// How much of what a workspace has its overview shows.
const (
	homeKeys   = 5
	homeDays   = 7
	homePerDay = 4 // bars
)

// overview is how the keys of a workspace stand.
type overview struct {
	Nothing   bool // there are no keys at all
	Numbers   []overviewNumber
	Spark     chart
	Attention []shownKey // those that need somebody, most of all first
	Rotating  []shownKey
}

// overviewNumber leads to the list of what it counts.
type overviewNumber struct {
	Count     int64
	Text, URL string
	Warn      bool
}

// home shows how the keys of a workspace stand. Whoever may not read them is told
// where they are.
func home(r *request) (page, error) {
	p := page{template: "home", title: "Overview", section: "home"}
	if !r.can("api-keys:read") {
		return p, nil
	}
	found, err := r.h.Manager.KeyList(r.ctx, r.by, r.ws.ID, keys.Selection{}, 0, homeKeys)
	if err != nil {
		return page{}, err
	}
	d := overview{Nothing: found.Counts.Of(keys.GroupAll) == 0}
	if d.Nothing {
		p.data = d
		return p, nil
	}
	d.Numbers = r.overviewNumbers(found.Counts)
	if d.Spark, err = r.week(); err != nil {
		return page{}, err
	}
	for _, row := range found.Rows {
		if s := r.showRow(row); s.pressing() {
			d.Attention = append(d.Attention, s)
		}
	}
	if d.Rotating, err = r.rotating(); err != nil {
		return page{}, err
	}
	p.data = d
	return p, nil
}

func (r *request) overviewNumbers(counts keys.Counts) (all []overviewNumber) {
	list := r.readChoice(nil)
	for _, n := range []struct {
		group keys.Group
		text  string
		warn  bool
	}{
		{keys.GroupLive, "active", false}, {keys.GroupExpiring, "expiring within 14 days", true}, {keys.GroupUnused, "unused for 90 days", true},
	} {
		count := counts.Of(n.group)
		all = append(all, overviewNumber{Count: count, Text: n.text, URL: list.showing(n.group).URL(), Warn: n.warn && count > 0})
	}
	return all
}

// week is what was exchanged lately.
func (r *request) week() (chart, error) {
	until := r.h.Manager.Time()
	since := until.Add(-homeDays * day)
	rows, err := r.h.Manager.Usage(r.ctx, r.by, r.ws.ID, "", since, until, day/homePerDay)
	return newChart(rows, since, until, day/homePerDay), err
}

// rotating are keys of which an older secret works still.
func (r *request) rotating() (found []shownKey, err error) {
	list, err := r.h.Manager.KeyList(r.ctx, r.by, r.ws.ID, keys.Selection{Group: keys.GroupRotating}, 0, homeKeys)
	for _, row := range list.Rows {
		found = append(found, r.showRow(row))
	}
	return found, err
}

// pressing reports whether somebody has to do something about a key.
func (s shownKey) pressing() bool { return s.Urgency != "" || len(s.Blocked) > 0 }
