// Package grant owns the client credentials grant (RFC 6749 §4.4): it
// authenticates a key, decides what its token carries, signs the token and
// notes the use, in that order.
//
// It is the only importer of go-oauth2, whose manager runs the grant with a
// client store, a token store and an access generator of ours. Reading requests
// and writing responses is oauth/endpoint's work; the format of keys is package
// keys; what a key may do is package policy.
package grant
