package console

import "net/http"

func (h *Handler) homeRoutes() []route {
	return []route{{method: http.MethodGet, path: "/w/:ws", run: home}}
}

// home shows how the keys of a workspace stand.
func home(r *request) (page, error) {
	return page{template: "home", title: "Overview", section: "home"}, nil
}
