package policy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
)

// Form is how tokens for an audience are made. It is comparable.
type Form struct {
	Algorithm string // jwk.ES256, jwk.RS256 or jwk.EdDSA
	Type      string // oauth.AccessTokenType or oauth.PlainTokenType
	Claims    string // further claims, the same in every token: members of a JSON object, without braces
}

// generic is the form that RFC 9068 asks for, signed the fast way.
var generic = Form{Algorithm: jwk.ES256, Type: oauth.AccessTokenType}

// FormOptions say what an operator configured. What is empty is the profile's.
type FormOptions struct {
	Profile   string // empty: generic
	Algorithm string
	Type      string
	Claims    map[string]any // added to those of the profile
}

// profile is a form that some verifier takes with its defaults.
type profile struct {
	algorithm, typ string
	claims         map[string]any
}

// role is what PostgREST and Hasura run requests as, unless claims say otherwise.
const role = "automation"

var profiles = map[string]profile{
	"generic": {generic.Algorithm, generic.Type, nil},
	// Its decoder refuses at+jwt, and takes RS256 alone when it is given a JWKS URL.
	"spring": {jwk.RS256, oauth.PlainTokenType, nil},
	// API Gateway verifies RSA signatures only.
	"aws": {jwk.RS256, oauth.AccessTokenType, nil},
	// RS256 is the default of --oidc-signing-algs, and EdDSA is not known at all.
	"kubernetes": {jwk.RS256, oauth.AccessTokenType, nil},
	"postgrest":  {jwk.ES256, oauth.AccessTokenType, map[string]any{"role": role}},
	"hasura": {jwk.ES256, oauth.AccessTokenType, map[string]any{"https://hasura.io/jwt/claims": map[string]any{
		"x-hasura-default-role": role, "x-hasura-allowed-roles": []string{role},
	}}},
}

// Profiles lists the names of the profiles.
func Profiles() []string { return slices.Sorted(maps.Keys(profiles)) }

// Algorithms are the algorithms that a form may have, the default first.
func Algorithms() []string { return []string{jwk.ES256, jwk.RS256, jwk.EdDSA} }

// Types are the types that a form may have, the default first.
func Types() []string { return []string{oauth.AccessTokenType, oauth.PlainTokenType} }

// maxClaims bounds the further claims, in bytes of JSON: they are in every token.
const maxClaims = 1024

// NewForm makes the form of an audience. The error joins everything that is
// wrong, each a sentence for the operator.
func NewForm(o FormOptions) (Form, error) {
	var mistakes []error
	p, ok := profiles[cmp.Or(o.Profile, "generic")]
	if !ok {
		mistakes = append(mistakes, fmt.Errorf("the profile %q: choose one of %s", o.Profile, strings.Join(Profiles(), ", ")))
	}
	form := Form{Algorithm: cmp.Or(o.Algorithm, p.algorithm), Type: cmp.Or(o.Type, p.typ)}
	if !slices.Contains(Algorithms(), form.Algorithm) && ok {
		mistakes = append(mistakes, fmt.Errorf("the algorithm %q: choose one of %s", form.Algorithm, strings.Join(Algorithms(), ", ")))
	}
	if !slices.Contains(Types(), form.Type) && ok {
		mistakes = append(mistakes, fmt.Errorf("the type %q: choose one of %s", form.Type, strings.Join(Types(), ", ")))
	}
	claims := maps.Clone(p.claims)
	if claims == nil {
		claims = map[string]any{}
	}
	maps.Copy(claims, o.Claims)
	var err error
	if form.Claims, err = encodeClaims(claims); err != nil {
		mistakes = append(mistakes, err)
	}
	if err := errors.Join(mistakes...); err != nil {
		return Form{}, err
	}
	return form, nil
}

// encodeClaims refuses names that mean something to verifiers already.
func encodeClaims(claims map[string]any) (string, error) {
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if name == "" || oauth.IsClaim(name) {
			return "", fmt.Errorf("the claim %q cannot be set: Tokenbooth or the standards give it its meaning", name)
		}
	}
	text, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("the claims: %w", err)
	}
	if len(text) > maxClaims {
		return "", fmt.Errorf("the claims take %d bytes: %d are allowed, since every token carries them", len(text), maxClaims)
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(text), "{"), "}"), nil
}
