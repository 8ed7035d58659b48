package bearer

import (
	"context"
	"errors"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// Why Revocations cannot tell. Nothing is wrong with the token: answer 503, not
// 401.
var (
	// ErrRevocationsUnknown means that nothing is known of revocations.
	ErrRevocationsUnknown = errors.New("it is not known what was revoked")
	// ErrStale means that what is known is too old for a route that must not accept
	// what was revoked.
	ErrStale = errors.New("it is not known what was revoked recently")
)

// Revocations say what is denied before it expires. They have to be safe for
// concurrent use. Feed follows those of an issuer.
type Revocations interface {
	// Revoked is asked about a token that is good otherwise, with the ID of the key
	// that signed it. An error that wraps ErrRevoked denies it; any other means that
	// it cannot be known now, and must not wrap ErrInvalid.
	Revoked(ctx context.Context, kid string, claims *oauth.Claims) error
	// Fresh is nil while what Revoked says is recent enough for routes that must not
	// accept a token which was revoked (Verifier.RequireFresh).
	Fresh(ctx context.Context) error
}
