package bearer_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

func filed(path string) func(*bearer.RemoteConfig) {
	return func(c *bearer.RemoteConfig) { c.File = path }
}

// A verifier that starts while the issuer is away goes on with the keys of its
// last run, for a day.
func TestRemoteStartsFromItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newES256(t)
		n := newNetwork(t, s)
		path := filepath.Join(t.TempDir(), "keys.json")
		first := newRemote(t, n, filed(path))
		if status := first.Status(); status.File != nil || status.Keys != 0 {
			t.Errorf("without a file: %+v", status)
		}
		has(t, first, s, nil)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file: %v, %v", info, err)
		}
		n.set(func() { n.down = errDown })
		pass(time.Hour) // longer than max-age
		second := newRemote(t, n, filed(path))
		if status := second.Status(); status.Keys != 1 || time.Since(status.FetchedAt) != time.Hour {
			t.Errorf("after a start: %+v", status)
		}
		v, err := bearer.New(bearer.Config{Issuer: issuerName, Audience: audience, Keys: second, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		accepted(t, v, s.token(t, nil, nil))
		pass(23 * time.Hour)
		has(t, newRemote(t, n, filed(path)), s, nil)
		pass(time.Second)
		last := newRemote(t, n, filed(path))
		has(t, last, s, bearer.ErrUnavailable)
		if status := last.Status(); status.File == nil || !strings.Contains(status.File.Error(), "too long ago") {
			t.Errorf("a file of yesterday: %+v", status)
		}
		// With the issuer back, the file is as good as new.
		n.set(func() { n.down = nil })
		pass(bearer.Cooldown)
		has(t, last, s, nil)
		if status := newRemote(t, n, filed(path)).Status(); status.Keys != 1 || status.File != nil {
			t.Errorf("after the issuer is back: %+v", status)
		}
	})
}

// A file that cannot be trusted, or says something else, is left aside: the keys
// are fetched.
func TestRemoteLeavesAFileAside(t *testing.T) {
	s := newES256(t)
	n := newNetwork(t, s)
	good := filepath.Join(t.TempDir(), "good.json")
	gives(t, newRemote(t, n, filed(good)), s)
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	with := func(name string, value any) string {
		members := map[string]any{}
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatal(err)
		}
		members[name] = value
		return jsonText(t, members)
	}
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		says string
	}{
		"of another issuer":   {with("issuer", "https://evil.example.com"), 0o600, `it holds the keys of "https://evil.example.com"`},
		"written by others":   {string(text), 0o622, "can be written by others"},
		"written by a group":  {string(text), 0o660, "can be written by others"},
		"empty":               {"", 0o600, "not a file of ours"},
		"half":                {string(text[:len(text)/2]), 0o600, "not a file of ours"},
		"no keys":             {with("jwks", map[string]any{"keys": []any{}}), 0o600, "none of its 0 keys"},
		"no set":              {with("jwks", 1), 0o600, "not a JSON object"},
		"from the clear":      {with("jwks_uri", "http://tokens.example.com"), 0o600, "no https address"},
		"without a time":      {with("fetched_at", "0001-01-01T00:00:00Z"), 0o600, "too long ago"},
		"a time that is none": {with("fetched_at", "soon"), 0o600, "not a file of ours"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.json")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			r := newRemote(t, n, filed(path))
			if status := r.Status(); status.File == nil || !strings.Contains(status.File.Error(), c.says) || status.Keys != 0 {
				t.Errorf("status %+v, want one that says %q", status, c.says)
			}
			if k, err := r.Key(t.Context(), s.public.ID); err != nil || k.ID != s.public.ID {
				t.Errorf("the key: %v, %v", k, err)
			}
			if status := r.Status(); status.File != nil {
				t.Errorf("it was not mended: %v", status.File)
			}
		})
	}
}

// A file that cannot be written harms nothing but the next start, and the one
// that is there stays whole.
func TestRemoteThatCannotWrite(t *testing.T) {
	s := newES256(t)
	n := newNetwork(t, s)
	missing := filepath.Join(t.TempDir(), "no", "keys.json")
	r := newRemote(t, n, filed(missing))
	gives(t, r, s)
	if status := r.Status(); !errors.Is(status.File, os.ErrNotExist) {
		t.Errorf("status %+v, want what is wrong with the file", status)
	}
	directory := t.TempDir()
	path := filepath.Join(directory, "keys.json")
	if err := os.Mkdir(path, 0o700); err != nil { // what cannot be replaced by a file
		t.Fatal(err)
	}
	r = newRemote(t, n, filed(path))
	gives(t, r, s)
	if status := r.Status(); status.File == nil {
		t.Error("it wrote over a directory")
	}
	if left, err := os.ReadDir(directory); err != nil || len(left) != 1 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}

func gives(t *testing.T, r *bearer.Remote, s signer) {
	t.Helper()
	if k, err := r.Key(t.Context(), s.public.ID); err != nil || k.ID != s.public.ID {
		t.Errorf("the key: %v, %v", k, err)
	}
}

// Whatever the file holds, nothing panics, and what is read can verify.
func FuzzFile(f *testing.F) {
	f.Add(`{"issuer":"https://tokens.example.com","jwks_uri":"https://tokens.example.com/keys","fetched_at":"2026-01-02T03:04:05Z","max_age":300,"jwks":{"keys":[]}}`)
	f.Add(`{"issuer":"https://tokens.example.com","jwks_uri":"https://tokens.example.com/keys","fetched_at":"2026-01-02T03:04:05Z","max_age":-9223372036854775808,"jwks":{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}}`)
	path := filepath.Join(f.TempDir(), "keys.json")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := bearer.NewRemote(bearer.RemoteConfig{Issuer: issuerName, File: path, Now: func() time.Time { return time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC) }})
		if err != nil {
			t.Fatal(err)
		}
		if status := r.Status(); (status.Keys == 0) == (status.File == nil) {
			t.Errorf("status %+v", status)
		}
	})
}
