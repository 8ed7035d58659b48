package main

import (
	"bufio"
	"errors"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var auditColumns = []column[admin.AuditEvent]{
	{name: "at", at: func(e admin.AuditEvent) *time.Time { return &e.At }},
	{name: "action", text: func(e admin.AuditEvent) string { return e.Action }},
	{name: "outcome", text: func(e admin.AuditEvent) string { return e.Outcome }},
	{name: "actor_kind", text: func(e admin.AuditEvent) string { return e.ActorKind }, detail: true},
	{name: "actor_id", text: func(e admin.AuditEvent) string { return e.ActorID }},
	{name: "subject_id", text: func(e admin.AuditEvent) string { return e.SubjectID }},
	{name: "owner_id", text: func(e admin.AuditEvent) string { return e.OwnerID }, detail: true},
	{name: "client_id", text: func(e admin.AuditEvent) string { return e.ClientID }},
	{name: "address", text: func(e admin.AuditEvent) string { return e.Address }},
	{name: "user_agent", text: func(e admin.AuditEvent) string { return e.UserAgent }, detail: true},
	{name: "count", text: func(e admin.AuditEvent) string { return count(e.Count) }},
	{name: "request_id", text: func(e admin.AuditEvent) string { return e.RequestID }, detail: true},
	{name: "workspace_id", text: func(e admin.AuditEvent) string { return e.WorkspaceID }, detail: true},
	{name: "id", text: func(e admin.AuditEvent) string { return e.ID }, detail: true},
	{name: "seq", text: func(e admin.AuditEvent) string { return count(e.Seq) }, detail: true},
	{name: "detail", text: func(e admin.AuditEvent) string { return string(e.Detail) }, detail: true},
}

// auditFlags is the flags of the commands that read the record from a server.
type auditFlags struct {
	apiOptions
	list         listFlags
	installation bool
}

func (f *auditFlags) addFilter(c *cobra.Command) {
	l := &f.list
	l.text(c, "service-account", "service_account", "only what concerns the service account `SA`, by ID or name")
	l.text(c, "client-id", "client_id", "only uses of the key with that `ID`")
	l.text(c, "actor", "actor", "only what the user or service account with that `ID` did")
	l.text(c, "action", "action", "only that `ACTION`, such as key.create or key.*")
	l.text(c, "subject", "subject", "only what happened to that `ID`")
	l.moment(c, "since", "only from this `TIME` on: 24h (ago), 7d, or 2027-01-31T00:00:00Z")
	l.moment(c, "until", "only before this `TIME`")
	c.Flags().BoolVar(&f.installation, "installation", false, "what happened in no workspace, for organization admins")
}

// events runs a command on the events that the flags choose.
func (f *auditFlags) events(c *cobra.Command, env *environment, use func(*apiRun, iter.Seq2[admin.AuditEvent, error]) error) error {
	query, err := f.list.query(c)
	if err != nil {
		return err
	}
	return f.run(c, env, func(r *apiRun) error {
		list, err := f.from(c, r, query)
		if err != nil {
			return err
		}
		return use(r, list)
	})
}

func (f *auditFlags) from(c *cobra.Command, r *apiRun, query url.Values) (iter.Seq2[admin.AuditEvent, error], error) {
	if f.installation {
		return r.api.AuditEvents(c.Context(), "", query), nil
	}
	ws, err := r.workspaceOf(c.Context())
	return r.api.AuditEvents(c.Context(), ws, query), err
}

func newAuditListCommand(env *environment) *cobra.Command {
	var f auditFlags
	command := &cobra.Command{
		Use:   "list [--service-account SA] [--action ACTION] [--since TIME] [-o FORMAT]",
		Short: "Show what happened in a workspace",
		Long: `List shows what was managed in a workspace, and how its keys were used, the newest
first. It asks the server, as your credential may.`,
		Example: `$ tokenbooth audit list --service-account gitlab-ci
$ tokenbooth audit list --action 'key.*' --since 7d -o csv`,
		RunE: func(c *cobra.Command, _ []string) error {
			return f.events(c, env, func(r *apiRun, list iter.Seq2[admin.AuditEvent, error]) error {
				return printPages(r, list, f.list, auditColumns)
			})
		},
	}
	f.addFlags(command)
	f.list.add(command, 100)
	f.addFilter(command)
	return command
}

func newAuditExportCommand(env *environment) *cobra.Command {
	var f auditFlags
	var out string
	command := &cobra.Command{
		Use:   "export [-o jsonl|csv] [--out FILE] [--since TIME] [--until TIME]",
		Short: "Write down what happened in a workspace",
		Long: `Export writes all events that the filters choose, the newest first, as lines of JSON or
as CSV that is safe to open in a spreadsheet. The file is replaced whole: after a
failure it is what it was, and the same command begins again.`,
		Example: `$ tokenbooth audit export --since 2027-01-01 --until 2027-02-01 --out 2027-01.jsonl
$ tokenbooth audit export -o csv --service-account gitlab-ci >gitlab-ci.csv`,
		RunE: func(c *cobra.Command, _ []string) error {
			return f.events(c, env, func(r *apiRun, list iter.Seq2[admin.AuditEvent, error]) error {
				write := func(w io.Writer) error { return exportRows(w, f.format.name, list, auditColumns) }
				if out == "" || f.showCurl {
					return write(env.stdout)
				}
				return streamWhole(out, write)
			})
		},
	}
	f.addConnectionFlags(command)
	f.addShowCurl(command)
	f.format.add(command, formatLines, []string{formatLines, formatCSV})
	f.addFilter(command)
	command.Flags().StringVar(&out, "out", "", "write to a `FILE` instead of standard output")
	return command
}

// exportRows writes what is listed, as it comes.
func exportRows[T any](out io.Writer, format string, list iter.Seq2[T, error], columns []column[T]) error {
	buffered := bufio.NewWriter(out)
	w := newRowWriter(buffered, format, columns)
	for item, err := range list {
		if err != nil {
			return err
		}
		if err := w.write(item); err != nil {
			return err
		}
	}
	return errors.Join(w.flush(), buffered.Flush())
}

// streamWhole is writeWhole for what is too long to hold.
func streamWhole(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the failure says more
	}
	return err
}
