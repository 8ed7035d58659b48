package endpoint_test

import (
	"bufio"
	"encoding/base64"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

var update = flag.Bool("update", false, "rewrite the responses in testdata")

// noon is when the exchanges in testdata happen.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// TestWire sends the request of each file in testdata and compares the whole
// response: status, header fields and body, with ${names} for what differs from
// run to run.
func TestWire(t *testing.T) {
	b := newBooth(t, options{now: clock(noon)})
	names := b.fixtures()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil || len(archive.Files) != 2 {
				t.Fatalf("want the files request and response: %v", err)
			}
			got := unexpand(dump(b.send(readRequest(t, archive.Files[0].Data, names))), names)
			if *update {
				archive.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("the response differs (-want +got):\n%s", diff)
			}
		})
	}
}

// fixtures makes a key in each state, and names what the files may speak of.
func (b *booth) fixtures() map[string]string {
	names := map[string]string{"workspace_id": string(b.workspace.ID), "kid": must(b.ring.Published()).Keys[0].ID}
	earlier := *b.manager
	earlier.Now = clock(noon.Add(-2 * time.Hour))
	expiring := func(n *manage.NewKey) { n.ExpiresAt = noon.Add(-time.Hour) }
	at := func(network string) func(*manage.NewKey) {
		return func(n *manage.NewKey) { n.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix(network)} }
	}
	for name, k := range map[string]manage.Issued{
		"active": b.active, "other": b.key(nil), "elsewhere": b.key(at("198.51.100.0/24")),
		"expired": b.keyOf(&earlier, b.workspace.ID, expiring),
		"ending":  b.key(func(n *manage.NewKey) { n.ExpiresAt = noon.Add(90 * time.Second) }),
		"revoked": b.revoked(), "disabled": b.disabled(), "suspended": b.suspended(), "rotated": b.rotated(),
	} {
		names[name+"_id"], names[name+"_secret"] = string(k.ID), k.Secret.Reveal()
	}
	names["wrong_secret"] = b.wrong(b.active.ID)
	names["invented_id"], names["invented_secret"] = invented()
	names["basic"] = encode(names["active_id"] + ":" + names["active_secret"])
	names["basic_wrong"] = encode(names["active_id"] + ":" + names["wrong_secret"])
	names["cut_secret"] = names["active_secret"][:70]
	key := must(b.ring.Published()).Keys[0]
	names["x"], names["y"] = key.X, key.Y
	names["subject"] = b.active.OwnerID()
	names["token"] = b.token(b.active)
	names["revoked_token"] = b.tokenThenRevoked()
	names["jwks_etag"] = b.get(endpoint.JWKSPath).header.Get("ETag")
	return names
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func (b *booth) revoked() manage.Issued {
	k := b.key(nil)
	b.check(b.manager.RevokeKey(b.Context(), operator, b.workspace.ID, k.ID, "a test"))
	return k
}

func (b *booth) tokenThenRevoked() string {
	k := b.key(nil)
	token := b.token(k)
	b.check(b.manager.RevokeKey(b.Context(), operator, b.workspace.ID, k.ID, "a test"))
	return token
}

func (b *booth) disabled() manage.Issued {
	k := b.key(nil)
	b.check(b.manager.DisableServiceAccount(b.Context(), operator, b.workspace.ID, k.ServiceAccountID))
	return k
}

func (b *booth) suspended() manage.Issued {
	ws := must(b.manager.CreateWorkspace(b.Context(), operator, "Closed", ""))
	k := b.keyOf(b.manager, ws.ID, nil)
	b.check(b.manager.SuspendWorkspace(b.Context(), operator, ws.ID))
	return k
}

// rotated still has the secret that rotation has ended.
func (b *booth) rotated() manage.Issued {
	k := b.key(nil)
	issued := must(b.manager.RotateKey(b.Context(), operator, b.workspace.ID, k.ID, manage.Rotation{}))
	b.hide(issued.Secret.Reveal())
	return k
}

// readRequest reads a request as written, adding only Host and the length.
func readRequest(t *testing.T, text []byte, names map[string]string) *http.Request {
	t.Helper()
	expanded := os.Expand(string(text), func(name string) string {
		value, ok := names[name]
		if !ok {
			t.Fatalf("the request speaks of ${%s}", name)
		}
		return value
	})
	head, body, _ := strings.Cut(expanded, "\n\n")
	body = strings.TrimSuffix(body, "\n")
	head += fmt.Sprintf("\nHost: login.example.com\nContent-Length: %d\n\n", len(body))
	head = strings.ReplaceAll(head, "\n", "\r\n")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + body)))
	if err != nil {
		t.Fatal(err)
	}
	r.RemoteAddr = "192.0.2.1:1234"
	return r
}

// dump writes a response as it is on the wire, the header fields in order.
func dump(a answer) string {
	var text strings.Builder
	fmt.Fprintf(&text, "HTTP/1.1 %d %s\n", a.status, http.StatusText(a.status))
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		for _, value := range a.header[name] {
			fmt.Fprintf(&text, "%s: %s\n", name, value)
		}
	}
	return strings.TrimSuffix(text.String()+"\n"+a.body, "\n") + "\n"
}

var compactJWS = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)

// unexpand puts the names back.
func unexpand(text string, names map[string]string) string {
	for name, value := range names {
		text = strings.ReplaceAll(text, value, "${"+name+"}")
	}
	return compactJWS.ReplaceAllLiteralString(text, "${fresh_token}")
}
