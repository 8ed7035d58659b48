package console

import (
	"net/http"
	"net/url"
	"time"
)

// look is how a person wants the console to look and behave in this browser.
type look struct {
	Theme     string // light or dark; empty: as the system
	Shortcuts bool
}

// lookCookie keeps the look. There is nothing secret in it.
const lookCookie = "__Host-tokenbooth-look"

// look reads what was chosen before; anything strange is nothing.
func (r *request) look() look {
	l := look{Shortcuts: true}
	cookie, err := r.Cookie(lookCookie)
	if err != nil {
		return l
	}
	chosen, err := url.ParseQuery(cookie.Value)
	if err != nil {
		return l
	}
	if theme := chosen.Get("theme"); theme == "light" || theme == "dark" {
		l.Theme = theme
	}
	l.Shortcuts = chosen.Get("shortcuts") != "off"
	return l
}

// keepLook keeps what was chosen, for a year.
func (r *request) keepLook(l look) {
	chosen := url.Values{"theme": {l.Theme}}
	if !l.Shortcuts {
		chosen.Set("shortcuts", "off")
	}
	r.SetCookie(&http.Cookie{
		Name: lookCookie, Value: chosen.Encode(), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: int((365 * 24 * time.Hour).Seconds()),
	})
}
