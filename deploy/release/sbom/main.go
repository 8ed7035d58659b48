// Command sbom writes the bill of materials of a Go binary, in the form of CycloneDX
// 1.6, to standard output:
//
//	sbom BINARY VERSION SECONDS
//
// SECONDS since 1970 is the time of the sources. What is in the binary is read from the
// binary itself, which holds the list of its modules: not what might be linked, but what
// is. The same binary gives the same bytes.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("it takes BINARY VERSION SECONDS, not %d arguments", len(args))
	}
	seconds, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return fmt.Errorf("the time %q is not in seconds since 1970", args[2])
	}
	info, err := buildinfo.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("read the modules of a Go binary: %w", err)
	}
	digest, err := digestOf(args[0])
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(billOf(info, digest, args[1], time.Unix(seconds, 0)))
}

func digestOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it is only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return h.Sum(nil), nil
}

// bill is a BOM of CycloneDX 1.6, as much of it as we know.
type bill struct {
	Schema       string       `json:"$schema"`
	BOMFormat    string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	SerialNumber string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	BOMRef     string     `json:"bom-ref"`
	Type       string     `json:"type"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	Scope      string     `json:"scope,omitempty"`
	Hashes     []hash     `json:"hashes,omitempty"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"` // hexadecimal
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

func billOf(info *debug.BuildInfo, digest []byte, version string, at time.Time) bill {
	main := component{
		Type: "application", Name: info.Main.Path, Version: version,
		Hashes: []hash{{"SHA-256", hex.EncodeToString(digest)}},
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED":
			main.Properties = append(main.Properties, property{"tokenbooth:build:" + s.Key, s.Value})
		}
	}
	main.identify()
	b := bill{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", BOMFormat: "CycloneDX", SpecVersion: "1.6",
		SerialNumber: serial(digest), Version: 1,
		Metadata:   metadata{at.UTC().Format(time.RFC3339), main},
		Components: components(info),
	}
	needs := dependency{Ref: main.BOMRef}
	for _, c := range b.Components {
		needs.DependsOn = append(needs.DependsOn, c.BOMRef)
	}
	b.Dependencies = []dependency{needs}
	return b
}

// components are the modules in the binary and the standard library.
func components(info *debug.BuildInfo) []component {
	standard, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ") // experiments follow a space
	found := []component{{Name: "std", Version: standard}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component{Name: m.Path, Version: m.Version}
		if m.Sum != "" { // a hash of a tree of files, so none of CycloneDX's kinds
			c.Properties = []property{{"tokenbooth:go.sum", m.Sum}}
		}
		found = append(found, c)
	}
	for i := range found {
		found[i].Type, found[i].Scope = "library", "required"
		found[i].identify()
	}
	return found
}

// identify names a Go module as scanners for vulnerabilities know it.
func (c *component) identify() {
	c.PURL = "pkg:golang/" + c.Name + "@" + strings.ReplaceAll(c.Version, "+", "%2B")
	c.BOMRef = c.PURL
}

// serial is a UUID of version 8 (RFC 9562 section 5.8) made of the binary's digest, so
// that it is the same for the same binary.
func serial(digest []byte) string {
	var u [16]byte
	copy(u[:], digest)
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
