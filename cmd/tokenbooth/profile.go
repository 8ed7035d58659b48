package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// Where profiles are kept, and which one is used.
const (
	profilesVariable = "TOKENBOOTH_CLI_CONFIG"
	profileVariable  = "TOKENBOOTH_PROFILE"
)

// profile is a Tokenbooth and a key for it.
type profile struct {
	URL       string `yaml:"url"`
	ClientID  string `yaml:"client_id"`
	Secret    string `yaml:"secret"`
	Workspace string `yaml:"workspace"` // the slug of the one that commands are about
}

// profiles is the file that `tokenbooth login` writes.
type profiles struct {
	Current  string             `yaml:"current"`
	Profiles map[string]profile `yaml:"profiles"`

	path string
}

// profileName is what a profile may be called: the host of a URL fits.
var profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$`)

// profilesPath is where the file is (XDG Base Directory Specification); empty when
// there is no home.
func profilesPath(env *environment) string {
	if path := env.getenv(profilesVariable); path != "" {
		return path
	}
	base := env.getenv("XDG_CONFIG_HOME")
	if home := env.getenv("HOME"); !filepath.IsAbs(base) && home != "" {
		base = filepath.Join(home, ".config")
	}
	if !filepath.IsAbs(base) {
		return ""
	}
	return filepath.Join(base, "tokenbooth", "profiles.yaml")
}

// readProfiles reads the file. One that does not exist holds no profile.
func readProfiles(env *environment) (profiles, error) {
	file := profiles{Profiles: map[string]profile{}, path: profilesPath(env)}
	if file.path == "" {
		return file, nil
	}
	info, err := os.Stat(file.path)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return file, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return file, exitWith(exitFailure, fmt.Errorf("%s holds secrets, and others may read or write it", file.path), "chmod 600 "+shellQuote(file.path))
	}
	text, err := os.ReadFile(file.path)
	if err != nil {
		return file, err
	}
	if err := yaml.Unmarshal(text, &file); err != nil { // what the parser says may quote a secret
		return file, exitWith(exitFailure, fmt.Errorf("%s is not what tokenbooth login writes", file.path), "remove it, and log in again")
	}
	if file.Profiles == nil {
		file.Profiles = map[string]profile{}
	}
	return file, nil
}

// write replaces the file.
func (f *profiles) write() error {
	if f.path == "" {
		return exitWith(exitFailure, errors.New("there is no home to keep a profile in"), "set "+profilesVariable+" to a file")
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return err
	}
	return writeWhole(f.path, text, 0o600)
}

// find returns the profile of that name, or without a name the current one, which
// may be none.
func (f *profiles) find(name string) (profile, error) {
	if name == "" {
		return f.Profiles[f.Current], nil
	}
	p, ok := f.Profiles[name]
	if !ok {
		return p, exitWith(exitUsage, fmt.Errorf("there is no profile %s%s", safe(name), didYouMean(name, f.names())), "`tokenbooth profile list` shows them, `tokenbooth login` makes one")
	}
	return p, nil
}

func (f *profiles) names() []string { return slices.Sorted(maps.Keys(f.Profiles)) }

// chosenProfile is the one that a flag names, else the environment, else the
// current one.
func (o *clientOptions) chosenProfile(env *environment) (profile, error) {
	file, err := readProfiles(env)
	if err != nil {
		return profile{}, err
	}
	name := o.profile
	if name == "" {
		name = env.getenv(profileVariable)
	}
	return file.find(name)
}

// profileKey is the profile's key, if there is one and it is the one that is meant.
// It goes nowhere but to the profile's own URL.
func (o *clientOptions) profileKey(c *cobra.Command, env *environment) (profile, bool, error) {
	p, err := o.chosenProfile(env)
	if err != nil || p.Secret == "" {
		return p, false, err
	}
	target, err := o.issuerURL(c, env)
	switch {
	case err != nil:
		return p, false, err
	case target == p.URL:
		id := o.id
		if id == "" && o.profile == "" {
			id = env.getenv(clientIDVariable)
		}
		return p, id == "" || id == p.ClientID, nil
	case o.profile != "":
		return p, false, usagef(c, "the profile %s is for %s: its secret goes nowhere else", o.profile, p.URL)
	}
	return p, false, nil
}

func newProfileCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "profile",
		Short: "List the profiles of this machine, and choose one",
		Long: `Profile is about what tokenbooth login keeps on this machine: for each profile where
a Tokenbooth is, a key, and the workspace that commands are about.

Flags go before the environment, and the environment before the current profile. A
profile that --profile names goes before the environment as well.`,
		Example: `$ tokenbooth profile list
$ tokenbooth profile use staging
$ tokenbooth keys list --profile production`,
	}
	command.AddCommand(newProfileListCommand(env), newProfileUseCommand(env))
	return command
}

// shownProfile is a profile without its secret.
type shownProfile struct {
	Name      string `json:"name"`
	Current   bool   `json:"current"`
	URL       string `json:"url"`
	ClientID  string `json:"client_id"`
	Workspace string `json:"workspace"`
}

var profileColumns = []column[shownProfile]{
	{name: "current", text: func(p shownProfile) string { return yesNo(p.Current) }},
	{name: "name", text: func(p shownProfile) string { return p.Name }},
	{name: "url", text: func(p shownProfile) string { return p.URL }},
	{name: "client_id", text: func(p shownProfile) string { return p.ClientID }},
	{name: "workspace", text: func(p shownProfile) string { return p.Workspace }},
}

func newProfileListCommand(env *environment) *cobra.Command {
	var format outputFormat
	command := &cobra.Command{
		Use:     "list [-o FORMAT]",
		Short:   "Show the profiles",
		Long:    "List shows the profiles, without their secrets.",
		Example: "$ tokenbooth profile list -o json | jq -r '.[].url'",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := format.check(c); err != nil {
				return err
			}
			file, err := readProfiles(env)
			if err != nil {
				return err
			}
			shown := []shownProfile{}
			for _, name := range file.names() {
				p := file.Profiles[name]
				shown = append(shown, shownProfile{name, name == file.Current, p.URL, p.ClientID, p.Workspace})
			}
			return printList(env, format, shown, profileColumns)
		},
	}
	format.addFlag(command)
	return command
}

func newProfileUseCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "use NAME",
		Short:   "Make a profile the current one",
		Long:    "Use makes a profile the one that commands take when nothing else is said.",
		Example: "$ tokenbooth profile use login.example.com",
		Args:    argumentNames("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := readProfiles(env)
			if err != nil {
				return err
			}
			if _, err := file.find(args[0]); err != nil {
				return err
			}
			file.Current = args[0]
			return file.write()
		},
	}
}

// argumentNames wants exactly one argument for each name.
func argumentNames(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef(c, "%s is missing", names[len(args)])
		case len(args) > len(names):
			return usagef(c, "nothing goes after %s: %q is one too many", strings.Join(names, " "), args[len(names)])
		}
		for i, arg := range args {
			if strings.TrimSpace(arg) == "" {
				return usagef(c, "%s is empty", names[i])
			}
		}
		return nil
	}
}
