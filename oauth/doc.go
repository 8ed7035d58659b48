// Package oauth is the protocol's vocabulary: error codes and the wire error,
// scopes, access token claims, token responses and server metadata.
//
// It holds words, not behaviour: it imports only the standard library, reads no
// request and signs nothing. The grant lives in oauth/grant, HTTP in
// oauth/endpoint, verification for resource servers in oauth/bearer.
//
// CONFORMANCE.md beside this file lists each requirement of the RFCs with the
// test that shows it.
package oauth
