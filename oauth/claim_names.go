package oauth

import (
	"slices"
	"strings"
)

// claimNames are the claims that Tokenbooth sets, and those by which verifiers
// decide whose a token is and what it may do (RFC 7519 §4.1, RFC 7800 §3.1, RFC
// 8693 §4, RFC 9068 §2.2; scp is what some read for scope).
var claimNames = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope",
	"workspace_id", "workspace", "key_gen", "sub_gen", "ws_gen",
	"cnf", "act", "may_act", "azp", "scp",
}

// IsClaim reports whether a claim has a meaning that nobody may give it anew.
// Case does not count, since some verifiers are lax about it.
func IsClaim(name string) bool {
	return slices.Contains(claimNames, strings.ToLower(name))
}
