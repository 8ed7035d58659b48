package workspace

import (
	"errors"
	"fmt"
)

// What can be wrong with a request for or a change of something stored. Other
// packages wrap them too, so that an edge maps each once.
var (
	// ErrNotFound: it does not exist, or the caller may not know that it does.
	ErrNotFound = errors.New("not found")
	// ErrConflict: it exists already, or its state forbids the change.
	ErrConflict = errors.New("conflict")
	// ErrLastOwner: it would leave nobody in charge. It is a conflict too.
	ErrLastOwner = fmt.Errorf("%w: nobody would be left in charge", ErrConflict)
	// ErrChanged: it is not of the version that the caller has seen.
	ErrChanged = errors.New("changed meanwhile")
	// ErrForbidden: the caller lacks the right to do this.
	ErrForbidden = errors.New("forbidden")
	// ErrInvalid: a value is not acceptable; the text says which and why.
	ErrInvalid = errors.New("invalid")
)

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
