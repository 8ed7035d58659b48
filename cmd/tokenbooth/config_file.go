package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
)

// readFile applies the one configuration file, if there is one.
func (r *resolution) readFile(env *environment, path string) {
	from := "--config"
	if path == "" {
		path = env.getenv("TOKENBOOTH_CONFIG")
		from = "TOKENBOOTH_CONFIG"
	}
	if path == "" {
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		r.problemf("%s: cannot read %s: %v; give the path of a YAML file", from, path, reason(err))
		return
	}
	r.readYAML(path, content)
	r.warnReadableSecrets(path)
}

// readYAML applies the content of a configuration file. The path only names it.
func (r *resolution) readYAML(path string, content []byte) {
	root, err := parseYAML(content)
	if err != nil {
		r.problemf("%s: %v", path, err)
		return
	}
	r.readSection(path, "", root)
}

// readSection applies one mapping of the file; the prefix is empty or ends in a dot.
func (r *resolution) readSection(path, prefix string, node *yaml.Node) {
	if isNull(node) {
		return
	}
	entries, err := mapping(node)
	for _, err := range causes(err) {
		r.problemf("%s:%d: %s %v", path, node.Line, sectionName(prefix), err)
	}
	for _, e := range entries {
		key, at := prefix+e.name, fmt.Sprintf("%s:%d", path, e.line)
		switch s := r.find(key); {
		case s != nil && isNull(e.value): // "key:" alone says nothing
		case s != nil:
			r.assign(s, at, func() error { return decode(s.field, e.value) })
		case r.isSection(key):
			r.readSection(path, key+".", e.value)
		default:
			r.problemf("%s: unknown key %q%s", at, key, didYouMean(key, r.names()))
		}
	}
}

func sectionName(prefix string) string {
	if prefix == "" {
		return "the file"
	}
	return "the section " + strings.TrimSuffix(prefix, ".")
}

func (r *resolution) isSection(key string) bool {
	return slices.Contains(r.names(), key) && r.find(key) == nil
}

// names is every key and every section, once.
func (r *resolution) names() []string {
	var names []string
	for _, s := range r.settings {
		for i, letter := range s.key {
			if letter == '.' && !slices.Contains(names, s.key[:i]) {
				names = append(names, s.key[:i])
			}
		}
		names = append(names, s.key)
	}
	return names
}

// warnReadableSecrets warns of a file that holds a secret and that everybody may read.
func (r *resolution) warnReadableSecrets(path string) {
	for _, s := range r.settings {
		if s.secret && strings.HasPrefix(s.source, path+":") {
			r.warnIfReadable(path, s.key)
		}
	}
}

// warnIfReadable leaves alone what belongs to somebody else, who could not let this
// process read it otherwise: what Compose mounts, for one.
func (r *resolution) warnIfReadable(path, key string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 != 0 && mayChangeMode(info) {
		r.warnings = append(r.warnings, fmt.Sprintf("%s holds a secret (%s) and can be read by every user of the machine; chmod 0600 it", path, key))
	}
}

func mayChangeMode(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (os.Geteuid() == 0 || os.Geteuid() == int(stat.Uid))
}

// parseYAML returns the root of the only document, or nil when there is none.
func parseYAML(content []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("it is not valid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one YAML document; keep one")
	}
	return document.Content[0], nil
}

// entry is one pair of a YAML mapping.
type entry struct {
	name  string
	line  int
	value *yaml.Node
}

// mapping returns the pairs of a YAML mapping, each name once. An error comes with
// the pairs that could be read.
func mapping(node *yaml.Node) ([]entry, error) {
	node = resolved(node)
	if node.Kind != yaml.MappingNode {
		return nil, errors.New("is not a mapping of keys to values")
	}
	var entries []entry
	var errs []error
	lines := map[string]int{}
	for i := 0; i < len(node.Content); i += 2 {
		key := node.Content[i]
		if first, twice := lines[key.Value]; twice {
			errs = append(errs, fmt.Errorf("has %q twice, on lines %d and %d", key.Value, first, key.Line))
			continue
		}
		lines[key.Value] = key.Line
		entries = append(entries, entry{key.Value, key.Line, resolved(node.Content[i+1])})
	}
	return entries, errors.Join(errs...)
}

// resolved follows an alias to the node it stands for.
func resolved(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool {
	return node == nil || node.Tag == "!!null"
}
