package oauth_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// anyText is a usual name, or a string with what has to be escaped, or is
// not even UTF-8.
var anyText = rapid.OneOf(
	rapid.StringMatching(`[a-zA-Z0-9:/._-]{0,20}`),
	rapid.String(),
	rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(b []byte) string { return string(b) }),
	rapid.SampledFrom([]string{"\"", `\`, "<&>", "\u2028\u2029", "\x7f", "\x00\x1f\t\n", "\xe2\x80", "é", "a\xff"}),
)

func listOf(t *rapid.T, name string) []string {
	if rapid.IntRange(0, 9).Draw(t, name+" is nil") == 0 {
		return nil
	}
	return rapid.SliceOfN(anyText, 0, 4).Draw(t, name)
}

// wantSame compares with what encoding/json makes of the struct, byte for byte, after
// something that is there already.
func wantSame(t *rapid.T, answer any, appendJSON func([]byte) []byte) {
	t.Helper()
	want, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(appendJSON([]byte("{"))); got != "{"+string(want) {
		t.Fatalf("%s\nwant {%s", got, want)
	}
}

func TestAppendJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return anyText.Draw(t, name) }
		number := func(name string) int64 { return rapid.Int64().Draw(t, name) }
		c := oauth.Claims{
			Issuer: text("iss"), Subject: text("sub"), Audience: listOf(t, "aud"), ClientID: text("client_id"),
			Expiry: number("exp"), IssuedAt: number("iat"), ID: text("jti"), Scope: listOf(t, "scope"),
			NotBefore:   rapid.SampledFrom([]int64{0, 1, -1, 1 << 62}).Draw(t, "nbf"),
			WorkspaceID: text("workspace_id"), Workspace: text("workspace"),
			KeyGeneration: number("key_gen"), SubjectGeneration: number("sub_gen"), WorkspaceGeneration: number("ws_gen"),
		}
		wantSame(t, c, c.AppendJSON)
		r := oauth.TokenResponse{
			AccessToken: text("access_token"), TokenType: text("token_type"), ExpiresIn: number("expires_in"),
			Scope: c.Scope, KeyExpiresAt: text("key_expires_at"),
		}
		wantSame(t, r, r.AppendJSON)
		d := oauth.TokenDetail{Audience: c.Audience, ID: c.ID, Scope: c.Scope}
		wantSame(t, d, d.AppendJSON)
	})
}

// Whatever byte a string holds, it is escaped as encoding/json does it.
func TestAppendJSONOfEachByte(t *testing.T) {
	for b := range 256 {
		d := oauth.TokenDetail{ID: "a" + string([]byte{byte(b)}) + "b"}
		want, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(d.AppendJSON(nil)); got != string(want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// What an exchange writes is appended to a buffer that is there already.
func TestAppendJSONAllocatesNothing(t *testing.T) {
	c := &oauth.Claims{
		Issuer: "https://login.example.com", Subject: "sa_1", Audience: oauth.Audience{"https://api.example.com"},
		ClientID: "tbk_1", Expiry: 1767229200, IssuedAt: 1767228600, ID: "01jxyz", Scope: oauth.NewScope("collectors:read", "pipelines:read"),
	}
	r := &oauth.TokenResponse{AccessToken: strings.Repeat("x", 700), TokenType: "Bearer", ExpiresIn: 600, Scope: c.Scope}
	buffer := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() { buffer = r.AppendJSON(c.AppendJSON(buffer[:0])) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
