// Package keys owns API keys, which are the OAuth clients: the format of their
// IDs and secrets, how a secret is stored and recognised, the keys' rows, and
// the directory from which exchanges are answered without SQL.
//
// What a key may do is package policy; issuing tokens is oauth/grant; creating
// or revoking keys goes through workspace/manage. The keys that sign tokens are
// keys/signing.
package keys
