// Package policy owns what a key may do: the catalogue of scopes and roles, the
// audiences, the rights of people in a workspace, and Decide, which answers one
// exchange from these and the key's record.
//
// Everything here is pure: no clock, no database, no network. Rates are
// policy/quota; recognising a key is package keys.
package policy
