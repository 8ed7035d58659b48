package console

import (
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// What the console itself refuses.
var (
	errMethod      = errors.New("method not allowed")
	errNothingHere = errors.New("nothing here")
	errCrossOrigin = errors.New("cross-origin request")
	errForm        = errors.New("form cannot be read")
	errPanic       = errors.New("panic")
	errExports     = errors.New("too many exports at once")
)

// failure is an error as the error page tells it.
type failure struct {
	status        int
	title, detail string
	retryAfter    string // seconds
}

// Status, Title and Detail are for the template.

// Status is the HTTP status.
func (f failure) Status() int { return f.status }

// Title names what is wrong.
func (f failure) Title() string { return f.title }

// Detail says it in a sentence, with what to do.
func (f failure) Detail() string { return f.detail }

// failures maps each kind of error to what people read, the narrower ones first. An
// empty detail is the error's own sentence.
var failures = []struct {
	err error
	failure
}{
	{errMethod, failure{status: http.StatusMethodNotAllowed, title: "This page cannot be used like that", detail: "The address takes another method. Go back and use the form there."}},
	{errNothingHere, failure{status: http.StatusNotFound, title: "Page not found", detail: "There is nothing at this address."}},
	{errCrossOrigin, failure{status: http.StatusForbidden, title: "Request from another site refused", detail: "The form was sent from a page that is not part of this console, so nothing was done. Open the console itself and try again there."}},
	{errForm, failure{status: http.StatusBadRequest, title: "The form could not be read", detail: "It is too large or damaged. Go back and send it again."}},
	{identity.ErrBusy, failure{status: http.StatusServiceUnavailable, title: "Too many people sign in at once", detail: "The password was not looked at. Try again in a moment.", retryAfter: "5"}},
	{errExports, failure{status: http.StatusServiceUnavailable, title: "Other exports are running", detail: "Only a few run at once. Try again in a moment.", retryAfter: "10"}},
	{workspace.ErrNotFound, failure{status: http.StatusNotFound, title: "Not found", detail: "It does not exist, or you are not in its workspace."}},
	{workspace.ErrForbidden, failure{status: http.StatusForbidden, title: "You may not do this"}},
	{workspace.ErrChanged, failure{status: http.StatusConflict, title: "Somebody else changed it meanwhile"}},
	{workspace.ErrConflict, failure{status: http.StatusConflict, title: "That is not possible now"}},
	{policy.ErrPolicy, failure{status: http.StatusUnprocessableEntity, title: "Policy does not allow this"}},
	{workspace.ErrInvalid, failure{status: http.StatusUnprocessableEntity, title: "Something is not right yet"}},
	{manage.ErrReused, failure{status: http.StatusConflict, title: "This form was sent before", detail: "It was sent before with other contents, and was carried out then. Open it anew to do something else."}},
}

// explain finds what to tell people of an error.
func explain(err error) failure {
	for _, known := range failures {
		if errors.Is(err, known.err) {
			f := known.failure
			if f.detail == "" {
				f.detail = sentence(err, known.err)
			}
			return f
		}
	}
	if schema.IsUnavailable(err) {
		return failure{status: http.StatusServiceUnavailable, title: "The database does not answer", detail: "Nothing was changed. Try again in a moment.", retryAfter: "5"}
	}
	return failure{status: http.StatusInternalServerError, title: "Something went wrong here", detail: "It is our mistake and is in the log. Try again; if it stays, tell your operator the request ID below."}
}

// problem is what keeps a form from being carried out, as it is shown above it.
type problem struct {
	status int
	Title  string
	Items  []mistake
}

// mistake is one thing that is wrong, with the form's field that it is in.
type mistake struct {
	Field string // its ID in the page; empty: it is in none
	Text  string
}

// In is what is wrong with a field; empty: nothing.
func (p *problem) In(field string) string {
	if p == nil {
		return ""
	}
	for _, m := range p.Items {
		if m.Field == field {
			return m.Text
		}
	}
	return ""
}

// mistakes is an error that names fields.
type mistakes []mistake

func (m mistakes) Error() string { return "the form has mistakes" }

// add notes a mistake.
func (m *mistakes) add(field, text string) { *m = append(*m, mistake{field, text}) }

// err is nil when there are none.
func (m mistakes) err() error {
	if len(m) == 0 {
		return nil
	}
	return m
}

// problemOf turns an error into what is shown above a form; nil if it is none that
// sending the form differently could mend.
func problemOf(err error) *problem {
	var list mistakes
	if errors.As(err, &list) {
		return &problem{status: http.StatusUnprocessableEntity, Title: "Something is not right yet", Items: list}
	}
	if errors.Is(err, manage.ErrProveAgain) {
		return nil // another page asks for that
	}
	f := explain(err)
	switch f.status {
	case http.StatusUnprocessableEntity, http.StatusConflict, http.StatusForbidden:
		return &problem{status: f.status, Title: f.title, Items: []mistake{{Text: f.detail}}}
	}
	return nil
}

// sentence is an error's text for people: without the name of its kind, with a
// capital and a full stop.
func sentence(err, kind error) string {
	text := err.Error()
	for _, prefix := range []string{kind.Error(), workspace.ErrInvalid.Error(), workspace.ErrConflict.Error()} {
		text = strings.TrimPrefix(text, prefix+": ")
	}
	text = strings.TrimSuffix(text, ": "+kind.Error())
	first, size := utf8.DecodeRuneInString(text)
	text = string(unicode.ToUpper(first)) + text[size:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}
