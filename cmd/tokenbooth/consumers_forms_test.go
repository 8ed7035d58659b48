package main

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// consumerPageNames are the pages of deploy/docs/consumers, without their index.
func consumerPageNames(t *testing.T) (names []string) {
	t.Helper()
	paths, err := filepath.Glob("../../deploy/docs/consumers/*.md")
	check(t, err)
	for _, path := range paths {
		if name := strings.TrimSuffix(filepath.Base(path), ".md"); name != "README" {
			names = append(names, name)
		}
	}
	if len(names) < 10 {
		t.Fatalf("there are pages for %v", names)
	}
	return names
}

// Every page has the same parts, is in the index, and says whether it is tested; its
// audience is one that serve takes, with a token of the form that the page says, and
// all its YAML is YAML.
func TestConsumerPagesAreWhole(t *testing.T) {
	t.Parallel()
	index, err := os.ReadFile("../../deploy/docs/consumers/README.md")
	check(t, err)
	for _, name := range consumerPageNames(t) {
		text, err := os.ReadFile("../../deploy/docs/consumers/" + name + ".md")
		check(t, err)
		for _, part := range []string{"## The audience", "## What is checked", "## Traps", "## Revocation", "## Try it"} {
			if !strings.Contains(string(text), "\n"+part+"\n") {
				t.Errorf("%s.md has no part %q", name, part)
			}
		}
		line := strings.SplitN(string(text), "\n", 4)[2]
		if !strings.HasPrefix(line, "*Our tests run ") && !strings.HasPrefix(line, "*Not run in our tests, since ") {
			t.Errorf("%s.md does not say whether it is tested: %q", name, line)
		}
		if !strings.Contains(string(index), "("+name+".md)") {
			t.Errorf("the index lacks %s.md", name)
		}
		for _, block := range pageBlocks(t, "consumers/"+name+".md", "") {
			if block.language == "yaml" {
				wantYAML(t, name, block.text)
			}
		}
		page := readConsumerPage(t, name)
		config := filepath.Join(t.TempDir(), "tokenbooth.yaml")
		check(t, os.WriteFile(config, []byte(page.files["tokenbooth.yaml"]), 0o600))
		env := onSQLite(t.TempDir(), "TOKENBOOTH_CONFIG="+config)
		tool(t, env, "", "config", "check").wants(t, name+".md", exitOK, "")
	}
}

func wantYAML(t *testing.T, page, text string) {
	t.Helper()
	documents := yaml.NewDecoder(strings.NewReader(text))
	for {
		var document any
		if err := documents.Decode(&document); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("%s.md: %v\n%s", page, err, text)
			return
		}
	}
}

// Envoy's configuration has the fields and values that Envoy's API knows.
func TestEnvoyPage(t *testing.T) {
	t.Parallel()
	directory := readConsumerPage(t, "envoy").write(t, strings.NewReplacer())
	checker, path := buildConsumer(t, "envoy", "."), filepath.Join(directory, "envoy.yaml")
	if out, err := exec.CommandContext(t.Context(), checker, path).CombinedOutput(); err != nil {
		t.Errorf("the configuration is wrong: %v\n%s", err, out)
	}
	// It notices a name that is none, deep within.
	text, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "cache_duration:", "cache_time:")), 0o600))
	if err := exec.CommandContext(t.Context(), checker, path).Run(); err == nil {
		t.Error("the checker takes anything")
	}
}

// PostgREST sets a token's claims and becomes its role; the page's policies do the
// rest.
func TestPostgRESTPage(t *testing.T) {
	t.Parallel()
	page := readConsumerPage(t, "postgrest")
	config := filepath.Join(t.TempDir(), "tokenbooth.yaml")
	check(t, os.WriteFile(config, []byte(page.audiences(t)), 0o600))
	env := onSQLite(t.TempDir(), "TOKENBOOTH_CONFIG="+config)
	made := bootstrapped(t, env, append(bootstrapArgs("Payments", "ci"), "--scope", "collectors:read", "--scope", "collectors:create")...)
	server := serveReady(t, env)
	token := func(scope string) string {
		return string(tokenPayload(t, wantTokenFor(t, server.url, made.key(), scope, "")))
	}

	db, err := sql.Open("pgx", schematest.PostgresURL(t))
	check(t, err)
	t.Cleanup(func() {
		_, err := db.ExecContext(context.Background(), "drop schema api cascade; drop schema token cascade; drop role api_client; drop role authenticator")
		check(t, errors.Join(err, db.Close()))
	})
	_, err = db.ExecContext(t.Context(), page.files["api.sql"])
	check(t, err)
	// as does what PostgREST does for a request.
	as := func(claims string, do func(*sql.Tx) error) error {
		t.Helper()
		tx, err := db.BeginTx(t.Context(), nil)
		check(t, err)
		_, err = tx.ExecContext(t.Context(), "set local role api_client")
		check(t, err)
		_, err = tx.ExecContext(t.Context(), "select set_config('request.jwt.claims', $1, true)", claims)
		check(t, err)
		if err := do(tx); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	}
	create := func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "insert into api.collectors (workspace, name) values (coalesce(token.claim('workspace_id'), ''), 'one')")
		return err
	}
	counted := func(claims string) (n int) {
		t.Helper()
		check(t, as(claims, func(tx *sql.Tx) error {
			return tx.QueryRowContext(t.Context(), "select count(*) from api.collectors").Scan(&n)
		}))
		return n
	}
	if err := as(token("collectors:create"), create); err != nil {
		t.Errorf("with the scope: %v", err)
	}
	if as(token("collectors:read"), create) == nil || as("", create) == nil {
		t.Error("a row is created without the scope")
	}
	if n := counted(token("collectors:read")); n != 1 {
		t.Errorf("a reader sees %d rows, want 1", n)
	}
	stranger := strings.ReplaceAll(token("collectors:read"), `"workspace_id":"ws_`, `"workspace_id":"wt_`)
	for what, claims := range map[string]string{"without the scope": token("collectors:create"), "of another workspace": stranger, "without a token": ""} {
		if n := counted(claims); n != 0 {
			t.Errorf("%s one sees %d rows, want none", what, n)
		}
	}
	if !strings.Contains(token(""), `"role":"api_client"`) {
		t.Errorf("the token has no role: %s", token(""))
	}
}
