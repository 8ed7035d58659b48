package adminhttp

import (
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

const (
	defaultLimit = 50
	maxLimit     = 200
)

// page reads which part of a list is wanted. One more than the limit is read, to
// know whether there is more.
func (r *request) page() (workspace.Page, error) {
	limit := defaultLimit
	if text, given := r.query["limit"]; given {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return workspace.Page{}, oauth.TopicParameterUnknown.Errorf("The parameter limit has to be a whole number from 1 to %d.", maxLimit)
		}
		limit = n
	}
	after, err := r.position()
	return workspace.Page{After: after, Limit: limit + 1}, err
}

// A cursor is a position in one list, sealed: its contents are ours to change, and
// it opens only for the list that it was given out for.

func (r *request) position() (workspace.Position, error) {
	var p workspace.Position
	text, given := r.query["cursor"]
	if !given {
		return p, nil
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil {
		sealed, err = r.sealer().Open(nil, nil, sealed, r.list())
	}
	var at struct {
		At int64
		ID string
	}
	if err != nil || json.Unmarshal(sealed, &at) != nil {
		return p, oauth.TopicCursorInvalid.Errorf("The cursor is not one of this list: begin again without it, with the same parameters as before.")
	}
	return workspace.Position{At: workspace.At(time.UnixMicro(at.At)), ID: at.ID}, nil
}

func (r *request) cursor(p workspace.Position) string {
	text, err := json.Marshal(struct {
		At int64
		ID string
	}{p.At.UnixMicro(), p.ID})
	if err != nil {
		panic(err) // a number and a string always marshal
	}
	return base64.RawURLEncoding.EncodeToString(r.sealer().Seal(nil, nil, text, r.list()))
}

// list names the list that a cursor is of: its route, filters and workspace, as it
// was named and not as it was found, so that whether a cursor opens tells nothing
// of what exists. Who asks does not matter, since each page is authorised anew.
func (r *request) list() []byte {
	parts := []string{r.Path(), r.Param("ws"), r.Param("sa")}
	for _, name := range slices.Sorted(maps.Keys(r.query)) {
		if name != "cursor" && name != "limit" {
			parts = append(parts, name+"="+r.query[name])
		}
	}
	return []byte(strings.Join(parts, "\n"))
}

func (r *request) sealer() cipher.AEAD { return r.h.Grant.Peppers.AEAD("cursor") }

// listOf makes the answer of a list that was read with page.
func listOf[T, W any](r *request, found []T, page workspace.Page, wire func(T) W, position func(T) workspace.Position) (answer, error) {
	list := admin.List[W]{Data: []W{}, HasMore: len(found) == page.Limit}
	if list.HasMore {
		found = found[:page.Limit-1]
		cursor := r.cursor(position(found[len(found)-1]))
		list.NextCursor = &cursor
	}
	for _, item := range found {
		list.Data = append(list.Data, wire(item))
	}
	a := answer{body: list}
	if list.NextCursor != nil {
		a.next = *list.NextCursor
	}
	return a, nil
}

// Filters.

// flag reads a parameter that is true or false; nil when it is not there.
func (q query) flag(name string) (*bool, error) {
	switch text, given := q[name]; {
	case !given:
		return nil, nil
	case text == "true", text == "false":
		value := text == "true"
		return &value, nil
	}
	return nil, oauth.TopicParameterUnknown.Errorf("The parameter %s has to be true or false.", name)
}

// not turns a flag round: what the wire calls enabled is not disabled.
func not(flag *bool, err error) (*bool, error) {
	if flag != nil {
		*flag = !*flag
	}
	return flag, err
}

// days reads a number of days; 0 when it is not there.
func (q query) days(name string) (time.Duration, error) {
	text, given := q[name]
	if !given {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 3650 {
		return 0, oauth.TopicParameterUnknown.Errorf("The parameter %s has to be a whole number from 1 to 3650.", name)
	}
	return time.Duration(n) * 24 * time.Hour, nil
}

// time reads an instant; zero when it is not there.
func (q query) time(name string) (time.Time, error) {
	text, given := q[name]
	if !given {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.UTC().Year() < 1970 || at.UTC().Year() > 9999 {
		return at, oauth.TopicParameterUnknown.Errorf("The parameter %s has to be a time since 1970 such as 2027-01-31T00:00:00Z, with + written as %%2B.", name)
	}
	return at, nil
}

// word reads one of a few words; empty when it is not there.
func (q query) word(name string, words ...string) (string, error) {
	text, given := q[name]
	if given && !slices.Contains(words, text) {
		return "", oauth.TopicParameterUnknown.Errorf("The parameter %s has to be one of %s.", name, strings.Join(words, ", "))
	}
	return text, nil
}
