// Package bearer verifies access tokens for resource servers (RFC 6750,
// RFC 9068, RFC 8725), offline, with the issuer's published keys.
//
//	verifier, err := bearer.New(bearer.Config{
//		Issuer:   "https://tokens.example.com",
//		Audience: "https://api.example.com",
//		Keys:     keySet,
//	})
//	claims, err := verifier.Verify(ctx, token)
//
// An empty issuer or audience is refused rather than taken for "any". It needs
// nothing but the standard library, golang-jwt, package oauth and keys/jwk: a
// service that verifies tokens links no server code.
package bearer
