package bearer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDocument is the largest metadata or key set that is read, in bytes.
const maxDocument = 256 << 10

// discoveryPath is below the issuer, so that it comes through any proxy that
// forwards the issuer's own path (OpenID Connect Discovery 1.0 §4).
const discoveryPath = "/.well-known/openid-configuration"

// errGone means that the keys are not any more where they were.
var errGone = errors.New("not found")

// download fetches the keys. The place where they were found last is asked first;
// it is discovered anew only if they are gone from there.
func (r *Remote) download(ctx context.Context) (*fetched, error) {
	r.mu.Lock()
	last := r.set
	r.mu.Unlock()
	switch {
	case r.config.JWKSURI != "":
		return r.keys(ctx, r.config.JWKSURI, last)
	case last != nil:
		set, err := r.keys(ctx, last.uri, last)
		if !errors.Is(err, errGone) {
			return set, err
		}
	}
	uri, err := r.discover(ctx)
	if err != nil {
		return nil, err
	}
	return r.keys(ctx, uri, last)
}

// discover reads from the issuer's metadata where its keys are (RFC 8414 §3.3:
// the metadata has to be that of the issuer which was asked).
func (r *Remote) discover(ctx context.Context) (string, error) {
	answer, err := r.get(ctx, strings.TrimSuffix(r.config.Issuer, "/")+discoveryPath, "")
	if err != nil {
		return "", err
	}
	var metadata struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(answer.body, &metadata); err != nil {
		return "", fmt.Errorf("%s: its metadata is not a JSON object", r.config.Issuer)
	}
	switch {
	case metadata.Issuer != r.config.Issuer:
		return "", fmt.Errorf("%s: its metadata is that of the issuer %q: the two have to be equal to the byte", r.config.Issuer, metadata.Issuer)
	case !secure(metadata.JWKSURI):
		return "", fmt.Errorf("%s: its metadata names no https address for its keys", r.config.Issuer)
	}
	return metadata.JWKSURI, nil
}

// keys fetches a key set, or learns that the last one is still the newest.
func (r *Remote) keys(ctx context.Context, uri string, last *fetched) (*fetched, error) {
	tag := ""
	if last != nil && last.uri == uri {
		tag = last.tag
	}
	answer, err := r.get(ctx, uri, tag)
	if err != nil {
		return nil, err
	}
	set := &fetched{uri: uri, text: answer.body, tag: answer.header.Get("ETag"), at: answer.at, maxAge: maxAge(answer.header)}
	set.refresh = jitter(set.maxAge)
	if answer.status == http.StatusNotModified {
		if tag == "" {
			return nil, fmt.Errorf("%s: it answers 304 to a request without conditions", uri)
		}
		set.keys, set.text, set.tag = last.keys, last.text, last.tag
	} else if set.keys, err = ParseKeys(answer.body); err != nil {
		return nil, fmt.Errorf("%s: %w", uri, err)
	}
	if r.config.File != "" {
		r.keep(set, last)
	}
	return set, nil
}

// keep writes the set to the file. A restart needs to know its age, so the file
// is written anew when it was confirmed too.
func (r *Remote) keep(set, last *fetched) {
	if last != nil && bytes.Equal(last.text, set.text) && set.at.Sub(last.at) < Cooldown {
		return
	}
	err := r.save(set)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file = err
}

// answer is what a server said with 200, or with 304 if it was asked for that.
type answer struct {
	status int
	header http.Header
	body   []byte
	at     time.Time // from before it was asked, so that nothing counts as younger than it is
}

func (r *Remote) get(ctx context.Context, url, tag string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, fmt.Errorf("%s: not a usable URL", url)
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	request.Header.Set("User-Agent", "tokenbooth-bearer")
	if tag != "" {
		request.Header.Set("If-None-Match", tag)
	}
	a := answer{at: r.config.Now().Round(0)}
	response, err := r.client.Do(request)
	if err != nil {
		return a, err // a *url.Error, which names method and URL
	}
	defer func() { _ = response.Body.Close() }()
	a.status, a.header = response.StatusCode, response.Header
	switch a.status {
	case http.StatusOK, http.StatusNotModified:
	case http.StatusNotFound, http.StatusGone:
		return a, fmt.Errorf("%s: %w (%d)", url, errGone, a.status)
	default:
		return a, fmt.Errorf("%s: it answers %d", url, a.status)
	}
	a.body, err = io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err != nil {
		return a, fmt.Errorf("%s: %w", url, err)
	}
	if len(a.body) > maxDocument {
		return a, fmt.Errorf("%s: it answers with more than %d bytes", url, maxDocument)
	}
	return a, nil
}

// maxAge is for how long an answer may be used (RFC 9111 §5.2.2, less its Age),
// within bounds: an issuer that says 0 is not asked for every token.
func maxAge(header http.Header) time.Duration {
	age := defaultMaxAge
	directives := strings.Split(strings.ToLower(strings.Join(header.Values("Cache-Control"), ",")), ",")
	for i := range directives {
		directives[i] = strings.TrimSpace(directives[i])
		if text, ok := strings.CutPrefix(directives[i], "max-age="); ok {
			age = seconds(strings.Trim(text, `"`))
		}
	}
	if slices.Contains(directives, "no-store") || slices.Contains(directives, "no-cache") {
		age = 0
	}
	return min(max(age-seconds(header.Get("Age")), minMaxAge), maxMaxAge)
}

func seconds(text string) time.Duration {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}
