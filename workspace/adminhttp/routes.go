package adminhttp

import "net/http"

// bodyKind says whether a request has a body.
type bodyKind int

const (
	none     bodyKind = iota // and it is refused
	optional                 // an empty one is an empty object
	required
)

// route is one method of one path below the API's base.
type route struct {
	method, path string
	run          operation
	body         bodyKind
	params       []string // that the URL may have
	once         bool     // an Idempotency-Key makes it happen once
}

// Parameters of lists.
var (
	paged           = []string{"limit", "cursor"}
	workspaceParams = append([]string{"q", "suspended"}, paged...)
	userParams      = append([]string{"q", "enabled", "organization_admin"}, paged...)
	memberParams    = append([]string{"q", "role"}, paged...)
	accountParams   = append([]string{"q", "enabled", "name"}, paged...)
	ownedKeyParams  = append([]string{"q", "created_by", "status", "expiring_within_days", "unused_for_days"}, paged...)
	keyParams       = append([]string{"service_account", "user_id"}, ownedKeyParams...)
	personalParams  = append([]string{"workspace"}, paged...)
	auditParams     = append([]string{"service_account", "client_id", "actor", "subject", "action", "since", "until"}, paged...)
	verifierParams  = append([]string{"workspace"}, paged...)
	usageParams     = []string{"client_id", "since", "until", "bucket"}
)

// routes is the whole API. whoami, which takes tokens of any audience, is
// oauth/endpoint's.
func (h *Handler) routes() []route {
	const (
		get, post, put, patch, remove = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete

		ws  = "/workspaces/:ws"
		sa  = ws + "/service-accounts/:sa"
		key = ws + "/keys/:client_id"
	)
	return []route{
		{method: get, path: "/workspaces", run: listWorkspaces, params: workspaceParams},
		{method: post, path: "/workspaces", run: createWorkspace, body: required, once: true},
		{method: get, path: ws, run: showWorkspace},
		{method: patch, path: ws, run: updateWorkspace, body: required},
		{method: remove, path: ws, run: deleteWorkspace},
		{method: post, path: ws + "/suspend", run: suspendWorkspace, body: optional},
		{method: post, path: ws + "/resume", run: resumeWorkspace, body: optional},

		{method: get, path: ws + "/members", run: listMembers, params: memberParams},
		{method: post, path: ws + "/members", run: addMember, body: required, once: true},
		{method: get, path: ws + "/members/:user", run: showMember},
		{method: patch, path: ws + "/members/:user", run: updateMember, body: required},
		{method: remove, path: ws + "/members/:user", run: removeMember},

		{method: get, path: ws + "/service-accounts", run: listServiceAccounts, params: accountParams},
		{method: post, path: ws + "/service-accounts", run: createServiceAccount, body: required, once: true},
		{method: get, path: sa, run: showServiceAccount},
		{method: patch, path: sa, run: updateServiceAccount, body: required},
		{method: remove, path: sa, run: deleteServiceAccount},
		{method: get, path: sa + "/keys", run: listAccountKeys, params: ownedKeyParams},
		{method: post, path: sa + "/keys", run: createAccountKey, body: required, once: true},

		{method: get, path: ws + "/keys", run: listKeys, params: keyParams},
		{method: post, path: ws + "/keys", run: createKey, body: required, once: true},
		{method: get, path: key, run: showKey},
		{method: patch, path: key, run: updateKey, body: required},
		{method: remove, path: key, run: deleteKey},
		{method: post, path: key + "/rotate", run: rotateKey, body: optional, once: true},
		{method: post, path: key + "/revoke", run: revokeKey, body: optional},
		{method: remove, path: key + "/secrets/:secret", run: endSecret},

		{method: get, path: ws + "/policy", run: showPolicy},
		{method: put, path: ws + "/policy", run: setPolicy, body: required},
		{method: post, path: ws + "/policy/preview", run: previewPolicy, body: required},
		{method: get, path: ws + "/quota", run: showQuota},
		{method: put, path: ws + "/quota", run: setQuota, body: required},
		{method: post, path: ws + "/quota/preview", run: previewQuota, body: required},
		{method: get, path: "/policy", run: showPolicy},
		{method: put, path: "/policy", run: setPolicy, body: required},
		{method: post, path: "/policy/preview", run: previewPolicy, body: required},

		{method: get, path: ws + "/audit-events", run: listAuditEvents, params: auditParams},
		{method: get, path: ws + "/usage", run: showUsage, params: usageParams},
		{method: get, path: "/audit-events", run: listAuditEvents, params: auditParams},

		{method: get, path: "/verifiers", run: listVerifiers, params: verifierParams},
		{method: post, path: "/verifiers/:name", run: reportVerifier, body: required},
		{method: remove, path: "/verifiers/:name", run: removeVerifier},
		{method: get, path: "/revocations/:sequence", run: showRevocation, params: []string{"wait"}},

		{method: get, path: "/users", run: listUsers, params: userParams},
		{method: post, path: "/users", run: createUser, body: required, once: true},
		{method: get, path: "/users/:user", run: showUser},
		{method: patch, path: "/users/:user", run: updateUser, body: required},
		{method: remove, path: "/users/:user", run: deleteUser},
		{method: get, path: "/users/me", run: showMe},
		{method: get, path: "/users/me/keys", run: listPersonalKeys, params: personalParams},
		{method: post, path: "/users/me/keys", run: createPersonalKey, body: required, once: true},
	}
}
