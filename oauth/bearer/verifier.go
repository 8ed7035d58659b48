package bearer

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
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

// Why a token is refused.
var (
	// ErrInvalid is the kind of every error about a token that is not acceptable.
	// The text says why and is safe to show to the caller.
	ErrInvalid = errors.New("invalid token")
	// ErrRevoked is what Revocations say of a token that is denied. The verifier
	// makes an ErrInvalid of it.
	ErrRevoked = errors.New("it was revoked")
)

// Config says which tokens are good here. Only Issuer and Audience are required.
type Config struct {
	// Issuer is the exact iss: an https URL, to the byte as the issuer's metadata
	// has it.
	Issuer string
	// Audience is this service: tokens have to name it in aud.
	Audience string
	// OtherAudiences are further names of this service.
	OtherAudiences []string
	// Type is the typ that tokens have to have: empty for at+jwt (RFC 9068), or JWT
	// if the audience is registered so.
	Type string
	// Leeway is for clocks that differ; at most MaxLeeway.
	Leeway time.Duration

	// Keys are the issuer's; nil: NewRemote(RemoteConfig{Issuer: Issuer}).
	Keys KeySet
	// Revocations are asked about each token that is good otherwise: a Feed that
	// follows the issuer's. nil: no token is denied before it expires.
	Revocations Revocations

	// CacheSize is how many tokens that were accepted are remembered, which spares
	// their signature when they come again, and nothing else: Verify says what is
	// checked each time. 0: DefaultCacheSize; at most MaxCacheSize; negative: none.
	CacheSize int

	// Realm is named in challenges, if it is set (RFC 9110 §11.5).
	Realm string
	// Refuse writes the status and body of what Require refuses, when the headers
	// that the standards ask for are set; nil: as application/problem+json.
	Refuse func(http.ResponseWriter, *http.Request, *oauth.Error)

	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	config    Config
	audiences []string
	memory    *memory // nil: nothing is remembered
}

// New checks the configuration. What is missing is refused, never skipped. It
// fetches nothing: the keys are fetched for the first token.
func New(c Config) (*Verifier, error) {
	audiences := append([]string{c.Audience}, c.OtherAudiences...)
	switch {
	case c.Issuer == "":
		return nil, errors.New("bearer: Issuer is empty: set the exact iss of the tokens")
	case slices.Contains(audiences, ""):
		return nil, errors.New("bearer: an audience is empty: set the name of this service")
	case strings.ContainsAny(c.Realm, "\"\\\r\n"):
		return nil, errors.New("bearer: Realm has a quote, a backslash or a line end")
	case c.Leeway < 0 || c.Leeway > MaxLeeway:
		return nil, fmt.Errorf("bearer: Leeway %s: use 0 to %s", c.Leeway, MaxLeeway)
	case c.CacheSize > MaxCacheSize:
		return nil, fmt.Errorf("bearer: CacheSize %d: use up to %d, 0 for %d, or -1 to remember nothing", c.CacheSize, MaxCacheSize, DefaultCacheSize)
	}
	if v := reflect.ValueOf(c.Revocations); v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, fmt.Errorf("bearer: Revocations are a nil %T: look at the error of what made them, or leave them out", c.Revocations)
	}
	if feed, ok := c.Revocations.(*Feed); ok && feed.config.Issuer != c.Issuer {
		return nil, fmt.Errorf("bearer: Revocations are those of the issuer %q, and Issuer is %q: the two have to be equal to the byte", feed.config.Issuer, c.Issuer)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Type = cmp.Or(c.Type, oauth.AccessTokenType)
	if c.Keys == nil {
		remote, err := NewRemote(RemoteConfig{Issuer: c.Issuer, Now: c.Now})
		if err != nil {
			return nil, err
		}
		c.Keys = remote
	}
	memory := newMemory(cmp.Or(c.CacheSize, DefaultCacheSize))
	return &Verifier{config: c, audiences: audiences, memory: memory}, nil
}

// Verify checks a token and returns its claims:
//
//   - the form is three base64url parts and no other (RFC 7515 §3.1),
//   - typ is the expected one and crit, b64 and zip are absent (RFC 9068 §4, RFC 7515 §4.1.11),
//   - kid names a key of the set, and alg is that key's only one (RFC 8725 §3.1),
//   - the signature is right,
//   - no member is there twice, and names count by their exact case,
//   - iss is the issuer, aud names this service, exp is present and not past, iat
//     is present and not ahead, and sub, client_id and jti are there (RFC 9068 §2.2),
//   - Config.Revocations, if there are any, do not deny it.
//
// Of a token that was accepted before, and is still remembered (Config.CacheSize),
// form, signature and members are not looked at again, since the same bytes give the
// same answer. All the rest is: that the set has its key, unchanged, the claims at
// this time, and the revocations.
//
// The claims are the caller's to change. Errors wrap ErrInvalid; another error means
// that it cannot be known now, since keys or revocations are not available: nothing is
// wrong with the token. Scopes are for the caller to check: claims.Scope.Has.
func (v *Verifier) Verify(ctx context.Context, token string) (*oauth.Claims, error) {
	return v.verify(ctx, token, false)
}

// VerifyFresh is Verify for what must not be done with a token that was revoked:
// when Config.Revocations are not recent enough to tell, it fails with their
// error, such as ErrStale.
func (v *Verifier) VerifyFresh(ctx context.Context, token string) (*oauth.Claims, error) {
	return v.verify(ctx, token, true)
}

func (v *Verifier) verify(ctx context.Context, token string, fresh bool) (*oauth.Claims, error) {
	id, s := v.memory.get(token)
	known, err := v.stillSigned(ctx, s)
	if err != nil {
		return nil, err
	}
	v.memory.count(known)
	if !known {
		if s, err = v.open(ctx, token); err != nil {
			return nil, err
		}
	}
	claims := s.own() // before anybody can change them
	if err := v.check(claims); err != nil {
		return nil, err
	}
	if err := v.revoked(ctx, s.key.ID, claims, fresh); err != nil {
		return nil, err
	}
	if !known {
		v.memory.put(id, s)
	}
	return claims, nil
}

// stillSigned reports whether a token is remembered and the key set still has its
// key. The set is asked each time, so that a key which is taken out in an emergency
// takes its tokens along. One that was replaced is no error: the signature is
// checked with the new one then.
func (v *Verifier) stillSigned(ctx context.Context, s *signed) (bool, error) {
	if s == nil {
		return false, nil
	}
	key, err := publicKey(ctx, v.config.Keys, s.key.ID, s.key.Algorithm)
	if err != nil {
		return false, v.keysError(err)
	}
	return s.with(key.Public), nil
}

// revoked asks the revocations. That they are recent is asked before what they
// say: the other way round, what they learn in between would be missed.
func (v *Verifier) revoked(ctx context.Context, kid string, claims *oauth.Claims, fresh bool) error {
	if v.config.Revocations == nil && !fresh {
		return nil
	}
	if v.config.Revocations == nil {
		return errors.New("there are no revocations to be fresh: set Config.Revocations")
	}
	var stale error
	if fresh {
		stale = v.config.Revocations.Fresh(ctx)
	}
	err := v.config.Revocations.Revoked(ctx, kid, claims)
	if errors.Is(err, ErrRevoked) {
		return invalid("%v", ErrRevoked)
	}
	if err = cmp.Or(stale, err); err != nil {
		return fmt.Errorf("revocations of %s: %w", v.config.Issuer, err)
	}
	return nil
}

// open checks form, header and signature of a token of the type that is expected,
// and reads its claims.
func (v *Verifier) open(ctx context.Context, token string) (*signed, error) {
	key, payload, err := openToken(ctx, v.config.Keys, v.config.Type, token)
	if err != nil {
		return nil, v.keysError(err)
	}
	claims, err := oauth.ParseClaims(payload)
	if err != nil {
		return nil, invalid("%v", err)
	}
	return &signed{key, *claims}, nil
}

// keysError says whose keys an error is about, unless it is about a token.
func (v *Verifier) keysError(err error) error {
	if errors.Is(err, ErrInvalid) {
		return err
	}
	return fmt.Errorf("keys of %s: %w", v.config.Issuer, err)
}

// Open checks that a key of the set signed a token, whatever its typ, and returns
// the bytes of its claims, with the ID of the key: the form, crit, b64 and zip, kid,
// alg and the signature are checked as by Verifier.Verify.
//
// It checks nothing that the token says: not who issued it, nor for whom, until when
// and of what type. That is for an issuer that has to know a token of its own in
// every state; services use a Verifier.
//
// Errors wrap ErrInvalid; others are the key set's, and nothing is wrong with the
// token.
func Open(ctx context.Context, keys KeySet, token string) (kid string, payload []byte, err error) {
	key, payload, err := openToken(ctx, keys, anyType, token)
	return key.ID, payload, err
}

// anyType stands for every typ.
const anyType = ""

func openToken(ctx context.Context, keys KeySet, typ, token string) (key Key, payload []byte, err error) {
	if len(token) > MaxTokenLength {
		return Key{}, nil, invalid("it is longer than %d bytes", MaxTokenLength)
	}
	return openJWS(ctx, keys, typ, token)
}

// openJWS checks form, header and signature of a JWS (RFC 7515 §5.2) of a type, or of
// anyType, and returns the payload, with the key. Errors wrap ErrInvalid;
// others are the key set's.
func openJWS(ctx context.Context, keys KeySet, typ, text string) (key Key, payload []byte, err error) {
	if strings.Count(text, ".") != 2 {
		return Key{}, nil, invalid("it does not have the three parts of a JWT")
	}
	end := strings.LastIndexByte(text, '.')
	head, body, _ := strings.Cut(text[:end], ".")
	kid, alg, err := header(head, typ)
	if err != nil {
		return Key{}, nil, err
	}
	key, err = publicKey(ctx, keys, kid, alg)
	if err != nil {
		return Key{}, nil, err
	}
	signature, errSignature := decode(text[end+1:])
	payload, errPayload := decode(body)
	if err := errors.Join(errSignature, errPayload); err != nil {
		return Key{}, nil, err
	}
	if jwt.GetSigningMethod(alg).Verify(text[:end], signature, key.Public) != nil {
		return Key{}, nil, invalid("its signature does not match")
	}
	return key, payload, nil
}

// publicKey is the key of the set with that ID, which has to have that algorithm.
func publicKey(ctx context.Context, keys KeySet, kid, alg string) (Key, error) {
	k, err := keys.Key(ctx, kid)
	if errors.Is(err, ErrUnknownKey) {
		return Key{}, invalid("the issuer publishes no key with its kid")
	}
	if err != nil {
		return Key{}, err
	}
	if k.Algorithm != alg || !slices.Contains([]string{jwk.ES256, jwk.RS256, jwk.EdDSA}, alg) {
		return Key{}, invalid("its alg is not the one of its key")
	}
	k.ID = kid
	return k, nil
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
	case c.NotBefore > now.Add(v.config.Leeway).Unix():
		return invalid("it is not valid yet")
	case c.Subject == "" || c.ClientID == "" || c.ID == "":
		return invalid("it lacks one of sub, client_id and jti")
	}
	return nil
}

// header reads the JOSE header by the exact names of its members.
func header(part, want string) (kid, alg string, err error) {
	if len(part) > MaxTokenLength { // that of a feed, which may be long
		return "", "", invalid("its header is longer than %d bytes", MaxTokenLength)
	}
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
	for _, member := range []struct {
		name  string
		value *string
	}{{"alg", &alg}, {"kid", &kid}, {"typ", &typ}} {
		if json.Unmarshal(members[member.name], member.value) != nil || *member.value == "" {
			return "", "", invalid("its header has no %s", member.name)
		}
	}
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/") // RFC 7515 §4.1.9
	if want != anyType && !strings.EqualFold(typ, want) {
		return "", "", invalid("its typ is not %s", want)
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
