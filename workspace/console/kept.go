package console

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// What the console has to know again a moment later, before anybody is signed in, is
// kept in the browser: sealed, under a name, for a while. Nobody can read, change or
// make up what is kept, and it costs the database nothing.

type kept struct {
	Until time.Time       `json:"until"`
	Value json.RawMessage `json:"value"`
}

func keptCookie(name string) string { return "__Host-tokenbooth-" + name }

// keep keeps a value for some time.
func (r *request) keep(name string, value any, lasts time.Duration) error {
	inner, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	text, err := json.Marshal(kept{r.h.Manager.Time().Add(lasts), inner})
	if err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	sealed := r.h.Manager.Peppers.AEAD("console", name).Seal(nil, nil, text, nil)
	r.setKept(name, base64.RawURLEncoding.EncodeToString(sealed), int(lasts/time.Second))
	return nil
}

// kept reads what was kept; false if there is nothing, or nothing of ours, or its
// time is over.
func (r *request) kept(name string, into any) bool {
	cookie, err := r.Cookie(keptCookie(name))
	if err != nil {
		return false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return false
	}
	text, err := r.h.Manager.Peppers.AEAD("console", name).Open(nil, nil, sealed, nil)
	var k kept
	return err == nil && json.Unmarshal(text, &k) == nil && r.h.Manager.Time().Before(k.Until) && json.Unmarshal(k.Value, into) == nil
}

// drop forgets what was kept.
func (r *request) drop(name string) { r.setKept(name, "", -1) }

func (r *request) setKept(name, value string, seconds int) {
	r.SetCookie(&http.Cookie{
		Name: keptCookie(name), Value: value, Path: "/", MaxAge: seconds, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}
