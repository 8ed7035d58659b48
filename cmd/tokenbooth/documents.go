package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// documents is what the commands of a policy and of a quota have in common: each is
// one document, which is read and set as a whole. D is what the API shows of it, I
// what it tells of a change.
type documents[D, I any] struct {
	noun     string // the last part of its address too
	members  []member
	columns  []column[D]
	findings func(I) []string       // what a change does, in words
	harms    func(I) string         // what a change takes away; empty: nothing
	print    func(*apiRun, I) error // a preview
}

// member is one of those of a document that can be set.
type member struct {
	name string
	read func(text string) (any, error)
}

// documentOptions is what the flags of such a command said.
type documentOptions struct {
	apiOptions
	organization bool
	file         string
	yes          bool
}

func (o *documentOptions) addOrganization(c *cobra.Command) {
	c.Flags().BoolVar(&o.organization, "organization", false, "that of the organization, instead of a workspace's")
	c.MarkFlagsMutuallyExclusive("organization", "workspace")
}

func (o *documentOptions) addFile(c *cobra.Command) {
	c.Flags().StringVar(&o.file, "file", "", "the whole document as JSON in this `FILE`, or - for standard input")
}

// documentPath is the address of a document.
func (o *documentOptions) documentPath(ctx context.Context, r *apiRun, noun string) (string, error) {
	if o.organization {
		return "/" + noun, nil
	}
	ws, err := r.workspaceOf(ctx)
	if err == nil && ws == "" {
		err = errors.New("which workspace? give --workspace")
	}
	return "/workspaces/" + url.PathEscape(ws) + "/" + noun, err
}

// show is what the command show does.
func (d documents[D, I]) show(c *cobra.Command, env *environment, o *documentOptions) error {
	return o.run(c, env, func(r *apiRun) error {
		path, err := o.documentPath(c.Context(), r, d.noun)
		if err != nil {
			return err
		}
		var found D
		_, err = r.api.Do(c.Context(), http.MethodGet, path, nil, &found)
		return one(r, d.columns)(found, err)
	})
}

// preview is what the command preview does.
func (d documents[D, I]) preview(c *cobra.Command, env *environment, o *documentOptions, args []string) error {
	return d.edited(c, env, o, args, func(r *apiRun, path string, e edited) error {
		impact, err := d.impact(c.Context(), r, path, e)
		if err != nil {
			return err
		}
		return d.print(r, impact)
	})
}

// set is what the command set does: nothing, if the change takes something away and
// nobody has said that it is meant. It is refused if the document was changed since
// it was read.
func (d documents[D, I]) set(c *cobra.Command, env *environment, o *documentOptions, args []string) error {
	return d.edited(c, env, o, args, func(r *apiRun, path string, e edited) error {
		if !o.showCurl {
			if err := d.consider(c.Context(), r, path, e, o.yes); err != nil {
				return err
			}
		}
		var after D
		_, err := r.api.Do(c.Context(), http.MethodPut, path, e.document, &after, e.ifMatch()...)
		return one(r, d.columns)(after, err)
	})
}

// consider tells what a change does, and stops one that takes something away.
func (d documents[D, I]) consider(ctx context.Context, r *apiRun, path string, e edited, yes bool) error {
	impact, err := d.impact(ctx, r, path, e)
	if err != nil {
		return err
	}
	for _, finding := range d.findings(impact) {
		fmt.Fprintln(r.env.stderr, safe(finding))
	}
	if harm := d.harms(impact); harm != "" && !yes {
		return exitWith(exitUsage, errors.New(harm+"; nothing was changed"), "add --yes if that is what you want; `tokenbooth "+d.noun+" preview` shows more")
	}
	return nil
}

func (d documents[D, I]) impact(ctx context.Context, r *apiRun, path string, e edited) (impact I, err error) {
	_, err = r.api.Do(ctx, http.MethodPost, path+"/preview", e.document, &impact)
	return impact, err
}

// edited is a document as it shall be.
type edited struct {
	document map[string]json.RawMessage
	version  string // of which it is a change; empty: any
}

func (e edited) ifMatch() []admin.Option {
	if e.version == "" {
		return nil
	}
	return []admin.Option{admin.IfMatch(strconv.Quote(e.version))}
}

// edited reads what shall be, and does f with it. Mistakes are found before anything
// is sent.
func (d documents[D, I]) edited(c *cobra.Command, env *environment, o *documentOptions, args []string, f func(*apiRun, string, edited) error) error {
	wanted, err := d.wanted(c, env, o, args)
	if err != nil {
		return err
	}
	return o.run(c, env, func(r *apiRun) error {
		path, err := o.documentPath(c.Context(), r, d.noun)
		if err != nil {
			return err
		}
		e := edited{document: wanted, version: versionOf(wanted)}
		if o.file == "" || e.version == "" && !o.showCurl {
			if e, err = amended(c.Context(), r, path, wanted, o.file != ""); err != nil {
				return err
			}
		}
		return f(r, path, e)
	})
}

// amended reads the document that there is, and puts what is wanted into it, or in its
// place. Members that this program does not know stay as they are.
func amended(ctx context.Context, r *apiRun, path string, wanted map[string]json.RawMessage, whole bool) (edited, error) {
	var found map[string]json.RawMessage
	if _, err := r.api.Do(ctx, http.MethodGet, path, nil, &found); err != nil {
		return edited{}, err
	}
	e := edited{document: found, version: versionOf(found)}
	if whole {
		e.document = wanted
		return e, nil
	}
	for name, value := range wanted {
		found[name] = value
	}
	return e, nil
}

// versionOf is the version that a document was read at; empty if it does not say.
func versionOf(document map[string]json.RawMessage) string {
	var version *uint64
	if err := json.Unmarshal(document["version"], &version); err != nil || version == nil {
		return ""
	}
	return strconv.FormatUint(*version, 10)
}

// wanted are the members that the command line names, or a whole document.
func (d documents[D, I]) wanted(c *cobra.Command, env *environment, o *documentOptions, args []string) (map[string]json.RawMessage, error) {
	switch {
	case o.file != "" && len(args) > 0:
		return nil, usagef(c, "--file is the whole document: leave out %s", safe(args[0]))
	case o.file != "":
		return readDocument(c, env, o.file)
	case len(args) == 0:
		return nil, usagef(c, "what shall be? give NAME=VALUE or --file; known are %s", d.names())
	case o.showCurl:
		return nil, usagef(c, "--show-curl: a %s is set as a whole, and what there is has to be read first: give the whole with --file", d.noun)
	}
	wanted := map[string]json.RawMessage{}
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usagef(c, "%s is not like NAME=VALUE", safe(arg))
		}
		value, err := d.value(name, text)
		if err != nil {
			return nil, usagef(c, "%w", err)
		}
		if _, twice := wanted[name]; twice {
			return nil, usagef(c, "%s is given twice", name)
		}
		wanted[name] = value
	}
	return wanted, nil
}

// value reads the value of a member, as JSON.
func (d documents[D, I]) value(name, text string) (json.RawMessage, error) {
	for _, m := range d.members {
		if m.name != name {
			continue
		}
		if text == "null" {
			return json.RawMessage("null"), nil
		}
		value, err := m.read(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is %w, or null", name, safe(text), err)
		}
		return json.Marshal(value)
	}
	return nil, fmt.Errorf("a %s has no %q%s: known are %s", d.noun, safe(name), didYouMean(name, d.list()), d.names())
}

func (d documents[D, I]) list() (names []string) {
	for _, m := range d.members {
		names = append(names, m.name)
	}
	return names
}

func (d documents[D, I]) names() string { return joinComma(d.list()) }

// complete offers the members.
func (d documents[D, I]) complete(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	var found []string
	for _, name := range d.list() {
		if strings.HasPrefix(name, begun) {
			found = append(found, name+"=")
		}
	}
	return found, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

// readDocument reads a document from a file, or from standard input.
func readDocument(c *cobra.Command, env *environment, path string) (map[string]json.RawMessage, error) {
	in := env.stdin
	if path != "-" {
		file, err := os.Open(path) //nolint:gosec // the caller names it
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	document, err := oauth.ParseObject(text)
	if err != nil {
		return nil, usagef(c, "--file: %s is not one JSON object without repeated members", safe(path))
	}
	return document, nil
}

// What values are read as. Each error says what would be one.

func readFlag(text string) (any, error) {
	if text != "true" && text != "false" {
		return nil, errors.New("not true or false")
	}
	return text == "true", nil
}

func readNumber(text string) (any, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, errors.New("not a whole number")
	}
	return n, nil
}

// readList reads a list with commas between; nothing is an empty one.
func readList(text string) (any, error) {
	if text == "" {
		return []string{}, nil
	}
	return strings.Split(text, ","), nil
}

func readMode(text string) (any, error) {
	if text != "enforce" && text != "soft" {
		return nil, errors.New("not enforce or soft")
	}
	return text, nil
}
