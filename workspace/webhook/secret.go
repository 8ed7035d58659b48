package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

// Bounds of the secret, in bytes, as the specification has them.
const (
	minSecret = 24
	maxSecret = 64
)

// ParseSecret reads the secret that signs: base64, also after whsec_. Errors
// quote nothing of it.
func ParseSecret(text string) ([]byte, error) {
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
	if err != nil || len(secret) < minSecret || len(secret) > maxSecret {
		return nil, errors.New("want the base64 of 24 to 64 bytes, with or without whsec_ in front")
	}
	return secret, nil
}

// signature is the symmetric one, version 1.
func signature(secret []byte, id, timestamp, payload string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + timestamp + "." + payload))
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
