package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// loadOptions is what the command line says about the configuration.
type loadOptions struct {
	file      string     // --config; empty means TOKENBOOTH_CONFIG, and that may be unset
	overrides []override // in the order given
}

// override is one value given on the command line.
type override struct {
	flag string // how it was given, such as --listen
	text string // KEY=VALUE
}

// addConfigFlags adds the flags that every command takes.
func addConfigFlags(flags *pflag.FlagSet, options *loadOptions) {
	flags.StringVar(&options.file, "config", "", "read the configuration `FILE`, YAML (or TOKENBOOTH_CONFIG)")
	named := func(key, usage string) {
		flags.Func(key, usage, func(value string) error {
			options.overrides = append(options.overrides, override{"--" + key, key + "=" + value})
			return nil
		})
	}
	named("listen", "serve on `HOST:PORT`")
	named("issuer", "the public `URL` of this service")
	named("data", "keep the embedded database and secrets in `DIRECTORY`")
	flags.Func("set", "set any setting that is no secret, as `KEY=VALUE`; repeatable", func(text string) error {
		options.overrides = append(options.overrides, override{"--set", text})
		return nil
	})
}

// Load returns the configuration: flags over environment over file over default.
// The warnings are sentences for the operator. The error, a configError, names
// everything that is wrong at once; no secret is ever part of either.
func Load(env *environment, options loadOptions) (*Config, []string, error) {
	r := resolve(env, options)
	return r.config, r.warnings, r.err()
}

// configError is every problem of a configuration.
type configError struct{ problems []string }

func (e *configError) Error() string {
	if len(e.problems) == 1 {
		return "the configuration is not usable: " + e.problems[0]
	}
	return fmt.Sprintf("the configuration has %d problems:\n  %s", len(e.problems), strings.Join(e.problems, "\n  "))
}

// resolution is a configuration on its way from its sources.
type resolution struct {
	config   *Config
	settings []*setting
	warnings []string
	problems []string
}

// resolve gathers the configuration and everything that is wrong with it.
func resolve(env *environment, options loadOptions) *resolution {
	config := new(Config)
	r := &resolution{config: config, settings: settings(config)}
	for _, s := range r.settings {
		r.assignText(s, fromDefault, s.initial)
	}
	r.readFile(env, options.file)
	r.readEnvironment(env)
	r.readOverrides(options.overrides)
	r.derive()
	for _, s := range r.settings {
		r.validate(s)
	}
	return r
}

func (r *resolution) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	return exitWith(exitFailure, &configError{r.problems},
		"`tokenbooth config print` shows every setting and where it comes from")
}

func (r *resolution) problemf(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// reject records what is wrong with a value of s.
func (r *resolution) reject(s *setting, err error) {
	r.problemf("%s (%s): %v; it accepts %s", s.key, s.source, err, s.accepts)
}

// assign lets one source set s. The store function must leave the field alone
// when it fails.
func (r *resolution) assign(s *setting, source string, store func() error) {
	s.source = source
	for _, err := range causes(store()) {
		s.failed = true
		r.reject(s, err)
	}
}

func (r *resolution) assignText(s *setting, source, text string) {
	r.assign(s, source, func() error { return parse(s.field, text) })
}

func (r *resolution) find(key string) *setting {
	for _, s := range r.settings {
		if s.key == key {
			return s
		}
	}
	return nil
}

// readEnvironment applies the variables. An empty variable counts as unset, since
// that is what container files make of a variable that is not there.
func (r *resolution) readEnvironment(env *environment) {
	for _, s := range r.settings {
		name := s.variable()
		value := env.getenv(name)
		path := ""
		if s.secret {
			path = env.getenv(name + "_FILE")
		}
		switch {
		case value != "" && path != "":
			r.problemf("%s: %s and %s_FILE are both set; unset one of them", s.key, name, name)
		case path != "":
			r.assignSecretFile(s, path)
		case value != "":
			r.assignText(s, "environment "+name, value)
		}
	}
	r.warnUnknownVariables(env)
}

// assignSecretFile reads a secret from a file, as orchestrators mount it. One that
// everybody may read only warns: inside a container, where that is their default
// mode, there is nobody else.
func (r *resolution) assignSecretFile(s *setting, path string) {
	name := s.variable() + "_FILE"
	r.warnIfReadable(path, s.key)
	content, err := os.ReadFile(path)
	if err != nil {
		r.problemf("%s (%s): cannot read %s: %v; give the path of a readable file", s.key, name, path, reason(err))
		return
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" { // falling back to the default would start another installation
		r.problemf("%s (%s): %s is empty; it accepts %s", s.key, name, path, s.accepts)
		return
	}
	r.assignText(s, "file "+path+" from "+name, secret)
}

// reason is what the system said, without the path that os repeats.
func reason(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

func (r *resolution) warnUnknownVariables(env *environment) {
	known := []string{"TOKENBOOTH_CONFIG"}
	for _, s := range r.settings {
		known = append(known, s.variable())
		if s.secret {
			known = append(known, s.variable()+"_FILE")
		}
	}
	for _, entry := range slices.Sorted(slices.Values(env.environ)) {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "TOKENBOOTH_") && !isForeign(name) && !slices.Contains(known, name) {
			r.warnings = append(r.warnings, fmt.Sprintf("the variable %s is not a setting and is ignored%s", name, didYouMean(name, known)))
		}
	}
}

// isForeign reports whether a TOKENBOOTH_ variable is somebody else's: a client's, or
// one of those that Kubernetes gives each pod beside a Service named tokenbooth.
func isForeign(name string) bool {
	switch strings.TrimPrefix(name, "TOKENBOOTH_") {
	case "URL", "CLIENT_ID", "CLIENT_SECRET", "CLIENT_SECRET_FILE", "TOKEN", "TOKEN_FILE", "CA_CERT", "PROFILE", "CLI_CONFIG", "WORKSPACE", "AUDIENCE", "SCOPE":
		return true
	}
	return strings.HasPrefix(name, "TOKENBOOTH_SERVICE_") || strings.HasPrefix(name, "TOKENBOOTH_PORT")
}

// readOverrides applies the command line.
func (r *resolution) readOverrides(overrides []override) {
	given := map[string]string{} // key to the flag that gave it
	for _, o := range overrides {
		key, value, ok := strings.Cut(o.text, "=")
		s := r.find(key)
		switch {
		case !ok:
			r.problemf("--set takes KEY=VALUE, such as --set log.level=debug")
		case s == nil:
			r.problemf("--set: unknown key %q%s", key, didYouMean(key, r.names()))
		case s.secret:
			r.problemf("%s (%s): a secret on the command line can be read by every user of the machine; use %s_FILE, %s or the configuration file",
				key, o.flag, s.variable(), s.variable())
		case given[key] != "":
			r.problemf("%s is given twice on the command line, by %s and by %s; remove one", key, given[key], o.flag)
		default:
			given[key] = o.flag
			r.assignText(s, o.flag, value)
		}
	}
}

// derive fills what follows from other settings when nobody set it.
func (r *resolution) derive() {
	c := r.config
	if c.Issuer == "" {
		if c.Issuer = localIssuer(c.Listen); c.Issuer != "" {
			r.find("issuer").source = fromDefault + ", from listen"
		}
	}
	if c.Database.URL == "" {
		c.Database.URL = "sqlite:" + filepath.Join(c.Data, "tokenbooth.db")
		r.find("database.url").source = fromDefault + ", from data"
	}
}

// validate checks the value that s ended up with.
func (r *resolution) validate(s *setting) {
	if s.failed || s.check == nil {
		return
	}
	for _, err := range causes(s.check()) {
		r.reject(s, err)
	}
}

// causes is the errors that errors.Join put together, or the one error, or none.
func causes(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}
