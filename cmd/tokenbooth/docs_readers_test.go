package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
)

// preparations make what a page takes for granted.
var preparations = map[string]func(*testing.T, *reader){
	"cli.md":                      withOwner,
	"login.md":                    withKey,
	"policy.md":                   withOwner,
	"quotas.md":                   withOwner,
	"revocation.md":               withOwner,
	"signing-keys.md":             withInstallation,
	"tools.md":                    withJob,
	"tutorials/production.md":     withServers,
	"tutorials/protect-an-api.md": withModule,
}

// withDemo has a Tokenbooth at the address that pages use.
func withDemo(t *testing.T, r *reader) *devServer {
	t.Helper()
	d := devReady(t)
	r.places["https://login.example.com"] = d.Issuer
	r.env = append(r.env, "TOKENBOOTH_URL="+d.Issuer)
	return d
}

// withKey has a service's key in its environment.
func withKey(t *testing.T, r *reader) {
	t.Helper()
	d := withDemo(t, r)
	r.env = append(r.env, "TOKENBOOTH_CLIENT_ID="+d.ClientID, "TOKENBOOTH_CLIENT_SECRET="+d.ClientSecret)
}

// withJob has a service's key in a file, as a platform would put it there, a service
// that takes its tokens, and what a job may have lying about.
func withJob(t *testing.T, r *reader) {
	t.Helper()
	d := withDemo(t, r)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if !strings.HasPrefix(request.Header.Get("Authorization"), "Bearer eyJ") {
			t.Error("a request has no token")
		}
	}))
	t.Cleanup(service.Close)
	r.places["https://api.example.com/collectors"] = service.URL
	r.places["/run/secrets/tokenbooth"] = r.put("tokenbooth", d.ClientSecret)
	r.places["/etc/postgrest/jwks.json"] = filepath.Join(r.dir, "jwks.json")
	r.put("leaked-token", wantToken(t, d.Issuer, d.key()))
	if err := os.Chmod(r.put("deploy.sh", "#!/bin/sh\ntest -n \"$TOKENBOOTH_TOKEN\""), 0o700); err != nil {
		t.Fatal(err)
	}
}

// withOwner has an owner's key in a file, is logged in with it, and has a key to manage.
func withOwner(t *testing.T, r *reader) {
	t.Helper()
	d := withDemo(t, r)
	r.put("secret", d.AdminKey)
	r.env = append(r.env, "URL="+d.Issuer, "KEY="+d.Fixtures["disabled"].ClientID)
	first := r.open()
	if printed, ok := first.paste(step{}, "tokenbooth login --client-secret-stdin <secret\n"); !ok {
		t.Fatal(printed)
	}
}

// withInstallation has an installation of its own with a server.
func withInstallation(t *testing.T, r *reader) {
	t.Helper()
	env := onSQLite(t.TempDir())
	serveReady(t, env)
	r.env = append(r.env, env...)
}

// put writes a file where the reader works.
func (r *reader) put(name, text string) (path string) {
	r.t.Helper()
	path = filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// withServers has a database and a Redis of the page's own.
func withServers(t *testing.T, r *reader) {
	t.Helper()
	r.places["postgres://tokenbooth:PASSWORD@127.0.0.1:5432/tokenbooth"] = schematest.PostgresURL(t)
	r.places["redis://127.0.0.1:6379/0"] = "redis://" + schematest.PrivateRedis(t).Address() + "/0"
}

// withModule lets the go command find this module as it is here, by a proxy in files,
// and all others where they have been downloaded already.
func withModule(t *testing.T, r *reader) {
	t.Helper()
	name := strings.TrimSuffix(module, "/")
	proxy := t.TempDir()
	dir := filepath.Join(proxy, filepath.FromSlash(name), "@v")
	mod, err := os.ReadFile("../../go.mod")
	if err := errors.Join(err, os.MkdirAll(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	const version = "v0.0.1"
	for file, content := range map[string][]byte{
		"list": []byte(version + "\n"), version + ".info": []byte(`{"Version":"` + version + `"}`),
		version + ".mod": mod, version + ".zip": zipped(t, name+"@"+version+"/"),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.env = append(r.env,
		"GOPROXY=file://"+proxy+",file://"+filepath.Join(goEnv(t, "GOMODCACHE"), "cache", "download"),
		"GOMODCACHE="+t.TempDir(), "GOCACHE="+goEnv(t, "GOCACHE"), "GOFLAGS=-modcacherw", "GOSUMDB=off", "GOTOOLCHAIN=local", "GOWORK=off")
}

// zipped is the part of this module that services link, with the prefix of a module's
// archive.
func zipped(t *testing.T, prefix string) []byte {
	t.Helper()
	var content bytes.Buffer
	archive := zip.NewWriter(&content)
	for _, pattern := range []string{"go.mod", "oauth/*.go", "oauth/bearer/*.go", "keys/jwk/*.go"} {
		paths, err := filepath.Glob("../../" + pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: there are no files, error %v", pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel("../..", path) // both are relative
			file, err := archive.Create(prefix + filepath.ToSlash(name))
			if err == nil {
				_, err = file.Write(text)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return content.Bytes()
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	value, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(fmt.Errorf("go env %s: %w", name, err))
	}
	return strings.TrimSpace(string(value))
}
