package endpoint

import (
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
)

const metadataMaxAge = 5 * time.Minute

// metadata answers RFC 8414 and OpenID discovery with the same document.
func (h *Handler) metadata(c echo.Context) error {
	published, err := h.Ring.Published()
	if err != nil {
		return h.withhold(c, err)
	}
	authentication := []string{oauth.ClientSecretPost, oauth.ClientSecretBasic}
	return writePublic(c, echo.MIMEApplicationJSON, metadataMaxAge, oauth.Metadata{
		Issuer:                           h.Issuer,
		TokenEndpoint:                    h.Issuer + LoginPath,
		JWKSURI:                          h.Issuer + JWKSPath,
		ScopesSupported:                  h.Policy.Catalogue.All(),
		ResponseTypesSupported:           []string{}, // required by RFC 8414 §2, and there is no authorization endpoint
		GrantTypesSupported:              []string{oauth.GrantClientCredentials},
		TokenEndpointAuthMethods:         authentication,
		RevocationEndpoint:               h.Issuer + RevokePath,
		RevocationEndpointAuthMethods:    authentication,
		IntrospectionEndpoint:            h.Issuer + IntrospectPath,
		IntrospectionEndpointAuthMethods: authentication,
		SubjectTypes:                     []string{"public"},
		IDTokenSigningAlgorithms:         algorithms(published),
		RevocationFeed:                   h.Issuer + oauth.FeedPath,
		RevocationFeedKeys:               h.Issuer + oauth.FeedKeysPath,
	})
}

// jwks answers with the published keys (RFC 7517 §5, §8.5). Their max-age is what
// the rotation of signing keys relies on. A set that may lack a key is not given
// out: verifiers do better with the one that they have.
func (h *Handler) jwks(c echo.Context) error { return h.writeKeys(c, h.Ring) }

func (h *Handler) writeKeys(c echo.Context, ring *signing.Ring) error {
	published, err := ring.Published()
	if err != nil {
		return h.withhold(c, err)
	}
	return writePublic(c, "application/jwk-set+json", ring.Timing.MaxAge, published)
}

// withhold answers that the keys are not known well enough to be given out.
func (h *Handler) withhold(c echo.Context, err error) error {
	return h.later(c, "the signing keys are not given out", err,
		"This replica may lack a key: go on with the keys that you have, and ask again shortly.")
}

// later answers that a public document is not known well enough to be given out.
func (h *Handler) later(c echo.Context, message string, cause error, sentence string) error {
	h.Log.ErrorContext(c.Request().Context(), message, "error", cause)
	header := c.Response().Header()
	header.Set(echo.HeaderCacheControl, "no-store")
	oauth.SetRetryAfter(header, grant.RetrySoon())
	return writeJSON(c, http.StatusServiceUnavailable, oauth.Errorf(oauth.TemporarilyUnavailable, "%s", sentence).Explained(h.Issuer))
}

func algorithms(set jwk.Set) []string {
	var out []string
	for _, k := range set.Keys {
		out = append(out, k.Algorithm)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
