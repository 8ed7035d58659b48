package bearer

import (
	"context"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// Revocations say what is denied before it expires. They have to be safe for
// concurrent use.
type Revocations interface {
	// Revoked is asked about a token that is good otherwise, with the ID of the key
	// that signed it. An error that wraps ErrRevoked denies it; any other means that
	// it cannot be known now.
	Revoked(ctx context.Context, kid string, claims *oauth.Claims) error
	// Fresh is nil while what Revoked says is recent enough for routes that must not
	// accept a token which was revoked (Verifier.RequireFresh).
	Fresh(ctx context.Context) error
}
