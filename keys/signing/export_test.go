package signing

import (
	"crypto/ecdsa"

	"github.com/tokenbooth/tokenbooth/keys/jwk"
)

// SignES256 signs an input as Key.Sign does, with a key that no database holds.
func SignES256(private *ecdsa.PrivateKey, input []byte) ([]byte, error) {
	k := &Key{Algorithm: jwk.ES256, private: private}
	return k.appendSignature(nil, input)
}

// AppendScalars is appendScalars.
var AppendScalars = appendScalars
