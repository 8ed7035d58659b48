// Package signing owns the keys that sign tokens: making them, sealing them at
// rest, and the ring from which the service signs and publishes.
//
// The published form is keys/jwk; what is signed is the grant's business. A
// private key is in memory in the clear and nowhere else.
package signing

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// State is where a signing key is in its life.
type State string

// The states. Keys in the first three are published; only the active one signs.
const (
	Pending  State = "pending"
	Active   State = "active"
	Retiring State = "retiring"
	Removed  State = "removed"
)

// Stored is a signing key as the database holds it.
type Stored struct {
	ID          string         `db:"kid"` // RFC 7638 thumbprint
	Algorithm   string         `db:"alg"`
	State       State          `db:"state"`
	PublicJWK   string         `db:"public_jwk"`
	Sealed      []byte         `db:"sealed"`
	SealerID    string         `db:"kek_id"`
	CreatedAt   workspace.Time `db:"created_at"`
	ActivatedAt workspace.Time `db:"activated_at"`
}

// binding is what the sealed private key is tied to: it opens in no other row.
func (s Stored) binding() string {
	return fmt.Sprintf("signing_keys|%s|%s|%d", s.ID, s.Algorithm, s.CreatedAt.UnixMicro())
}

// public reads the published form and checks that it is that of the row: every
// member, since whoever can write to the database must not choose what
// verifiers believe about a key.
func (s Stored) public() (jwk.Key, error) {
	var stored jwk.Key
	if err := json.Unmarshal([]byte(s.PublicJWK), &stored); err != nil {
		return jwk.Key{}, fmt.Errorf("signing key %s: %w", s.ID, err)
	}
	public, err := stored.Public()
	if err != nil {
		return jwk.Key{}, fmt.Errorf("signing key %s: %w", s.ID, err)
	}
	right, err := jwk.New(public)
	if err != nil || stored != right || stored.ID != s.ID || stored.Algorithm != s.Algorithm {
		return jwk.Key{}, fmt.Errorf("signing key %s: the row holds another public key: it was changed", s.ID)
	}
	return stored, nil
}

// Generate makes a new ES256 key, sealed, in the given state.
func Generate(sealer *Sealer, state State, now workspace.Time) (Stored, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Stored{}, fmt.Errorf("make a signing key: %w", err)
	}
	public, err := jwk.New(&private.PublicKey)
	if err != nil {
		return Stored{}, fmt.Errorf("make a signing key: %w", err)
	}
	text, err := json.Marshal(public)
	if err != nil {
		return Stored{}, fmt.Errorf("make a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Stored{}, fmt.Errorf("make a signing key: %w", err)
	}
	s := Stored{ID: public.ID, Algorithm: public.Algorithm, State: state, PublicJWK: string(text), SealerID: sealer.ID(), CreatedAt: now}
	if state == Active {
		s.ActivatedAt = now
	}
	s.Sealed = sealer.Seal(der, s.binding())
	return s, nil
}

// Key is a signing key that is ready to sign: opened, parsed and with its JOSE
// header encoded once.
type Key struct {
	ID        string
	Algorithm string
	private   *ecdsa.PrivateKey
	header    string
}

// open decrypts a stored key and checks that it is the one it claims to be.
func open(s Stored, sealer *Sealer) (*Key, error) {
	if s.SealerID != sealer.ID() {
		return nil, fmt.Errorf("%w: it was sealed by key-encryption key %q and %q is configured", ErrSealed, s.SealerID, sealer.ID())
	}
	der, err := sealer.Open(s.Sealed, s.binding())
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w: is secrets.key_encryption_key the one that belongs to this database?", s.ID, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", s.ID, ErrSealed)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing key %s: %w: unexpected type %T", s.ID, ErrSealed, parsed)
	}
	public, err := jwk.New(&private.PublicKey)
	if err != nil || public.ID != s.ID || public.Algorithm != s.Algorithm {
		return nil, fmt.Errorf("signing key %s: %w: the private key is not that of the row", s.ID, ErrSealed)
	}
	return &Key{ID: s.ID, Algorithm: s.Algorithm, private: private, header: header(public)}, nil
}

func header(public jwk.Key) string {
	text, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}{public.Algorithm, public.ID, oauth.AccessTokenType})
	if err != nil {
		panic(err) // strings always marshal
	}
	return base64.RawURLEncoding.EncodeToString(text) + "."
}

// Sign makes a token of the payload, in JWS compact serialization (RFC 7515
// §3.1) with typ at+jwt (RFC 9068 §2.1).
func (k *Key) Sign(payload []byte) (string, error) {
	input := make([]byte, 0, len(k.header)+base64.RawURLEncoding.EncodedLen(len(payload))+1+86)
	input = append(input, k.header...)
	input = base64.RawURLEncoding.AppendEncode(input, payload)
	signature, err := jwt.SigningMethodES256.Sign(string(input), k.private)
	if err != nil {
		return "", fmt.Errorf("sign with key %s: %w", k.ID, err)
	}
	input = append(input, '.')
	input = base64.RawURLEncoding.AppendEncode(input, signature)
	return string(input), nil
}
