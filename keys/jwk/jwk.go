// Package jwk owns the wire form of public keys: JSON Web Keys, key sets and
// thumbprints (RFC 7517, RFC 7518 §6, RFC 7638, RFC 8037).
//
// It knows public keys only: a Key cannot hold a private member, so that none
// can slip into a published set. Keeping, sealing and rotating private keys is
// keys/signing's work.
package jwk

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1).
const (
	ES256 = "ES256"
	RS256 = "RS256"
	EdDSA = "EdDSA"
)

// MinRSABits is the smallest accepted modulus (RFC 7518 §3.3).
const MinRSABits = 2048

// ErrKey is the kind of every error about a key that cannot be used.
var ErrKey = errors.New("unusable JWK")

// Key is one public key. Each key has exactly one algorithm (RFC 8725 §3.1).
type Key struct {
	KeyType   string `json:"kty"`
	Use       string `json:"use,omitempty"`
	Algorithm string `json:"alg,omitempty"`
	ID        string `json:"kid,omitempty"`
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
}

// Set is a published key set (RFC 7517 §5).
type Set struct {
	Keys []Key `json:"keys"`
}

// New describes a public key for signatures, with its thumbprint as the ID.
// It takes *ecdsa.PublicKey (P-256), ed25519.PublicKey and *rsa.PublicKey
// (2048 bits or more); errors wrap ErrKey.
func New(public crypto.PublicKey) (Key, error) {
	k := Key{Use: "sig"}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		point, err := p.Bytes() // uncompressed: 4 ‖ X ‖ Y
		if err != nil || p.Curve != elliptic.P256() {
			return Key{}, fmt.Errorf("%w: want an elliptic curve key on P-256", ErrKey)
		}
		k.KeyType, k.Algorithm, k.Curve = "EC", ES256, "P-256"
		k.X, k.Y = encode(point[1:33]), encode(point[33:])
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return Key{}, fmt.Errorf("%w: an Ed25519 key of %d bytes; %d are needed", ErrKey, len(p), ed25519.PublicKeySize)
		}
		k.KeyType, k.Algorithm, k.Curve, k.X = "OKP", EdDSA, "Ed25519", encode(p)
	case *rsa.PublicKey:
		if p.N.BitLen() < MinRSABits {
			return Key{}, fmt.Errorf("%w: an RSA key of %d bits; at least %d are needed", ErrKey, p.N.BitLen(), MinRSABits)
		}
		k.KeyType, k.Algorithm = "RSA", RS256
		k.N, k.E = encode(p.N.Bytes()), encode(big.NewInt(int64(p.E)).Bytes())
	default:
		return Key{}, fmt.Errorf("%w: type %T", ErrKey, public)
	}
	k.ID = k.Thumbprint()
	return k, nil
}

// Thumbprint is the SHA-256 thumbprint of RFC 7638 §3, base64url: the required
// members only, in lexical order.
func (k Key) Thumbprint() string {
	var members any
	switch k.KeyType {
	case "EC":
		members = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
			Y   string `json:"y"`
		}{k.Curve, k.KeyType, k.X, k.Y}
	case "OKP": // RFC 8037 §2
		members = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
		}{k.Curve, k.KeyType, k.X}
	default:
		members = struct {
			E   string `json:"e"`
			Kty string `json:"kty"`
			N   string `json:"n"`
		}{k.E, k.KeyType, k.N}
	}
	text, err := json.Marshal(members)
	if err != nil {
		panic(err) // strings always marshal
	}
	sum := sha256.Sum256(text)
	return encode(sum[:])
}

// Public returns the key in the form that crypto packages take. Errors wrap
// ErrKey: unknown types, coordinates off the curve, short RSA moduli.
func (k Key) Public() (crypto.PublicKey, error) {
	switch {
	case k.KeyType == "EC" && k.Curve == "P-256":
		return k.ecdsa()
	case k.KeyType == "OKP" && k.Curve == "Ed25519":
		x, err := decode(k.X, ed25519.PublicKeySize)
		return ed25519.PublicKey(x), err
	case k.KeyType == "RSA":
		return k.rsa()
	}
	return nil, fmt.Errorf("%w: kty %q with crv %q is not supported", ErrKey, k.KeyType, k.Curve)
}

func (k Key) ecdsa() (crypto.PublicKey, error) {
	x, errX := decode(k.X, 32)
	y, errY := decode(k.Y, 32)
	if err := errors.Join(errX, errY); err != nil {
		return nil, err
	}
	point := slices.Concat([]byte{4}, x, y)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, fmt.Errorf("%w: the point is not on P-256", ErrKey)
	}
	return public, nil
}

func (k Key) rsa() (crypto.PublicKey, error) {
	n, errN := decode(k.N, 0)
	e, errE := decode(k.E, 0)
	if err := errors.Join(errN, errE); err != nil {
		return nil, err
	}
	exponent := new(big.Int).SetBytes(e)
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}
	if public.N.BitLen() < MinRSABits || exponent.BitLen() > 31 || public.E < 3 || public.E%2 == 0 {
		return nil, fmt.Errorf("%w: want an RSA modulus of at least %d bits and an odd exponent from 3 to 2^31-1", ErrKey, MinRSABits)
	}
	return public, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decode reads base64url without padding; size 0 takes any length but none.
func decode(s string, size int) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || (size > 0 && len(b) != size) {
		return nil, fmt.Errorf("%w: a member is not base64url of the right length", ErrKey)
	}
	return b, nil
}
