package console

import (
	"net/http"
	"slices"
)

// routes is the whole console.
func (h *Handler) routes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return slices.Concat([]route{
		{method: get, path: "/", run: start},
		{method: post, path: "/sign-out", run: signOut},
	}, h.demoRoutes(), h.homeRoutes())
}
