package signing

import (
	"crypto"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
)

// scalarSize is the size of r and of s in an ES256 signature (RFC 7518 §3.4), in
// bytes.
const scalarSize = 32

// sign makes the JWS signature of what the desk holds (RFC 7515 §5.1).
//
// None of the three algorithms takes randomness here: RS256 and EdDSA need none, and
// ES256 makes its nonce of the key and the input (RFC 6979), which crypto/ecdsa does
// when it is given no source. That costs a quarter less than a nonce that is random as
// well, and a broken source of randomness cannot give the key away.
func (k *Key) sign(d *desk) (err error) {
	switch k.Algorithm {
	case jwk.ES256:
		var der []byte
		if der, err = k.private.Sign(nil, d.sum(), crypto.SHA256); err == nil {
			d.signature, err = appendScalars(d.signature[:0], der)
		}
	case jwk.RS256:
		d.signature, err = k.private.Sign(nil, d.sum(), crypto.SHA256)
	case jwk.EdDSA:
		d.signature, err = k.private.Sign(nil, d.token, crypto.Hash(0)) // RFC 8037 §3.1: the input itself
	default:
		err = fmt.Errorf("%w %q", ErrAlgorithm, k.Algorithm)
	}
	return err
}

// errSignature means that crypto/ecdsa has made no signature on P-256.
var errSignature = errors.New("unexpected form of an ECDSA signature")

// appendScalars turns an ECDSA signature from DER, in which integers have no leading
// zeros, to the form of JWS: r and s, each padded on the left to 32 bytes (RFC 7518
// §3.4).
func appendScalars(dst, der []byte) ([]byte, error) {
	text, inner := cryptobyte.String(der), cryptobyte.String(nil)
	var r, s []byte
	if !text.ReadASN1(&inner, asn1.SEQUENCE) || !text.Empty() ||
		!inner.ReadASN1Integer(&r) || !inner.ReadASN1Integer(&s) || !inner.Empty() ||
		len(r) > scalarSize || len(s) > scalarSize {
		return nil, errSignature
	}
	var padded [2 * scalarSize]byte
	copy(padded[scalarSize-len(r):], r)
	copy(padded[2*scalarSize-len(s):], s)
	return append(dst, padded[:]...), nil
}
