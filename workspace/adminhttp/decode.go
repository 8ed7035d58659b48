package adminhttp

import (
	"encoding/json"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// setFields sets the fields of a struct from the members of an object, by the
// exact names of their json tags. null leaves a field as it is, unless its type
// reads null itself. Each mistake has a pointer to its member (RFC 6901).
func setFields(members map[string]json.RawMessage, into any) (mistakes []oauth.FieldError) {
	fields := fieldsOf(into)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		field, known := fields[name]
		if !known {
			mistakes = append(mistakes, mistake(name, "is not known here: known are "+strings.Join(slices.Sorted(maps.Keys(fields)), ", ")))
			continue
		}
		if text := setField(field, members[name]); text != "" {
			mistakes = append(mistakes, mistake(name, text))
		}
	}
	return mistakes
}

// fieldsOf are the fields of a struct, to which it gets a pointer, by their names in
// JSON.
func fieldsOf(of any) map[string]reflect.Value {
	target := reflect.ValueOf(of).Elem()
	fields := map[string]reflect.Value{}
	for i := range target.NumField() {
		name, _, _ := strings.Cut(target.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = target.Field(i)
	}
	return fields
}

// setField sets one field and says what is wrong with its value, if anything is.
func setField(field reflect.Value, value json.RawMessage) string {
	target := field.Addr()
	if field.Kind() == reflect.Pointer {
		target = reflect.New(field.Type().Elem())
	}
	if _, readsNull := target.Interface().(json.Unmarshaler); string(value) == "null" && !readsNull {
		return ""
	}
	if err := json.Unmarshal(value, target.Interface()); err != nil {
		return "has to be " + kindOf(target.Elem().Type())
	}
	if field.Kind() == reflect.Pointer {
		field.Set(target)
	}
	return ""
}

// kindOf names what JSON a type is read from.
func kindOf(t reflect.Type) string {
	if t.Kind() == reflect.Struct && t.NumField() == 1 { // a value that may be null
		return kindOf(t.Field(0).Type.Elem()) + " or null"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "an array of strings"
	}
	return "a time such as 2027-01-31T00:00:00Z"
}

func mistake(name, text string) oauth.FieldError {
	return oauth.FieldError{
		Pointer: "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(shorten(name)), Detail: shorten(name) + " " + text,
	}
}

// validationError is an answer 422 with what is wrong where.
type validationError struct {
	wire   *oauth.Error
	fields []oauth.FieldError
}

func (e *validationError) Error() string { return e.wire.Error() }
func (e *validationError) Unwrap() error { return e.wire }

// invalid makes one error of mistakes; none is no error.
func invalid(mistakes []oauth.FieldError) error {
	if len(mistakes) == 0 {
		return nil
	}
	var all []string
	for _, m := range mistakes {
		all = append(all, m.Detail)
	}
	return &validationError{oauth.TopicValidationFailed.Errorf("The request is not acceptable: %s.", strings.Join(all, "; ")), mistakes}
}

// parseQuery is url.ParseQuery that also refuses what is not text.
func parseQuery(raw string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, err
	}
	for _, values := range q {
		for _, v := range values {
			if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
				return nil, url.EscapeError("not text")
			}
		}
	}
	return q, nil
}
