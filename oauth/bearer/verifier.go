package bearer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
)

// MaxTokenLength is the longest token that is looked at, in bytes.
const MaxTokenLength = 8192

// MaxLeeway bounds Config.Leeway.
const MaxLeeway = time.Minute

// ErrInvalid is the kind of every error about a token that is not acceptable.
// The text says why and is safe to show to the caller.
var ErrInvalid = errors.New("invalid token")

// ErrUnknownKey is what a KeySet returns for a kid that it does not hold.
var ErrUnknownKey = errors.New("unknown key")

// KeySet holds the issuer's public keys.
type KeySet interface {
	// Key returns the key with that ID. ErrUnknownKey: there is none. Any other
	// error means that it cannot be known now.
	Key(ctx context.Context, kid string) (jwk.Key, error)
}

// KeySetFunc makes a KeySet of a function that returns the present set.
type KeySetFunc func() jwk.Set

// Key implements KeySet.
func (f KeySetFunc) Key(_ context.Context, kid string) (jwk.Key, error) {
	set := f()
	for _, k := range set.Keys {
		if k.ID == kid {
			return k, nil
		}
	}
	return jwk.Key{}, ErrUnknownKey
}

// Config says which tokens are good here.
type Config struct {
	Issuer         string        // required: the exact iss
	Audience       string        // required: this service
	OtherAudiences []string      // further names of this service
	Keys           KeySet        // required
	Leeway         time.Duration // for clocks that differ; at most MaxLeeway
	Now            func() time.Time
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	config    Config
	audiences []string
}

// New checks the configuration. What is missing is refused, never skipped.
func New(c Config) (*Verifier, error) {
	audiences := append([]string{c.Audience}, c.OtherAudiences...)
	switch {
	case c.Issuer == "":
		return nil, errors.New("bearer: Issuer is empty: set the exact iss of the tokens")
	case slices.Contains(audiences, ""):
		return nil, errors.New("bearer: an audience is empty: set the name of this service")
	case c.Keys == nil:
		return nil, errors.New("bearer: Keys is nil: set where the issuer's public keys are")
	case c.Leeway < 0 || c.Leeway > MaxLeeway:
		return nil, fmt.Errorf("bearer: Leeway %s: use 0 to %s", c.Leeway, MaxLeeway)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Verifier{config: c, audiences: audiences}, nil
}

// Verify checks a token and returns its claims:
//
//   - the form is three base64url parts and no other (RFC 7515 §3.1),
//   - typ is at+jwt and crit, b64 and zip are absent (RFC 9068 §4, RFC 7515 §4.1.11),
//   - kid names a key of the set, and alg is that key's only one (RFC 8725 §3.1),
//   - the signature is right,
//   - iss is the issuer, aud names this service, exp is present and not past.
//
// Errors wrap ErrInvalid; another error means that the keys cannot be had now.
func (v *Verifier) Verify(ctx context.Context, token string) (*oauth.Claims, error) {
	payload, err := v.open(ctx, token)
	if err != nil {
		return nil, err
	}
	claims, err := oauth.ParseClaims(payload)
	if err != nil {
		return nil, invalid("%v", err)
	}
	if err := v.check(claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// open checks form, header and signature and returns the payload.
func (v *Verifier) open(ctx context.Context, token string) ([]byte, error) {
	if len(token) > MaxTokenLength {
		return nil, invalid("it is longer than %d bytes", MaxTokenLength)
	}
	if strings.Count(token, ".") != 2 {
		return nil, invalid("it does not have the three parts of a JWT")
	}
	end := strings.LastIndexByte(token, '.')
	head, body, _ := strings.Cut(token[:end], ".")
	kid, alg, err := header(head)
	if err != nil {
		return nil, err
	}
	public, err := v.key(ctx, kid, alg)
	if err != nil {
		return nil, err
	}
	signature, errSignature := decode(token[end+1:])
	payload, errPayload := decode(body)
	if err := errors.Join(errSignature, errPayload); err != nil {
		return nil, err
	}
	if jwt.GetSigningMethod(alg).Verify(token[:end], signature, public) != nil {
		return nil, invalid("its signature does not match")
	}
	return payload, nil
}

func (v *Verifier) key(ctx context.Context, kid, alg string) (any, error) {
	k, err := v.config.Keys.Key(ctx, kid)
	if errors.Is(err, ErrUnknownKey) {
		return nil, invalid("the issuer publishes no key with its kid")
	}
	if err != nil {
		return nil, fmt.Errorf("keys of %s: %w", v.config.Issuer, err)
	}
	if k.Algorithm != alg || !slices.Contains([]string{jwk.ES256, jwk.RS256, jwk.EdDSA}, alg) {
		return nil, invalid("its alg is not the one of its key")
	}
	return k.Public()
}

func (v *Verifier) check(c *oauth.Claims) error {
	now := v.config.Now()
	switch {
	case c.Issuer != v.config.Issuer:
		return invalid("it was issued by another issuer")
	case !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(v.audiences, a) }):
		return invalid("it is meant for another audience")
	case c.Expiry <= 0:
		return invalid("it has no exp")
	case c.Expiry <= now.Add(-v.config.Leeway).Unix():
		return invalid("it has expired")
	case c.IssuedAt <= 0 || c.IssuedAt > now.Add(v.config.Leeway+time.Second).Unix():
		return invalid("its iat is missing or in the future")
	case c.Subject == "" || c.ClientID == "" || c.ID == "":
		return invalid("it lacks one of sub, client_id and jti")
	}
	return nil
}

// header reads the JOSE header by the exact names of its members.
func header(part string) (kid, alg string, err error) {
	text, err := decode(part)
	if err != nil {
		return "", "", err
	}
	members, err := oauth.ParseObject(text)
	if err != nil {
		return "", "", invalid("its header is %v", err)
	}
	for _, forbidden := range []string{"crit", "b64", "zip"} {
		if _, present := members[forbidden]; present {
			return "", "", invalid("its header has %s, which is not understood", forbidden)
		}
	}
	var typ string
	for name, value := range map[string]*string{"kid": &kid, "alg": &alg, "typ": &typ} {
		if json.Unmarshal(members[name], value) != nil || *value == "" {
			return "", "", invalid("its header has no %s", name)
		}
	}
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/") // RFC 7515 §4.1.9
	if typ != oauth.AccessTokenType {
		return "", "", invalid("its typ is not %s", oauth.AccessTokenType)
	}
	return kid, alg, nil
}

// decode reads base64url without padding and without stray bits, so that a
// token has one spelling only.
func decode(part string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") { // which the decoder skips
		return nil, invalid("a part is not base64url")
	}
	return b, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
