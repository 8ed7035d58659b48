package endpoint

// The parsers of untrusted input, for their fuzz targets.

func ParseForm(body string) (map[string][]string, error) { return byName(parseForm(body)) }

func ParseQuery(query string) (map[string][]string, error) { return byName(parseQuery(query)) }

func ParseJSON(body []byte) (map[string][]string, error) { return byName(parseJSON(body)) }

// byName are parameters as net/url has them.
func byName(p parameters, err error) (map[string][]string, error) {
	if err != nil {
		return nil, err
	}
	values := map[string][]string{}
	for _, one := range p {
		values[one.name] = append(values[one.name], one.value)
	}
	return values, nil
}

// Get is what a form has under a name, as the handlers ask for it.
func Get(body, name string) (first string, all []string) {
	p, _ := parseForm(body)
	return p.get(name), p.all(name)
}

func ParseBasic(authorization string) (id, secret string, ok bool) {
	c, ok := parseBasic(authorization)
	return c.ID, c.Secret, ok
}

// ReadForm is ParseForm, whatever comes of it.
func ReadForm(body string) { _, _ = parseForm(body) }
