package main

import (
	"fmt"
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// Every relative link in our Markdown leads to a file that is there, and to a heading
// that it has.
func TestLinks(t *testing.T) {
	pages := map[string]string{} // by path from the root of the module
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == ".tools" || entry.Name() == "bin" || entry.Name() == "node_modules") {
			return fs.SkipDir
		}
		if entry.IsDir() || filepath.Ext(path) != ".md" && entry.Name() != "llms.txt" {
			return nil
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path) // both are relative
		pages[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for name, text := range pages {
		_, prose := blocks(text)
		for i, line := range prose {
			for _, link := range links(line) {
				checked++
				if fault := linkFault(pages, name, link); fault != "" {
					t.Errorf("%s:%d: %s: %s", name, i+1, link, fault)
				}
			}
		}
	}
	if checked < 80 {
		t.Errorf("there are %d links: this test looks in the wrong place", checked)
	}
}

var (
	// inline code is no link, whatever it looks like.
	inlineCode = regexp.MustCompile("`[^`]*`")
	// linked is the target of a link, of a picture, or of either in HTML.
	linked = regexp.MustCompile(`\]\(<?([^)\s>]+)>?[^)]*\)|(?:src|srcset|href)="([^"]+)"|^\s*\[[^\]^]+\]:\s+(\S+)`)
	// scheme begins a link that leads elsewhere.
	scheme = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
)

// links lists the relative ones of a line.
func links(line string) (found []string) {
	for _, m := range linked.FindAllStringSubmatch(inlineCode.ReplaceAllString(line, "``"), -1) {
		if link := m[1] + m[2] + m[3]; !scheme.MatchString(link) {
			found = append(found, link)
		}
	}
	return found
}

// linkFault says what is wrong with a link on a page.
func linkFault(pages map[string]string, page, link string) string {
	path, anchor, _ := strings.Cut(link, "#")
	target := page
	if path != "" {
		target = filepath.ToSlash(filepath.Join(filepath.Dir(page), path))
	}
	if strings.HasPrefix(path, "/") || strings.HasPrefix(target, "../") {
		return "it leads out of the repository"
	}
	if _, err := os.Stat(filepath.Join("..", "..", target)); err != nil {
		return "there is no such file"
	}
	text, ok := pages[target]
	if anchor == "" || !ok && filepath.Ext(target) != ".md" {
		return ""
	}
	if !anchors(text)[anchor] {
		return "the page has no such heading"
	}
	return ""
}

var (
	heading = regexp.MustCompile(`^#{1,6} +(.+?) *#*$`)
	named   = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
)

// anchors are those that GitHub gives the headings of a page, and those in HTML.
func anchors(page string) map[string]bool {
	found, seen := map[string]bool{}, map[string]int{}
	_, prose := blocks(page)
	for _, line := range prose {
		for _, m := range named.FindAllStringSubmatch(line, -1) {
			found[m[1]] = true
		}
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		id := slugOf(m[1])
		if n := seen[id]; n > 0 {
			found[fmt.Sprintf("%s-%d", id, n)] = true
		} else {
			found[id] = true
		}
		seen[id]++
	}
	return found
}

// linkText is what a link in a heading shows.
var linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// slugOf is a heading in small letters, without punctuation, and with hyphens for spaces.
func slugOf(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, linkText.ReplaceAllString(text, "$1"))
}

// testName is a test as pages name it.
var testName = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`")

// What the threat model promises is shown by tests that are there.
func TestThreatModelNamesTests(t *testing.T) {
	page, err := os.ReadFile(docs + "/explanation/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	present := map[string]bool{}
	for _, f := range moduleFiles(t) {
		for _, d := range f.tree.Decls {
			if function, ok := d.(*ast.FuncDecl); ok && f.test {
				present[function.Name.Name] = true
			}
		}
	}
	named := testName.FindAllStringSubmatch(string(page), -1)
	if len(named) < 20 {
		t.Errorf("the page names %d tests", len(named))
	}
	for _, m := range named {
		if !present[m[1]] {
			t.Errorf("there is no test %s", m[1])
		}
	}
}

// The checker finds what is wrong.
func TestLinkRules(t *testing.T) {
	pages := map[string]string{"README.md": "# One\n## Two words, *here*\n## One\n```\n# None\n```\n", "deploy/CHANGELOG.md": "[x](../README.md)"}
	for link, want := range map[string]string{
		"#one": "", "#one-1": "", "#two-words-here": "", "deploy/CHANGELOG.md": "", "LICENSE": "", "deploy": "",
		"#none": "the page has no such heading", "#one-2": "the page has no such heading", "#One": "the page has no such heading",
		"nothing.md": "there is no such file", "../x.md": "it leads out of the repository", "/README.md": "it leads out of the repository",
		"deploy/CHANGELOG.md#unreleased": "the page has no such heading",
	} {
		if got := linkFault(pages, "README.md", link); got != want {
			t.Errorf("%s: %q, want %q", link, got, want)
		}
	}
	line := "[a](b.md) `[c](d.md)` ![e](f.png) <img src=\"g.png\"> [h](https://example.com/) [i](#j)"
	if got := strings.Join(links(line), " "); got != "b.md f.png g.png #j" {
		t.Errorf("the links of %s are %s", line, got)
	}
}
