package webhook_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/workspace/webhook"
)

// What the tests verify by is right: it takes the specification's own example.
func TestVerifierOfTheTests(t *testing.T) {
	example := delivery{"msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", `{"test": 2432232314}`}
	if !verifies(whsec, example, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=") {
		t.Error("the example is refused")
	}
	example.body += " "
	if verifies(whsec, example, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=") {
		t.Error("another body is taken")
	}
}

func TestParseSecret(t *testing.T) {
	of := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n)) }
	for text, valid := range map[string]bool{
		of(24): true, of(32): true, of(64): true, "whsec_" + of(32): true, whsec: true,
		"": false, "whsec_": false, of(23): false, of(65): false, "whsec_whsec_" + of(32): false, " " + of(32): false,
		strings.TrimRight(of(32), "="): false, base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32)): false,
	} {
		secret, err := webhook.ParseSecret(text)
		if (err == nil) != valid || valid && len(secret) < 24 {
			t.Errorf("%q: %d bytes, %v", text, len(secret), err)
		}
		if err != nil && len(text) > 10 && strings.Contains(err.Error(), text) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}
