package endpoint

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// parameters are those of a request, sorted by name; of one name in the order in which
// they came. There are few of them, and a map would cost more than all that is done
// with it.
type parameters []parameter

type parameter struct{ name, value string }

// get is the first value of a parameter; empty: it is omitted. All are looked at: they
// are told apart by their lengths, mostly.
func (p parameters) get(name string) string {
	for i := range p {
		if p[i].name == name {
			return p[i].value
		}
	}
	return ""
}

// all are the values of the named parameters, of the first name first.
func (p parameters) all(names ...string) (values []string) {
	for _, name := range names {
		for i := range p {
			if p[i].name == name {
				values = append(values, p[i].value)
			}
		}
	}
	return values
}

func (p parameters) sort() {
	slices.SortStableFunc(p, func(a, b parameter) int { return strings.Compare(a.name, b.name) })
}

// usualParameters is for how many parameters there is room at first.
const usualParameters = 6

// errSemicolon is what url.ParseQuery refuses besides bad escapes.
var errSemicolon = errors.New("a semicolon separates nothing")

// parseQuery is url.ParseQuery, which looks at each character twice. Keys and the names
// of parameters need no escapes, so most parts are taken as they are. A fuzz test
// compares the two. After an error there are none.
func parseQuery(query string) (parameters, error) {
	p := make(parameters, 0, usualParameters)
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair == "" {
			continue
		}
		if strings.IndexByte(pair, ';') >= 0 {
			return nil, errSemicolon
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := unescape(name)
		if err != nil {
			return nil, err
		}
		if value, err = unescape(value); err != nil {
			return nil, err
		}
		p = append(p, parameter{name, value})
	}
	p.sort()
	return p, nil
}

// unescape is url.QueryUnescape.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, nil
	}
	return url.QueryUnescape(s)
}
