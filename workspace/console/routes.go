package console

import (
	"net/http"
	"slices"
)

// routes is the whole console.
func (h *Handler) routes() []route {
	return slices.Concat([]route{
		{method: http.MethodGet, path: "/", run: start},
	}, h.demoRoutes(), h.signInRoutes(), h.linkRoutes(), h.accountRoutes(), h.serviceAccountsRoutes(), h.membersRoutes(), h.auditRoutes(), h.usageRoutes(), h.settingsRoutes(),
		h.providerRoutes(), h.passkeyRoutes(), h.homeRoutes(), h.keyListRoutes(), h.keyNewRoutes(), h.revealRoutes(), h.keyRoutes(), h.myKeysRoutes(),
		h.workspacesRoutes(), h.peopleRoutes(), h.policyRoutes(), h.signingKeysRoutes(), h.verifiersRoutes())
}
