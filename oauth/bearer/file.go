package bearer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// kept is the file of a Remote.
type kept struct {
	Issuer    string          `json:"issuer"`
	JWKSURI   string          `json:"jwks_uri"`
	FetchedAt time.Time       `json:"fetched_at"`
	MaxAge    int64           `json:"max_age"` // seconds
	ETag      string          `json:"etag,omitempty"`
	JWKS      json.RawMessage `json:"jwks"`
}

// load reads the file. It is not fatal when that fails: the keys are fetched
// then.
func (r *Remote) load() (*fetched, error) {
	text, err := readOwn(r.config.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	set, err := r.parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.config.File, err)
	}
	return set, nil
}

// readOwn reads a file that only this user and root can have written.
func readOwn(path string) ([]byte, error) {
	if err := checkPlace(path); err != nil {
		return nil, err
	}
	f, err := openPlain(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil {
		err = checkOwn(path, info)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

// parse reads the contents of the file, which have to be for this issuer and
// young enough.
func (r *Remote) parse(text []byte) (*fetched, error) {
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, errors.New("it is not a file of ours")
	}
	age := r.config.Now().Sub(k.FetchedAt)
	switch {
	case k.Issuer != r.config.Issuer || (r.config.JWKSURI != "" && k.JWKSURI != r.config.JWKSURI):
		return nil, fmt.Errorf("it holds the keys of %q from %q", k.Issuer, k.JWKSURI)
	case r.config.JWKSURI == "" && !secure(k.JWKSURI):
		return nil, errors.New("it names no https address of the keys")
	case age.Abs() > r.config.MaxStale:
		return nil, fmt.Errorf("its keys were fetched at %s, which is too long ago or to come", k.FetchedAt.Format(time.RFC3339))
	}
	keys, err := ParseKeys(k.JWKS)
	if err != nil {
		return nil, err
	}
	maxAge := min(max(time.Duration(min(k.MaxAge, int64(maxMaxAge/time.Second)))*time.Second, minMaxAge), maxMaxAge)
	return &fetched{keys: keys, text: k.JWKS, uri: k.JWKSURI, tag: k.ETag, at: k.FetchedAt, maxAge: maxAge, refresh: jitter(maxAge)}, nil
}

// save writes the file.
func (r *Remote) save(set *fetched) error {
	text, err := json.Marshal(kept{
		Issuer: r.config.Issuer, JWKSURI: set.uri, FetchedAt: set.at.UTC(), MaxAge: int64(set.maxAge / time.Second), ETag: set.tag, JWKS: set.text,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", r.config.File, err)
	}
	return replaceFile(r.config.File, text)
}

// replaceFile writes a file whole or not at all, readable by its owner only. When it
// returns nil, a power cut takes nothing of it back.
func replaceFile(path string, text []byte) error {
	if err := checkPlace(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncPlace(path)
}
