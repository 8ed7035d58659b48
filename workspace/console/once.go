package console

import (
	"crypto/rand"

	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// Each showing of a form that makes a secret has a random number of its own. A form
// that is sent again, by a refresh, a second click or the way back, makes nothing
// more and shows no secret again.

// onceName is the field that carries the number.
const onceName = "once"

// onceField makes the number of one showing of a form.
func (r *request) onceField() string { return rand.Text() }

// Once is onceField, for templates.
func (v view) Once() string { return v.r.onceField() }

// onceCaller is the caller of a form that takes effect once. A form without a number
// takes effect each time.
func (r *request) onceCaller() manage.Caller {
	number := r.form.Get(onceName)
	if number == "" {
		return r.by
	}
	return r.by.Once(manage.Once{Key: "form:" + number, Request: r.Request().URL.Path + "?" + r.form.Encode(), Hide: true})
}
