package endpoint

import "net/url"

// The parsers of untrusted input, for their fuzz targets.

func ParseForm(body string) (map[string][]string, error) { return parseForm(body) }

func ParseQuery(query string) (url.Values, error) { return parseQuery(query) }

func ParseJSON(body []byte) (map[string][]string, error) { return parseJSON(body) }

func ParseBasic(authorization string) (id, secret string, ok bool) {
	c, ok := parseBasic(authorization)
	return c.ID, c.Secret, ok
}
