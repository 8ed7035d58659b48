// Package bearer lets a service accept Tokenbooth's access tokens (RFC 6750, RFC
// 9068, RFC 8725). It verifies offline, with the issuer's published keys: no
// request to a service causes one to the issuer.
//
//	verifier, err := bearer.New(bearer.Config{
//		Issuer:   "https://tokens.example.com",
//		Audience: "https://api.example.com",
//	})
//	…
//	mux.Handle("GET /charts", verifier.Require("charts:read")(charts))
//
// In the handler, FromContext returns the claims: whose the token is, of which
// workspace, and with which scopes. Outside of net/http, Verifier.Verify takes the
// token itself.
//
// # What is checked
//
// Everything that RFC 8725 and RFC 9068 §4 ask for, and nothing can be left out:
// an empty issuer or audience is refused rather than taken for "any". Verify lists
// the checks. A token is refused with an error that wraps ErrInvalid and says in a
// sentence why. Any other error means that it cannot be known now, and is a reason
// for 503, never for 401: clients take a 401 for a key that was revoked. Require
// answers so by itself.
//
// # Keys
//
// Without Config.Keys the keys are those that the issuer's metadata names. They
// are fetched for the first token, again at half of their max-age, and at a kid
// that is not among them, at most every ten seconds however many tokens bring one.
// So a service follows the rotation of keys, which are published long before they
// sign, without being restarted and without noticing.
//
// While the issuer is away the keys that are there are used for a day. NewRemote
// takes a file besides, with which a service that is started meanwhile goes on,
// and its Refresh and Status are for services that would rather not start without
// keys, or show how these are. ParseKeys is for services that reach no issuer.
//
// # Revocation
//
// A token lives for ten minutes, unless its key says otherwise, and is good for
// that long, unless Config.Revocations deny it. A Feed follows what the issuer
// publishes of them: hashes of what was revoked, signed with keys of their own.
//
//	feed, err := bearer.NewFeed(bearer.FeedConfig{
//		Issuer: "https://tokens.example.com",
//		File:   "/var/lib/api/revocations.json",
//	})
//	…
//	go feed.Run(ctx)
//	verifier, err := bearer.New(bearer.Config{
//		Issuer:      "https://tokens.example.com",
//		Audience:    "https://api.example.com",
//		Revocations: feed,
//	})
//	…
//	mux.Handle("GET /charts", verifier.Require("charts:read")(charts))
//	mux.Handle("DELETE /charts", verifier.RequireFresh("charts:delete")(remove))
//
// The issuer holds the feed's request until something is revoked, so that a
// revocation is known here within a second. While the feed cannot be had, or the
// issuer cannot vouch for it, what is known stays denied, and
//
//   - Require goes on to accept tokens, each until its own exp: a revocation may come
//     late by the life of a token;
//   - RequireFresh answers 503 as soon as what is known is older than
//     FeedConfig.MaxStaleness, a minute: a revocation never comes later than that.
//
// A service that has never known anything answers 503 on both. With a File it
// knows from its first request on what it knew when it ended. Refresh is for
// services that would rather not be ready without the feed, Status and Observe for
// health pages and metrics, Position and Moved for telling the issuer how far one
// is. A Feed of another FeedSource takes the same from elsewhere, such as package
// redisfeed from Redis.
//
// # Tests
//
// Package bearertest gives the tests of a service an issuer of its own, with a
// feed.
//
// # Cost
//
// Verifying costs less than a tenth more than the signature and reading the claims,
// and 2 to 4 % of that when the token comes again: see BenchmarkVerify. A Verifier
// remembers the tokens that it accepted, by their SHA-256, and spares them the
// signature. Each time it asks anew whether the key set still has the key, whether
// the time is right, and the revocations: nothing is accepted for longer than
// without. Config.CacheSize says how many are remembered, and a negative one none;
// Cached tells how often it helps.
//
// Tokens of more than MaxTokenLength bytes, and others that are not a token at all,
// are refused before anything is decoded.
//
// The package needs nothing but the standard library, golang-jwt, package oauth
// and keys/jwk: a service that verifies tokens links no server code.
package bearer
