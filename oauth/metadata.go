package oauth

// GrantClientCredentials is the one grant of the token endpoint (RFC 6749 §4.4).
const GrantClientCredentials = "client_credentials"

// Client authentication methods (RFC 6749 §2.3.1, names of RFC 7591 §2).
const (
	ClientSecretBasic = "client_secret_basic"
	ClientSecretPost  = "client_secret_post"
)

// Metadata describes the authorization server (RFC 8414 §2).
type Metadata struct {
	Issuer                           string   `json:"issuer"`
	TokenEndpoint                    string   `json:"token_endpoint"`
	JWKSURI                          string   `json:"jwks_uri"`
	ScopesSupported                  []string `json:"scopes_supported,omitempty"`
	ResponseTypesSupported           []string `json:"response_types_supported"`
	GrantTypesSupported              []string `json:"grant_types_supported"`
	TokenEndpointAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	RevocationEndpoint               string   `json:"revocation_endpoint"`
	RevocationEndpointAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectionEndpoint            string   `json:"introspection_endpoint"`
	IntrospectionEndpointAuthMethods []string `json:"introspection_endpoint_auth_methods_supported"`
	ServiceDocumentation             string   `json:"service_documentation,omitempty"`

	// OpenID Connect Discovery 1.0 §3: common verifiers learn the signing algorithms
	// from these, although no ID token is ever issued.
	SubjectTypes             []string `json:"subject_types_supported"`
	IDTokenSigningAlgorithms []string `json:"id_token_signing_alg_values_supported"`

	// Ours; RFC 8414 §2 allows members of other names.
	RevocationFeed     string `json:"tokenbooth_revocation_feed"`
	RevocationFeedKeys string `json:"tokenbooth_revocation_feed_keys"`
}

// TokenResponse is the successful answer of the token endpoint (RFC 6749 §5.1).
// Scope is always present, since it may be narrower than what was asked for.
type TokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	Scope        Scope  `json:"scope"`
	KeyExpiresAt string `json:"key_expires_at,omitempty"` // RFC 3339; absent when the key never expires
}
