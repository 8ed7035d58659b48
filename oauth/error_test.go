package oauth_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// allowed is the set of RFC 6749 §5.2: %x20-21 / %x23-5B / %x5D-7E.
func allowed(b byte) bool {
	return b == 0x20 || b == 0x21 || (b >= 0x23 && b <= 0x5b) || (b >= 0x5d && b <= 0x7e)
}

func onlyAllowed(s string) bool {
	for i := range len(s) {
		if !allowed(s[i]) {
			return false
		}
	}
	return true
}

// texts generates strings of any bytes, and ordinary ones.
func texts() *rapid.Generator[string] {
	anyBytes := rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })
	return rapid.OneOf(anyBytes, rapid.String())
}

func TestPrintable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := texts().Draw(t, "in")
		out := oauth.Printable(in)
		if !onlyAllowed(out) {
			t.Fatalf("Printable(%q) = %q", in, out)
		}
		if onlyAllowed(in) && out != in {
			t.Fatalf("Printable(%q) = %q; want it unchanged", in, out)
		}
		if utf8.RuneCountInString(in) != len(out) {
			t.Fatalf("Printable(%q) = %q; want one character for each", in, out)
		}
	})
	if got, want := oauth.Printable("say \"a\\b\"\r\n\u202eé\xff"), `say 'a?b'?????`; got != want {
		t.Errorf("Printable = %q, want %q", got, want)
	}
}

func TestErrorOnTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := texts().Draw(t, "in")
		err := oauth.Errorf(oauth.InvalidScope, "the scope %s", in)
		text, marshalErr := json.Marshal(err)
		if marshalErr != nil {
			t.Fatal(marshalErr)
		}
		var wire map[string]string
		if err := json.Unmarshal(text, &wire); err != nil {
			t.Fatal(err)
		}
		if len(wire) != 2 || wire["error"] != "invalid_scope" || wire["error_description"] != err.Description || !onlyAllowed(err.Description) {
			t.Fatalf("%s", text)
		}
		if !strings.HasPrefix(err.Error(), "invalid_scope: the scope ") || !onlyAllowed(err.Error()) {
			t.Fatalf("Error() = %q", err.Error())
		}
	})
	text, err := json.Marshal(&oauth.Error{Code: oauth.ServerError, Status: 500})
	if err != nil || string(text) != `{"error":"server_error"}` {
		t.Errorf("an error without a description: %s, %v", text, err)
	}
}

func TestErrorStatus(t *testing.T) {
	for code, want := range map[oauth.Code]int{
		oauth.InvalidRequest: 400, oauth.InvalidClient: 401, oauth.UnsupportedGrantType: 400,
		oauth.InvalidScope: 400, oauth.InvalidTarget: 400, oauth.InvalidToken: 401,
	} {
		if got := oauth.Errorf(code, "x").Status; got != want {
			t.Errorf("%s: status %d, want %d", code, got, want)
		}
	}
	first := oauth.Errorf(oauth.InvalidRequest, "too large")
	second := first.WithStatus(http.StatusRequestEntityTooLarge)
	if first.Status != 400 || second.Status != 413 || second.Description != first.Description || second.Code != first.Code {
		t.Errorf("WithStatus: %+v became %+v", first, second)
	}
	var target *oauth.Error
	if !errors.As(error(second), &target) {
		t.Error("an *Error is not an error")
	}
}
