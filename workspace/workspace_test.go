package workspace_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/workspace"
)

func TestSlug(t *testing.T) {
	for name, want := range map[string]string{
		"Acme Payments": "acme-payments", "  Acme  &  Söhne ": "acme-s-hne", "--a--": "a", "!!!": "", "日本": "",
		strings.Repeat("a", 62) + " b": strings.Repeat("a", 62), strings.Repeat("a", 70): strings.Repeat("a", 63),
	} {
		if got := workspace.Slug(name); got != want {
			t.Errorf("Slug(%q) = %q, want %q", name, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		slug := workspace.Slug(rapid.String().Draw(t, "name"))
		if err := (workspace.Workspace{Slug: slug, Name: "a"}).Validate(); slug != "" && err != nil {
			t.Fatalf("a derived slug is refused: %v", err)
		}
	})
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("a", 64)
	for name, test := range map[string]struct {
		err   error
		valid bool
	}{
		"workspace":                   {workspace.Workspace{Slug: "acme-2", Name: "Acme & Söhne 日本"}.Validate(), true},
		"workspace of one letter":     {workspace.Workspace{Slug: "a", Name: "a"}.Validate(), true},
		"slug empty":                  {workspace.Workspace{Slug: "", Name: "a"}.Validate(), false},
		"slug with an underscore":     {workspace.Workspace{Slug: "a_b", Name: "a"}.Validate(), false},
		"slug in capitals":            {workspace.Workspace{Slug: "A", Name: "a"}.Validate(), false},
		"slug with a hyphen in front": {workspace.Workspace{Slug: "-a", Name: "a"}.Validate(), false},
		"slug with a hyphen at last":  {workspace.Workspace{Slug: "a-", Name: "a"}.Validate(), false},
		"slug with a line break":      {workspace.Workspace{Slug: "a\n", Name: "a"}.Validate(), false},
		"slug too long":               {workspace.Workspace{Slug: long, Name: "a"}.Validate(), false},
		"name empty":                  {workspace.Workspace{Slug: "a", Name: " "}.Validate(), false},
		"name too long":               {workspace.Workspace{Slug: "a", Name: strings.Repeat("ü", 201)}.Validate(), false},
		"name with a control":         {workspace.Workspace{Slug: "a", Name: "a\x1b[31m"}.Validate(), false},
		"name with an override":       {workspace.Workspace{Slug: "a", Name: "a\u202eb"}.Validate(), false},
		"name that is not UTF-8":      {workspace.Workspace{Slug: "a", Name: "a\xff"}.Validate(), false},
		"account":                     {workspace.ServiceAccount{Name: "gitlab-ci", Role: "viewer"}.Validate(), true},
		"account with role and scope": {workspace.ServiceAccount{Name: "ci", Role: "viewer", Scopes: "a:b"}.Validate(), false},
		"account name with a space":   {workspace.ServiceAccount{Name: "git lab"}.Validate(), false},
		"account name too long":       {workspace.ServiceAccount{Name: long}.Validate(), false},
		"account described at length": {workspace.ServiceAccount{Name: "ci", Description: strings.Repeat("a", 1001)}.Validate(), false},
		"owner":                       {workspace.Member{Role: workspace.Owner}.Validate(), true},
		"unknown role":                {workspace.Member{Role: "admin"}.Validate(), false},
		"no role":                     {workspace.Member{}.Validate(), false},
	} {
		switch {
		case test.valid && test.err != nil:
			t.Errorf("%s: %v", name, test.err)
		case !test.valid && !errors.Is(test.err, workspace.ErrInvalid):
			t.Errorf("%s: %v, want ErrInvalid", name, test.err)
		}
	}
}

func TestNormalEmail(t *testing.T) {
	for _, c := range [][2]string{
		{"ada@example.com", "ada@example.com"}, {" Ada@Example.COM\n", "ada@example.com"}, {"a+b@example.com", "a+b@example.com"},
		{"ключ@пример.com", "ключ@пример.com"}, {"İ@EX.com", "İ@ex.com"}, {"K@ex.com", "K@ex.com"}, // neither is i@ex.com or k@ex.com
	} {
		address, want := c[0], c[1]
		if got, err := workspace.NormalEmail(address); err != nil || got != want {
			t.Errorf("NormalEmail(%q) = %q, %v; want %q", address, got, err, want)
		}
	}
	for _, address := range []string{"", "ada", "@example.com", "ada@", "Ada <ada@example.com>", "a@b@c", "a@b.c,d@e.f", "a b@example.com", "a\xff@example.com", "a\ufffd@example.com", "r\u043e\u043et@example.com", "root@ex\u0430mple.com", strings.Repeat("a", 250) + "@b.cd"} {
		if got, err := workspace.NormalEmail(address); !errors.Is(err, workspace.ErrInvalid) {
			t.Errorf("NormalEmail(%q) = %q, %v; want ErrInvalid", address, got, err)
		}
	}
}

// An instant comes back from a store as it went in.
func TestTimeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := workspace.At(time.UnixMicro(rapid.Int64Range(-1e15, 1e16).Draw(t, "µs")).In(time.FixedZone("", 3600)))
		value, err := want.Value()
		if err != nil {
			t.Fatal(err)
		}
		var got workspace.Time
		if err := got.Scan(value); err != nil || got != want {
			t.Fatalf("%s comes back as %s, %v", want, got, err)
		}
	})
	zero, err := workspace.Time{}.Value()
	if zero != nil || err != nil {
		t.Errorf("no time is stored as %v, %v; want NULL", zero, err)
	}
	got := workspace.At(time.Unix(1, 0))
	if err := got.Scan(nil); err != nil || !got.IsZero() {
		t.Errorf("NULL is read as %s, %v", got, err)
	}
	if err := got.Scan("2030-01-01"); err == nil {
		t.Error("text is read as a time")
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	last := ""
	for range 1000 {
		id := workspace.Unique()
		if len(id) != 26 || seen[id] || id <= last {
			t.Fatalf("%q comes after %q", id, last)
		}
		seen[id], last = true, id
	}
	got := []string{string(workspace.NewID())[:3], string(workspace.NewUserID())[:4], string(workspace.NewServiceAccountID())[:3]}
	if diff := cmp.Diff([]string{"ws_", "usr_", "sa_"}, got); diff != "" {
		t.Error(diff)
	}
}
