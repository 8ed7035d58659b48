// Package endpoint owns the public HTTP of the OAuth side: the token endpoint,
// revocation, introspection, server metadata, the JWKS, whoami, and what gateways
// ask.
//
// It reads requests strictly, calls oauth/grant and writes exactly what the RFCs
// ask for. Each error is mapped to the wire once, in errors.go. What answers
// depend on is decided elsewhere. Hosts and forwarded headers never change an
// answer, but to trusted gateways: the issuer is configuration.
package endpoint
