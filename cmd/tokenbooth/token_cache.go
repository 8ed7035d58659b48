package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// reusable is how long a kept token has to be good for at least.
const reusable = 30 * time.Second

// tokenCache keeps tokens in files that only their owner can read. Everything
// that goes wrong with it costs an exchange and nothing else.
type tokenCache struct{ directory string } // empty: nothing is kept

// newTokenCache says where tokens are kept.
func newTokenCache(env *environment, where string) (tokenCache, error) {
	switch where {
	case "none":
		return tokenCache{}, nil
	case "auto":
		if ci := env.getenv("CI"); ci != "" && ci != "false" && ci != "0" {
			return tokenCache{}, nil
		}
	case "disk":
	default:
		return tokenCache{}, fmt.Errorf("--cache: %q is none of auto, disk, none", where)
	}
	base := env.getenv("XDG_CACHE_HOME")
	if home := env.getenv("HOME"); base == "" && home != "" {
		base = filepath.Join(home, ".cache")
	}
	if !filepath.IsAbs(base) { // the XDG Base Directory Specification ignores such
		return tokenCache{}, nil
	}
	return tokenCache{filepath.Join(base, "tokenbooth")}, nil
}

// path is the file for what a request asks for. Whoever has another secret gets
// another file, so a wrong one never finds the token of the right one.
func (c tokenCache) path(l *tokenRequest) string {
	h := sha256.New()
	audiences := slices.Clone(l.audiences)
	slices.Sort(audiences)
	for _, part := range append([]string{l.url, l.key.id, l.key.secret, l.scope.String()}, audiences...) {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return filepath.Join(c.directory, hex.EncodeToString(h.Sum(nil)[:16])+".json")
}

// find returns a kept token that is good for a while yet.
func (c tokenCache) find(l *tokenRequest) (t accessToken, ok bool) {
	if c.directory == "" {
		return t, false
	}
	f, err := os.Open(c.path(l))
	if err != nil {
		return t, false
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || info.Mode().Perm()&0o077 != 0 {
		return t, false // others may have read it, or written it
	}
	text, err := io.ReadAll(io.LimitReader(f, maxAnswer))
	if err != nil || json.Unmarshal(text, &t) != nil || !bearerToken.MatchString(t.AccessToken) {
		return accessToken{}, false
	}
	return t, t.ExpiresAt.Sub(l.now()) > reusable
}

// keep stores a token, whole or not at all.
func (c tokenCache) keep(l *tokenRequest, t accessToken) {
	if c.directory == "" || t.ExpiresAt.Sub(l.now()) <= reusable {
		return
	}
	if text, err := json.Marshal(t); err == nil && os.MkdirAll(c.directory, 0o700) == nil {
		_ = writeWhole(c.path(l), text, 0o600)
	}
}

// forget drops the token.
func (c tokenCache) forget(l *tokenRequest) {
	if c.directory != "" {
		_ = os.Remove(c.path(l))
	}
}

// writeWhole replaces a file: a reader sees the old one or the new one.
func writeWhole(path string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
