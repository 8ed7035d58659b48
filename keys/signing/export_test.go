package signing

import (
	"crypto/ecdsa"
	"slices"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
)

// SignES256 signs an input as Key.Sign does, with a key that no database holds.
func SignES256(private *ecdsa.PrivateKey, input []byte) ([]byte, error) {
	k := &Key{Algorithm: jwk.ES256, private: private}
	d := takeDesk()
	defer d.release()
	d.token = append(d.token, input...)
	err := k.sign(d)
	return slices.Clone(d.signature), err
}

// AppendScalars is appendScalars.
var AppendScalars = appendScalars

// Leftovers are what a desk holds of a token and a signature after its release.
func Leftovers(token, signature string) (ofToken, ofSignature []byte) {
	d := takeDesk()
	d.token, d.signature = append(d.token, token...), append(d.signature, signature...)
	ofToken, ofSignature = d.token, d.signature
	d.release()
	return ofToken, ofSignature
}
