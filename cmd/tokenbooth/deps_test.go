package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What may import what. Packages are named by their folder in the module, other
// modules by their import path.

const module = "github.com/tokenbooth/tokenbooth/"

// levels: a package imports only packages of a lower level. Tests may do as they
// like, for they are no part of what is linked.
var levels = map[string]int{
	"oauth": 0, "keys/jwk": 0, "workspace": 0, "deploy/schema": 0,

	"workspace/change": 1, "workspace/audit": 1, "workspace/identity": 1, "workspace/admin": 1,
	"oauth/bearer": 1, "deploy/schema/schematest": 1,

	"keys": 2, "keys/signing": 2, "oauth/bearer/bearertest": 2, "oauth/bearer/redisfeed": 2,

	"policy": 3, "workspace/webhook": 3,

	"policy/quota": 4, "policy/revocation": 4,

	"oauth/grant": 5, "workspace/manage": 5,

	"oauth/endpoint": 6, "workspace/adminhttp": 6, "workspace/console": 6,

	"cmd/tokenbooth": 7, "deploy/bench": 7, "deploy/package": 7, "deploy/release/sbom": 7,
}

// minimal packages import the standard library and what is listed, nothing else:
// a service that verifies tokens links no server code.
var minimal = map[string][]string{
	"oauth":        {},
	"keys/jwk":     {},
	"oauth/bearer": {"oauth", "keys/jwk", "github.com/golang-jwt/jwt/v5"},
}

// reserved imports, with all that is below them, are for some packages only; the
// tests of others may not have them either. The first that fits counts.
var reserved = []struct {
	path string
	only []string
	why  string
}{
	{"github.com/go-oauth2/oauth2/v4/store", nil, "it keeps secrets and tokens as they are; ours are in SQL, digested"},
	{"github.com/go-oauth2/oauth2", []string{"oauth/grant"}, "the rest speaks of grants in our own words"},
	{"github.com/labstack", []string{"oauth/endpoint", "workspace/adminhttp", "workspace/console", "cmd/tokenbooth", "deploy/bench"}, "a port to its next version must stay mechanical"},
	{"github.com/redis", []string{"policy/quota", "policy/revocation", "oauth/bearer/redisfeed", "cmd/tokenbooth"}, "SQL is the truth, and Redis a projection of it"},
	{"go.opentelemetry.io", []string{"cmd/tokenbooth"}, "the rest tells a hook, and what a span may say is decided in one place"},
	{"github.com/jackc/pgx", []string{"deploy/schema"}, "stores are written once for both databases"},
	{"modernc.org/sqlite", []string{"deploy/schema"}, "stores are written once for both databases"},
	{"oauth/endpoint", []string{"cmd/tokenbooth"}, "HTTP is an edge, nothing builds on it"},
	{"workspace/adminhttp", []string{"cmd/tokenbooth"}, "HTTP is an edge, nothing builds on it"},
	{"workspace/console", []string{"cmd/tokenbooth"}, "HTTP is an edge, nothing builds on it"},
}

// forTests may be imported by tests alone, and by the program that measures.
var forTests = []string{"deploy/schema/schematest"}

const measures = "deploy/bench"

// transactions are begun here; everybody else is handed one. The webhook's begin
// with the clock and not with a use case: they change nothing but its own tables.
// So do the audit's, of batches of exchanges; its events join the caller's.
var transactions = []string{"deploy/schema", "workspace/manage", "workspace/webhook", "workspace/audit"}

// beginners are the methods of database/sql, sqlx and deploy/schema that begin a
// transaction.
var beginners = []string{"Begin", "BeginTx", "Beginx", "BeginTxx", "MustBegin", "MustBeginTx", "InTx"}

// beginSQL is a statement that begins one; a sentence that starts with "begin" is
// not.
var beginSQL = regexp.MustCompile(`(?i)^\s*(begin\s*(;|$|transaction|work|deferred|immediate|exclusive|isolation|read)|start\s+transaction)`)

// source is one file of a package.
type source struct {
	pkg  string // its folder
	name string
	test bool
	tree *ast.File
}

// faults lists what breaks the rules, a sentence each.
func faults(files []source) (found []string) {
	for _, f := range files {
		add := func(fault string) {
			if fault != "" {
				found = append(found, path.Join(f.pkg, f.name)+": "+fault)
			}
		}
		for _, spec := range f.tree.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
			add(importFault(f, imported))
		}
		if !f.test && !slices.Contains(transactions, f.pkg) {
			for _, begin := range begins(f.tree) {
				add(begin + " begins a transaction: take the caller's; a use case begins it in workspace/manage")
			}
		}
	}
	return found
}

// importFault says what is wrong with one import of a file, by the first rule
// that it breaks.
func importFault(f source, imported string) string {
	name, ours := strings.CutPrefix(imported, module)
	if name == f.pkg {
		return "" // an external test
	}
	for _, r := range reserved {
		switch {
		case !under(name, r.path) || slices.Contains(r.only, f.pkg):
			continue
		case len(r.only) == 0:
			return fmt.Sprintf("nobody may import %s: %s", name, r.why)
		}
		return fmt.Sprintf("%s may not import %s, only %s may: %s", f.pkg, name, strings.Join(r.only, ", "), r.why)
	}
	if f.test {
		return ""
	}
	if slices.Contains(forTests, name) && f.pkg != measures {
		return fmt.Sprintf("%s is for tests: only _test.go files may import it", name)
	}
	allowed, closed := minimal[f.pkg]
	if standard := !ours && !strings.Contains(strings.Split(name, "/")[0], "."); closed && !standard && !slices.Contains(allowed, name) {
		return fmt.Sprintf("%s may not import %s: besides the standard library it has only %v, so that services which verify tokens link little", f.pkg, name, allowed)
	}
	if ours {
		return levelFault(f.pkg, name)
	}
	return ""
}

// levelFault says whether an import of a package of ours goes up. A package
// without a level is a fault of its own.
func levelFault(pkg, imported string) string {
	switch level, known := levels[imported]; {
	case under(imported, pkg):
		return fmt.Sprintf("%s may not import %s, which is below it: a folder's root package holds what its sub-packages share", pkg, imported)
	case known && level >= levels[pkg]:
		return fmt.Sprintf("%s (level %d) may not import %s (level %d): imports go down only", pkg, levels[pkg], imported, level)
	}
	return ""
}

// under reports whether a path is another or below it.
func under(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// begins lists what in a file begins a transaction.
func begins(tree *ast.File) (found []string) {
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if slices.Contains(beginners, n.Sel.Name) {
				found = append(found, n.Sel.Name)
			}
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && beginSQL.MatchString(text) {
				found = append(found, n.Value)
			}
		}
		return true
	})
	return found
}

// moduleFiles parses every Go file of the module, for whatever system it is.
func moduleFiles(t *testing.T) (files []source) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if entry.IsDir() && name != root {
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
				return fs.SkipDir // another module
			}
		}
		if filepath.Ext(name) != ".go" || entry.IsDir() {
			return nil
		}
		tree, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(name))
		files = append(files, source{filepath.ToSlash(folder), entry.Name(), strings.HasSuffix(name, "_test.go"), tree})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestImports(t *testing.T) {
	files := moduleFiles(t)
	for _, fault := range faults(files) {
		t.Error(fault)
	}
	seen := map[string]bool{}
	for _, f := range files {
		if _, known := levels[f.pkg]; !known && !seen[f.pkg] {
			t.Errorf("package %s has no level: add it to levels in deps_test.go, above all that it may import", f.pkg)
		}
		seen[f.pkg] = true
	}
	for _, pkg := range []string{"oauth", "oauth/bearer", "oauth/grant", "keys", "workspace/manage", "deploy/schema", "cmd/tokenbooth"} {
		if !seen[pkg] {
			t.Errorf("package %s was not found: this test looks in the wrong place", pkg)
		}
	}
}

// The rules find what breaks them, each once and in a sentence that helps.
func TestImportRules(t *testing.T) {
	ours := func(pkg string) string { return "import _ \"" + module + pkg + "\"\n" }
	other := func(path string) string { return "import _ \"" + path + "\"\n" }
	for _, c := range []struct{ file, text, fault string }{
		{"keys/x.go", other("github.com/labstack/echo/v4"),
			"keys/x.go: keys may not import github.com/labstack/echo/v4, only oauth/endpoint, workspace/adminhttp, workspace/console, cmd/tokenbooth, deploy/bench may: a port"},
		{"keys/store.go", "func f(db DB) { db.BeginTxx(ctx, nil) }", "keys/store.go: BeginTxx begins a transaction: take the caller's"},
		{"keys/store.go", "func f(db DB) { db.InTx(ctx, nil) }", "keys/store.go: InTx begins a transaction"},
		{"keys/store.go", "var f = DB.MustBegin", "MustBegin begins a transaction"},
		{"keys/store.go", "const q = ` begin immediate; UPDATE keys`", "begins a transaction"},
		{"keys/store.go", `const q = "BEGIN"`, "begins a transaction"},
		{"keys/store.go", `const q = "START TRANSACTION READ ONLY"`, "begins a transaction"},
		{"oauth/grant/x.go", other("github.com/go-oauth2/oauth2/v4/store"), "nobody may import github.com/go-oauth2/oauth2/v4/store: it keeps secrets"},
		{"oauth/endpoint/x.go", other("github.com/go-oauth2/oauth2/v4"), "only oauth/grant may"},
		{"oauth/endpoint/x_test.go", other("github.com/go-oauth2/oauth2/v4/manage"), "only oauth/grant may"},
		{"deploy/schema/schematest/redis.go", other("github.com/redis/go-redis/v9"), "deploy/schema/schematest may not import github.com/redis/go-redis/v9"},
		{"keys/x_test.go", other("modernc.org/sqlite"), "only deploy/schema may"},
		{"workspace/x.go", other("github.com/jackc/pgx/v5/pgconn"), "only deploy/schema may"},
		{"workspace/manage/x.go", ours("oauth/endpoint"), "only cmd/tokenbooth may: HTTP is an edge"},
		{"workspace/console/x.go", ours("workspace/adminhttp"), "only cmd/tokenbooth may: HTTP is an edge"},
		{"keys/x.go", ours("deploy/schema/schematest"), "deploy/schema/schematest is for tests"},
		{"keys/x.go", ours("keys/jwk"), "keys may not import keys/jwk, which is below it"},
		{"workspace/x.go", ours("workspace/audit"), "workspace may not import workspace/audit, which is below it"},
		{"keys/x.go", ours("policy"), "keys (level 2) may not import policy (level 3): imports go down only"},
		{"oauth/grant/x.go", ours("workspace/manage"), "oauth/grant (level 5) may not import workspace/manage (level 5)"},
		{"oauth/bearer/x.go", ours("keys"), "oauth/bearer may not import keys: besides the standard library it has only [oauth keys/jwk github.com/golang-jwt/jwt/v5]"},
		{"oauth/bearer/x.go", other("golang.org/x/sync/singleflight"), "oauth/bearer may not import golang.org/x/sync/singleflight"},
		{"keys/jwk/x.go", other("github.com/golang-jwt/jwt/v5"), "keys/jwk may not import github.com/golang-jwt/jwt/v5"},
		{"oauth/x.go", ours("workspace"), "oauth may not import workspace"},

		{"oauth/bearer/x.go", ours("keys/jwk") + ours("oauth") + other("github.com/golang-jwt/jwt/v5") + other("net/http"), ""},
		{"oauth/grant/x.go", other("github.com/go-oauth2/oauth2/v4/manage") + ours("policy/quota") + ours("keys/signing"), ""},
		{"oauth/grant/x_test.go", ours("workspace/manage") + ours("deploy/schema/schematest") + ours("oauth/grant"), ""},
		{"oauth/endpoint/x_test.go", ours("oauth/endpoint") + other("github.com/labstack/echo/v4"), ""},
		{"workspace/manage/x.go", "func f(db DB) { db.InTx(ctx, nil) }", ""},
		{"deploy/schema/x.go", other("github.com/jackc/pgx/v5/stdlib") + `const q = "BEGIN"`, ""},
		{"keys/store_test.go", "func f(db DB) { db.InTx(ctx, nil) }", ""},
		{"keys/store.go", `const a, b, c = "begin a transaction: %w", "beginning", "-----BEGIN KEY-----"`, ""},
	} {
		tree, err := parser.ParseFile(token.NewFileSet(), c.file, "package p\n"+c.text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		found := faults([]source{{path.Dir(c.file), path.Base(c.file), strings.HasSuffix(c.file, "_test.go"), tree}})
		switch {
		case c.fault == "" && len(found) > 0:
			t.Errorf("%s with %q: %q, want no fault", c.file, c.text, found)
		case c.fault != "" && (len(found) != 1 || !strings.Contains(found[0], c.fault)):
			t.Errorf("%s with %q: %q, want one fault that says %q", c.file, c.text, found, c.fault)
		}
	}
}
