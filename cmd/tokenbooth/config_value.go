package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decode stores a YAML value in the field of a setting, or leaves it alone.
func decode(field any, node *yaml.Node) error {
	switch field := field.(type) {
	case *[]string, *[]netip.Prefix:
		words, err := wordList(node)
		if err != nil {
			return err
		}
		return parseList(field, words)
	case *map[string][]string:
		return decodeLists(field, node)
	case *[]ResourceServer:
		return decodeItems(field, node, decodeServer)
	case *[]MappedWorkspace:
		return decodeItems(field, node, decodeMapped)
	}
	if node.Kind != yaml.ScalarNode {
		return errors.New("is a list or a section, not one value")
	}
	return parse(field, node.Value)
}

// parse stores text in the field of a setting, or leaves it alone. Lists are comma
// separated; what a line of text cannot say is written as YAML.
// Errors never quote a string, since that may be a secret.
func parse(field any, text string) error {
	switch field := field.(type) {
	case *string:
		*field = text
		return nil
	case *bool:
		return store(field, text, parseBool, "neither true nor false")
	case *int:
		return store(field, text, strconv.Atoi, "not a whole number")
	case *float64:
		return store(field, text, parseNumber, "not a number")
	case *time.Duration:
		return store(field, text, time.ParseDuration, "not a duration")
	case *[]string, *[]netip.Prefix:
		return parseList(field, splitList(text))
	default:
		node, err := parseYAML([]byte(text))
		if err != nil || node == nil {
			return err
		}
		return decode(field, node)
	}
}

// store keeps what the parser makes of text.
func store[T any](field *T, text string, parser func(string) (T, error), complaint string) error {
	value, err := parser(text)
	if err != nil {
		return fmt.Errorf("%q is %s", text, complaint)
	}
	*field = value
	return nil
}

func parseBool(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, strconv.ErrSyntax
	}
	return text == "true", nil
}

func parseNumber(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, strconv.ErrSyntax
	}
	return n, nil
}

func splitList(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	words := strings.Split(text, ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	return words
}

func parseList(field any, words []string) error {
	switch field := field.(type) {
	case *[]netip.Prefix:
		var prefixes []netip.Prefix
		for _, word := range words {
			prefix, err := netip.ParsePrefix(word)
			if err != nil {
				return fmt.Errorf("%q is not a network", word)
			}
			prefixes = append(prefixes, prefix)
		}
		*field = prefixes
	case *[]string:
		*field = words
	}
	return nil
}

// wordList returns a YAML list of plain values.
func wordList(node *yaml.Node) ([]string, error) {
	if node.Kind != yaml.SequenceNode {
		return nil, errors.New("is not a list")
	}
	var words []string
	for _, item := range node.Content {
		item = resolved(item)
		if item.Kind != yaml.ScalarNode || isNull(item) {
			return nil, errors.New("has an item that is not one plain value")
		}
		words = append(words, item.Value)
	}
	return words, nil
}

func decodeLists(field *map[string][]string, node *yaml.Node) error {
	entries, err := mapping(node)
	if err != nil {
		return err
	}
	lists := make(map[string][]string, len(entries))
	for _, e := range entries {
		if lists[e.name], err = wordList(e.value); err != nil {
			return fmt.Errorf("%q %w", e.name, err)
		}
	}
	*field = lists
	return nil
}

// decodeItems reads a list of mappings.
func decodeItems[T any](field *[]T, node *yaml.Node, decodeItem func(*yaml.Node) (T, error)) error {
	if node.Kind != yaml.SequenceNode {
		return errors.New("is not a list")
	}
	var items []T
	for i, node := range node.Content {
		item, err := decodeItem(node)
		if err != nil {
			return fmt.Errorf("item %d %w", i+1, err)
		}
		items = append(items, item)
	}
	*field = items
	return nil
}

func decodeServer(node *yaml.Node) (ResourceServer, error) {
	var server ResourceServer
	entries, err := mapping(node)
	for _, e := range entries {
		if err != nil {
			break
		}
		switch e.name {
		case "audience":
			err = decode(&server.Audience, e.value)
		case "resources":
			err = decode(&server.Resources, e.value)
		case "profile":
			err = decode(&server.Profile, e.value)
		case "algorithm":
			err = decode(&server.Algorithm, e.value)
		case "type":
			err = decode(&server.Type, e.value)
		case "claims":
			err = decodeClaims(&server.Claims, e.value)
		default:
			err = fmt.Errorf("has the unknown key %q%s", e.name, didYouMean(e.name, []string{"audience", "resources", "profile", "algorithm", "type", "claims"}))
		}
	}
	return server, err
}

func decodeMapped(node *yaml.Node) (MappedWorkspace, error) {
	var mapped MappedWorkspace
	entries, err := mapping(node)
	fields := map[string]*string{"value": &mapped.Value, "workspace": &mapped.Workspace, "role": &mapped.Role}
	for _, e := range entries {
		if err != nil {
			break
		}
		if field := fields[e.name]; field != nil {
			err = decode(field, e.value)
		} else {
			err = fmt.Errorf("has the unknown key %q%s", e.name, didYouMean(e.name, []string{"value", "workspace", "role"}))
		}
	}
	return mapped, err
}

// decodeClaims reads a mapping of any shape that JSON can write.
func decodeClaims(field *map[string]any, node *yaml.Node) error {
	if _, err := mapping(node); err != nil {
		return err
	}
	var claims map[string]any
	if err := node.Decode(&claims); err != nil {
		return fmt.Errorf("claims: %w", err)
	}
	if _, err := json.Marshal(claims); err != nil {
		return errors.New("claims hold something that JSON cannot write: use text, numbers, lists and mappings with text as names")
	}
	*field = claims
	return nil
}
