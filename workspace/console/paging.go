package console

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// perPage is how many rows a page of a list has.
const perPage = 50

// pager leads through a list that is the newest first.
type pager struct {
	Older string // address of the next page; empty: there is none
	First string // address of the first page; empty: this is it
}

// cursor is a position in a list as an address carries it: sealed, so that it is
// good for the list that it was made for and no other.
type cursor struct {
	At int64 // microseconds
	ID string
}

// page reads which part of a list is wanted: one row more than is shown, to know
// whether there are more. The errors wrap ErrInvalid.
func (r *request) page() (workspace.Page, error) {
	page := workspace.Page{Limit: perPage + 1}
	text := r.QueryParam("after")
	if text == "" {
		return page, nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		sealed, err = r.h.Manager.Peppers.AEAD("console cursor", r.Path()).Open(nil, nil, sealed, nil)
	}
	var at cursor
	if err != nil || json.Unmarshal(sealed, &at) != nil {
		return page, fmt.Errorf("%w: the link does not lead to a page of this list: open the list anew", workspace.ErrInvalid)
	}
	page.After = workspace.Position{At: workspace.At(time.UnixMicro(at.At)), ID: at.ID}
	return page, nil
}

// shown cuts a list that was read with page to what is shown, and says how to go on.
func shown[T any](r *request, found []T, position func(T) workspace.Position) ([]T, pager) {
	p := pager{}
	if r.QueryParam("after") != "" {
		p.First = r.listAddress("")
	}
	if len(found) <= perPage {
		return found, p
	}
	found = found[:perPage]
	last := position(found[perPage-1])
	text, err := json.Marshal(cursor{last.At.UnixMicro(), last.ID})
	if err != nil {
		panic(err) // a number and a string always marshal
	}
	sealed := r.h.Manager.Peppers.AEAD("console cursor", r.Path()).Seal(nil, nil, text, nil)
	p.Older = r.listAddress(base64.RawURLEncoding.EncodeToString(sealed))
	return found, p
}

// listAddress is the address of this list, with its filters, from a cursor on.
func (r *request) listAddress(after string) string {
	query := url.Values{}
	for name, values := range r.QueryParams() {
		if name != "after" && name != "notice" {
			query[name] = values
		}
	}
	if after != "" {
		query.Set("after", after)
	}
	address := url.URL{Path: r.Request().URL.Path, RawQuery: query.Encode()}
	return address.String()
}

// chip is one of a few choices of what a list shows.
type chip struct {
	Text, URL string
	Current   bool
}

// chips are choices by one parameter of the address: pairs of a value and its text.
// The first is what is shown when the address does not say.
func (r *request) chips(parameter string, pairs ...string) (all []chip) {
	chosen := r.chosen(parameter, pairs...)
	for i := 0; i < len(pairs); i += 2 {
		query := url.Values{}
		if q := r.QueryParam("q"); q != "" {
			query.Set("q", q)
		}
		if i > 0 {
			query.Set(parameter, pairs[i])
		}
		address := url.URL{Path: r.Request().URL.Path, RawQuery: query.Encode()}
		all = append(all, chip{pairs[i+1], address.String(), pairs[i] == chosen})
	}
	return all
}

// chosen is which of those values the address asks for; others are none.
func (r *request) chosen(parameter string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == r.QueryParam(parameter) {
			return pairs[i]
		}
	}
	return pairs[0]
}
