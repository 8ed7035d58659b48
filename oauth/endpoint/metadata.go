package endpoint

import (
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
)

// metadata answers RFC 8414 and OpenID discovery with the same document.
func (h *Handler) metadata(c echo.Context) error {
	return writePublic(c, echo.MIMEApplicationJSON, oauth.Metadata{
		Issuer:                   h.Issuer,
		TokenEndpoint:            h.Issuer + LoginPath,
		JWKSURI:                  h.Issuer + JWKSPath,
		ScopesSupported:          h.Policy.Catalogue.All(),
		ResponseTypesSupported:   []string{}, // required by RFC 8414 §2, and there is no authorization endpoint
		GrantTypesSupported:      []string{oauth.GrantClientCredentials},
		TokenEndpointAuthMethods: []string{oauth.ClientSecretPost, oauth.ClientSecretBasic},
		SubjectTypes:             []string{"public"},
		IDTokenSigningAlgorithms: algorithms(h.Ring.Published()),
	})
}

// jwks answers with the published keys (RFC 7517 §5, §8.5).
func (h *Handler) jwks(c echo.Context) error {
	return writePublic(c, "application/jwk-set+json", h.Ring.Published())
}

func algorithms(set jwk.Set) []string {
	var out []string
	for _, k := range set.Keys {
		out = append(out, k.Algorithm)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
