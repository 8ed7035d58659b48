// Package policy owns what a key may be and do: the catalogue of scopes and roles,
// the audiences, the rights of people in a workspace, the API-key policy (Rules,
// and the Bounds that they come to), and Decide, which answers one exchange from
// these and the key's record.
//
// Deciding is pure: no clock, no database, no network. What organization admins
// decide is stored as versioned documents, which a Book holds in memory. Rates are
// policy/quota; recognising a key is package keys.
package policy
