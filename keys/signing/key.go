// Package signing owns the keys that sign tokens and those that sign the feed of
// revocations: making them, sealing them at rest, the rings from which a replica
// signs and publishes, and the bounds of their rotation.
//
// A key is pending while it is published and does not sign yet, then active,
// then retiring while tokens that it signed may live, then removed: its private
// part is destroyed, and its ID is never used again. Timing holds how long each
// takes at least. The steps are use cases of workspace/manage.
//
// The published form is keys/jwk; what is signed is the grant's business. A
// private key is in memory in the clear and nowhere else.
package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
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

// Stored is a signing key as the database holds it. A time is zero until its
// event has happened.
type Stored struct {
	ID          string         `db:"kid"` // RFC 7638 thumbprint
	Purpose     Purpose        `db:"purpose"`
	Algorithm   string         `db:"alg"`
	State       State          `db:"state"`
	PublicJWK   string         `db:"public_jwk"`
	Sealed      []byte         `db:"sealed"`
	SealerID    string         `db:"kek_id"`
	CreatedAt   workspace.Time `db:"created_at"`
	PublishedAt workspace.Time `db:"published_at"` // when every replica was known to publish it
	ActivatedAt workspace.Time `db:"activated_at"`
	RetiredAt   workspace.Time `db:"retired_at"`
	NeededUntil workspace.Time `db:"needed_until"` // retiring: no token that it signed is good for longer
	RemovedAt   workspace.Time `db:"removed_at"`
}

// Slot is where the key belongs.
func (s Stored) Slot() Slot { return Slot{s.Purpose, s.Algorithm} }

// binding is what the sealed private key is tied to: it opens in no other row, and
// not when its purpose was changed. That of token keys is older than purposes are.
func (s Stored) binding() string {
	text := fmt.Sprintf("signing_keys|%s|%s|%d", s.ID, s.Algorithm, s.CreatedAt.UnixMicro())
	if s.Purpose != Tokens {
		text += "|" + string(s.Purpose)
	}
	return text
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

// rsaBits is the size of new RSA keys. Each further bit costs time at every
// exchange, and 2048 are good until 2030 (NIST SP 800-57 part 1, table 4).
const rsaBits = 2048

// Generate makes a new key for a slot, sealed, in the given state. For RS256 that
// takes a noticeable part of a second: do it outside of transactions.
func Generate(sealer *Sealer, slot Slot, state State, now workspace.Time) (Stored, error) {
	private, err := generate(slot.Algorithm)
	if err != nil {
		return Stored{}, fmt.Errorf("make a signing key: %w", err)
	}
	public, err := jwk.New(private.Public())
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
	s := Stored{
		ID: public.ID, Purpose: slot.Purpose, Algorithm: public.Algorithm, State: state,
		PublicJWK: string(text), SealerID: sealer.ID(), CreatedAt: now,
	}
	if state == Active {
		s.PublishedAt, s.ActivatedAt = now, now
	}
	s.Sealed = sealer.Seal(der, s.binding())
	return s, nil
}

func generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case jwk.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jwk.RS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	case jwk.EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("%w %q", ErrAlgorithm, algorithm)
}

// ErrAlgorithm means that there are no signing keys for an algorithm.
var ErrAlgorithm = errors.New("unsupported signature algorithm")

// Key is a signing key that is ready to sign: opened and parsed.
type Key struct {
	ID        string
	Purpose   Purpose
	Algorithm string
	private   crypto.Signer
	headers   map[string]string // by typ, encoded once
}

// open decrypts a stored key and checks that it is the one it claims to be.
func open(s Stored, sealer *Sealer) (*Key, error) {
	der, err := sealer.Open(s.SealerID, s.Sealed, s.binding())
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", s.ID, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", s.ID, ErrSealed)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("signing key %s: %w: unexpected type %T", s.ID, ErrSealed, parsed)
	}
	public, err := jwk.New(private.Public())
	if err != nil || public.ID != s.ID || public.Algorithm != s.Algorithm {
		return nil, fmt.Errorf("signing key %s: %w: the private key is not that of the row", s.ID, ErrSealed)
	}
	k := &Key{ID: s.ID, Purpose: s.Purpose, Algorithm: s.Algorithm, private: private, headers: map[string]string{}}
	for _, typ := range s.Purpose.types() {
		k.headers[typ] = k.header(typ)
	}
	return k, nil
}

// Opens checks that a sealer opens a stored key. The error wraps ErrSealed.
func (s Stored) Opens(sealer *Sealer) error {
	_, err := open(s, sealer)
	return err
}

// Rewrapped is the same key, sealed by the key-encryption key that seals now. It is
// opened and checked before. The error wraps ErrSealed.
func (s Stored) Rewrapped(sealer *Sealer) (Stored, error) {
	k, err := open(s, sealer)
	if err != nil {
		return s, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return s, fmt.Errorf("seal signing key %s anew: %w", s.ID, err)
	}
	s.SealerID, s.Sealed = sealer.ID(), sealer.Seal(der, s.binding())
	return s, nil
}

func (k *Key) header(typ string) string {
	text, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}{k.Algorithm, k.ID, typ})
	if err != nil {
		panic(err) // strings always marshal
	}
	return base64.RawURLEncoding.EncodeToString(text) + "."
}

// Sign makes a JWS of the payload, in compact serialization (RFC 7515 §3.1). Its
// typ is one of the key's purpose: oauth.AccessTokenType or oauth.PlainTokenType of
// a key for tokens, oauth.FeedType of one for the feed. Any other is refused.
//
// Signatures are deterministic, also those of ES256 (RFC 6979): the same payload
// makes the same JWS, so what must differ needs something in it that does, such as
// jti.
func (k *Key) Sign(typ string, payload []byte) (string, error) {
	header, ok := k.headers[typ]
	if !ok {
		return "", fmt.Errorf("sign with key %s: it is for the purpose %q, which signs %q and not %q", k.ID, k.Purpose, k.Purpose.types(), typ)
	}
	d := takeDesk()
	defer d.release()
	d.token = append(d.token, header...)
	d.token = base64.RawURLEncoding.AppendEncode(d.token, payload)
	if err := k.sign(d); err != nil {
		return "", fmt.Errorf("sign with key %s: %w", k.ID, err)
	}
	d.token = append(d.token, '.')
	d.token = base64.RawURLEncoding.AppendEncode(d.token, d.signature)
	return string(d.token), nil
}
