package main

import (
	"bytes"
	"flag"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

var picturesDir = flag.String("pictures", "", "keep the console's pictures in this `directory`")

// The pictures of the documentation are of real pages: `make screenshots`.
func TestPictures(t *testing.T) {
	t.Parallel()
	dir := *picturesDir
	if dir == "" {
		dir = t.TempDir()
	}
	d, _ := furnished(t)
	b := newTab(t)
	b.acceptDialogs() // leaving the reveal page is asked about
	b.open(d.ConsoleURL)
	b.do(chromedp.EmulateViewport(1280, 860))
	taken := map[string][]byte{}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		for _, page := range []struct {
			name string
			open func()
		}{
			{"keys", func() { b.open(d.Issuer + "/w/demo/keys") }},
			{"create", func() {
				b.open(d.Issuer + "/w/demo/keys/new?name=gitlab-ci-" + scheme + "&description=Deploys+from+main&scope=collectors:read&scope=pipelines:read&scope=pipelines:create")
			}},
			{"reveal", func() { b.press("main form[method=post] button[type=submit]") }},
			{"detail", func() { b.open(d.Issuer + "/w/demo/keys/" + keyNamed(t, d, "gitlab-ci-deploy")) }},
			{"audit", func() { b.open(d.Issuer + "/w/demo/audit") }},
		} {
			page.open()
			picture := ask(b, chromedp.CaptureScreenshot())
			if _, err := png.Decode(bytes.NewReader(picture)); err != nil {
				t.Fatalf("%s: %v", page.name, err)
			}
			if scheme == "dark" && bytes.Equal(picture, taken[page.name]) {
				t.Errorf("%s looks the same in the dark", page.name)
			}
			taken[page.name] = picture
			if err := os.WriteFile(filepath.Join(dir, "console-"+page.name+"-"+scheme+".png"), picture, 0o644); err != nil { //nolint:gosec // for everybody
				t.Fatal(err)
			}
		}
	}
	b.clean()
}

// keyNamed finds the ID of the demo's key of a name.
func keyNamed(t *testing.T, d *devServer, name string) string {
	t.Helper()
	found := get(t, d.APIURL+"/workspaces/"+d.Workspace+"/keys?q="+name, d.AdminKey)
	list, _ := found.body["data"].([]any)
	for _, item := range list {
		if key, ok := item.(map[string]any); ok && strings.EqualFold(key["name"].(string), name) {
			return key["client_id"].(string)
		}
	}
	t.Fatalf("there is no key %s: %v", name, found.body)
	return ""
}
