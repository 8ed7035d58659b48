package packaging

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestReleaseVersion(t *testing.T) {
	t.Parallel()
	var told map[string]string
	if err := json.Unmarshal([]byte(output(t, nil, binary(t), "version", "-o", "json")), &told); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"version": version, "commit": commit, "time": sourceTime, "go": runtime.Version(), "platform": "linux/" + runtime.GOARCH,
	} {
		if told[key] != want {
			t.Errorf("version -o json says %q for %s, want %q", told[key], key, want)
		}
	}
	want := "tokenbooth " + version + " (commit " + commit + ", " + sourceTime + ", " + runtime.Version() + ", linux/" + runtime.GOARCH + ")\n"
	if got := output(t, nil, binary(t), "version"); got != want {
		t.Errorf("version says %q, want %q", got, want)
	}
}

// A copy of the sources in another place, without a repository, gives the same bytes.
func TestReleaseIsReproducible(t *testing.T) {
	t.Parallel()
	first := released(t)
	tree, second := filepath.Join(t.TempDir(), "elsewhere"), t.TempDir()
	copySources(t, tree)
	if err := makeRelease(tree, second); err != nil {
		t.Fatal(err)
	}
	names := listed(t, first)
	if again := listed(t, second); !slices.Equal(names, again) {
		t.Fatalf("the second release has %q, the first %q", again, names)
	}
	for _, name := range names {
		if read(t, filepath.Join(first, name)) != read(t, filepath.Join(second, name)) {
			t.Errorf("%s of two builds differs", name)
		}
	}
}

// copySources copies what the repository would hold.
func copySources(t *testing.T, to string) {
	t.Helper()
	err := filepath.WalkDir(sources, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(sources, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "bin", ".tools", "node_modules", "tokenbooth-data", "secrets"}, entry.Name()) {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
}

func listed(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestReleaseSums(t *testing.T) {
	t.Parallel()
	dir := released(t)
	want := []string{"SHA256SUMS", "release-notes.md", "tokenbooth_1.2.3_" + runtime.GOARCH + ".deb", tarball() + ".cdx.json", tarball() + ".tar.gz"}
	if got := listed(t, dir); !slices.Equal(got, want) {
		t.Fatalf("the release has %q, want %q", got, want)
	}
	var summed []string
	for line := range strings.Lines(read(t, filepath.Join(dir, "SHA256SUMS"))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if digest := sha256.Sum256([]byte(read(t, filepath.Join(dir, name)))); sum != hex.EncodeToString(digest[:]) {
			t.Errorf("SHA256SUMS has %s for %s", sum, name)
		}
		summed = append(summed, name)
	}
	if !slices.Equal(summed, want[1:]) {
		t.Errorf("SHA256SUMS has %q, want %q", summed, want[1:])
	}
	if notes := read(t, filepath.Join(dir, "release-notes.md")); !strings.HasPrefix(notes, "# Tokenbooth "+version+"\n") || !strings.Contains(notes, "\n- ") {
		t.Errorf("the notes are %.300q", notes)
	}
}

func TestReleaseArchive(t *testing.T) {
	t.Parallel()
	found := map[string]fs.FileMode{}
	err := eachEntry(filepath.Join(released(t), tarball()+".tar.gz"), func(h *tar.Header, _ io.Reader) error {
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 1764500000 {
			t.Errorf("%s belongs to %d:%d and is of %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		found[strings.TrimPrefix(h.Name, tarball()+"/")] = h.FileInfo().Mode().Perm()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{
		"tokenbooth": 0o755, "LICENSE": 0o644, "README.md": 0o644, "CHANGELOG.md": 0o644, "config.yaml": 0o644,
		"systemd/tokenbooth.service": 0o644, "systemd/tokenbooth-admin": 0o755, "completions/tokenbooth.bash": 0o644,
	} {
		if found[name] != mode {
			t.Errorf("%s has mode %o, want %o", name, found[name], mode)
		}
	}
}

// The bill of materials names the binary in the archive and every module in it.
func TestReleaseBill(t *testing.T) {
	t.Parallel()
	var bill struct {
		BOMFormat, SpecVersion, SerialNumber string
		Metadata                             struct {
			Timestamp string
			Component struct {
				Version string
				Hashes  []struct{ Alg, Content string }
			}
		}
		Components   []struct{ Name, Version, PURL string }
		Dependencies []struct{ DependsOn []string }
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(released(t), tarball()+".cdx.json"))), &bill); err != nil {
		t.Fatal(err)
	}
	if bill.BOMFormat != "CycloneDX" || bill.SpecVersion != "1.6" || bill.Metadata.Component.Version != version || bill.Metadata.Timestamp != sourceTime {
		t.Errorf("the bill begins with %+v", bill)
	}
	digest := sha256.Sum256([]byte(read(t, binary(t))))
	if hashes := bill.Metadata.Component.Hashes; len(hashes) != 1 || hashes[0].Content != hex.EncodeToString(digest[:]) {
		t.Errorf("the bill is of %v, not of the binary in the archive", hashes)
	}
	linked := map[string]string{"std": strings.TrimPrefix(runtime.Version(), "go")}
	for line := range strings.Lines(output(t, goEnvironment(t), "go", "version", "-m", binary(t))) {
		if fields := strings.Fields(line); len(fields) >= 3 && fields[0] == "dep" {
			linked[fields[1]] = fields[2]
		}
	}
	if len(linked) < 20 || len(bill.Components) != len(linked) || len(bill.Dependencies) != 1 || len(bill.Dependencies[0].DependsOn) != len(linked) {
		t.Errorf("the bill has %d components, the binary %d modules", len(bill.Components), len(linked))
	}
	for _, c := range bill.Components {
		if linked[c.Name] != c.Version || c.PURL != "pkg:golang/"+c.Name+"@"+strings.ReplaceAll(c.Version, "+", "%2B") {
			t.Errorf("the bill has %+v, the binary %q", c, linked[c.Name])
		}
	}
}

// No path of the machine that builds is in the binary.
func TestReleaseTellsNoPaths(t *testing.T) {
	t.Parallel()
	here, err := filepath.Abs(sources)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains([]byte(read(t, binary(t))), []byte(here+"/")) {
		t.Errorf("the binary holds the path %s", here)
	}
}
