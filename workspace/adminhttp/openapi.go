package adminhttp

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed openapi.yaml
var openAPIYAML []byte

// OpenAPI is the description of the API, as YAML.
func OpenAPI() []byte { return bytes.Clone(openAPIYAML) }

// openAPIJSON is the same as JSON, with the members in the same order.
func openAPIJSON() ([]byte, error) { return convertedOpenAPI() }

var convertedOpenAPI = sync.OnceValues(func() ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(openAPIYAML, &document); err != nil {
		return nil, fmt.Errorf("the description of the API: %w", err)
	}
	var b bytes.Buffer
	if err := writeNode(&b, &document); err != nil {
		return nil, fmt.Errorf("the description of the API: %w", err)
	}
	return b.Bytes(), nil
})

func writeNode(b *bytes.Buffer, n *yaml.Node) error {
	switch n.Kind {
	case yaml.DocumentNode:
		return writeNode(b, n.Content[0])
	case yaml.AliasNode:
		return writeNode(b, n.Alias)
	case yaml.SequenceNode:
		return writeList(b, '[', ']', n.Content, 1)
	case yaml.MappingNode:
		return writeList(b, '{', '}', n.Content, 2)
	}
	return writeScalar(b, n)
}

// writeList writes elements, or members, each of which is a key and a value.
func writeList(b *bytes.Buffer, begin, end byte, nodes []*yaml.Node, each int) error {
	b.WriteByte(begin)
	for i, n := range nodes {
		switch {
		case i == 0:
		case i%each == 0:
			b.WriteByte(',')
		default:
			b.WriteByte(':')
		}
		if i%each < each-1 { // a key is a string, whatever it looks like
			if err := writeValue(b, n.Value); err != nil {
				return err
			}
			continue
		}
		if err := writeNode(b, n); err != nil {
			return err
		}
	}
	b.WriteByte(end)
	return nil
}

func writeScalar(b *bytes.Buffer, n *yaml.Node) error {
	var value any
	switch n.ShortTag() {
	case "!!null", "!!bool", "!!int", "!!float":
		if err := n.Decode(&value); err != nil {
			return err
		}
	default: // also what looks like an instant
		value = n.Value
	}
	return writeValue(b, value)
}

func writeValue(b *bytes.Buffer, value any) error {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the line end
	return nil
}
