package endpoint_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest = regexp.MustCompile("`(?:([a-z]+)\\.)?((?:Test|Fuzz)[A-Za-z]+)`")
	namedFile = regexp.MustCompile("`((?:rfc|json-)[a-z0-9.-]+)`")
)

// CONFORMANCE.md names tests that exist, and every file in testdata.
func TestConformanceNamesTests(t *testing.T) {
	page := string(must(os.ReadFile("../CONFORMANCE.md")))
	exists := testNames(t)
	tests := namedTest.FindAllStringSubmatch(page, -1)
	if len(tests) < 50 {
		t.Errorf("the page names %d tests", len(tests))
	}
	for _, name := range tests {
		folder := name[1]
		if folder == "" {
			folder = "endpoint"
		}
		if !exists[folder+"."+name[2]] {
			t.Errorf("there is no %s in a folder %s", name[2], folder)
		}
	}
	named := map[string]bool{}
	for _, name := range namedFile.FindAllStringSubmatch(page, -1) {
		named["testdata/"+name[1]+".txtar"] = true
	}
	for _, file := range must(filepath.Glob("testdata/*.txtar")) {
		if !named[file] {
			t.Errorf("the page does not name %s", file)
		}
		delete(named, file)
	}
	for file := range named {
		t.Errorf("there is no %s", file)
	}
}

// testNames lists the module's tests as folder.Name.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	names := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range function.FindAllStringSubmatch(string(text), -1) {
			names[filepath.Base(filepath.Dir(path))+"."+match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
