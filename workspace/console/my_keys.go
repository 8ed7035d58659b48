package console

import (
	"net/http"

	"github.com/tokenbooth/tokenbooth/workspace"
)

func (h *Handler) myKeysRoutes() []route {
	return []route{{method: http.MethodGet, path: "/w/:ws/my-keys", run: myKeys}}
}

// myKeys lists the keys that speak for the person in the workspace: the live ones,
// and with inactive=yes those that have ended.
func myKeys(r *request) (page, error) {
	found, err := r.h.Manager.PersonalKeys(r.ctx, r.by, r.ws.ID, workspace.Page{Limit: mostListed})
	if err != nil {
		return page{}, err
	}
	var data struct {
		Live, Ended []shownKey
		ShowEnded   bool
	}
	for _, k := range found {
		if shown := r.showKey(k); shown.Ended {
			data.Ended = append(data.Ended, shown)
		} else {
			data.Live = append(data.Live, shown)
		}
	}
	data.ShowEnded = r.QueryParam("inactive") == "yes"
	return page{template: "my_keys", title: "My personal keys", section: "my-keys", data: data}, nil
}
