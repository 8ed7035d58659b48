package console_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"
)

// authenticator is a device with passkeys, as far as a server can tell (Web
// Authentication §6). Its fields are what a test can make it do wrong.
type authenticator struct {
	t      *testing.T
	origin string // that the browser saw
	rpID   string
	id     []byte
	user   []byte
	key    *ecdsa.PrivateKey

	count      uint32
	unverified bool // the person showed neither finger nor PIN
}

func newAuthenticator(t *testing.T, origin string) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return &authenticator{t: t, origin: origin, rpID: "localhost", id: id, key: key, count: 1}
}

// Flags of authenticator data.
const (
	userPresent  = 1 << 0
	userVerified = 1 << 2
	attested     = 1 << 6
)

func (a *authenticator) data(flags byte) []byte {
	hash := sha256.Sum256([]byte(a.rpID))
	flags |= userPresent
	if !a.unverified {
		flags |= userVerified
	}
	return binary.BigEndian.AppendUint32(append(hash[:], flags), a.count)
}

func (a *authenticator) clientData(kind, challenge string) []byte {
	text, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": a.origin, "crossOrigin": false})
	fatal(a.t, err)
	return text
}

// cborBytes writes a byte string (RFC 8949 §3.1).
func cborBytes(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0x59}, uint16(len(b))), b...)
}

// create answers options to make a passkey.
func (a *authenticator) create(options string) string {
	a.t.Helper()
	var o struct {
		Challenge string
		RP        struct{ ID string }
		User      struct{ ID string }
	}
	fatal(a.t, json.Unmarshal([]byte(options), &o))
	var err error
	a.user, err = base64.RawURLEncoding.DecodeString(o.User.ID)
	fatal(a.t, err)
	point, err := a.key.PublicKey.Bytes()
	fatal(a.t, err)
	// A COSE key (RFC 9053 §7.1.1): {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
	cose := slices.Concat([]byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21}, cborBytes(point[1:33]), []byte{0x22}, cborBytes(point[33:]))
	credential := slices.Concat(make([]byte, 16), binary.BigEndian.AppendUint16(nil, uint16(len(a.id))), a.id, cose)
	data := append(a.data(attested), credential...)
	object := slices.Concat([]byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData"), cborBytes(data))
	return a.answer(map[string]string{"clientDataJSON": encode(a.clientData("webauthn.create", o.Challenge)), "attestationObject": encode(object)})
}

// get answers options to sign in.
func (a *authenticator) get(options string) string {
	a.t.Helper()
	var o struct{ Challenge string }
	fatal(a.t, json.Unmarshal([]byte(options), &o))
	a.count++
	data, client := a.data(0), a.clientData("webauthn.get", o.Challenge)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(slices.Clone(data), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	fatal(a.t, err)
	return a.answer(map[string]string{
		"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature), "userHandle": encode(a.user),
	})
}

func (a *authenticator) answer(response map[string]string) string {
	text, err := json.Marshal(map[string]any{
		"id": encode(a.id), "rawId": encode(a.id), "type": "public-key", "clientExtensionResults": map[string]any{}, "response": response,
	})
	fatal(a.t, err)
	return string(text)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
