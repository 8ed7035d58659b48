package endpoint

import (
	"errors"
	"net/url"
	"strings"
)

// errSemicolon is what url.ParseQuery refuses besides bad escapes.
var errSemicolon = errors.New("a semicolon separates nothing")

// parseQuery is url.ParseQuery, which looks at each character twice. Keys and the names
// of parameters need no escapes, so most parts are taken as they are. A fuzz test
// compares the two. After an error there are no values.
func parseQuery(query string) (url.Values, error) {
	values := make(url.Values, 4)
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		if strings.IndexByte(pair, ';') >= 0 {
			return nil, errSemicolon
		}
		name, value, _ := strings.Cut(pair, "=")
		name, errName := unescape(name)
		value, errValue := unescape(value)
		if err := errors.Join(errName, errValue); err != nil {
			return nil, err
		}
		values[name] = append(values[name], value)
	}
	return values, nil
}

// unescape is url.QueryUnescape.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, nil
	}
	return url.QueryUnescape(s)
}
